"""``CommandHandler``: the outputs and the exit status of a remote command."""

from __future__ import annotations

import asyncio
import os
import pty
import random
import signal
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from session_manager_plugin.errors import ConnectionLost
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.session.command import CommandHandler
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.session.runner import SessionRunner
from session_manager_plugin.session.session import Session
from session_manager_plugin.session.stopped_output import OUTPUT_STOPPED
from session_manager_plugin.terminal.console import Console
from tests.support.console_pipes import ConsolePipes
from tests.support.forwarding import RecordedNotices
from tests.support.handler_run import ended_at_last
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.waiting import DEADLINE, wait_until


class Command:
    """A running ``CommandHandler`` and everything around it."""

    def __init__(self, pipes: ConsolePipes) -> None:
        self.pipes = pipes
        self.agent = MemoryAgent("NonInteractiveCommands")
        self.channel = MemoryChannel(self.agent)
        self.notices = RecordedNotices()
        self.handler = CommandHandler(pipes.console, self.notices)
        self.running: asyncio.Task[Outcome]

    async def start(self) -> None:
        """Open the channel and run the handler."""
        await self.channel.open()
        await self.channel.ready()
        self.running = asyncio.ensure_future(self.handler.run(self.channel))
        self.running.add_done_callback(lambda _running: self.pipes.console.close())
        await asyncio.sleep(0)  # from here on it can be interrupted

    def exit(self, code: int | str) -> None:
        """The command ends, and the session with it."""
        self.agent.send(f"EXIT_CODE: {code}".encode(), PayloadType.EXIT_CODE)
        self.agent.close_channel()

    async def result(self) -> int | None:
        """The exit status, once it has ended."""
        return (await self.outcome()).status

    async def outcome(self) -> Outcome:
        """How it ended, once it has."""
        return await asyncio.wait_for(asyncio.shield(self.running), DEADLINE)


@asynccontextmanager
async def command() -> AsyncIterator[Command]:
    """A running command on pipes."""
    async with ConsolePipes() as pipes:
        session = Command(pipes)
        await session.start()
        async with ended_at_last(session):
            yield session


async def test_d12_the_outputs_are_apart_and_the_exit_status_is_none_of_them() -> None:
    """Reference defect D12: standard error and ``EXIT_CODE: N`` are printed on standard output.

    It would be back if ``session/command.py``: ``CommandHandler.run`` gave ``streams.write`` as the handler of
    ``PayloadType.STDERR``, or of ``PayloadType.EXIT_CODE``.
    """
    async with command() as session:
        session.agent.send(b"out 1\n")
        session.agent.send(b"err 1\n", PayloadType.STDERR)
        session.agent.send(b"out 2\n")
        session.agent.send(b"err 2\n", PayloadType.STDERR)
        session.exit(3)
        assert await session.result() == 3
        assert session.pipes.rest() == (b"out 1\nout 2\n", b"err 1\nerr 2\n")
        assert session.notices.troubles == []


@pytest.mark.parametrize("code", [0, 1, 3, 127, 128, 255])
async def test_the_exit_status_is_passed_on(code: int) -> None:
    async with command() as session:
        session.exit(code)
        assert await session.result() == code
        assert session.notices.troubles == []


async def test_a_command_that_a_signal_has_ended() -> None:
    async with command() as session:
        session.agent.send(b"half a li")
        session.exit(-1)
        assert await session.result() == 255
        assert session.pipes.rest() == (b"half a li", b"")
        assert session.notices.troubles == ["the command was killed by a signal"]


async def test_output_that_has_stopped_is_reported_at_once() -> None:
    async with command() as session:
        session.channel.output_stopped()
        assert session.notices.troubles == [OUTPUT_STOPPED]
        session.exit(0)
        assert await session.result() == 0


async def test_silence_after_output_has_stopped_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that was on its way is still shown after the first notice, which may have left the screen by then."""
    monkeypatch.setattr("session_manager_plugin.session.stopped_output.SILENCE", 0.01)
    async with command() as session:
        session.channel.output_stopped()
        session.agent.send(b"on its way\n")
        session.agent.send(b"this too\n", PayloadType.STDERR)
        await wait_until(lambda: len(session.notices.troubles) > 1)
        assert session.notices.troubles == [OUTPUT_STOPPED, f"no output for 0 s: {OUTPUT_STOPPED}"]
        session.agent.send(b"late\n")
        session.exit(0)
        assert await session.result() == 0
        assert session.pipes.rest() == (b"on its way\nlate\n", b"this too\n")
        assert len(session.notices.troubles) == 2


@pytest.mark.parametrize("code", [256, -2, 3221225786])
async def test_a_status_that_a_process_cannot_have_is_no_success(code: int) -> None:
    async with command() as session:
        session.exit(code)
        assert await session.result() == 255
        assert session.notices.troubles == [f"the command's exit status {code} is outside 0–255"]


@pytest.mark.parametrize("text", ["", "three", "3 4", "0x3", "٣", "9" * 30])
async def test_a_status_that_cannot_be_understood_is_no_success(text: str) -> None:
    async with command() as session:
        session.exit(text)
        assert await session.result() == 255
        assert session.notices.troubles[0].startswith("the agent sent a malformed exit status: b'EX")


async def test_without_separate_outputs_there_is_no_status() -> None:
    data = random.Random(1).randbytes(400_000)
    async with command() as session:
        sending = asyncio.ensure_future(session.agent.write(data))
        assert await session.pipes.output(len(data)) == data
        await sending
        session.agent.close_channel()
        assert await session.result() is None


async def test_prefixes_are_passed_on_as_they_come() -> None:
    async with command() as session:
        session.agent.send(b"OUT: one\nOUT: two")
        session.agent.send(b"\r\n\0\xff\x1b[31m")
        session.exit(0)
        assert await session.result() == 0
        assert session.pipes.rest() == (b"OUT: one\nOUT: two\r\n\0\xff\x1b[31m", b"")


async def test_d10_a_flag_is_never_shown() -> None:
    """Reference defect D10: flags are shown as output.

    It would be back if ``session/command.py``: ``CommandHandler.run`` gave ``streams.write`` as a handler of
    ``PayloadType.FLAG``.
    """
    async with command() as session:
        for flag in Flag:
            session.agent.send(flag.serialize(), PayloadType.FLAG)
        session.exit(0)
        assert await session.result() == 0
        assert session.pipes.rest() == (b"", b"")


async def test_d13_a_first_message_that_is_no_output_stops_nothing() -> None:
    """Reference defect D13: when the first message, without a handshake, is no output, nothing after it is
    acknowledged, and the session hangs.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint._deliver`` dropped, before the handshake is
    settled, what is not ``PayloadType.OUTPUT``.
    """
    async with ConsolePipes() as pipes:
        agent = MemoryAgent(None)
        channel = MemoryChannel(agent)
        session = Session(channel)
        agent.begin = begin_with(agent, b"error first\n", PayloadType.STDERR)  # type: ignore[method-assign]
        await asyncio.wait_for(session.open(), DEADLINE)
        running = asyncio.ensure_future(SessionRunner(session).run(pipes.console))
        agent.send(b"and output\n")
        assert await pipes.output(11) == b"and output\n"
        assert await pipes.errors(12) == b"error first\n"
        await agent.until(lambda: not agent.connection.in_flight)
        agent.close_channel()
        assert (await asyncio.wait_for(running, DEADLINE)).is_normal
        await channel.close()


def begin_with(agent: MemoryAgent, data: bytes, payload_type: PayloadType) -> Callable[[], None]:
    """An agent that begins without a handshake, and with this."""
    begin = agent.begin

    def begin_and_send() -> None:
        begin()
        agent.send(data, payload_type)

    return begin_and_send


# Signals.


@pytest.mark.parametrize(("number", "key"), [(signal.SIGINT, b"\x03"), (signal.SIGQUIT, b"\x1c")])
async def test_ctrl_c_goes_to_the_command_once(number: int, key: bytes) -> None:
    async with command() as session:
        assert session.handler.interrupt(number)
        await session.agent.until(session.agent.data)
        assert not session.handler.interrupt(number)
        await session.agent.until(lambda: not session.channel.connection.in_flight)
        assert session.agent.received == [(PayloadType.OUTPUT, key)]
        session.exit(130)
        assert await session.result() == 130
        assert not session.handler.interrupt(number)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGQUIT, "SIGQUIT")])
async def test_a_command_that_a_passed_signal_has_killed(number: int, name: str) -> None:
    async with command() as session:
        assert session.handler.interrupt(number)
        session.exit(-1)
        assert await session.result() == 128 + number
        assert session.notices.troubles == [f"the command was killed by {name}"]


async def test_two_signals_leave_it_unknown_which_has_killed_a_command() -> None:
    async with command() as session:
        for number in (signal.SIGINT, signal.SIGQUIT):
            assert session.handler.interrupt(number)
        session.exit(-1)
        assert await session.result() == 255
        assert session.notices.troubles == ["the command was killed by a signal"]


async def test_both_keys_are_messages_of_their_own() -> None:
    async with command() as session:
        assert session.handler.interrupt(signal.SIGINT)
        assert session.handler.interrupt(signal.SIGQUIT)
        await session.agent.until(lambda: len(session.agent.data()) == 2)
        assert session.agent.received == [(PayloadType.OUTPUT, b"\x03"), (PayloadType.OUTPUT, b"\x1c")]


async def test_other_signals_are_not_for_the_command() -> None:
    async with command() as session:
        for number in (signal.SIGTERM, signal.SIGHUP):
            assert not session.handler.interrupt(number)


async def test_a_key_while_the_link_is_down_can_be_followed_by_leaving() -> None:
    async with command() as session:
        session.channel.blocked = True
        assert session.handler.interrupt(signal.SIGINT)
        assert not session.handler.interrupt(signal.SIGINT)
        session.channel.end(ConnectionLost("gone"))
        with pytest.raises(ConnectionLost):
            await session.result()


async def test_a_session_offers_signals_to_its_command() -> None:
    async with ConsolePipes() as pipes:
        agent = MemoryAgent("NonInteractiveCommands")
        channel = MemoryChannel(agent)
        session = Session(channel)
        await session.open()
        runner = SessionRunner(session)
        running = asyncio.ensure_future(runner.run(pipes.console))
        await wait_until(lambda: runner.interrupt(signal.SIGINT))
        assert not runner.interrupt(signal.SIGINT)
        await agent.until(lambda: agent.data() == b"\x03")
        agent.close_channel()
        assert (await asyncio.wait_for(running, DEADLINE)).is_normal
        await channel.close()


# Standard streams.


async def test_the_input_is_left_alone() -> None:
    async with command() as session:
        await session.pipes.type(b"for the next program\n")
        session.agent.send(b"x")
        assert await session.pipes.output(1) == b"x"
        assert session.pipes.unread_input() == b"for the next program\n"
        assert session.agent.received == []


async def test_a_terminal_stays_as_it_is() -> None:
    outer, inner = pty.openpty()
    before = termios.tcgetattr(inner)
    agent = MemoryAgent("NonInteractiveCommands")
    channel = MemoryChannel(agent)
    await channel.open()
    await channel.ready()
    console = Console(inner, inner, inner)
    running = asyncio.ensure_future(CommandHandler(console, RecordedNotices()).run(channel))
    agent.send(b"x")
    await agent.until(lambda: not agent.connection.in_flight)
    assert termios.tcgetattr(inner) == before
    agent.close_channel()
    assert (await asyncio.wait_for(running, DEADLINE)).is_normal
    console.close()
    await channel.close()
    os.close(outer)
    os.close(inner)


async def test_when_nobody_reads_the_output_the_command_is_left() -> None:
    async with command() as session:
        session.pipes.stop_reading_output()
        session.agent.send(b"is anybody there?")
        with pytest.raises(BrokenPipeError):
            await session.result()


@pytest.mark.parametrize("payload_type", [PayloadType.OUTPUT, PayloadType.STDERR])
async def test_h15_outputs_that_are_not_read_pause_reading(payload_type: PayloadType) -> None:
    """Reference defect H15: a slow reader of an output blocks acknowledgements, pongs and the session's end; nor
    may what waits for it grow without limit.

    It would be back if ``terminal/console.py``: ``Console.write_error`` did not
    ``self._set_flow_handlers(self._error_output)`` (the second half, for standard error). For the first half see
    ``test_stdio``.
    """
    data = random.Random(1).randbytes(1 << 20)
    async with command() as session:
        sending = asyncio.ensure_future(session.agent.write(data * 12, payload_type))
        await session.channel.until(lambda: session.channel.reading_paused)
        read = session.pipes.output if payload_type is PayloadType.OUTPUT else session.pipes.errors
        assert await read(12 << 20) == data * 12
        await sending
        assert not session.channel.reading_paused
        session.exit(0)
        assert await session.result() == 0


async def test_reading_goes_on_only_when_both_outputs_have_room() -> None:
    data = random.Random(1).randbytes(1 << 20)
    async with command() as session:
        sending = asyncio.ensure_future(session.agent.write(data * 9))
        await session.channel.until(lambda: session.channel.reading_paused)
        session.pipes.console.write_error(data * 9)
        assert await session.pipes.output(5 << 20)
        assert session.channel.reading_paused
        assert await session.pipes.errors(9 << 20) == data * 9
        await session.channel.until(lambda: not session.channel.reading_paused)
        assert await session.pipes.output(4 << 20)
        await sending


async def test_a_closed_standard_error_is_no_error() -> None:
    inner, outer = os.pipe()
    closed = os.dup(inner)
    os.close(closed)
    agent = MemoryAgent("NonInteractiveCommands")
    channel = MemoryChannel(agent)
    await channel.open()
    await channel.ready()
    console = Console(inner, outer, closed)
    running = asyncio.ensure_future(CommandHandler(console, RecordedNotices()).run(channel))
    agent.send(b"nobody wants it", PayloadType.STDERR)
    agent.close_channel()
    assert (await asyncio.wait_for(running, DEADLINE)).is_normal
    console.close()
    await channel.close()
    os.close(inner)
    os.close(outer)


# The end.


async def test_d15_what_has_arrived_is_written_although_the_session_is_over() -> None:
    """Reference defect D15: channel_closed ends the process at once; what was not written yet is lost.

    It would be back if ``session/command.py``: ``CommandHandler.run`` did not ``await streams.drain()`` when the
    session has ended.
    """
    data = random.Random(1).randbytes(500_000)
    async with command() as session:
        await session.agent.write(data)
        await session.agent.write(data, PayloadType.STDERR)
        session.exit(1)
        await wait_until(lambda: not session.channel.is_open)
        assert await session.pipes.output(len(data)) == data
        assert await session.pipes.errors(len(data)) == data
        assert await session.result() == 1


async def test_the_far_ends_text_is_in_the_outcome() -> None:
    async with command() as session:
        session.agent.close_channel("Commands cannot be empty for session type NonInteractiveCommands")
        outcome = await session.outcome()
        assert outcome.text == "Commands cannot be empty for session type NonInteractiveCommands"
        assert (outcome.status, outcome.by_far_end) == (None, True)


async def test_a_link_that_is_lost_before_the_command_has_ended_is_raised() -> None:
    async with command() as session:
        session.agent.send(b"x")
        assert await session.pipes.output(1) == b"x"
        session.channel.end(ConnectionLost("gone"))
        with pytest.raises(ConnectionLost, match="gone"):
            await session.result()


async def test_a_link_that_is_lost_after_the_command_has_ended_changes_nothing() -> None:
    async with command() as session:
        session.agent.send(b"EXIT_CODE: 7", PayloadType.EXIT_CODE)
        await session.agent.until(lambda: not session.agent.connection.in_flight)
        session.channel.end(ConnectionLost("gone"))
        assert await session.result() == 7


async def test_a_text_behind_the_exit_status_is_in_the_outcome_and_not_in_a_notice() -> None:
    async with command() as session:
        session.agent.send(b"EXIT_CODE: 7", PayloadType.EXIT_CODE)
        session.agent.close_channel("the log could not be uploaded\n")
        assert await session.result() == 7
        assert (await session.outcome()).text == "the log could not be uploaded\n"
        assert session.notices.troubles == []
