"""Files on this machine: written under another name until they are complete, and read as a tar archive."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from session_manager_plugin.errors import CopyFailed
from session_manager_plugin.transfer.archive import BLOCK_SIZE, END, member_header
from session_manager_plugin.transfer.names import partial_name

CHUNK_SIZE = 256 * 1024
"""Bytes read from a file at a time."""


PRIVATE_DIRECTORY = 0o700
"""The mode of a directory until it is complete."""


@contextlib.contextmanager
def named_errors(path: bytes) -> Iterator[None]:
    """Set the file name of an ``OSError`` to ``path``, instead of none or that of a partial file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None


def write_all(descriptor: int, data: bytes) -> None:
    """Write ``data``, all of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class Attributes:
    """Which modes and times files take: those of the target with ``preserve``, else as a new file has them.

    Without ``preserve`` a file or directory that was there keeps its mode. None stands for what the target cannot tell.
    """

    def __init__(self, *, preserve: bool) -> None:
        self._preserve = preserve
        self._umask = os.umask(0o077)
        os.umask(self._umask)

    def new_mode(self, mode: int | None, default: int = 0o666) -> int:
        """Return the mode of a new file or directory."""
        if mode is None:
            mode = default
        elif self._preserve:
            return mode
        return mode & 0o777 & ~self._umask

    def keep(self, file: int | bytes, mode: int | None, mtime: int | None) -> None:
        """Set the mode and the time of a new file, if they are kept."""
        if self._preserve:
            if mode is not None:
                os.chmod(file, mode)
            if mtime is not None:
                os.utime(file, (mtime, mtime))

    def keep_existing(self, path: bytes, replacement: bytes) -> None:
        """Give ``replacement`` the mode of the file that it replaces. Raises ``FileNotFoundError`` if there is none."""
        if not self._preserve:
            os.chmod(replacement, stat.S_IMODE(os.stat(path).st_mode))

    def settle_directory(self, path: bytes, mode: int | None, mtime: int | None, *, made: bool) -> None:
        """Set the mode and the time of a directory whose files are complete. ``made``: it was not there before."""
        if made:
            os.chmod(path, self.new_mode(mode, 0o777))
        self.keep(path, mode, mtime)


class PartialFile:
    """A file that takes its name when it is complete. Raises ``OSError``.

    What is there and is no regular file, such as ``/dev/null``, is written directly; a link is followed.
    """

    def __init__(self, path: bytes, attributes: Attributes) -> None:
        self._path = os.path.realpath(path)
        self._attributes = attributes
        self._temporary: bytes | None = None
        with named_errors(path):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(os.stat(self._path).st_mode):
                    self._descriptor = os.open(self._path, os.O_WRONLY)
                    return
            directory, name = os.path.split(self._path)
            temporary = os.path.join(directory, partial_name(name, secrets.token_hex(4)))
            self._descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._temporary = temporary

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        with named_errors(self._path):
            write_all(self._descriptor, data)

    @property
    def is_direct(self) -> bool:
        """Whether it is no regular file, so that it can only be written from its beginning to its end."""
        return self._temporary is None

    def write_at(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``; ``write`` goes on where it was."""
        view = memoryview(data)
        with named_errors(self._path):
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written

    def digest(self, digest: hashlib._Hash) -> str:
        """Return the digest of all that was written, in hexadecimal."""
        offset = 0
        while data := os.pread(self._descriptor, CHUNK_SIZE, offset):
            digest.update(data)
            offset += len(data)
        return digest.hexdigest()

    def commit(self, mode: int | None, mtime: int | None) -> None:
        """Give the file its mode, time and name."""
        with named_errors(self._path):
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
            if self._temporary is not None:
                os.chmod(self._temporary, self._attributes.new_mode(mode))
                with contextlib.suppress(FileNotFoundError):
                    self._attributes.keep_existing(self._path, self._temporary)
                self._attributes.keep(self._temporary, mode, mtime)
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


Report = Callable[[bytes, str], None]
"""Called with the path of what is left out, and the reason."""


def walk(top: bytes, report: Report) -> Iterator[LocalEntry]:
    """Yield a file, or a directory and all that is below it, each directory before what it holds. Links are followed.

    Files are not opened here.
    """
    yield from _walk(top, b"", (), report)


def _walk(path: bytes, name: bytes, above: tuple[tuple[int, int], ...], report: Report) -> Iterator[LocalEntry]:
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
        inner = sorted(os.listdir(path)) if is_directory else []
    except OSError as error:
        report(path, error.strerror or str(error))
        return
    size = 0 if is_directory else found.st_size
    yield LocalEntry(path, name, stat.S_IMODE(found.st_mode), int(found.st_mtime), size, is_directory)
    for component in inner:
        relative = b"%b/%b" % (name, component) if name else component
        yield from _walk(b"%b/%b" % (path, component), relative, (*above, identity), report)


def open_file(entry: LocalEntry, report: Report) -> int | None:
    """Return a descriptor of the file; None, and a report, if it cannot be opened."""
    try:
        return os.open(entry.path, os.O_RDONLY)
    except OSError as error:
        report(entry.path, error.strerror or str(error))
        return None


def read_file(descriptor: int, entry: LocalEntry) -> Iterator[bytes]:
    """Yield the bytes of a file, as many as it had when it was found, and close it. Raises ``CopyFailed`` if it has
    fewer."""
    left = entry.size
    try:
        while left:
            with named_errors(entry.path):
                data = os.read(descriptor, min(left, CHUNK_SIZE))
            if not data:
                raise CopyFailed(f"{os.fsdecode(entry.path)}: became shorter while it was copied")
            left -= len(data)
            yield data
    finally:
        os.close(descriptor)


def archive(entries: Iterable[LocalEntry], umask: int, report: Report, *, preserve: bool) -> Iterator[bytes]:
    """Yield a tar archive of a tree, its top being ``./``; see ``read_file`` for what it raises.

    A file that cannot be opened is reported and left out.
    """
    now = int(time.time())
    for entry in entries:
        descriptor = None if entry.is_directory else open_file(entry, report)
        if descriptor is None and not entry.is_directory:
            continue
        mode = entry.mode if preserve else entry.mode & 0o777 & ~umask
        mtime = entry.mtime if preserve else now
        yield member_header(b"./" + entry.name, mode, mtime, entry.size, is_directory=entry.is_directory)
        if descriptor is not None:
            yield from read_file(descriptor, entry)
            yield bytes(-entry.size % BLOCK_SIZE)
    yield END
