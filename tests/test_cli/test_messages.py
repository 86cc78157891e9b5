"""Messages on standard streams that take nothing, or have no reader."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import threading
from collections.abc import Iterator

import pytest

from session_manager_plugin.cli import messages
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.messages import QUEUE_LIMIT
from session_manager_plugin.terminal.console import Console
from session_manager_plugin.utils.logging import configure, get_logger
from tests.support.waiting import wait_until

PIPE_SIZE = 4096
FOR_EVER = 3600.0
"""Seconds: a test that waits for so long fails."""


class Pipe:
    """A pipe of one page; `environment` writes both of its outputs there."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self.environment = Environment("smp", stdout=self.writing, stderr=self.writing)

    def fill(self) -> None:
        """Leave no room."""
        os.write(self.writing, b"x" * PIPE_SIZE)

    def read(self) -> bytes:
        """What is there to read."""
        return os.read(self.reading, 1 << 20)

    def stop_reading(self) -> None:
        """Close the end that is read."""
        os.close(self.reading)
        self.reading = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for fd in (made.reading, made.writing):
        with contextlib.suppress(OSError):
            os.close(fd)


async def test_a_full_pipe_keeps_nobody_waiting(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the event loop a message is queued, and comes behind what was written before."""
    monkeypatch.setattr(messages, "STUCK_AFTER", FOR_EVER)
    pipe.fill()
    with pipe.environment.queued_messages():
        pipe.environment.write_message("first\n")
        pipe.environment.write_message("second\n")
        received = pipe.read()
        await wait_until(lambda: is_readable(pipe.reading))
        received += pipe.read()
    assert received == b"x" * PIPE_SIZE + b"first\nsecond\n"


async def test_messages_that_do_not_fit_are_counted(pipe: Pipe) -> None:
    pipe.fill()
    line = "0123456789abcde\n"
    with pipe.environment.queued_messages():
        for _ in range(QUEUE_LIMIT // len(line) + 3):
            pipe.environment.write_error(line)
        received = b""
        while len(received) < PIPE_SIZE + QUEUE_LIMIT:
            await wait_until(lambda: is_readable(pipe.reading))
            received += pipe.read()
        assert received == b"x" * PIPE_SIZE + line.encode() * (QUEUE_LIMIT // len(line))
        pipe.environment.write_error("next\n")
        assert pipe.read() == b"smp: 3 messages were dropped because nothing read this stream\nnext\n"


async def test_messages_and_the_session_share_one_queue(pipe: Pipe) -> None:
    """A text that announces the session is never overtaken by the session's output."""
    pipe.fill()
    with pipe.environment.queued_messages():
        console = Console(stdout=pipe.writing, output=pipe.environment.output_messages.writer)
        pipe.environment.write_message("Starting\n")
        console.write(b"output\n")
        pipe.environment.write_message("Exiting\n")
        assert pipe.read() == b"x" * PIPE_SIZE
        await console.drain()
        console.close()
    assert pipe.read() == b"Starting\noutput\nExiting\n"


async def test_a_reader_that_has_gone_is_no_error(pipe: Pipe) -> None:
    pipe.stop_reading()
    with pipe.environment.queued_messages():
        pipe.environment.write_message("unread\n")
        pipe.environment.write_error("unread\n")
    pipe.environment.write_message("unread\n")


async def test_a_session_is_told_that_its_output_failed_before_it_began(pipe: Pipe) -> None:
    pipe.stop_reading()
    with pipe.environment.queued_messages():
        pipe.environment.write_message("Starting\n")
        console = Console(stdout=pipe.writing, output=pipe.environment.output_messages.writer)
        failures: list[OSError] = []
        console.set_output_failed_handler(failures.append)
        console.close()
    assert [type(failure) for failure in failures] == [BrokenPipeError]


async def test_the_last_lines_wait_half_a_second_together(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages.STUCK_AFTER == 0.5
    waits: list[float] = []

    def wait(_fd: int, timeout: float) -> bool:
        waits.append(timeout)
        return False

    pipe.fill()
    with monkeypatch.context() as patch:
        patch.setattr(messages, "is_writable", wait)
        with pipe.environment.queued_messages():
            pipe.environment.write_error("queued\n")
        for _ in range(20):
            pipe.environment.write_error("last\n")
    assert 0 < sum(waits) <= 0.5
    assert pipe.read() == b"x" * PIPE_SIZE
    pipe.environment.write_error("read again\n")
    assert pipe.read() == b"smp: 21 messages were dropped because nothing read this stream\nread again\n"


async def test_what_is_queued_at_the_end_is_written(pipe: Pipe) -> None:
    pipe.fill()
    reading = asyncio.get_running_loop().run_in_executor(None, read_to, pipe.reading, b"last\n")
    with pipe.environment.queued_messages():
        pipe.environment.write_error("queued\n")
    pipe.environment.write_error("last\n")
    assert await reading == b"x" * PIPE_SIZE + b"queued\nlast\n"


async def test_log_lines_keep_nobody_waiting_either(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the event loop's thread and from others."""
    monkeypatch.setattr(messages, "STUCK_AFTER", FOR_EVER)
    configure(1, None, "text")
    pipe.fill()
    try:
        with pipe.environment.queued_messages():
            for _ in range(10):
                get_logger("test").info("from the loop")
            await asyncio.to_thread(get_logger("test").info, "from a thread")
            assert pipe.read() == b"x" * PIPE_SIZE
            await wait_until(lambda: is_readable(pipe.reading))
            received = pipe.read()
            while b"from a thread" not in received:
                await wait_until(lambda: is_readable(pipe.reading))
                received += pipe.read()
            assert received.count(b"from the loop\n") == 10
    finally:
        configure(0, None, "text")


def is_readable(fd: int) -> bool:
    """Whether there is something to read."""
    return bool(select.select([fd], [], [], 0)[0])


def read_to(fd: int, end: bytes) -> bytes:
    """Everything up to `end`."""
    received = b""
    while not received.endswith(end):
        received += os.read(fd, 1 << 20)
    return received


@pytest.mark.parametrize("already", range(16))
async def test_a_terminal_that_takes_no_more_does_not_block_a_message(
    already: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """poll(2) may call a terminal writable that has room for one byte, while a newline takes two."""
    monkeypatch.setattr(messages, "STUCK_AFTER", 0.05)
    emulator, terminal = os.openpty()
    try:
        os.write(terminal, b"x" * already)
        environment = Environment("smp", stdout=terminal, stderr=terminal)
        writing = threading.Thread(target=environment.write_error, args=("flood\n" * 8192,), daemon=True)
        writing.start()
        await wait_until(lambda: not writing.is_alive())
    finally:
        os.close(emulator)
        os.close(terminal)
