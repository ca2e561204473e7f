"""Onggi: a backup archive that you can mount."""

__version__ = "0.1.0"
