"""``ShellHandler`` and what it records."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.handler_options import OpenRecording, StdinEof
from session_manager_plugin.session.notices import PlainNotices
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.session.shell import ShellHandler
from session_manager_plugin.terminal.recording import Recording
from tests.support.asciicast import check_asciicast
from tests.support.console_pipes import ConsolePipes
from tests.support.handler_run import ended_at_last
from tests.support.memory_channel import SESSION_ID, MemoryAgent, MemoryChannel
from tests.support.waiting import DEADLINE


class Shell:
    """A running ``ShellHandler`` and everything around it."""

    def __init__(self, pipes: ConsolePipes, open_recording: OpenRecording) -> None:
        self.pipes = pipes
        self.agent = MemoryAgent(None)
        self.channel = MemoryChannel(self.agent)
        self.notices: list[str] = []
        self._handler = ShellHandler(
            pipes.console,
            pipes.console,
            stdin_eof=StdinEof.IGNORE,
            open_recording=open_recording,
            notices=PlainNotices(self.notices.append),
        )
        self.running: asyncio.Task[Outcome]

    async def start(self) -> None:
        await self.channel.open()
        self.agent.send(b"$ ")
        await self.channel.ready()
        self.running = asyncio.ensure_future(self._handler.run(self.channel))

    async def result(self) -> Outcome:
        """How it ended, once it has."""
        return await asyncio.wait_for(asyncio.shield(self.running), DEADLINE)


@asynccontextmanager
async def shell(open_recording: OpenRecording) -> AsyncIterator[Shell]:
    """A running session on pipes."""
    async with ConsolePipes() as pipes:
        session = Shell(pipes, open_recording)
        await session.start()
        async with ended_at_last(session):
            yield session


async def test_a_session_through_pipes_is_recorded(tmp_path: Path) -> None:
    """From its first byte on, also what came before the handler ran; both outputs; what is typed."""
    path = tmp_path / "session.cast"
    asked: list[str] = []

    def open_recording(session_id: str) -> Recording:
        asked.append(session_id)
        return Recording(path, keeps_input=True)

    async with shell(open_recording) as session:
        assert await session.pipes.output(2) == b"$ "
        await session.pipes.type(b"date\n")
        await session.agent.until(lambda: session.agent.data() == b"date\n")
        session.agent.send(b"noon\n")
        session.agent.send(b"oops\n", PayloadType.STDERR)
        assert await session.pipes.output(5) == b"noon\n"
        assert await session.pipes.errors(5) == b"oops\n"
        session.agent.close_channel()
        assert (await session.result()).is_normal
    header, *events = check_asciicast(path.read_bytes())
    assert asked == [SESSION_ID]
    assert (header["width"], header["height"], header["title"]) == (80, 24, SESSION_ID)
    assert [event[1:] for event in events] == [["o", "$ "], ["i", "date\n"], ["o", "noon\n"], ["o", "oops\n"]]


async def test_a8_the_size_is_told_once_more_behind_the_first_output() -> None:
    """Reference defect A8: the first size after HandshakeComplete can be thrown away by the agent."""
    async with shell(lambda _session_id: None) as session:
        size = b'{"cols":80,"rows":24}'
        await session.agent.until(lambda: session.agent.data(PayloadType.SIZE) == size + size)
        session.agent.send(b"more")
        assert await session.pipes.output(6) == b"$ more"
        await session.channel.drain()
        assert session.agent.data(PayloadType.SIZE) == size + size


async def test_a_recording_that_cannot_be_made_keeps_nobody_from_working() -> None:
    def open_recording(session_id: str) -> Recording:
        raise ConfigurationError("there is no room")

    async with shell(open_recording) as session:
        assert await session.pipes.output(2) == b"$ "
        assert session.notices == ["there is no room; the session is not recorded"]


async def test_a_recording_that_fails_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "session.cast"
    recording = Recording(path)
    async with shell(lambda _session_id: recording) as session:
        assert await session.pipes.output(2) == b"$ "
        write = os.write

        def fail(fd: int, data: bytes) -> int:
            if os.fstat(fd).st_ino == path.stat().st_ino:
                raise OSError(28, "No space left on device")
            return write(fd, data)

        monkeypatch.setattr(os, "write", fail)
        session.agent.send(b"first ")
        session.agent.send(b"second")
        assert await session.pipes.output(12) == b"first second"
        assert session.notices == [f"the recording {path} has ended: No space left on device; the session continues"]
        session.agent.close_channel()
        assert (await session.result()).is_normal
        assert session.pipes.rest() == (b"", b"")
    assert [event[1:] for event in check_asciicast(path.read_bytes())[1:]] == [["o", "$ "]]
