"""Downloads over sessions without a terminal, continued in another session when one is lost; see ``docs/copy.md``."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Sequence

from session_manager_plugin.errors import CopyFailed
from session_manager_plugin.transfer.download_plan import (
    Data,
    DownloadParser,
    EntryEnded,
    EntryFailed,
    EntryStarted,
    Event,
    Finished,
    Hello,
    Kind,
    Problem,
    Warned,
    new_digest,
)
from session_manager_plugin.transfer.download_sessions import STDOUT, Skipped, Source
from session_manager_plugin.transfer.local_files import (
    BECAME_SHORTER,
    PRIVATE_DIRECTORY,
    Attributes,
    PartialFile,
    concerns_all_files,
    error_text,
    write_all,
)
from session_manager_plugin.transfer.local_tree import PartialTree
from session_manager_plugin.transfer.names import base_name
from session_manager_plugin.transfer.report import CopyOptions, CopyReport
from session_manager_plugin.transfer.scripts import BLOCK_SIZE, MIN_PARTED_SIZE, part_blocks
from session_manager_plugin.transfer.sessions import Sessions, cancel_once
from session_manager_plugin.transfer.source_names import SourceNames, tar_problem
from session_manager_plugin.utils.named_errors import named_errors


async def download(
    sessions: Sessions, sources: Sequence[bytes], destination: bytes, options: CopyOptions, report: CopyReport
) -> None:
    """Copy files of the target to ``destination``; ``-`` is standard output.

    A file that cannot be read or written is reported, the others are copied. Raises ``CopyFailed`` for a problem that
    concerns all files, ``OSError`` if the disk is full, and the errors of the sessions.
    """
    source = Source(sessions, sources, options, destination, report)
    copy = _Download(source)
    try:
        await source.receive(copy)
    finally:
        await copy.close()


_CHANGED = "the files on the target changed while they were copied"
_UNREADABLE = "could not be read to its end"
_DIFFERS = "its digest differs: it was changed while it was copied, or damaged on the way"


class _Part:
    """One part of a large file, except the first. Implements ``Receiver``."""

    def __init__(self, source: Source, file: PartialFile, entry: EntryStarted, first_block: int, blocks: int) -> None:
        self._source = source
        self._file = file
        self._entry = entry
        self._offset = first_block * BLOCK_SIZE
        """The offset in the file up to which the part is received."""
        self._end_block = first_block + blocks
        self.parser = DownloadParser()
        self.finished = False

    @property
    def position(self) -> tuple[int, int]:
        return self._entry.index, self._offset

    @property
    def name(self) -> str:
        return os.fsdecode(self._entry.name)

    def script(self) -> str:
        self.parser = DownloadParser()
        blocks = self._end_block - self._offset // BLOCK_SIZE
        return self._source.script(self.position, self._entry.size, blocks=blocks)

    async def handle(self, event: Event) -> None:
        match event:
            case EntryStarted():
                if (event.name, event.offset) != (self._entry.name, self._offset):
                    raise CopyFailed(_CHANGED)
            case Data(data):
                self._file.write_at(self._offset, data)
                self._offset += len(data)
                self._source.report.advance(len(data))
            case Problem(_, text):
                raise CopyFailed(f"{self.name}: {text}")
            case EntryFailed(text):
                raise CopyFailed(f"{self.name}: {_UNREADABLE}: {text}")
            case Finished():
                self.finished = True

    def discard(self) -> None:
        """Nothing: the file is that of the ``_Download``."""


class _Download:
    """The files of one download. Implements ``Receiver``."""

    def __init__(self, source: Source) -> None:
        destination, options = source.destination, source.options
        self._source = source
        self._names = SourceNames(source.paths)
        self._destination = destination
        self._into = destination != STDOUT and os.path.isdir(destination)
        self._options = options
        self._report = source.report
        self._attributes = Attributes(preserve=options.preserve)
        self._tops: set[bytes] = set()
        self._entry: EntryStarted | None = None
        self._file: PartialFile | PartialTree | None = None
        self._size = 0
        self._refused = False
        """Whether the current file cannot be written: its data is dropped."""
        self._lost: bytes | None = None
        """The path of a directory that could not be made; the files below it are not reported."""
        self._complete = 0
        self._parts: list[asyncio.Task[None]] = []
        """The tasks that receive the other parts of the file in other sessions."""
        self._directories: list[tuple[bytes, int | None, int | None, bool]] = []
        self.parser = DownloadParser()
        self.finished = False
        if destination != STDOUT and not self._into:
            makes_directory = options.recursive and len(source.paths) == 1
            if len(source.paths) > 1 or (destination.endswith(b"/") and not makes_directory):
                raise CopyFailed(f"{os.fsdecode(destination)}: {self._no_directory}")

    @property
    def position(self) -> tuple[int, int]:
        return self._complete, self._size

    @property
    def name(self) -> str:
        return self._names.first if self._entry is None else self._names.shown(self._entry.name)

    def script(self) -> str:
        self.parser = DownloadParser()
        size = None if self._entry is None else self._entry.size
        return self._source.script(self.position, size, parts=self._source.parts)

    async def handle(self, event: Event) -> None:
        match event:
            case Hello():
                self._algorithm = event.algorithm
            case EntryStarted():
                self._start(event)
            case Data():
                await self._write(event.data)
            case EntryEnded():
                await self._end(event)
            case EntryFailed():
                await self._end_parts()
                self._drop(f"{_UNREADABLE}: {event.text}")
            case Problem():
                if not event.name and not self._entry:
                    raise CopyFailed(event.text)
                self._report.problem(os.fsdecode(event.name), event.text)
            case Warned():
                if problem := tar_problem(event.text):
                    self._report.problem(self._names.in_archive(problem.name), problem.reason)
            case Finished():
                for path, mode, mtime, made in reversed(self._directories):
                    try:
                        self._attributes.settle_directory(path, mode, mtime, made=made)
                    except OSError as error:
                        self._refuse(path, error)
                self.finished = True

    def _start(self, entry: EntryStarted) -> None:
        if entry.index != self._complete:
            raise CopyFailed(_CHANGED)
        if self._entry is not None:
            if (entry.name, entry.offset) != (self._entry.name, self._size):
                raise CopyFailed(_CHANGED)
            return
        path = self._path(entry)
        self._size = 0
        if entry.kind is Kind.DIRECTORY:
            self._make_directory(path, entry)
            self._complete += 1
            return
        self._report.start(self._names.shown(entry.name))
        self._report.expect(entry.size if entry.kind is Kind.FILE else 0)
        self._refused = False
        self._digest = new_digest(self._algorithm)
        if self._destination != STDOUT:
            try:
                self._open(path, entry)
            except OSError as error:
                self._refuse(path, error)
                if entry.size >= MIN_PARTED_SIZE or entry.kind is Kind.ARCHIVE:
                    self._complete += 1
                    raise Skipped from None
        self._entry = entry

    def _make_directory(self, path: bytes, entry: EntryStarted) -> None:
        made = not os.path.isdir(path)
        if made:
            try:
                os.mkdir(path, PRIVATE_DIRECTORY)
            except OSError as error:
                self._refuse(path, error)
                if not self._is_lost(path):
                    self._lost = path
                return
        self._directories.append((path, entry.mode, entry.time, made))

    def _open(self, path: bytes, entry: EntryStarted) -> None:
        if entry.kind is Kind.ARCHIVE:
            if os.path.exists(path) and not os.path.isdir(path):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self._names.archive = entry.name
            self._file = PartialTree(path, base_name(entry.name), self._attributes, self._problem, self._left_out)
            self._report.partial = os.fsdecode(self._file.temporary)
            return
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file = PartialFile(path, self._attributes)
        self._file = file
        self._report.partial = os.fsdecode(file.temporary or b"")
        self._start_parts(entry, file)

    def _is_lost(self, path: bytes) -> bool:
        return self._lost is not None and path.startswith(self._lost + b"/")

    def _refuse(self, path: bytes, error: OSError) -> None:
        """Report that a file or directory cannot be written. Raises ``error`` if it concerns all files."""
        if concerns_all_files(error):
            raise error
        self._refused = True
        if not self._is_lost(path):
            self._report.problem(os.fsdecode(path), error_text(error))

    def _start_parts(self, entry: EntryStarted, file: PartialFile) -> None:
        """Start to receive the other parts of a large file in other sessions."""
        if self._source.parts == 1 or entry.size < MIN_PARTED_SIZE:
            return
        if file.is_direct:
            raise CopyFailed(f"{os.fsdecode(self._destination)}: several streams need a regular file")
        for first_block, blocks in part_blocks(entry.size, self._source.parts)[1:]:
            part = _Part(self._source, file, entry, first_block, blocks)
            self._parts.append(asyncio.ensure_future(self._source.receive(part)))

    async def _write(self, data: bytes) -> None:
        if not self._parts:
            if self._digest is not None:
                self._digest.update(data)
        elif failed := next((part for part in self._parts if part.done() and part.exception()), None):
            failed.result()
        self._size += len(data)
        if self._file is not None:
            if isinstance(self._file, PartialFile) and self._file.is_direct:
                await self._file.write_directly(data)
            else:
                self._file.write(data)
        elif not self._refused:
            await asyncio.to_thread(_write_output, data)
        self._report.advance(len(data))
        if self._entry is not None and self._entry.kind is Kind.FILE and self._size == self._entry.size:
            self._report.checking(self._size)

    async def _end(self, end: EntryEnded) -> None:
        entry = self._entry
        assert entry is not None
        digest = "" if self._digest is None else self._digest.hexdigest()
        if self._parts:
            await asyncio.gather(*self._parts)
            self._parts.clear()
            self._size = entry.size
            if self._digest is not None and isinstance(self._file, PartialFile):
                digest = await asyncio.to_thread(self._file.digest, self._digest)
        if end.digest and end.digest != digest:
            is_shorter = entry.kind is Kind.FILE and self._size < entry.size
            self._drop(BECAME_SHORTER if is_shorter else _DIFFERS)
            return
        if self._commit(entry):
            self._report.copied(self.name, self._size, end.digest)
        self._next()

    def _drop(self, text: str) -> None:
        """Remove the current file, and report why it is not copied."""
        if self._file is not None:
            self._file.discard()
        self._report.problem(self.name, text)
        self._next()

    def _next(self) -> None:
        self._file = self._entry = None
        self._report.partial = ""
        self._size = 0
        self._complete += 1

    def _commit(self, entry: EntryStarted) -> bool:
        """Give the file or directory its name; return whether that succeeded."""
        try:
            if isinstance(self._file, PartialTree):
                return self._file.commit()
            if self._file is not None:
                self._file.commit(entry.mode, entry.time)
        except OSError as error:
            assert self._file is not None
            self._file.discard()
            self._refuse(os.fsencode(error.filename or entry.name), error)
        return not self._refused

    def _problem(self, path: bytes, text: str) -> None:
        self._report.problem(os.fsdecode(path), text)

    def _left_out(self, below: bytes, text: str) -> None:
        assert self._entry is not None
        self._report.problem(self._names.shown(b"%b/%b" % (self._entry.name, below)), text)

    async def close(self) -> None:
        """End the sessions of the parts, and remove an incomplete file or directory."""
        self.discard()
        await self._end_parts()

    async def _end_parts(self) -> None:
        cancel_once(self._parts)
        await asyncio.gather(*self._parts, return_exceptions=True)
        self._parts.clear()

    def discard(self) -> None:
        cancel_once(self._parts)
        if self._file is not None:
            self._file.discard()
        self._report.partial = ""

    # Names.

    @property
    def _no_directory(self) -> str:
        """Why the destination cannot hold several files."""
        return "is not a directory" if os.path.exists(self._destination) else os.strerror(errno.ENOENT)

    def _path(self, entry: EntryStarted) -> bytes:
        """Return the local path of an entry. Raises ``CopyFailed`` for an entry that was not requested: the target must
        not choose which files are written."""
        top, *below = entry.name.split(b"/")
        if (
            not self._names.has(top)
            or top in (b".", b"..")
            or (below and not self._options.recursive)
            or any(not _is_component(part) for part in below)
        ):
            raise CopyFailed(f"the target sent a file that was not asked for: {os.fsdecode(entry.name)!r}")
        if self._destination == STDOUT:
            if entry.kind is not Kind.FILE or self._complete:
                raise CopyFailed("only one file can be copied to standard output")
            return STDOUT
        self._tops.add(top)
        is_file = entry.kind is Kind.FILE and not below
        if not self._into and (len(self._tops) > 1 or (is_file and self._destination.endswith(b"/"))):
            raise CopyFailed(f"{os.fsdecode(self._destination)}: {self._no_directory}")
        root = os.path.join(self._destination, top) if self._into and top else self._destination
        return os.path.join(root, *below)


def _is_component(name: bytes) -> bool:
    return name not in (b"", b".", b"..") and b"\0" not in name and b"/" not in name


def _write_output(data: bytes) -> None:
    with named_errors("standard output"):
        write_all(1, data)
