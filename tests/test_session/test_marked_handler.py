"""``MarkedCommandHandler``: a command in a shell session, with a scripted far end."""

from __future__ import annotations

import asyncio
import re
import signal

import pytest

from session_manager_plugin.errors import ConnectionLost, TimedOut
from session_manager_plugin.session.marked_command import INPUT_LINE, INPUT_WINDOW
from session_manager_plugin.session.marked_handler import MarkedCommandHandler
from session_manager_plugin.session.notices import PlainNotices
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.session.streams import MemoryStreams
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.waiting import DEADLINE


class Run:
    """The handler at work, and the shell that a test plays."""

    def __init__(self, data: bytes | None = None, *, shell_timeout: float = 60.0) -> None:
        self.agent = MemoryAgent(None)
        self.channel = MemoryChannel(self.agent)
        self.streams = MemoryStreams(data or b"")
        self.troubles: list[str] = []
        notices = PlainNotices(self.troubles.append)
        self.handler = MarkedCommandHandler(
            self.streams, b"uptime", notices, has_input=data is not None, shell_timeout=shell_timeout
        )
        self.running: asyncio.Task[Outcome]

    async def begin(self) -> bytes:
        """Run to the command's begin; return the end-marker."""
        await self.begin_session()
        await self.agent.until(lambda: b"\r" in self.agent.data())
        halves = re.findall(rb"[0-9a-f]{12}", self.agent.data())
        self.agent.send(b"$ echo of the line\r\n\n" + halves[0] + halves[1] + b"\n")
        await self.agent.until(lambda: self.agent.data().partition(b"\r")[2].startswith(b"uptime"))
        return b"\x1e" + b"".join(halves[2:4])

    async def begin_session(self) -> None:
        await self.channel.open()
        self.agent.send(b"$ ")
        await self.channel.ready()
        self.running = asyncio.ensure_future(self.handler.run(self.channel))

    async def result(self) -> Outcome:
        return await asyncio.wait_for(self.running, DEADLINE)


async def test_output_and_status() -> None:
    run = Run()
    end = await run.begin()
    run.agent.send(b"one\n")
    run.agent.send(b"two\n" + end + b" 7\nbehind it")
    assert await run.result() == Outcome(7)
    assert run.streams.take_output() == b"one\ntwo\n"


async def test_further_output_is_discarded() -> None:
    run = Run()
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    run.agent.send(await run.begin() + b" 0\n")
    await run.result()
    run.agent.send(b"further output")
    for _ in range(3):  # until it is delivered
        await asyncio.sleep(0)
    assert not errors
    assert run.streams.take_output() == b""


async def test_input_follows_the_command() -> None:
    run = Run(b"a\x03\\b")
    end = await run.begin()
    await run.agent.until(lambda: run.agent.data().endswith(b"uptimea\\0003\\0134b\n\n"))
    run.agent.send(end + b" 0\n")
    assert await run.result() == Outcome(0)


async def test_input_waits_until_the_command_takes_it() -> None:
    run = Run(b"x" * INPUT_LINE * 6)
    end = await run.begin()
    line = b"x" * INPUT_LINE + b"\n"
    await run.agent.until(lambda: run.agent.data().endswith(b"uptime" + line * INPUT_WINDOW))
    run.agent.send((end + b" +\n") * 2)
    await run.agent.until(lambda: run.agent.data().endswith(b"uptime" + line * 6 + b"\n"))
    run.agent.send(end + b" 0\n")
    assert await run.result() == Outcome(0)
    assert run.streams.take_output() == b""


async def test_the_first_interrupt_is_the_commands() -> None:
    run = Run()
    await run.begin_session()
    assert not run.handler.interrupt(signal.SIGINT)  # nothing runs yet
    await run.channel.close()
    run = Run()
    end = await run.begin()
    assert not run.handler.interrupt(signal.SIGTERM)
    assert run.handler.interrupt(signal.SIGINT)
    assert not run.handler.interrupt(signal.SIGINT)
    await run.agent.until(lambda: run.agent.data().endswith(b"\x03"))
    assert run.handler.interrupt(signal.SIGQUIT)
    await run.agent.until(lambda: run.agent.data().endswith(b"\x1c"))
    run.agent.send(end + b" 130\n")
    assert (await run.result()).status == 130
    assert run.troubles == ["the command was killed by SIGINT"]


@pytest.mark.parametrize(
    ("end", "status", "is_killed"), [(b" 130\n", 130, False), (b" 137\n", 137, False), (b" 137k\r\n", 137, True)]
)
async def test_a_killed_command_is_told_from_an_exit_status(end: bytes, status: int, is_killed: bool) -> None:
    run = Run()
    run.agent.send(await run.begin() + end)
    outcome = await run.result()
    assert (outcome.status, outcome.is_killed) == (status, is_killed)
    assert run.troubles == ["the command was killed by SIGKILL"] * is_killed


async def test_a_shell_that_does_not_run_the_line() -> None:
    run = Run(shell_timeout=0.01)
    await run.begin_session()
    with pytest.raises(TimedOut, match="did not run the command"):
        await run.result()


async def test_a_session_that_ends_without_a_status() -> None:
    run = Run()
    await run.begin()
    run.agent.send(b"partly\x1e")
    run.agent.close_channel()
    assert await run.result() == Outcome(by_far_end=True)
    assert run.streams.take_output() == b"partly\x1e"


async def test_a_lost_link() -> None:
    run = Run()
    await run.begin()
    run.channel.end(ConnectionLost("cut"))
    with pytest.raises(ConnectionLost):
        await run.result()
