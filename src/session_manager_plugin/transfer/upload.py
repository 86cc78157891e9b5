"""Uploads over a shell session whose terminal is raw; see ``docs/copy.md``."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import ParamSpec, Self

from session_manager_plugin.errors import CopyFailed, NotConnected
from session_manager_plugin.transfer.download_plan import new_digest
from session_manager_plugin.transfer.local_files import (
    BECAME_SHORTER,
    LocalEntry,
    archive,
    error_text,
    open_file,
    read_file,
    walk,
)
from session_manager_plugin.transfer.names import base_name
from session_manager_plugin.transfer.report import CopyOptions, CopyReport
from session_manager_plugin.transfer.scripts import BLOCK_SIZE, MIN_PARTED_SIZE, part_blocks, upload_script
from session_manager_plugin.transfer.sessions import (
    CUT_SHORT,
    CopyChannel,
    OutputReader,
    Sessions,
    cancel_once,
    failure,
    run_in_shell,
)
from session_manager_plugin.transfer.upload_plan import FRAME_SIZE, Receiver, UploadPlan
from session_manager_plugin.utils.named_errors import named_errors

P = ParamSpec("P")
STDIN = b"-"
_STDIN_SIZE = 64 * 1024


async def upload(
    sessions: Sessions, sources: Sequence[bytes], destination: bytes, options: CopyOptions, report: CopyReport
) -> None:
    """Copy local files to ``destination`` on the target. ``-`` is standard input.

    A file that cannot be read, or not be written on the target, is reported; the others are copied. Raises
    ``CopyFailed`` for a problem that concerns all files, and the errors of the sessions.
    """
    async with _Streams(sessions, destination, options.streams, report) as streams:
        await _Upload(streams, options, report).run(sources, destination)


class _Stream:
    """One session that runs the script of an upload on the target."""

    def __init__(self, channel: CopyChannel, report: CopyReport) -> None:
        self._channel = channel
        self._report = report
        self._reader = OutputReader(channel)
        self.plan = UploadPlan()
        self.has_refused = False
        """Whether the target could not write a file; the caller may reset it."""

    async def begin(self, destination: bytes) -> Receiver:
        """Run the script, and return its report on the target."""
        self._acknowledge(await run_in_shell(self._channel, self._reader, upload_script(destination)))
        while self.plan.receiver is None:
            await self._wait()
        return self.plan.receiver

    async def send(self, make: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs) -> None:
        """Wait until the plan permits sending, then send what ``make``, a method of the plan, returns."""
        await self._send_permitted()
        await self._send(make(*args, **kwargs))

    async def send_frame(self, data: bytes) -> None:
        """Wait until the plan permits sending, then send bytes of a file; another thread compresses them."""
        await self._send_permitted()
        await self._send(await asyncio.to_thread(self.plan.frame, data))

    async def _send_permitted(self) -> None:
        self._acknowledge(self._reader.read_now())
        while not self.plan.may_send:
            await self._wait()

    async def _send(self, data: bytes) -> None:
        try:
            await self._channel.send_input_data(data)
        except NotConnected:
            while True:  # raises the target's reason, if it has printed one
                await self._wait()

    async def settle(self) -> bool:
        """Wait until the target has acknowledged everything; return whether it has carried out the last order."""
        while not self.plan.settled:
            await self._wait()
        return self.plan.succeeded

    async def finish(self) -> None:
        """End the script, and wait until it has ended."""
        await self.send(self.plan.finish)
        while not self.plan.finished:
            await self._wait()

    async def close(self) -> None:
        """Stop reading; the channel stays open."""
        await self._reader.close()

    async def _wait(self) -> None:
        data = await self._reader.read()
        if not data:
            name = self._report.current
            raise failure(self._reader, f"{name}: {CUT_SHORT}" if name else CUT_SHORT)
        self._acknowledge(data)

    def _acknowledge(self, data: bytes) -> None:
        if data:
            self._report.advance(self.plan.receive_data(data))
            for name, reason in self.plan.refused:
                self._report.problem(name, reason)
                self.has_refused = True
            self.plan.refused.clear()


class _Streams:
    """The sessions of one upload. The first sends everything; the others help with parts of large files. Each is opened
    when it is first used; all are closed at the end."""

    def __init__(self, sessions: Sessions, destination: bytes, count: int, report: CopyReport) -> None:
        self._sessions = sessions
        self._destination = destination
        self._report = report
        self._stacks: list[AsyncExitStack] = []
        self._open: dict[int, _Stream] = {}
        self.count = count

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
        self._report.partial = ""

    async def close(self) -> None:
        """Close the sessions, all at the same time, since a signal leaves little time. Idempotent."""
        stacks, self._stacks = self._stacks, []
        await asyncio.gather(*(stack.aclose() for stack in stacks))

    async def stream(self, index: int) -> _Stream:
        """Return a stream, opened at the first call. One caller per stream at a time."""
        if index not in self._open:
            stack = AsyncExitStack()
            stream = _Stream(await stack.enter_async_context(self._sessions.shell()), self._report)
            stack.push_async_callback(stream.close)
            self._stacks.append(stack)
            self._open[index] = stream
            await stream.begin(self._destination)
        return self._open[index]

    async def finish(self) -> None:
        """End all scripts, and wait until they have ended."""
        await asyncio.gather(*(stream.finish() for stream in self._open.values()))


def check_standard_input() -> None:
    """Raise ``OSError`` if standard input cannot be read, for example because it is closed or a directory."""
    _read_standard_input(0)


class _Upload:
    def __init__(self, streams: _Streams, options: CopyOptions, report: CopyReport) -> None:
        self._streams = streams
        self._options = options
        self._report = report

    async def run(self, sources: Sequence[bytes], destination: bytes) -> None:
        self._destination = destination
        self._first = await self._streams.stream(0)
        receiver = self._first.plan.receiver
        assert receiver is not None
        shown = os.fsdecode(destination)
        makes_directory = self._options.recursive and len(sources) == 1 and _is_directory(sources[0])
        if receiver.kind == "none" and destination.endswith(b"/") and makes_directory:
            destination = self._destination = destination.rstrip(b"/")
        elif receiver.kind == "missing" or (receiver.kind == "none" and destination.endswith(b"/")):
            raise CopyFailed(f"{shown}: No such file or directory on the target")
        if receiver.kind != "directory" and (len(sources) > 1 or destination.endswith(b"/")):
            raise CopyFailed(f"{shown}: is not a directory on the target")
        for source in sources:
            name = b""
            if receiver.kind == "directory" and source != STDIN:
                name = base_name(source)
            await self._copy(source, name, receiver)
        await self._streams.finish()

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
        shown = os.fsdecode(entry.path)
        if self._streams.count > 1 and entry.size >= MIN_PARTED_SIZE:
            await self._send_parts(shown, descriptor, entry, name, mode, mtime, receiver)
        else:
            await self._send_file(shown, name, mode, mtime, _pieces(read_file(descriptor, entry)))

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
                await self._first.send(self._first.plan.make_directory, below)
                directories.append((below, entry))
            else:
                await self._copy_file(entry, below, receiver)
        for below, entry in reversed(directories):
            await self._first.send(self._first.plan.settle_directory, below, *self._attributes(entry, receiver))

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
        stream, plan = self._first, self._first.plan
        assert plan.receiver is not None
        digest = new_digest(plan.receiver.archive_algorithm if is_archive else plan.receiver.algorithm)
        self._report.start(shown)
        await stream.send(plan.start_file, name, mode, mtime, self._new_partial(name), archive=is_archive)
        size = 0
        while True:
            try:
                piece = await anext(pieces, b"")
            except (CopyFailed, OSError) as error:  # the file on this machine
                await stream.send(plan.drop_file)
                await stream.settle()
                self._report.problem(shown, error_text(error))
                return
            if not piece:
                break
            if digest is not None:
                digest.update(piece)
            size += len(piece)
            await stream.send_frame(piece)
        await stream.send(plan.end_file, "" if digest is None else digest.hexdigest())
        self._report.checking(size)
        if await stream.settle():
            self._report.copied(shown, size, "" if digest is None else digest.hexdigest())

    async def _send_parts(
        self,
        shown: str,
        descriptor: int,
        entry: LocalEntry,
        name: bytes,
        mode: int,
        mtime: int | None,
        receiver: Receiver,
    ) -> None:
        """Send a large file over all streams; the first begins it, and requests the check of the digest."""
        stream, plan = self._first, self._first.plan
        self._report.start(shown)
        partial = self._new_partial(name)
        parts = part_blocks(entry.size, self._streams.count)
        tasks: list[asyncio.Task[str]] = []
        try:
            stream.has_refused = False
            await stream.send(plan.start_file, name, mode, mtime, partial)
            await stream.send_frame(_read_at(descriptor, entry, 0, FRAME_SIZE))
            await stream.settle()  # the target has created the file
            if stream.has_refused:
                await stream.send(plan.drop_file)
                await stream.settle()
                return
            tasks = [
                asyncio.create_task(work)
                for work in (
                    asyncio.to_thread(_digest, entry, new_digest(receiver.algorithm)),
                    self._send_part(stream, descriptor, entry, FRAME_SIZE // BLOCK_SIZE, parts[0][1]),
                    *(
                        self._send_other_part(index, name, partial, descriptor, entry, *part)
                        for index, part in enumerate(parts)
                        if index
                    ),
                )
            ]
            digest, *_ = await asyncio.gather(*tasks)
        except BaseException:
            cancel_once(tasks)
            # The sessions in use do not wait for the end of those that are being started.
            await asyncio.gather(self._streams.close(), *tasks, return_exceptions=True)
            raise
        finally:
            os.close(descriptor)
        await stream.send(plan.end_first_part)
        await stream.send(plan.check_file, digest)
        self._report.checking(entry.size)
        if await stream.settle():
            self._report.copied(shown, entry.size, digest)

    async def _send_other_part(
        self, index: int, name: bytes, partial: str, descriptor: int, entry: LocalEntry, first_block: int, blocks: int
    ) -> str:
        stream = await self._streams.stream(index)
        await stream.send(stream.plan.start_part, name, first_block, partial)
        await self._send_part(stream, descriptor, entry, first_block, first_block + blocks)
        await stream.send(stream.plan.end_part)
        await stream.settle()
        return ""

    async def _send_part(
        self, stream: _Stream, descriptor: int, entry: LocalEntry, first_block: int, end_block: int
    ) -> str:
        end = min(end_block * BLOCK_SIZE, entry.size)
        for offset in range(first_block * BLOCK_SIZE, end, FRAME_SIZE):
            data = _read_at(descriptor, entry, offset, min(FRAME_SIZE, end - offset))
            await stream.send_frame(data)
        return ""

    def _new_partial(self, name: bytes) -> str:
        """Return the name of a partial file for ``name``, which is relative to the destination."""
        partial = f".smp-{secrets.token_hex(4)}"
        directory = os.path.dirname(os.path.join(self._destination, name) if name else self._destination)
        self._report.partial = f"{os.fsdecode(os.path.join(directory, partial.encode()))} on the target"
        return partial

    def _problem(self, path: bytes, text: str) -> None:
        self._report.problem(os.fsdecode(path), text)


def _read_at(descriptor: int, entry: LocalEntry, offset: int, size: int) -> bytes:
    """Return ``size`` bytes of a file. Raises ``CopyFailed`` if it has fewer."""
    with named_errors(entry.path):
        data = os.pread(descriptor, size, offset)
    if len(data) < size:
        raise CopyFailed(f"{os.fsdecode(entry.path)}: {BECAME_SHORTER}")
    return data


def _digest(entry: LocalEntry, digest: hashlib._Hash | None) -> str:
    """Return the digest of a file; empty if ``digest`` is None. Opens the file by itself, since the thread may still
    run after the copy has failed."""
    if digest is None:
        return ""
    with named_errors(entry.path), open(entry.path, "rb", buffering=0) as file:
        while data := file.read(FRAME_SIZE):
            digest.update(data)
    return digest.hexdigest()


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
    while data := await asyncio.to_thread(_read_standard_input, _STDIN_SIZE):
        yield data


def _read_standard_input(size: int) -> bytes:
    with named_errors("standard input"):
        return os.read(0, size)
