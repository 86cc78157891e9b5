"""Output that is known to be missing at the end of a session, in each kind of session."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from session_manager_plugin.errors import ConnectionLost, OutputIncomplete
from session_manager_plugin.protocol.events import MissingOutput
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.ending import describe_missing
from session_manager_plugin.session.handler_options import HandlerOptions
from session_manager_plugin.session.outcome import EndReason, Outcome
from session_manager_plugin.session.runner import SessionRunner
from session_manager_plugin.session.session import Session
from tests.support.console_pipes import ConsolePipes
from tests.support.forwarding import RecordedNotices
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.waiting import DEADLINE, wait_until

FORWARDING = {"type": "LocalPortForwarding", "portNumber": "80", "localPortNumber": "0"}
KINDS: dict[str, tuple[str | None, dict[str, Any] | None]] = {
    "shell": (None, None),
    "interactive command": ("InteractiveCommands", None),
    "command": ("NonInteractiveCommands", None),
    "stdio": ("Port", {"portNumber": "22"}),
    "forwarded port": ("Port", FORWARDING),
}
GAP = "the output is incomplete: at least 2 messages (about 6 bytes) did not arrive, and 3 bytes received after that"


def lose(agent: MemoryAgent) -> None:
    """Two messages are lost, the one behind them arrives."""
    agent.losing = True
    agent.send(b"one")
    agent.send(b"two")
    agent.losing = False
    agent.send(b"end")


class Running:
    """A session that runs on pipes."""

    def __init__(self, kind: str, pipes: ConsolePipes) -> None:
        self.agent = MemoryAgent(*KINDS[kind])
        self.channel = MemoryChannel(self.agent)
        self.session = Session(self.channel)
        self.runner = SessionRunner(self.session)
        self.notices = RecordedNotices()
        self.pipes = pipes
        self.task: asyncio.Task[Outcome]

    async def start(self) -> None:
        """Open it; an agent without a handshake is heard by its first output."""
        opening = asyncio.ensure_future(self.session.open())
        if self.agent.session_type is None:
            await self.agent.until(lambda: self.agent.capacity)
            self.agent.send(b"$ ")
        await asyncio.wait_for(opening, DEADLINE)
        self.task = asyncio.ensure_future(self.runner.run(self.pipes.console, HandlerOptions(notices=self.notices)))
        await self.agent.until(lambda: not self.agent.connection.in_flight)

    def lose(self) -> None:
        """Two messages of the agent are lost, the one behind them arrives."""
        lose(self.agent)

    def close(self, text: str = "") -> None:
        """The service closes the session and the websocket."""
        self.agent.close_channel(text)
        asyncio.get_running_loop().call_soon(self.channel.disconnect)


@asynccontextmanager
async def running(kind: str) -> AsyncIterator[Running]:
    """A session of this kind that runs."""
    async with ConsolePipes() as pipes:
        session = Running(kind, pipes)
        await session.start()
        try:
            yield session
        finally:
            session.task.cancel()
            await asyncio.gather(session.task, return_exceptions=True)
            await session.session.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_gap_at_the_end_is_no_normal_end(kind: str) -> None:
    async with running(kind) as session:
        session.lose()
        session.close()
        outcome = await asyncio.wait_for(session.task, DEADLINE)
        assert outcome.incomplete.startswith(GAP)
        assert not outcome.is_normal


@pytest.mark.parametrize("kind", KINDS)
async def test_a_gap_is_told_beside_the_far_ends_reason(kind: str) -> None:
    async with running(kind) as session:
        session.lose()
        session.close("Idle.")
        outcome = await asyncio.wait_for(session.task, DEADLINE)
        assert outcome.text == "Idle."
        assert outcome.incomplete.startswith(GAP)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_gap_is_told_beside_a_lost_link(kind: str) -> None:
    async with running(kind) as session:
        session.lose()
        session.channel.end(ConnectionLost("gone"))
        with pytest.raises(ConnectionLost) as lost:
            await asyncio.wait_for(session.task, DEADLINE)
        assert lost.value.incomplete.startswith(GAP)


async def test_a_program_that_reads_hears_of_it_at_the_end() -> None:
    agent = MemoryAgent("InteractiveCommands")
    channel = MemoryChannel(agent)
    async with Session(channel) as session:
        agent.send(b"begin")
        assert await asyncio.wait_for(session.read(), DEADLINE) == b"begin"
        lose(agent)
        agent.close_channel()
        asyncio.get_running_loop().call_soon(channel.disconnect)
        with pytest.raises(OutputIncomplete):
            await asyncio.wait_for(session.read(), DEADLINE)
        assert (await asyncio.wait_for(session.wait(), DEADLINE)).incomplete.startswith(GAP)


@pytest.mark.parametrize("code", [0, 3])
async def test_a_command_whose_link_was_lost_while_it_ran(code: int) -> None:
    """Its status is known and told, but the caller must not take the output for complete."""
    async with running("command") as session:
        session.agent.send(b"1\n2\n")
        assert await session.pipes.output(4) == b"1\n2\n"
        session.channel.disconnect()
        session.channel.connection.connected("token", time.monotonic())
        session.agent.send(f"EXIT_CODE: {code}".encode(), PayloadType.EXIT_CODE)
        session.agent.close_channel()
        outcome = await asyncio.wait_for(session.task, DEADLINE)
        assert outcome.status == code
        assert "the connection was lost while the command ran" in outcome.incomplete
        assert session.notices.troubles == [f"the command's exit status was {code}"]


async def test_a_command_that_had_ended_before_its_link_was_lost() -> None:
    async with running("command") as session:
        session.agent.send(b"EXIT_CODE: 3", PayloadType.EXIT_CODE)
        await session.agent.until(lambda: not session.agent.connection.in_flight)
        session.channel.disconnect()
        session.channel.connection.connected("token", time.monotonic())
        session.agent.close_channel()
        assert (await asyncio.wait_for(session.task, DEADLINE)).status == 3
        assert session.notices.troubles == []


async def test_whoever_ends_a_session_is_not_told_what_did_not_arrive_then() -> None:
    """Ctrl-C in a forwarded port."""
    async with running("forwarded port") as session:
        session.lose()
        await wait_until(lambda: session.runner.interrupt(signal.SIGINT))
        outcome = await asyncio.wait_for(session.task, DEADLINE)
        assert outcome.reason is EndReason.INTERRUPTED
        assert outcome.is_normal


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (
            MissingOutput(1, 24, 999),
            "at least 1 message (about 24 bytes) did not arrive, and 999 bytes received after that point were left out",
        ),
        (
            MissingOutput(139, 142_336, 58_368),
            "at least 139 messages (about 142 kB) did not arrive, and 58 kB received after that point were left out",
        ),
        (
            MissingOutput(stopped=True),
            "the connection was lost while the command ran, and the agent then sends no more output",
        ),
    ],
)
def test_the_sentence(missing: MissingOutput, sentence: str) -> None:
    known = "is" if missing.messages else "may be"
    assert describe_missing(missing) == f"the output {known} incomplete: {sentence}"
