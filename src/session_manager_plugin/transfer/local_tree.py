"""A local directory, unpacked from a tar archive under a temporary name until it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Callable

from session_manager_plugin.errors import CopyFailed
from session_manager_plugin.transfer.archive import ArchiveParser, Member, MemberKind
from session_manager_plugin.transfer.local_files import (
    NOT_REGULAR,
    PRIVATE_DIRECTORY,
    Attributes,
    concerns_all_files,
    error_text,
    must_not_be_replaced,
    write_all,
)
from session_manager_plugin.transfer.names import partial_name
from session_manager_plugin.utils.named_errors import named_errors


class PartialTree:
    """A directory that is given its name when it is complete, or is then merged into an existing one of that name.

    ``prefix`` is the name of the archive's top, empty for ``.``. Hard links in the archive become files of their own;
    symbolic links are not expected, since the target's tar follows them. ``left_out`` is called with the path, below
    the top, of any other member, and ``report`` with the local path of one that cannot be written; both with the
    reason, and the others are unpacked. Raises ``OSError`` if the directory cannot be made or the disk is full, and
    ``CopyFailed`` for names that an archive of this directory cannot hold.
    """

    def __init__(
        self,
        path: bytes,
        prefix: bytes,
        attributes: Attributes,
        report: Callable[[bytes, str], None],
        left_out: Callable[[bytes, str], None],
    ) -> None:
        self._shown = path
        self._path = os.path.realpath(path)
        self._prefix = prefix
        self._attributes = attributes
        self._report = report
        self._left_out = left_out
        self._parser = ArchiveParser()
        self._directories: list[tuple[bytes, Member]] = []
        """Each by its path below the top, empty for the top itself."""
        self._made = {b""}
        self._places: dict[bytes, bytes] = {}
        """The paths of directories, by their names in the archive."""
        self._merged: set[bytes] = set()
        """Directories that existed before."""
        self._lost: set[bytes] = set()
        """What could not be moved to its place; nothing is there below these names."""
        self._descriptor = -1
        self._member: Member | None = None
        self._left = 0
        """Bytes of the member that have not arrived."""
        self._is_whole = True
        self.temporary = self._make_temporary(path)
        """The path of the incomplete directory."""
        self._exists = True
        """Whether the temporary directory exists."""

    def write(self, data: bytes) -> None:
        """Unpack ``data``, the next bytes of the archive."""
        with named_errors(self._path):
            for event in self._parser.receive_data(data):
                if isinstance(event, Member):
                    try:
                        self._start(event)
                    except OSError as error:
                        self._refuse(self._below(event.name), error)
                else:
                    self._receive(event)

    def commit(self) -> bool:
        """Give the directory its name; return whether all of it was written. Modes and times are the archive's."""
        if self._left:
            raise CopyFailed("the archive ended too early")
        with named_errors(self._path):
            if os.path.isdir(self._path):
                self._merge()
                _remove(self.temporary)
                self._settle(self._path)
            else:
                self._settle(self.temporary)
                os.rename(self.temporary, self._path)
        self._exists = False
        return self._is_whole

    def discard(self) -> None:
        """Remove an incomplete directory. May be called twice, and after ``commit``."""
        self._close()
        if self._exists:
            self._exists = False
            with contextlib.suppress(OSError):
                _remove(self.temporary)

    def _make_temporary(self, shown: bytes) -> bytes:
        """Make the temporary directory inside the directory to be merged into, which may be a file system of its own,
        or beside it if that is not possible; return its path."""
        parent, name = os.path.split(self._path)
        partial = partial_name(name, secrets.token_hex(4))
        if os.path.isdir(self._path):
            with contextlib.suppress(OSError):
                inside = os.path.join(self._path, partial)
                os.mkdir(inside, PRIVATE_DIRECTORY)
                return inside
        with named_errors(shown):
            beside = os.path.join(parent, partial)
            os.mkdir(beside, PRIVATE_DIRECTORY)
        return beside

    # Unpacking.

    def _start(self, member: Member) -> None:
        self._member, self._left = member, member.size
        if member.kind is MemberKind.DIRECTORY:
            name = self._below(member.name)
            self._make_directories(name)
            self._directories.append((name, member))
            return
        if member.kind is MemberKind.OTHER:
            self._left_out(self._below(member.name), NOT_REGULAR)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        path, mode = self._place(member.name), self._attributes.new_mode(member.mode)
        if member.kind is MemberKind.HARD_LINK:
            with open(os.path.join(self.temporary, self._below(member.link)), "rb") as source:
                self._descriptor = os.open(path, flags, mode)
                with open(self._descriptor, "wb", closefd=False) as copy:
                    shutil.copyfileobj(source, copy)
        else:
            self._descriptor = os.open(path, flags, mode)
        if not self._left:
            self._end_file(member)

    def _receive(self, data: bytes) -> None:
        self._left -= len(data)
        if self._descriptor >= 0:
            write_all(self._descriptor, data)
            if not self._left and self._member is not None:
                self._end_file(self._member)

    def _end_file(self, member: Member) -> None:
        self._attributes.keep(self._descriptor, member.mode, member.time)
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _below(self, name: bytes) -> bytes:
        """Return the path below the top. Raises ``CopyFailed`` if it is not below: the target must not choose which
        files are written."""
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if (self._prefix and parts[:1] != [self._prefix]) or b".." in parts:
            raise CopyFailed(f"the target sent a file that was not asked for: {os.fsdecode(name)!r}")
        return b"/".join(parts[1:] if self._prefix else parts)

    def _place(self, name: bytes) -> bytes:
        """Return the path for a file, and make its directory. Raises ``CopyFailed`` as ``_below`` does."""
        parent, _, last = name.rpartition(b"/")
        place = self._places.get(parent)
        if place is None or last in (b".", b".."):
            self._below(name)
            below = self._below(parent)
            self._make_directories(below)
            place = self._places[parent] = os.path.join(self.temporary, below)
        return b"%b/%b" % (place, last)

    def _make_directories(self, name: bytes) -> None:
        missing = []
        while name not in self._made:
            missing.append(name)
            name = name.rpartition(b"/")[0]
        for each in reversed(missing):
            os.mkdir(self.temporary + b"/" + each, PRIVATE_DIRECTORY)
            self._made.add(each)

    # The end.

    def _merge(self) -> None:
        """Move the contents of the temporary directory into the existing directory."""
        self._merged.add(b"")
        pending = [b""]
        while pending:
            name = pending.pop()
            with os.scandir(os.path.join(self.temporary, name)) as entries:
                for entry in entries:
                    below = b"%b/%b" % (name, entry.name) if name else entry.name
                    path = os.path.join(self._path, below)
                    is_directory = entry.is_dir(follow_symlinks=False)
                    if is_directory and os.path.isdir(path):
                        self._merged.add(below)
                        pending.append(below)
                        continue
                    try:
                        if self._move(entry.path, path, is_directory=is_directory):
                            pending.append(below)
                    except OSError as error:
                        self._refuse(below, error)
                        self._lost.add(below)

    def _move(self, source: bytes, path: bytes, *, is_directory: bool) -> bool:
        """Move a file or directory; return whether the contents of a directory are still to be moved, because it is on
        another file system."""
        if not is_directory:
            if must_not_be_replaced(path):
                raise OSError(errno.EINVAL, NOT_REGULAR)
            path = os.path.realpath(path)
            with contextlib.suppress(FileNotFoundError):
                self._attributes.keep_existing(path, source)
        try:
            os.replace(source, path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
        else:
            return False
        if is_directory:
            os.mkdir(path, PRIVATE_DIRECTORY)
            return True
        parent, name = os.path.split(path)
        partial = os.path.join(parent, partial_name(name, secrets.token_hex(4)))
        try:
            shutil.copy2(source, partial)
            os.replace(partial, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
        return False

    def _settle(self, top: bytes) -> None:
        """Set the modes and times of the directories, the innermost first."""
        for name, member in reversed(self._directories):
            path = os.path.join(top, name)
            if self._lost and self._is_lost(name):
                continue
            try:
                self._attributes.settle_directory(path, member.mode, member.time, made=name not in self._merged)
            except OSError as error:
                self._refuse(name, error)

    def _is_lost(self, name: bytes) -> bool:
        return any(name == lost or name.startswith(lost + b"/") for lost in self._lost)

    def _refuse(self, name: bytes, error: OSError) -> None:
        """Report what cannot be written, by its path below the top. Raises ``error`` if it concerns all files."""
        if concerns_all_files(error):
            raise error
        self._is_whole = False
        self._report(os.path.join(self._shown, name) if name else self._shown, error_text(error))


def _remove(directory: bytes) -> None:
    """Remove a directory and everything below it, however deep; ``shutil.rmtree`` fails at a thousand levels."""
    pending = [directory]
    while pending:
        below = []
        with os.scandir(pending[-1]) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                else:
                    os.unlink(entry.path)
        if below:
            pending += below
        else:
            os.rmdir(pending.pop())
