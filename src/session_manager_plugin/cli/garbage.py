"""Garbage collection while a program starts."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Collect no garbage in the block.

    Importing botocore and reading its data makes many objects that stay: looking through them for garbage takes a tenth
    of the time to the first prompt.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
