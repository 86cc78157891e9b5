"""Files on this machine: written under another name until they are complete, and read as a tar archive."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from session_manager_plugin.errors import CopyFailed
from session_manager_plugin.transfer.names import partial_name

CHUNK_SIZE = 256 * 1024
"""Bytes read from a file at a time."""


def current_umask() -> int:
    """Return the umask of the process."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class PartialFile:
    """A file that takes its name when it is complete. Raises ``OSError``.

    What is there and is no regular file, such as ``/dev/null``, is written directly; a link is followed.
    """

    def __init__(self, path: bytes) -> None:
        self._path = os.path.realpath(path)
        self._mode: int | None = None
        self._temporary: bytes | None = None
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(self._path).st_mode
            self._mode = stat.S_IMODE(found)
            if not stat.S_ISREG(found):
                self._descriptor = os.open(self._path, os.O_WRONLY)
                return
        directory, name = os.path.split(self._path)
        self._temporary = os.path.join(directory, partial_name(name, secrets.token_hex(4)))
        try:
            self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fsdecode(self._path)) from None

    def reopened(self) -> IO[bytes]:
        """Return what was written, from its beginning; closing it leaves the file as it is."""
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        return os.fdopen(self._descriptor, "rb", closefd=False)

    def commit(self, mode: int | None, mtime: int | None, umask: int, *, preserve: bool) -> None:
        """Give the file its mode and its name, and its time if ``preserve``. A file that was there keeps its mode
        unless ``preserve``."""
        if self._temporary is not None:
            if not preserve or mode is None:
                mode = self._mode if self._mode is not None else (0o666 if mode is None else mode) & 0o777 & ~umask
            os.fchmod(self._descriptor, mode)
            if preserve and mtime is not None:
                os.utime(self._descriptor, (mtime, mtime))
        os.close(self._descriptor)
        self._descriptor = -1
        if self._temporary is not None:
            os.replace(self._temporary, self._path)
            self._temporary = None

    def discard(self) -> None:
        """Remove what is incomplete. May be called twice, and after ``commit``."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self._temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
            self._temporary = None


@dataclass(frozen=True)
class LocalEntry:
    """A file or directory of a tree; ``name`` is relative to the tree's top, and empty for that."""

    path: bytes
    name: bytes
    mode: int
    mtime: int
    size: int
    is_directory: bool


def walk(top: bytes, report: Callable[[bytes, str], None]) -> Iterator[LocalEntry]:
    """Yield a file, or a directory and all that is below it, each directory before what it holds. Links are followed.

    ``report`` is called with the path of what is left out, and the reason.
    """
    yield from _walk(top, b"", (), report)


def _walk(
    path: bytes, name: bytes, above: tuple[tuple[int, int], ...], report: Callable[[bytes, str], None]
) -> Iterator[LocalEntry]:
    try:
        found = os.stat(path)
        is_directory = stat.S_ISDIR(found.st_mode)
        if not is_directory and not stat.S_ISREG(found.st_mode):
            report(path, "is not a regular file")
            return
        identity = (found.st_dev, found.st_ino)
        if is_directory and identity in above:
            report(path, "is a link to a directory above it")
            return
        if not os.access(path, os.R_OK | (os.X_OK if is_directory else 0)):
            report(path, "Permission denied")
            return
        inner = sorted(os.listdir(path)) if is_directory else []
    except OSError as error:
        report(path, error.strerror or str(error))
        return
    size = 0 if is_directory else found.st_size
    yield LocalEntry(path, name, stat.S_IMODE(found.st_mode), int(found.st_mtime), size, is_directory)
    for component in inner:
        relative = b"%b/%b" % (name, component) if name else component
        yield from _walk(os.path.join(path, component), relative, (*above, identity), report)


def read_file(entry: LocalEntry) -> Iterator[bytes]:
    """Yield the bytes of a file, as many as it had when it was found. Raises ``CopyFailed`` if it has fewer."""
    left = entry.size
    with open(entry.path, "rb", buffering=0) as file:
        while left:
            data = file.read(min(left, CHUNK_SIZE))
            if not data:
                raise CopyFailed(f"{os.fsdecode(entry.path)}: became shorter while it was copied")
            left -= len(data)
            yield data


def archive(entries: Iterator[LocalEntry], umask: int, *, preserve: bool) -> Iterator[bytes]:
    """Yield a tar archive of a tree, its top being ``./``; see ``read_file`` for what it raises."""
    now = int(time.time())
    for entry in entries:
        name = os.fsdecode(b"./" + entry.name)
        header = tarfile.TarInfo(name)
        header.type = tarfile.DIRTYPE if entry.is_directory else tarfile.REGTYPE
        header.mode = entry.mode if preserve else entry.mode & 0o777 & ~umask
        header.mtime = entry.mtime if preserve else now
        header.size = entry.size
        yield header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        if not entry.is_directory:
            yield from read_file(entry)
            yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(tarfile.RECORDSIZE)
