"""Uploads over a shell session whose terminal is raw; see ``docs/copy.md``."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence

from session_manager_plugin.errors import CopyFailed, NotConnected
from session_manager_plugin.transfer.download_plan import new_digest
from session_manager_plugin.transfer.local_files import LocalEntry, archive, open_file, read_file, walk
from session_manager_plugin.transfer.names import base_name
from session_manager_plugin.transfer.report import CopyOptions, Report
from session_manager_plugin.transfer.scripts import upload_script
from session_manager_plugin.transfer.sessions import CopyChannel, OutputReader, Sessions, failure, run_in_shell
from session_manager_plugin.transfer.upload_plan import FRAME_SIZE, Receiver, UploadPlan

STDIN = b"-"
_STDIN_SIZE = 64 * 1024
_CUT = "the target stopped before the copy was complete"


async def upload(
    sessions: Sessions, sources: Sequence[bytes], destination: bytes, options: CopyOptions, report: Report
) -> None:
    """Copy local files to ``destination`` on the target. ``-`` is standard input.

    A source that cannot be read is reported, the others are copied. Raises ``CopyFailed`` for what concerns all.
    """
    async with sessions.shell() as channel:
        reader = OutputReader(channel)
        try:
            await _Upload(channel, reader, options, report).run(sources, destination)
        finally:
            await reader.close()


class _Upload:
    def __init__(self, channel: CopyChannel, reader: OutputReader, options: CopyOptions, report: Report) -> None:
        self._channel = channel
        self._reader = reader
        self._options = options
        self._report = report
        self._plan = UploadPlan()

    async def run(self, sources: Sequence[bytes], destination: bytes) -> None:
        self._acknowledge(await run_in_shell(self._channel, self._reader, upload_script(destination)))
        while self._plan.receiver is None:
            await self._wait()
        receiver = self._plan.receiver
        shown = os.fsdecode(destination)
        if receiver.kind == "missing":
            raise CopyFailed(f"{shown}: No such file or directory on the target")
        if receiver.kind != "directory" and (len(sources) > 1 or destination.endswith(b"/")):
            raise CopyFailed(f"{shown}: is not a directory on the target")
        for source in sources:
            name = b""
            if receiver.kind == "directory" and source != STDIN:
                name = base_name(source)
            await self._copy(source, name, receiver)
        await self._ready()
        await self._send(self._plan.finish())
        while not self._plan.finished:
            await self._wait()

    async def _copy(self, source: bytes, name: bytes, receiver: Receiver) -> None:
        shown = os.fsdecode(source)
        if source == STDIN:
            if receiver.kind == "directory":
                raise CopyFailed("standard input needs the name of a file on the target, not of a directory")
            await self._send_file(shown, name, 0o666 & ~receiver.umask, None, _standard_input())
            return
        if _is_directory(source):
            if not self._options.recursive:
                self._report.problem(shown, "is a directory (-r copies directories)")
                return
            if receiver.kind == "file":
                raise CopyFailed(f"{shown}: a directory cannot replace a file on the target")
            await self._copy_tree(source, name, receiver)
            return
        for entry in walk(source, self._problem):
            await self._copy_file(entry, name, receiver)

    async def _copy_file(self, entry: LocalEntry, name: bytes, receiver: Receiver) -> None:
        descriptor = open_file(entry, self._problem)
        if descriptor is None:
            return
        mode, mtime = self._attributes(entry, receiver)
        self._report.expect(entry.size)
        await self._send_file(os.fsdecode(entry.path), name, mode, mtime, _pieces(read_file(descriptor, entry)))

    async def _copy_tree(self, source: bytes, name: bytes, receiver: Receiver) -> None:
        entries = list(walk(source, self._problem))
        if not entries:
            return
        if receiver.tar:
            self._report.expect(sum(entry.size for entry in entries))
            mode, _ = self._attributes(entries[0], receiver)
            mtime = entries[0].mtime if self._options.preserve else None
            pieces = _pieces(archive(entries, receiver.umask, self._problem, preserve=self._options.preserve))
            await self._send_file(os.fsdecode(source), name, mode, mtime, pieces, is_archive=True)
            return
        directories = []
        for entry in entries:
            below = b"/".join(part for part in (name, entry.name) if part)
            if entry.is_directory:
                await self._ready()
                await self._send(self._plan.make_directory(below))
                directories.append((below, entry))
            else:
                await self._copy_file(entry, below, receiver)
        for below, entry in reversed(directories):
            await self._ready()
            await self._send(self._plan.settle_directory(below, *self._attributes(entry, receiver)))

    def _attributes(self, entry: LocalEntry, receiver: Receiver) -> tuple[int, int | None]:
        if self._options.preserve:
            return entry.mode, entry.mtime
        return entry.mode & 0o777 & ~receiver.umask, None

    async def _send_file(
        self,
        shown: str,
        name: bytes,
        mode: int,
        mtime: int | None,
        pieces: AsyncIterator[bytes],
        *,
        is_archive: bool = False,
    ) -> None:
        receiver = self._plan.receiver
        assert receiver is not None
        digest = new_digest(receiver.archive_algorithm if is_archive else receiver.algorithm)
        self._report.start(shown)
        partial = f".smp-{secrets.token_hex(4)}"
        await self._ready()
        await self._send(self._plan.start_file(name, mode, mtime, partial, archive=is_archive))
        size = 0
        async for piece in pieces:
            if digest is not None:
                digest.update(piece)
            size += len(piece)
            await self._ready()
            await self._send(self._plan.frame(piece))
        await self._ready()
        await self._send(self._plan.end_file("" if digest is None else digest.hexdigest()))
        while not self._plan.settled:
            await self._wait()
        self._report.copied(shown, size, "" if digest is None else digest.hexdigest())

    async def _ready(self) -> None:
        """Wait until the plan takes the next line or frame."""
        self._acknowledge(self._reader.read_now())
        while not self._plan.may_send:
            await self._wait()

    async def _send(self, data: bytes) -> None:
        try:
            await self._channel.send_input_data(data)
        except NotConnected:
            while True:  # the target's own reason, if it has printed one
                await self._wait()

    async def _wait(self) -> None:
        data = await self._reader.read()
        if not data:
            raise failure(self._reader, _CUT)
        self._acknowledge(data)

    def _acknowledge(self, data: bytes) -> None:
        if data:
            self._report.advance(self._plan.receive_data(data))

    def _problem(self, path: bytes, text: str) -> None:
        self._report.problem(os.fsdecode(path), text)


def _is_directory(path: bytes) -> bool:
    return os.path.isdir(path)


async def _pieces(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the same bytes in pieces of ``FRAME_SIZE``."""
    gathered = bytearray()
    for chunk in chunks:
        gathered += chunk
        while len(gathered) >= FRAME_SIZE:
            yield bytes(gathered[:FRAME_SIZE])
            del gathered[:FRAME_SIZE]
    if gathered:
        yield bytes(gathered)


async def _standard_input() -> AsyncIterator[bytes]:
    while data := await asyncio.to_thread(os.read, 0, _STDIN_SIZE):
        yield data
