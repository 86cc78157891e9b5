"""OutputWriter on what a standard output may be, with readers that are slow, fast, and gone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import pty
import random
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import session_manager_plugin
from session_manager_plugin.terminal.output import OutputWriter
from session_manager_plugin.terminal.raw import RawMode
from tests.support.waiting import DEADLINE
from tests.test_terminal.conftest import Pty

MIB = 1024 * 1024


class Sink:
    """Reads a descriptor in the event loop, `step` bytes at a time, once it is told to."""

    def __init__(self, fd: int, step: int) -> None:
        self._fd, self._step = fd, step
        self._arrived = asyncio.Event()
        self._digest = hashlib.sha256()
        self._expected = -1
        self.length = 0

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    async def digest_of(self, length: int) -> str:
        """The digest of everything, once `length` bytes are there; no more must come."""
        self._expected = length
        if self.length < length:
            async with asyncio.timeout(60):
                await self._arrived.wait()
        asyncio.get_running_loop().remove_reader(self._fd)
        assert self.length == length
        return self._digest.hexdigest()

    def _read(self) -> None:
        data = os.read(self._fd, self._step)
        self._digest.update(data)
        self.length += len(data)
        if self.length >= self._expected >= 0:
            self._arrived.set()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The read and the write end of a pipe, which the test may close."""
    ends = os.pipe()
    yield ends
    close_both(ends)


@pytest.fixture(params=["pipe", "pipe not to be opened again", "socket", "terminal", "terminal not to be opened again"])
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A descriptor to read and one to write, of each kind the writer treats differently; the test may close them."""
    raw: RawMode | None = None
    if request.param == "socket":
        ours, theirs = socket.socketpair()
        pair = (ours.detach(), theirs.detach())
    elif request.param.startswith("terminal"):
        pair = pty.openpty()
        raw = RawMode(pair[1])
        raw.enter()
    else:
        pair = os.pipe()
    if request.param.endswith("again"):
        monkeypatch.setattr(os, "open", refuse_to_open)
    yield pair
    if raw is not None:
        raw.restore()
    close_both(pair)


def close_both(pair: tuple[int, int]) -> None:
    for fd in pair:
        with contextlib.suppress(OSError):
            os.close(fd)


def refuse_to_open(path: str, flags: int, **_options: object) -> int:
    raise PermissionError(errno.EACCES, "Permission denied", path)


async def test_slow_reader(ends: tuple[int, int]) -> None:
    """Nobody reads at first: every write returns at once, and then every byte arrives in order."""
    read_end, write_end = ends
    flags = fcntl.fcntl(write_end, fcntl.F_GETFL)
    writer = OutputWriter(write_end, high_water=4 * MIB)
    events: list[tuple[str, int]] = []
    writer.set_flow_handlers(
        lambda: events.append(("pause", writer.buffered)), lambda: events.append(("resume", writer.buffered))
    )
    source = random.Random(1)
    expected = hashlib.sha256()
    length = 0
    while length < 8 * MIB:
        piece = source.randbytes(source.choice([1, 80, 1024, 1024, 1024, 70_000]))
        writer.write(piece)
        expected.update(piece)
        length += len(piece)
    assert writer.buffered > 7 * MIB
    assert [name for name, _ in events] == ["pause"]
    assert 4 * MIB < events[0][1] <= 4 * MIB + 70_000
    assert fcntl.fcntl(write_end, fcntl.F_GETFL) == flags

    sink = Sink(read_end, 100_000)
    sink.start()
    async with asyncio.timeout(60):
        await writer.drain()
    assert writer.buffered == 0
    assert await sink.digest_of(length) == expected.hexdigest()
    assert [name for name, _ in events] == ["pause", "resume"]
    assert MIB < events[1][1] <= 2 * MIB
    assert writer.error is None
    writer.close()


async def test_write_between_reads_keeps_the_order(ends: tuple[int, int]) -> None:
    read_end, write_end = ends
    writer = OutputWriter(write_end)
    sink = Sink(read_end, 3000)
    sink.start()
    source = random.Random(2)
    expected = hashlib.sha256()
    length = 0
    for _ in range(600):
        piece = source.randbytes(source.randrange(1, 6000))
        writer.write(piece)
        expected.update(piece)
        length += len(piece)
        await asyncio.sleep(0)
    assert await sink.digest_of(length) == expected.hexdigest()
    writer.close()


async def test_with_nothing_queued_it_is_written_at_once(ends: tuple[int, int]) -> None:
    writer = OutputWriter(ends[1])
    writer.write(b"x")
    assert writer.buffered == 0
    assert os.read(ends[0], 10) == b"x"
    await writer.drain()
    writer.write(b"")
    writer.close()


async def test_flow_stops_and_goes_again_each_time(pipe: tuple[int, int]) -> None:
    writer = OutputWriter(pipe[1], high_water=1000)
    events: list[str] = []
    writer.set_flow_handlers(lambda: events.append("pause"), lambda: events.append("resume"))
    sink = Sink(pipe[0], 65536)
    for turn in range(1, 4):
        writer.write(b"x" * 200_000)
        writer.write(b"x")
        assert events == ["pause", "resume"] * (turn - 1) + ["pause"]
        sink.start()
        await writer.drain()
        assert events == ["pause", "resume"] * turn
        await sink.digest_of(turn * 200_001)
    writer.close()


@pytest.mark.slow
async def test_single_bytes_cost_what_they_are(pipe: tuple[int, int]) -> None:
    writer = OutputWriter(pipe[1])
    writer.write(b"x" * 200_000)
    tracemalloc.start()
    for _ in range(200_000):
        writer.write(b"y")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 500_000
    assert 200_000 <= writer.buffered < 400_000
    writer.close()


async def test_file_keeps_its_offset_and_its_append_mode(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"before\n")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    writer = OutputWriter(fd)
    writer.write(b"one\n")
    with path.open("ab") as other:
        other.write(b"another process\n")
    big = b"two\n" * 5000
    writer.write(big)
    assert writer.buffered == 0
    writer.close()
    os.close(fd)
    assert path.read_bytes() == b"before\none\nanother process\n" + big


async def test_file_is_written_where_the_shared_offset_is(tmp_path: Path) -> None:
    """`{ echo a; smp …; echo c; } > file`."""
    path = tmp_path / "file"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"a\n")
    writer = OutputWriter(fd)
    writer.write(b"b\n")
    writer.close()
    os.write(fd, b"c\n")
    os.close(fd)
    assert path.read_bytes() == b"a\nb\nc\n"


async def test_dev_null_swallows_everything() -> None:
    fd = os.open("/dev/null", os.O_WRONLY)
    writer = OutputWriter(fd)
    writer.write(b"x" * MIB)
    assert (writer.buffered, writer.error) == (0, None)
    writer.close()
    os.close(fd)


async def test_reader_that_is_gone(pipe: tuple[int, int]) -> None:
    errors: list[OSError] = []
    writer = OutputWriter(pipe[1], on_error=errors.append)
    os.close(pipe[0])
    writer.write(b"x")
    writer.write(b"y")
    assert [error.errno for error in errors] == [errno.EPIPE]
    assert writer.error is errors[0]
    assert writer.buffered == 0
    async with asyncio.timeout(DEADLINE):
        await writer.drain()
    writer.close()


async def test_reader_that_goes_while_much_is_queued(ends: tuple[int, int]) -> None:
    events: list[str] = []
    writer = OutputWriter(ends[1], high_water=MIB, on_error=lambda _: events.append("error"))
    writer.set_flow_handlers(lambda: events.append("pause"), lambda: events.append("resume"))
    writer.write(b"x" * 2 * MIB)
    draining = asyncio.create_task(writer.drain())
    await asyncio.sleep(0)
    os.close(ends[0])
    async with asyncio.timeout(DEADLINE):
        await draining
    assert events == ["pause", "error", "resume"]
    assert writer.error is not None
    assert writer.error.errno in {errno.EPIPE, errno.EIO}  # EIO is a terminal's
    assert writer.buffered == 0
    writer.write(b"dropped")
    assert writer.buffered == 0
    writer.close()


async def test_disk_that_is_full() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    errors: list[OSError] = []
    writer = OutputWriter(fd, on_error=errors.append)
    writer.write(b"x")
    assert [error.errno for error in errors] == [errno.ENOSPC]
    writer.close()
    os.close(fd)


async def test_close_drops_the_queue_and_nothing_else(pipe: tuple[int, int]) -> None:
    writer = OutputWriter(pipe[1])
    writer.write(b"x" * MIB)
    draining = asyncio.create_task(writer.drain())
    await asyncio.sleep(0)
    writer.close()
    writer.close()
    async with asyncio.timeout(DEADLINE):
        await draining
    assert writer.buffered == 0
    writer.write(b"dropped")
    os.set_blocking(pipe[0], False)
    with contextlib.suppress(BlockingIOError):
        while os.read(pipe[0], 65536):
            pass
    os.write(pipe[1], b"still open")
    assert os.read(pipe[0], 65536) == b"still open"
    os.close(pipe[1])
    assert os.read(pipe[0], 1) == b""


async def test_description_somebody_made_non_blocking(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "open", refuse_to_open)
    os.set_blocking(pipe[1], False)
    writer = OutputWriter(pipe[1])
    writer.write(b"x" * MIB)
    sink = Sink(pipe[0], 65536)
    sink.start()
    async with asyncio.timeout(DEADLINE):
        await writer.drain()
    assert await sink.digest_of(MIB) == hashlib.sha256(b"x" * MIB).hexdigest()
    assert not os.get_blocking(pipe[1])
    writer.close()


async def test_master_of_a_pty_is_not_opened_again(terminal: Pty) -> None:
    """Its name is /dev/ptmx, and opening that makes another pty."""
    writer = OutputWriter(terminal.master)
    writer.write(b"typed\n")
    assert os.read(terminal.slave, 100) == b"typed\n"
    writer.close()


def test_terminal_whose_device_belongs_to_somebody_else(terminal: Pty) -> None:
    """After `su`: the controlling terminal is open to everybody by its other name."""
    script = """
import asyncio, fcntl, os, termios
from session_manager_plugin.terminal.output import OutputWriter
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
def refuse(fd):
    raise PermissionError
os.ttyname = refuse
opened = []
def spy(path, flags, really_open=os.open):
    opened.append(path)
    return really_open(path, flags)
os.open = spy
async def main():
    writer = OutputWriter(1)
    writer.write(b"x" * 1_000_000)
    assert writer.buffered > 0
    assert os.get_blocking(1)
    assert opened == ["/dev/tty"]
    writer.close()
asyncio.run(main())
"""
    source = str(Path(session_manager_plugin.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", script],
        stdout=terminal.slave,
        stderr=subprocess.PIPE,
        check=False,
        start_new_session=True,
        timeout=DEADLINE,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert (result.returncode, result.stderr) == (0, b"")


async def test_descriptor_that_is_not_open() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        OutputWriter(987654)


@pytest.mark.parametrize("handler", [lambda writer: writer.close(), lambda writer: writer.write(b"more")])
async def test_handlers_may_use_the_writer(pipe: tuple[int, int], handler: Callable[[OutputWriter], None]) -> None:
    os.close(pipe[0])
    writer = OutputWriter(pipe[1], on_error=lambda _: handler(writer))
    writer.write(b"x")
    assert writer.error is not None
    writer.close()
