"""Files that only the user can read, in directories that only the user can enter. Other processes use them too."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from session_manager_plugin.utils.named_errors import named_errors


def replace_file(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` (mode 0600), whose directory is made if need be (mode 0700).

    A reader finds the old content or the new one, never a part. Raises ``OSError`` with ``path`` as its file name; then
    the old content is left.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with named_errors(path), tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(data)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


@contextlib.contextmanager
def locked_directory(directory: Path) -> Iterator[None]:
    """Keep other processes out of this context for the same directory, which is made if need be (mode 0700).

    Raises ``OSError``.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        from fcntl import LOCK_EX, flock
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with named_errors(directory):
            flock(descriptor, LOCK_EX)
        yield
    finally:
        os.close(descriptor)
