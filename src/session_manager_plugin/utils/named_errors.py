"""Errors of file operations with the name of the file: those of write(2) and the like have none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def named_errors(path: str | bytes | os.PathLike[str]) -> Iterator[None]:
    """Set the file name of an ``OSError`` to ``path``, which may have none or that of a partial file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None
