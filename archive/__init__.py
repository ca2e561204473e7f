"""The archive format and the engine: pure format code first, then the code that does I/O."""
