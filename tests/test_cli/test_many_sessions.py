"""Eight sessions of three types in one process, each with streams of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import NoReturn

import pytest

from session_manager_plugin import Session, connect
from session_manager_plugin.agent import Sandbox
from session_manager_plugin.cli.exit_status import Exit, Signalled, by_signal, exit_of_outcome
from session_manager_plugin.cli.run_options import RunOptions
from session_manager_plugin.cli.session import Ending, SessionStreams, run_session
from session_manager_plugin.cli.signals import Interruption, run
from session_manager_plugin.session.handler_options import StdinEof
from session_manager_plugin.session.outcome import EndReason
from session_manager_plugin.session.streams import MemoryStreams
from tests.support.forwarding import RecordedNotices
from tests.support.stream_server import stream_server
from tests.support.waiting import DEADLINE, wait_until

COMMAND = "AWS-StartNonInteractiveCommand"
PORT = "AWS-StartPortForwardingSession"
HIGH_WATER = 1 << 20
MOST_KEPT = HIGH_WATER + (1 << 20)
"""What is kept in memory of one session, and what one read of the network may add to it."""


class Running:
    """One of the sessions."""

    def __init__(self, sandbox: Sandbox, interruption: Interruption) -> None:
        self.sandbox, self.interruption = sandbox, interruption
        self.streams = MemoryStreams(input_ended=False, high_water=HIGH_WATER)
        self.notices = RecordedNotices()
        self.output = b""
        self.session: Session
        self.task: asyncio.Task[Ending]

    async def start(self, document: str | None, parameters: Mapping[str, Sequence[str]]) -> Running:
        started = await self.sandbox.start_session(document, parameters)
        self.session = session = connect(started.stream_url, started.token or "", session_id=started.session_id)
        self.task = asyncio.create_task(
            run_session(
                session,
                self.interruption,
                lambda _running, _runner: SessionStreams(self.streams),
                RunOptions(notices=self.notices, stdin_eof=StdinEof.IGNORE),
            )
        )
        return self

    async def shows(self, text: bytes) -> None:
        """Wait until the output holds ``text``, after what was waited for before."""

        def read() -> bool:
            self.output += self.streams.take_output()
            return text in self.output

        await wait_until(read)
        self.output = self.output.partition(text)[2]


class Eight:
    """The sessions, a program that is forwarded to, and the proof that they go on."""

    def __init__(self, interruption: Interruption) -> None:
        self.interruption = interruption

    async def start(self, stack: AsyncExitStack) -> None:
        sandbox = await stack.enter_async_context(Sandbox(shell="sh"))
        port = str(await stack.enter_async_context(stream_server(self._echo)))
        command = "sh -c 'trap \"exit {}\" INT; while :; do echo on; sleep 0.02; done'"

        async def start(document: str | None, parameters: Mapping[str, Sequence[str]]) -> Running:
            return await Running(sandbox, self.interruption).start(document, parameters)

        self.shells = [await start(None, {}) for _ in range(3)]
        self.commands = [
            await start(COMMAND, {"command": [command.format(5 + number)], "separateOutputStream": ["true"]})
            for number in range(3)
        ]
        self.ports = [await start(PORT, {"portNumber": [port], "localPortNumber": ["0"]}) for _ in range(2)]
        self.unread = self.shells[0]
        self.unread.streams.feed(b"exec yes\n")

    async def go_on(self) -> None:
        """Every session but the unread one works."""
        for number, shell in enumerate(self.shells[1:]):
            shell.streams.feed(b"echo $((40 + %d))\n" % number)
        for number, shell in enumerate(self.shells[1:]):
            await shell.shows(b"\n%d" % (40 + number))
        for command in self.commands:
            await command.shows(b"on\n")
        for port in self.ports:
            await port.notices.until(lambda port=port: port.notices.port)  # type: ignore[misc]
            reader, writer = await asyncio.open_connection("127.0.0.1", port.notices.port)
            writer.write(b"to the far end and back")
            assert await asyncio.wait_for(reader.readexactly(23), DEADLINE) == b"to the far end and back"
            writer.close()

    async def endings(self) -> list[Ending]:
        """How they ended: shells, commands, ports."""
        tasks = [running.task for running in (*self.shells, *self.commands, *self.ports)]
        return await asyncio.wait_for(asyncio.gather(*tasks), DEADLINE)

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()


def _refuse_to_die(number: int) -> NoReturn:
    raise AssertionError(number)


def end_by(number: int) -> tuple[list[Ending], int, Exception | None]:
    """Run the eight, end them by a signal; return how they ended, the bytes kept of the unread one, and what the
    program would leave with."""

    async def main(interruption: Interruption) -> tuple[list[Ending], int, Exception | None]:
        async with AsyncExitStack() as stack, asyncio.timeout(3 * DEADLINE):
            eight = Eight(interruption)
            await eight.start(stack)
            await eight.go_on()
            await wait_until(lambda: eight.unread.streams.is_full)
            await eight.go_on()
            assert eight.unread.session.get_info()["reading_paused"]
            os.kill(os.getpid(), number)
            endings = await eight.endings()
            return endings, len(eight.unread.streams.take_output()), interruption.error

    return run(main, die=_refuse_to_die)


def test_sigint_ends_eight_sessions_each_in_its_way() -> None:
    endings, kept, error = end_by(signal.SIGINT)
    shells, commands, ports = endings[:3], endings[3:6], endings[6:]
    assert [ending.outcome.reason for ending in shells] == [EndReason.INTERRUPTED] * 3
    assert all(exit_of_outcome(ending.outcome) == by_signal(signal.SIGINT) for ending in shells)
    assert [ending.outcome.status for ending in commands] == [5, 6, 7]
    assert all(ending.outcome.is_normal and ending.outcome.by_far_end for ending in commands)
    assert [ending.outcome.reason for ending in ports] == [EndReason.INTERRUPTED] * 2
    assert all(exit_of_outcome(ending.outcome) == Exit(0) for ending in ports)
    assert HIGH_WATER < kept < MOST_KEPT
    assert error is None, "the program itself goes on: each session has ended in its own way"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_all_sessions_and_the_program(number: int) -> None:
    endings, kept, error = end_by(number)
    assert all(isinstance(ending.outcome.error, Signalled) for ending in endings)
    assert {exit_of_outcome(ending.outcome) for ending in endings} == {by_signal(number)}
    assert HIGH_WATER < kept < MOST_KEPT
    assert isinstance(error, Signalled)


def test_a_session_that_would_start_after_the_signal_is_not_opened() -> None:
    async def main(interruption: Interruption) -> Ending:
        async def interrupted() -> None:
            with interruption.session():
                interruption.interrupt(signal.SIGTERM)

        await asyncio.wait({asyncio.create_task(interrupted())})
        session = connect("ws://127.0.0.1:1/v1/data-channel/s-1", "a token")
        return await run_session(
            session, interruption, lambda _running, _runner: pytest.fail("it was opened"), RunOptions()
        )

    ending = run(main, die=_refuse_to_die)
    assert ending.outcome.reason is EndReason.INTERRUPTED
