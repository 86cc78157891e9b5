"""Files on this machine: written under another name until they are complete, and read as a tar archive."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import select
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass

from session_manager_plugin.errors import CopyFailed
from session_manager_plugin.transfer.archive import BLOCK_SIZE, END, member_header
from session_manager_plugin.transfer.names import partial_name
from session_manager_plugin.utils.named_errors import named_errors

_MOST_LINKS = 40
"""Links that are followed from one to the next, as by Linux."""
_DESCRIPTOR = re.compile(rb"(?:/dev/fd|/proc/(?P<process>\d+)(?:/task/\d+)?/fd)/(?P<number>\d{1,9})")
CHUNK_SIZE = 256 * 1024
"""Bytes read from a file at a time."""


LINK_TO_NOTHING = "is a link to nothing"
LINK_UPWARD = "is a link to a directory above it"
NOT_REGULAR = "is not a regular file"
BECAME_SHORTER = "became shorter while it was copied"
SHORTER_THAN_SIZE = "is shorter than its size"
WITHOUT_SIZE = "is empty in the copy, because it has no size here; copy it by itself"
PRIVATE_DIRECTORY = 0o700
"""The mode of a directory until it is complete."""


def concerns_all_files(error: OSError) -> bool:
    """Return whether the file system is full, so that other files cannot be written either."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def error_text(error: Exception) -> str:
    """Return the reason of an error, without the file's name."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``. Blocks."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # another program has made the pipe or terminal non-blocking
            select.select([], [descriptor], [])


def open_directly(path: bytes) -> int | None:
    """Open what has to be written directly, and return its descriptor; None for a regular file, and for a new one.

    Written directly are devices, pipes, and the file behind a descriptor of a process, such as ``/dev/stdout`` or
    ``/proc/self/fd/3``: the process goes on writing to the file that it has open, not to another one of that name.
    """
    if (found := _descriptor_of(path)) is not None:
        process, number = found
        if process == os.getpid():
            return os.dup(number)
        return os.open(path, os.O_WRONLY | os.O_APPEND)
    return os.open(path, os.O_WRONLY) if _is_special(path) else None


def must_not_be_replaced(path: bytes) -> bool:
    """Return whether ``path`` is, or links to, what ``open_directly`` opens."""
    try:
        if stat.S_ISREG(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    return _descriptor_of(path) is not None or (_is_special(path) and not os.path.isdir(path))


def _is_special(path: bytes) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return False


def _descriptor_of(path: bytes) -> tuple[int, int] | None:
    """Return the process and the number of the descriptor that ``path`` names, through links; None if it names another
    file."""
    for _ in range(_MOST_LINKS):
        directory, name = os.path.split(path)
        directory = os.path.realpath(directory)
        path = os.path.join(directory, name)
        if (match := _DESCRIPTOR.fullmatch(path)) is not None:
            return int(match["process"] or os.getpid()), int(match["number"])
        try:
            path = os.path.join(directory, os.readlink(path))
        except OSError:
            break
    return None


class Attributes:
    """The modes and times of files: with ``preserve`` those on the target, otherwise those of new files.

    Without ``preserve`` an existing file or directory keeps its mode. None stands for a value that the target cannot
    determine.
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
        """With ``preserve``, set the mode and the time of a new file."""
        if self._preserve:
            if mode is not None:
                os.chmod(file, mode)
            if mtime is not None:
                os.utime(file, (mtime, mtime))

    def keep_existing(self, path: bytes, replacement: bytes) -> None:
        """Without ``preserve``, copy the mode of ``path`` to ``replacement``. Raises ``FileNotFoundError``."""
        if not self._preserve:
            os.chmod(replacement, stat.S_IMODE(os.stat(path).st_mode))

    def settle_directory(self, path: bytes, mode: int | None, mtime: int | None, *, made: bool) -> None:
        """Set the mode and the time of a directory whose files are complete. ``made``: the copy has created it."""
        if made:
            os.chmod(path, self.new_mode(mode, 0o777))
        self.keep(path, mode, mtime)


class PartialFile:
    """A file that is given its name when it is complete. Raises ``OSError``.

    A link is followed. See ``open_directly`` for what is written directly.
    """

    def __init__(self, path: bytes, attributes: Attributes) -> None:
        self._path = os.path.realpath(path)
        self._attributes = attributes
        self.temporary: bytes | None = None
        """The path of the incomplete file; None if there is none."""
        with named_errors(path):
            if (direct := open_directly(path)) is not None:
                self._path, self._descriptor = path, direct
                return
            directory, name = os.path.split(self._path)
            temporary = os.path.join(directory, partial_name(name, secrets.token_hex(4)))
            self._descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self.temporary = temporary

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        with named_errors(self._path):
            write_all(self._descriptor, data)

    async def write_directly(self, data: bytes) -> None:
        """Append ``data`` in a thread: a pipe may be full. If this is cancelled the thread goes on."""
        descriptor = os.dup(self._descriptor)

        def write() -> None:
            try:
                with named_errors(self._path):
                    write_all(descriptor, data)
            finally:
                os.close(descriptor)

        await asyncio.to_thread(write)

    @property
    def is_direct(self) -> bool:
        """Whether it is written directly: it is no regular file, and can only be written in order."""
        return self.temporary is None

    def write_at(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``; the position of ``write`` does not change."""
        view = memoryview(data)
        with named_errors(self._path):
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written

    def digest(self, digest: hashlib._Hash) -> str:
        """Update ``digest`` with the whole file, and return it in hexadecimal."""
        offset = 0
        with named_errors(self._path):
            while data := os.pread(self._descriptor, CHUNK_SIZE, offset):
                digest.update(data)
                offset += len(data)
        return digest.hexdigest()

    def commit(self, mode: int | None, mtime: int | None) -> None:
        """Set the mode and the time of the file, and give it its name."""
        with named_errors(self._path):
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
            if self.temporary is not None:
                os.chmod(self.temporary, self._attributes.new_mode(mode))
                with contextlib.suppress(FileNotFoundError):
                    self._attributes.keep_existing(self._path, self.temporary)
                self._attributes.keep(self.temporary, mode, mtime)
                os.replace(self.temporary, self._path)
                self.temporary = None

    def discard(self) -> None:
        """Remove an incomplete file. May be called twice, and after ``commit``."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        if self.temporary is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.temporary)
            self.temporary = None


@dataclass(frozen=True)
class LocalEntry:
    """A file or directory of a tree; ``name`` is relative to the top of the tree, and empty for the top."""

    path: bytes
    name: bytes
    mode: int
    mtime: int
    size: int
    is_directory: bool


Report = Callable[[bytes, str], None]
"""Called with the path of a file or directory that is left out, and the reason."""


def walk(top: bytes, report: Report) -> Iterator[LocalEntry]:
    """Yield a file, or a directory and everything below it, each directory before its contents. Links are followed.

    Files are not opened here.
    """
    above = _identities_above(top)
    outside = len(above)
    pending = [(top, b"", outside)]
    while pending:
        path, name, depth = pending.pop()
        del above[depth:]
        try:
            found = os.stat(path)
            is_directory = stat.S_ISDIR(found.st_mode)
            if not is_directory and not stat.S_ISREG(found.st_mode):
                report(path, NOT_REGULAR)
                continue
            identity = (found.st_dev, found.st_ino)
            if is_directory and depth > outside and identity in above:
                report(path, LINK_UPWARD)
                continue
            inner = sorted(os.listdir(path), reverse=True) if is_directory else []
        except OSError as error:
            is_broken = isinstance(error, FileNotFoundError) and os.path.islink(path)
            report(path, LINK_TO_NOTHING if is_broken else error_text(error))
            continue
        size = 0 if is_directory else found.st_size
        yield LocalEntry(path, name, stat.S_IMODE(found.st_mode), int(found.st_mtime), size, is_directory)
        above.append(identity)
        pending += [
            (os.path.join(path, component), b"%b/%b" % (name, component) if name else component, depth + 1)
            for component in inner
        ]


def _identities_above(path: bytes) -> list[tuple[int, int]]:
    """Return device and inode of each directory above ``path``: a link to one of them contains the link itself."""
    identities = []
    directory = os.path.dirname(os.path.realpath(path))
    while True:
        with contextlib.suppress(OSError):
            found = os.stat(directory)
            identities.append((found.st_dev, found.st_ino))
        parent = os.path.dirname(directory)
        if parent == directory:
            return identities
        directory = parent


def open_file(entry: LocalEntry, report: Report) -> int | None:
    """Return a descriptor of the file. If it cannot be opened, report that and return None."""
    try:
        return os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK)  # reading /proc/kmsg fails where it would block
    except OSError as error:
        report(entry.path, error_text(error))
        return None


def read_file(descriptor: int, entry: LocalEntry) -> Generator[bytes]:
    """Yield a file, then close it: at most ``entry.size`` bytes, or all if that is 0, as for the files of ``/proc``.

    Raises ``CopyFailed`` if the file has become shorter. One of ``/sys`` has fewer bytes than its size.
    """
    left = entry.size or sys.maxsize
    try:
        with named_errors(entry.path):
            while left and (data := os.read(descriptor, min(left, CHUNK_SIZE))):
                left -= len(data)
                yield data
            if left and os.fstat(descriptor).st_size < entry.size:
                raise CopyFailed(BECAME_SHORTER)
    finally:
        os.close(descriptor)


def archive(entries: Iterable[LocalEntry], umask: int, report: Report, *, preserve: bool) -> Iterator[bytes]:
    """Yield a tar archive of a tree, whose top is named ``./``.

    A file that cannot be opened is reported and left out. What cannot be read of a file is reported and replaced by
    zeros, as tar does it. A file without a size is empty in the archive, and reported if it has bytes.
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
            missing, problem = entry.size, SHORTER_THAN_SIZE
            try:
                with contextlib.closing(read_file(descriptor, entry)) as pieces:
                    for data in pieces:
                        if not entry.size:
                            report(entry.path, WITHOUT_SIZE)
                            break
                        missing -= len(data)
                        yield data
            except (CopyFailed, OSError) as error:
                problem = error_text(error)
            if missing:
                report(entry.path, f"{problem}; its last {missing} bytes are zeros in the copy")
                yield from (bytes(min(CHUNK_SIZE, missing - start)) for start in range(0, missing, CHUNK_SIZE))
            yield bytes(-entry.size % BLOCK_SIZE)
    yield END
