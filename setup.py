"""Builds the compiled part of Onggi where that is possible; pyproject.toml says all the rest.

It can't say this: Pythons without a lock had no stable ABI before 3.15, and setuptools fails if it
is asked for it there, though the part is optional.
"""

import sys
import sysconfig

from setuptools import Extension, setup

STABLE = not sysconfig.get_config_var("Py_GIL_DISABLED") or sys.version_info >= (3, 15)

NATIVE = Extension(
    "onggi.archive._native", ["archive/_native.c"], py_limited_api=True, optional=True
)

setup(
    ext_modules=[NATIVE] if STABLE else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE else {},
)
