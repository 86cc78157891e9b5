"""``StdioHandler``: a byte stream for another program, such as ssh."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import pytest

from session_manager_plugin.errors import ConnectionLost
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.session.outcome import EndReason, Outcome
from session_manager_plugin.session.stdio import StdioHandler
from session_manager_plugin.terminal.console import Console
from tests.support.clock import ManualClock
from tests.support.console_pipes import ConsolePipes
from tests.support.forwarding import RecordedNotices
from tests.support.handler_run import ended_at_last
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.waiting import DEADLINE, rounds, wait_until

STDIO = import_module("session_manager_plugin.session.stdio")
OUTPUT = import_module("session_manager_plugin.terminal.output")
TERMINATE = Flag.TERMINATE_SESSION.serialize()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no other place has."""
    return random.Random(seed).randbytes(size)


class Stdio:
    """A running ``StdioHandler`` and everything around it."""

    def __init__(self, pipes: ConsolePipes) -> None:
        self.pipes = pipes
        self.agent = MemoryAgent(properties={"portNumber": "22"})
        self.channel = MemoryChannel(self.agent)
        self.notices = RecordedNotices()
        self.clock = ManualClock()
        self.running: asyncio.Task[Outcome]

    async def pass_time(self, seconds: float) -> None:
        """Let time pass once the handler waits for it, and have the handler do what follows."""
        await wait_until(lambda: self.clock.is_awaited)
        self.clock.advance(seconds)
        await rounds()

    async def start(self, *early: tuple[bytes, PayloadType]) -> None:
        """Open the channel, have the agent send what is ``early``, and run the handler."""
        await self.channel.open()
        await self.channel.ready()
        for data, payload_type in early:
            self.agent.send(data, payload_type)
        handler = StdioHandler(self.pipes.console, self.notices, self.clock)
        self.running = asyncio.ensure_future(handler.run(self.channel))
        self.running.add_done_callback(lambda _running: self.pipes.console.close())

    async def result(self) -> Outcome:
        """The exit status, once it has ended."""
        return await asyncio.wait_for(asyncio.shield(self.running), DEADLINE)

    @property
    def flags(self) -> bytes:
        """The flags that came at the agent."""
        return self.agent.data(PayloadType.FLAG)


@asynccontextmanager
async def stdio(*early: tuple[bytes, PayloadType]) -> AsyncIterator[Stdio]:
    """A running session on pipes."""
    async with ConsolePipes() as pipes:
        session = Stdio(pipes)
        await session.start(*early)
        async with ended_at_last(session):
            yield session


async def test_bytes_go_both_ways_as_they_are() -> None:
    there, back = bytes(range(256)) * 800 + b"\n", noise(300_000)
    async with stdio() as session:
        await session.pipes.type(there)
        await session.agent.until(lambda: len(session.agent.data()) == len(there))
        assert session.agent.data() == there
        sending = asyncio.ensure_future(session.agent.write(back))
        assert await session.pipes.output(len(back)) == back
        await sending
        session.agent.close_channel()
        assert (await session.result()).is_normal
        assert session.pipes.rest() == (b"", b"")


async def test_d1_a_newline_that_travels_alone_stays_a_newline() -> None:
    """Reference defect D1: a chunk that is one newline arrives as a carriage return.

    It would be back if ``session/stdio.py``: ``StdioHandler._send`` sent ``b"\\r" if data == b"\\n" else data``.
    """
    async with stdio() as session:
        await session.pipes.type(b"\n")
        await session.agent.until(session.agent.data)
        assert session.agent.data() == b"\n"


async def test_d7_after_the_end_of_the_input_all_arrives_and_the_answer_comes() -> None:
    """Reference defect D7: the end of standard input ends the process at once; what was not acknowledged and what
    was to come is lost.

    It would be back if ``session/stdio.py``: ``StdioHandler._send`` had ``return`` in place of ``await
    channel.drain()``.
    """
    request, answer = noise(500_000), noise(200_000, 2)
    async with stdio() as session:
        typing = asyncio.ensure_future(session.pipes.type(request))
        await typing
        session.pipes.end_input()
        await session.agent.until(lambda: len(session.agent.data()) == len(request))
        sending = asyncio.ensure_future(session.agent.write(answer))
        assert await session.pipes.output(len(answer)) == answer
        await sending
        assert not session.running.done()
        session.agent.close_channel()
        assert (await session.result()).is_normal
        assert session.agent.data() == request
        assert session.flags == b""


async def test_what_was_read_is_acknowledged_before_silence_counts() -> None:
    async with stdio() as session:
        session.agent.acknowledging = False
        await session.pipes.type(b"request")
        session.pipes.end_input()
        await session.agent.until(session.agent.data)
        session.clock.advance(1000)
        await rounds()
        assert not session.running.done()
        session.agent.acknowledging = True
        await session.pass_time(59)
        assert session.flags == b""
        await session.pass_time(1)
        await session.agent.until(lambda: session.flags == TERMINATE)
        assert (await session.result()).is_normal


async def test_silence_after_the_end_of_the_input_ends_the_session() -> None:
    async with stdio() as session:
        session.pipes.end_input()
        await session.pass_time(59)
        session.agent.send(b"still here")
        await session.agent.until(lambda: not session.agent.connection.in_flight)
        await session.pass_time(59)
        assert not session.running.done()
        await session.pass_time(1)
        assert (await session.result()).is_normal
        assert session.flags == TERMINATE
        assert session.pipes.rest() == (b"still here", b"")


async def test_the_silence_of_a_link_that_is_away_is_not_the_far_ends() -> None:
    async with stdio() as session:
        session.channel.link_up = False
        session.pipes.end_input()
        await session.pass_time(1000)
        assert not session.running.done()
        session.channel.link_up = True
        await session.pass_time(59)
        assert not session.running.done()
        await session.pass_time(1)
        assert (await session.result()).is_normal


async def test_when_both_ends_of_ssh_are_gone_the_session_ends_although_nothing_is_written() -> None:
    """A killed ssh: its ends of both pipes are closed, and the remote says nothing that would fail to be written."""
    async with stdio() as session:
        session.agent.acknowledging = False
        await session.pipes.type(b"never acknowledged")
        session.pipes.stop_reading_output()
        await session.agent.until(session.agent.data)
        assert not session.running.done()
        session.pipes.end_input()
        session.agent.acknowledging = True
        assert (await session.result()).is_normal


async def test_silence_before_the_end_of_the_input_is_nothing() -> None:
    async with stdio() as session:
        session.clock.advance(1000)
        await rounds()
        assert not session.running.done()
        session.pipes.end_input()
        await session.pass_time(59)
        assert not session.running.done()


@pytest.mark.parametrize("ended", [False, True])
async def test_when_nobody_reads_the_output_the_session_ends_without_an_error(ended: bool) -> None:
    async with stdio() as session:
        session.pipes.stop_reading_output()
        if ended:
            session.pipes.end_input()
        session.agent.send(b"is anybody there?")
        assert (await session.result()).is_normal
        assert session.flags == TERMINATE
        assert session.channel.connection.in_flight == 0


@pytest.mark.parametrize("ended", [False, True])
async def test_an_output_that_cannot_be_written_to_is_raised(ended: bool) -> None:
    """A closed standard output, or a full disk: payload is lost, so the end is not normal."""
    read_only = os.open(os.devnull, os.O_RDONLY)
    inner, outer = os.pipe()
    agent = MemoryAgent(properties={})
    channel = MemoryChannel(agent)
    await channel.open()
    await channel.ready()
    console = Console(inner, read_only, outer)
    agent.send(b"SSH-2.0-OpenSSH\r\n")
    if ended:
        agent.close_channel()
    with pytest.raises(OSError, match="standard output"):
        await asyncio.wait_for(StdioHandler(console, RecordedNotices()).run(channel), DEADLINE)
    console.close()
    await channel.close()
    for fd in (read_only, inner, outer):
        os.close(fd)


async def test_d10_only_payload_reaches_the_output() -> None:
    """Reference defect D10: flags and any other payloads are written into the user's byte stream.

    It would be back if ``session/stdio.py``: ``StdioHandler.run`` gave ``self._received`` as the handler of
    ``PayloadType.FLAG``.
    """
    async with stdio() as session:
        for payload_type in PayloadType:
            if payload_type is PayloadType.OUTPUT or 5 <= payload_type <= 9:
                continue
            session.agent.send(b"\0\0\0\3", payload_type)
        session.agent.send(b"SSH-2.0-OpenSSH\r\n")
        session.agent.close_channel()
        assert (await session.result()).is_normal
        assert session.pipes.rest() == (b"SSH-2.0-OpenSSH\r\n", b"")
        assert session.notices.failures == [""]


async def test_d13_a_first_message_that_is_no_output_stops_nothing() -> None:
    """Reference defect D13: when the first message is no output, nothing after it is ever acknowledged.

    It would be back if ``session/stdio.py``: ``StdioHandler.run`` did not set its input handler when it begins.
    That a handler removes itself is structural in the reference, and no one line does that here.
    """
    early = ((Flag.CONNECT_TO_PORT_ERROR.serialize(), PayloadType.FLAG), (b"x", PayloadType.STDERR))
    async with stdio(*early) as session:
        session.agent.send(b"SSH-2.0-OpenSSH\r\n")
        assert await session.pipes.output(17) == b"SSH-2.0-OpenSSH\r\n"
        await session.agent.until(lambda: not session.agent.connection.in_flight)
        assert session.notices.failures == [""]


async def test_d15_what_has_arrived_is_written_although_the_session_is_over() -> None:
    """Reference defect D15: channel_closed ends the process at once; what was not written yet is lost.

    It would be back if ``session/stdio.py``: ``StdioHandler.run`` did not ``await console.drain()`` when the
    session has ended.
    """
    data = noise(1_000_000)
    async with stdio() as session:
        await session.agent.write(data)
        session.agent.close_channel()
        await wait_until(lambda: not session.channel.is_open)
        assert await session.pipes.output(len(data)) == data
        assert (await session.result()).is_normal


async def test_h15_an_output_that_is_not_read_pauses_reading_only_beyond_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reference defect H15: a slow reader of standard output blocks acknowledgements, pongs and the session's
    end.

    It would be back if ``terminal/output.py``: ``OutputWriter`` asked for a pause when ``self._buffered > 0``.
    """
    limit = OUTPUT.HIGH_WATER
    async with stdio() as session:
        size = limit + 4 * 1024 * 1024
        data = noise(1 << 20)
        for _ in range(7):
            await session.agent.write(data)
        await wait_until(lambda: not session.agent.connection.in_flight)
        assert not session.channel.reading_paused
        sending = asyncio.ensure_future(session.agent.write(data * 5))
        await session.channel.until(lambda: session.channel.reading_paused)
        assert await session.pipes.output(size) == data * 12
        await sending
        assert not session.channel.reading_paused
    assert limit == 8 * 1024 * 1024


async def test_silence_says_nothing_while_the_output_is_not_read() -> None:
    data = noise(1 << 20)
    async with stdio() as session:
        sending = asyncio.ensure_future(session.agent.write(data * 12))
        await session.channel.until(lambda: session.channel.reading_paused)
        session.pipes.end_input()
        await session.pass_time(1000)
        assert not session.running.done()
        assert await session.pipes.output(12 << 20) == data * 12
        await sending
        session.agent.close_channel()
        assert (await session.result()).is_normal


async def test_the_far_ends_text_is_raised_when_all_is_written() -> None:
    async with stdio() as session:
        session.agent.send(b"last words")
        session.agent.close_channel("Unable to connect to specified port")
        assert "Unable to connect" in (await session.result()).text
        assert session.pipes.rest() == (b"last words", b"")


async def test_a_lost_link_is_raised() -> None:
    async with stdio() as session:
        session.channel.end(ConnectionLost("gone"))
        with pytest.raises(ConnectionLost, match="gone"):
            await session.result()


async def test_a_lost_link_after_the_end_of_the_input_is_raised() -> None:
    async with stdio() as session:
        session.agent.acknowledging = False
        await session.pipes.type(b"request")
        session.pipes.end_input()
        await session.agent.until(session.agent.data)
        session.channel.end(ConnectionLost("gone"))
        with pytest.raises(ConnectionLost, match="gone"):
            await session.result()


async def test_a_cancelled_handler_sends_the_flag() -> None:
    async with stdio() as session:
        await session.pipes.type(b"request")
        await session.agent.until(session.agent.data)
        session.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await session.running
        await session.agent.until(lambda: session.flags == TERMINATE)


async def test_an_input_that_cannot_be_read_is_raised(tmp_path: Path) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    inner, outer = os.pipe()
    agent = MemoryAgent(properties={})
    channel = MemoryChannel(agent)
    await channel.open()
    await channel.ready()
    console = Console(directory, outer, outer)
    with pytest.raises(IsADirectoryError):
        await StdioHandler(console, RecordedNotices()).run(channel)
    await agent.until(lambda: agent.data(PayloadType.FLAG) == TERMINATE)
    console.close()
    await channel.close()
    for fd in (directory, inner, outer):
        os.close(fd)


async def test_a_closed_input_is_one_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(STDIO, "SILENCE_AFTER_EOF", 0.05)
    inner, outer = os.pipe()
    closed = os.dup(inner)
    os.close(closed)
    agent = MemoryAgent(properties={})
    channel = MemoryChannel(agent)
    await channel.open()
    await channel.ready()
    console = Console(closed, outer, outer)
    outcome = await asyncio.wait_for(StdioHandler(console, RecordedNotices()).run(channel), DEADLINE)
    assert outcome.reason is EndReason.INPUT_ENDED
    console.close()
    await channel.close()
    for fd in (inner, outer):
        os.close(fd)


async def test_a_pipe_without_a_reader_is_no_death() -> None:
    """SIGPIPE-safe: Python ignores the signal, so that the write fails instead, in a process of its own as well."""
    script = (
        "import os, sys\n"
        "from session_manager_plugin.session.stdio import StdioHandler\n"
        "inner, outer = os.pipe(); os.close(inner)\n"
        "try: os.write(outer, b'x')\n"
        "except BrokenPipeError: sys.exit(7)\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == 7
