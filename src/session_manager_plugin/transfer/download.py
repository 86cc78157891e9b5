"""Downloads over a session without a terminal, resumed in another one; see ``docs/copy.md``."""

from __future__ import annotations

import asyncio
import fnmatch
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from session_manager_plugin.errors import (
    AccessDenied,
    ConnectionLost,
    CopyFailed,
    OutputIncomplete,
    SessionExpired,
    TimedOut,
)
from session_manager_plugin.transfer.download_plan import (
    Data,
    DownloadParser,
    EntryEnded,
    EntryStarted,
    Event,
    Finished,
    Hello,
    Kind,
    Problem,
    Warned,
    new_digest,
)
from session_manager_plugin.transfer.local_files import PRIVATE_DIRECTORY, Attributes, PartialFile
from session_manager_plugin.transfer.local_tree import PartialTree
from session_manager_plugin.transfer.names import base_name
from session_manager_plugin.transfer.report import CopyOptions, Report
from session_manager_plugin.transfer.scripts import BLOCK_SIZE, command_words, download_script
from session_manager_plugin.transfer.sessions import CopyChannel, OutputReader, Sessions, failure, run_in_shell

STDOUT = b"-"
_ATTEMPTS = 3
"""Sessions one after the other that bring nothing, before the copy is given up."""
_TAR_FAILED = "tar: Exiting with failure status"
"""The last line of GNU tar's words, which says nothing that the others do not."""
_LOST = (ConnectionLost, TimedOut, SessionExpired, OutputIncomplete)
"""What ends a session that another one goes on for."""


async def download(
    sessions: Sessions, sources: Sequence[bytes], destination: bytes, options: CopyOptions, report: Report
) -> None:
    """Copy files of the target to ``destination``; ``-`` is standard output.

    A source that cannot be read is reported, the others are copied. Raises ``CopyFailed`` for what concerns all, and
    ``OSError`` for what this machine cannot write.
    """
    copy = _Download(sources, destination, options, report)
    in_shell = False
    failures = 0
    try:
        while not copy.finished:
            before = copy.position
            script = download_script(
                sources, recursive=options.recursive, tar=destination != STDOUT, skip=before[0], offset=before[1]
            )
            try:
                session: AbstractAsyncContextManager[CopyChannel] = (
                    sessions.shell() if in_shell else sessions.command(command_words(script))
                )
                async with session as channel:
                    await _run(channel, copy, script if in_shell else "")
            except AccessDenied as error:
                if in_shell:
                    raise
                in_shell = True
                report.on_notice(f"copying through a shell session, which is slower: {error}")
                continue
            except _LOST:
                failures += 1
                if failures >= _ATTEMPTS and copy.position == before:
                    raise
            if copy.position != before:
                failures = 0
            elif failures >= _ATTEMPTS:
                raise CopyFailed("the connection was lost again and again before anything was copied")
    finally:
        copy.close()


async def _run(channel: CopyChannel, copy: _Download, shell_script: str) -> None:
    """Receive until the end. Raises ``OutputIncomplete`` if the agent has stopped the output, or the end of it is
    lost: another session goes on."""
    reader = OutputReader(channel)
    try:
        copy.begin()
        data = b""
        if shell_script:
            data = await run_in_shell(channel, reader, shell_script)
        while data := data or await reader.read():
            for event in copy.parser.receive_data(data.replace(b"\r", b"") if shell_script else data):
                await copy.handle(event)
            if copy.finished:
                return
            data = b""
        if reader.is_incomplete:
            raise OutputIncomplete("part of the output of the command is missing")
        raise failure(reader, "the target stopped before the copy was complete")
    finally:
        await reader.close()


class _Download:
    """The files of one download, over any number of sessions."""

    def __init__(self, sources: Sequence[bytes], destination: bytes, options: CopyOptions, report: Report) -> None:
        self._patterns = [base_name(source) for source in sources]
        self._destination = destination
        self._into = destination != STDOUT and os.path.isdir(destination)
        self._options = options
        self._report = report
        self._attributes = Attributes(preserve=options.preserve)
        self._tops: set[bytes] = set()
        self._entry: EntryStarted | None = None
        self._file: PartialFile | PartialTree | None = None
        self._size = 0
        self._skipped = 0
        self._complete = 0
        self._directories: list[tuple[bytes, int | None, int | None, bool]] = []
        self.parser = DownloadParser()
        self.finished = False
        if destination != STDOUT and not self._into and (len(sources) > 1 or destination.endswith(b"/")):
            raise CopyFailed(f"{os.fsdecode(destination)}: is not a directory")

    @property
    def position(self) -> tuple[int, int]:
        """Entries that are complete, and bytes of the next one, at a multiple of ``BLOCK_SIZE``."""
        return self._complete, self._size // BLOCK_SIZE * BLOCK_SIZE

    def begin(self) -> None:
        """Another session begins."""
        self.parser = DownloadParser()

    async def handle(self, event: Event) -> None:
        """Carry out what the target has printed."""
        match event:
            case Hello():
                self._algorithm = event.algorithm
            case EntryStarted():
                self._start(event)
            case Data():
                await self._write(event.data)
            case EntryEnded():
                await self._end(event)
            case Problem():
                if not event.name and not self._entry:
                    raise CopyFailed(event.text)
                self._report.problem(os.fsdecode(event.name), event.text)
            case Warned():
                if not event.text.startswith(_TAR_FAILED):
                    self._report.problem("tar", event.text.removeprefix("tar: "))
            case Finished():
                for path, mode, mtime, made in reversed(self._directories):
                    self._attributes.settle_directory(path, mode, mtime, made=made)
                self.finished = True

    def _start(self, entry: EntryStarted) -> None:
        if entry.index != self._complete:
            raise CopyFailed("the files on the target changed while they were copied")
        if self._entry is not None:
            if entry.name != self._entry.name or entry.offset > self._size:
                raise CopyFailed("the files on the target changed while they were copied")
            self._skipped = self._size - entry.offset
            return
        path = self._path(entry)
        self._skipped = self._size = 0
        if entry.kind is Kind.DIRECTORY:
            made = not os.path.isdir(path)
            if made:
                os.mkdir(path, PRIVATE_DIRECTORY)
            self._directories.append((path, entry.mode, entry.time, made))
            self._complete += 1
            return
        self._entry = entry
        self._digest = new_digest(self._algorithm)
        self._report.start(os.fsdecode(entry.name or self._patterns[0] or b"."))
        self._report.expect(entry.size if entry.kind is Kind.FILE else 0)
        if self._destination != STDOUT:
            if entry.kind is Kind.FILE:
                self._file = PartialFile(path, self._attributes)
            else:
                self._file = PartialTree(path, base_name(entry.name), self._attributes, self._problem)

    async def _write(self, data: bytes) -> None:
        if self._skipped:
            skipped = min(self._skipped, len(data))
            self._skipped -= skipped
            data = data[skipped:]
        if self._digest is not None:
            self._digest.update(data)
        self._size += len(data)
        if self._file is not None:
            self._file.write(data)
        else:
            await asyncio.to_thread(_write_output, data)
        self._report.advance(len(data))

    async def _end(self, end: EntryEnded) -> None:
        entry = self._entry
        assert entry is not None
        name = os.fsdecode(entry.name or self._patterns[0] or b".")
        digest = "" if self._digest is None else self._digest.hexdigest()
        if end.digest and end.digest != digest:
            if self._file is not None:
                self._file.discard()
            self._report.problem(name, "its digest differs: it was changed while it was copied, or damaged on the way")
        else:
            if self._file is not None:
                self._file.commit(entry.mode, entry.time)
            self._report.copied(name, self._size, end.digest)
        self._file = self._entry = None
        self._size = 0
        self._complete += 1

    def _problem(self, name: bytes, text: str) -> None:
        self._report.problem(os.fsdecode(name), text)

    def close(self) -> None:
        """Remove what is incomplete."""
        if self._file is not None:
            self._file.discard()

    # Names.

    def _path(self, entry: EntryStarted) -> bytes:
        """Return where an entry belongs. Raises ``CopyFailed`` for one that was not asked for: the target must not
        choose what is written here."""
        top, *below = entry.name.split(b"/")
        asked = any(_matches(top, pattern) for pattern in self._patterns)
        if (
            not asked
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
        if not self._into and len(self._tops) > 1:
            raise CopyFailed(f"{os.fsdecode(self._destination)}: is not a directory")
        root = os.path.join(self._destination, top) if self._into and top else self._destination
        path = os.path.join(root, *below)
        if entry.kind is Kind.FILE and os.path.isdir(path):
            raise CopyFailed(f"{os.fsdecode(path)}: is a directory")
        return path


def _matches(name: bytes, pattern: bytes) -> bool:
    translated = pattern.decode("latin-1").replace("[^", "[!")
    return name == pattern or (bool(name) and fnmatch.fnmatchcase(name.decode("latin-1"), translated))


def _is_component(name: bytes) -> bool:
    return name not in (b"", b".", b"..") and b"\0" not in name and b"/" not in name


def _write_output(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
