"""``PortHandler`` with agents older than multiplexing: one local connection at a time."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import struct
import sys
from importlib import import_module

import pytest

from session_manager_plugin.errors import LocalProtocolError
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.session.forwarder import PortSettings
from session_manager_plugin.session.peer_state import PeerState
from session_manager_plugin.session.port_basic import TRANSITIONS, Exchange, ExchangeInput, next_exchange
from tests.support.clock import ManualClock
from tests.support.forwarding import (
    Forwarding,
    basic,
    is_listening,
    port_properties,
    read_exactly,
    read_to_end,
    receive_until_reset,
    stalled,
    use_small_buffers,
)
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.port_agent import Answer, BasicAgent, Destination, Echo
from tests.support.transitions import recorded
from tests.support.waiting import DEADLINE, rounds, wait_until

BASIC = import_module("session_manager_plugin.session.port_basic")
DISCONNECT = Flag.DISCONNECT_TO_PORT.serialize()
TERMINATE = Flag.TERMINATE_SESSION.serialize()


class Chatter(Destination):
    """Sends what the test says, when it says so."""


class Greeter(Destination):
    """Speaks first."""

    def connected(self) -> None:
        self.send(b"220 ready\r\n")


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no other place has."""
    return random.Random(seed).randbytes(size)


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_buffers(monkeypatch)


async def settled(forwarding: Forwarding, clock: ManualClock, number: int) -> None:
    """Let time pass until it is this connection's turn."""

    def reached() -> bool:
        clock.advance(0.05)
        return any(line.startswith(f"connection {number} ") for line in forwarding.handler.connections())

    await wait_until(reached)


async def test_bytes_go_both_ways_as_they_are() -> None:
    data = bytes(range(256)) * 700 + b"\n"
    async with basic(Echo) as (forwarding, _):
        reader, writer = await forwarding.connect()
        for piece in (b"\n", data):
            writer.write(piece)
            assert await read_exactly(reader, len(piece)) == piece
    assert forwarding.notices.multiplexed is False
    assert forwarding.notices.accepted == 1


async def test_one_connection_after_the_other() -> None:
    async with basic(Echo) as (forwarding, agent):
        programs = [await forwarding.connect() for _ in range(3)]
        for number, (_, writer) in enumerate(programs):
            writer.write(f"hello {number}".encode())
        for number, (reader, writer) in enumerate(programs):
            assert await read_exactly(reader, 7) == f"hello {number}".encode()
            assert len(agent.destinations) == number + 1
            writer.close()
        await agent.until(lambda: agent.flags == [DISCONNECT] * 3)
    assert [bytes(destination.received) for destination in agent.destinations] == [b"hello 0", b"hello 1", b"hello 2"]
    assert forwarding.notices.accepted == 1


async def test_a_server_that_speaks_first_is_heard_by_the_first_connection() -> None:
    async with basic(Greeter) as (forwarding, agent):
        await agent.agent.until(lambda: not agent.agent.connection.in_flight)  # it has spoken when nobody was there
        reader, _writer = await forwarding.connect()
        assert await read_exactly(reader, 11) == b"220 ready\r\n"


async def test_a_visitor_that_exchanges_nothing_uses_nothing_up() -> None:
    async with basic(Chatter) as (forwarding, agent):
        _, visitor = await forwarding.connect()
        visitor.close()
        await visitor.wait_closed()
        reader, writer = await forwarding.connect()
        await forwarding.notices.until(lambda: forwarding.notices.accepted)
        await wait_until(lambda: len(agent.destinations) == 1)
        writer.write(b"GET")
        await agent.until(lambda: agent.destinations[0].received == b"GET")
        agent.destinations[0].send(b"ok")
        assert await read_exactly(reader, 2) == b"ok"
        assert agent.flags == []


async def test_d8_the_answer_to_a_request_that_ends_with_shutdown_arrives() -> None:
    """Reference defect D8: without multiplexing: the flag that follows a local half-close closes the destination.

    It would be back if ``session/port_basic.py``: ``BasicForwarder._serve`` did not ``await
    self._await_answer(connection)``.
    """
    clock, request, answer = ManualClock(), noise(3000), noise(20_000, 2)
    async with basic(lambda: Answer(request, answer), settings=PortSettings(clock=clock)) as (forwarding, agent):
        reader, writer = await forwarding.connect()
        writer.write(request)
        writer.write_eof()
        await forwarding.half_closed(1)
        assert await read_exactly(reader, len(answer)) == answer
        await rounds()
        assert agent.flags == []
        clock.advance(1.0)
        assert await read_to_end(reader) == b""
        assert agent.flags == [DISCONNECT]
    assert forwarding.notices.troubles == []


async def test_a_half_closed_connection_that_gets_no_answer_is_reset() -> None:
    """Nothing must not look like an empty answer."""
    clock = ManualClock()
    async with basic(Chatter, settings=PortSettings(clock=clock)) as (forwarding, agent):
        for number in (1, 2):
            reader, writer = await forwarding.connect()
            await settled(forwarding, clock, number)
            writer.write(b"request")
            await agent.until(lambda: agent.destinations[-1].received == b"request")
            writer.write_eof()
            await forwarding.half_closed(1)
            await rounds()
            clock.advance(1.0)
            with pytest.raises(ConnectionResetError):
                await read_to_end(reader)
            await agent.until(lambda: len(agent.flags) == number)  # noqa: B023
    (trouble,) = forwarding.notices.troubles  # once for the session
    assert trouble.startswith("connection 1 from 127.0.0.1:")
    assert "the far end sent nothing for 1 s" in trouble


async def test_without_knowing_whether_a_program_waits_nothing_is_said_of_it() -> None:
    clock = ManualClock()
    settings = PortSettings(clock=clock, peer_state=lambda _endpoint: PeerState.UNKNOWN)
    async with basic(Chatter, settings=settings) as (forwarding, agent):
        reader, writer = await forwarding.connect()
        writer.write(b"request")
        await agent.until(lambda: agent.destinations[0].received == b"request")
        writer.write_eof()
        await forwarding.half_closed(1)
        await rounds()
        clock.advance(1.0)
        with pytest.raises(ConnectionResetError):
            await read_to_end(reader)
    assert forwarding.notices.troubles == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")
@pytest.mark.parametrize("how", ["closed", "closed later", "reset"])
async def test_a_program_that_goes_away_is_not_waited_for(how: str) -> None:
    clock = ManualClock()
    async with basic(Chatter, settings=PortSettings(clock=clock, basic_silence=1000.0)) as (forwarding, agent):
        with socket.create_connection(("127.0.0.1", forwarding.notices.port)) as program:
            program.sendall(b"x")
            await agent.until(lambda: agent.destinations[0].received)
            if how == "reset":
                program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif how == "closed later":
                program.shutdown(socket.SHUT_WR)
                await forwarding.half_closed(1)
                await rounds()
        clock.advance(1.0)
        await agent.until(lambda: agent.flags == [DISCONNECT])
    assert forwarding.notices.troubles == []


async def test_silence_says_nothing_while_the_link_is_down() -> None:
    clock = ManualClock()
    async with basic(Echo, settings=PortSettings(clock=clock)) as (forwarding, agent):
        reader, writer = await forwarding.connect()
        writer.write(b"x")
        assert await read_exactly(reader, 1) == b"x"
        forwarding.channel.link_up = False
        writer.write_eof()
        await forwarding.half_closed(1)
        await rounds()
        clock.advance(60.0)
        await rounds()
        agent.destinations[0].send(b"still there")
        assert await read_exactly(reader, 11) == b"still there"
        forwarding.channel.link_up = True
        clock.advance(1.0)
        await agent.until(lambda: agent.flags == [DISCONNECT])


# What belongs to whom.


async def test_d9_what_is_left_of_one_connection_never_reaches_the_next() -> None:
    """Reference defect D9: data for a connection that has gone is kept back and finally delivered to the next,
    unrelated one.

    It would be back if ``session/port_basic.py``: ``BasicForwarder._serve`` set ``self._current = connection`` at
    its beginning, whether ``self._fresh`` or not.
    """
    clock = ManualClock()
    async with basic(Echo, settings=PortSettings(clock=clock)) as (forwarding, agent):
        agent.leftovers = [b"LEFT OVER"]
        _, writer = await forwarding.connect()
        writer.write(b"first")
        await agent.until(lambda: agent.destinations[0].received == b"first")
        writer.close()
        reader, writer = await forwarding.connect()
        await settled(forwarding, clock, 2)
        assert agent.flags == [DISCONNECT]
        agent.agent.send(b"LATE")  # and the agent has not connected again
        await agent.agent.until(lambda: not agent.agent.connection.in_flight)
        writer.write(b"second")
        assert await read_exactly(reader, 6) == b"second"


async def test_d9_the_next_connection_sends_nothing_before_the_agent_has_closed() -> None:
    """Reference defect D9: the race in it: what the next connection sends before the flag is acknowledged meets
    the old destination, and what the old one sends then meets the next connection.

    It would be back if ``session/port_basic.py``: ``BasicForwarder._serve`` did not ``await
    self._channel.drain()``.
    """
    clock = ManualClock()
    async with basic(Echo, settings=PortSettings(clock=clock)) as (forwarding, agent):
        _, writer = await forwarding.connect()
        writer.write(b"first")
        await agent.until(lambda: agent.destinations[0].received == b"first")
        agent.agent.acknowledging = False
        writer.close()
        reader, writer = await forwarding.connect()
        writer.write(b"second")
        await agent.until(lambda: agent.flags == [DISCONNECT])
        clock.advance(60.0)
        await rounds()
        assert len(agent.destinations) == 1
        agent.agent.acknowledging = True
        await settled(forwarding, clock, 2)
        assert await read_exactly(reader, 6) == b"second"


async def test_d9_the_next_connection_waits_until_nothing_comes_any_more() -> None:
    """Reference defect D9: the piece that the agent had read before it closed comes behind its acknowledgement.

    It would be back if ``session/port_basic.py``: ``BasicForwarder._serve`` did not ``await
    self._silence(self._settings.settle_silence)``.
    """
    clock = ManualClock()
    async with basic(Echo, settings=PortSettings(clock=clock, settle_silence=1.0)) as (forwarding, agent):
        _, writer = await forwarding.connect()
        writer.write(b"first")
        await agent.until(lambda: agent.destinations[0].received == b"first")
        writer.close()
        reader, writer = await forwarding.connect()
        writer.write(b"second")
        await agent.until(lambda: agent.flags == [DISCONNECT])
        for _ in range(3):
            await wait_until(lambda: not forwarding.channel.connection.in_flight)
            await rounds()
            clock.advance(0.9)
            agent.agent.send(b"LEFT OVER")
            await agent.agent.until(lambda: not agent.agent.connection.in_flight)
        assert len(agent.destinations) == 1
        await settled(forwarding, clock, 2)
        assert await read_exactly(reader, 6) == b"second"


async def test_d10_flags_never_reach_a_program() -> None:
    """Reference defect D10: the four bytes of a flag are written into the user's stream.

    It would be back if ``session/port_basic.py``: ``BasicForwarder.start`` gave ``self._received`` as the handler
    of ``PayloadType.FLAG``.
    """
    async with basic(Chatter) as (forwarding, agent):
        reader, writer = await forwarding.connect()
        writer.write(b"GET")
        await agent.until(lambda: agent.destinations[0].received)
        for flag in Flag:
            agent.agent.send(flag.serialize(), PayloadType.FLAG)
        agent.agent.send(b"x", PayloadType.STDERR)
        agent.destinations[0].send(b"ok")
        writer.write_eof()
        assert await read_to_end(reader) == b"ok"
    assert forwarding.notices.failures == [""]


# Slow ends.


async def test_h15_a_program_that_does_not_read_pauses_reading_only_beyond_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reference defect H15: a local program that does not read blocks acknowledgements, pongs and the session's
    end.

    It would be back if ``session/port_basic.py``: ``MAX_KEPT`` were 0, or ``BasicForwarder._apply_flow_control`` did
    not compare with it.
    """
    assert BASIC.MAX_KEPT == 8 * 1024 * 1024
    monkeypatch.setattr(BASIC, "MAX_KEPT", 2 * 1024 * 1024)
    data = noise(1 << 20)
    async with basic(Chatter) as (forwarding, agent), stalled(forwarding.notices.port) as program:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(program, b"GET")
        await agent.until(lambda: agent.destinations[0].received)
        await agent.agent.write(data)
        await agent.agent.until(lambda: not agent.agent.connection.in_flight)
        assert forwarding.channel.pauses == 0
        sending = asyncio.ensure_future(agent.agent.write(data * 3))
        await forwarding.channel.until(lambda: forwarding.channel.reading_paused)
        received = bytearray()
        async with asyncio.timeout(DEADLINE):
            while len(received) < 4 << 20:
                received += await loop.sock_recv(program, 1 << 18)
        await sending
        assert received == data * 4
        assert not forwarding.channel.reading_paused


async def test_what_comes_before_the_first_program_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BASIC, "MAX_KEPT", 100_000)
    data = noise(300_000)
    async with basic(Chatter) as (forwarding, agent):
        sending = asyncio.ensure_future(agent.agent.write(data))
        await forwarding.channel.until(lambda: forwarding.channel.reading_paused)
        reader, _writer = await forwarding.connect()
        assert await read_exactly(reader, len(data)) == data
        await sending


async def test_a_stalled_program_that_goes_away_lets_reading_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BASIC, "MAX_KEPT", 100_000)
    async with basic(Chatter) as (forwarding, agent):
        with socket.create_connection(("127.0.0.1", forwarding.notices.port)) as program:
            program.sendall(b"GET")
            await agent.until(lambda: agent.destinations[0].received)
            sending = asyncio.ensure_future(agent.agent.write(bytes(16 * 1024 * 1024)))
            await forwarding.channel.until(lambda: forwarding.channel.reading_paused)
        await agent.until(lambda: agent.flags == [DISCONNECT])
        await asyncio.wait_for(sending, DEADLINE)
        assert not forwarding.channel.reading_paused


async def test_a_program_that_writes_faster_than_the_far_end_takes_is_slowed_down() -> None:
    async with basic(Chatter) as (forwarding, agent):
        _, writer = await forwarding.connect()
        agent.agent.acknowledging = False
        written = 0
        while written < 64 * 1024 * 1024:
            writer.write(bytes(1 << 18))
            written += 1 << 18
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                break
        assert written < 64 * 1024 * 1024
        agent.agent.acknowledging = True
        await agent.until(lambda: len(agent.destinations[0].received) == written)


# The end.


async def test_h13_an_old_agent_without_the_flag_can_be_left_with_ctrl_c() -> None:
    """Reference defect H13: with agents that do not know the TerminateSession flag the first Ctrl-C does not end
    the process, and later ones are swallowed.

    It would be back if ``session/port.py``: ``PortHandler.run`` waited for ``channel.ended()`` after an
    interrupt; or ``PortHandler.interrupt`` gave ``True`` for the later ones too.
    """
    async with basic(Echo, version="2.3.722.0") as (forwarding, agent):
        assert forwarding.handler.interrupt(signal.SIGINT)
        assert not forwarding.handler.interrupt(signal.SIGINT)
        assert (await forwarding.result()).is_normal
        assert agent.flags == []


async def test_d14_agents_that_know_the_flag_get_it_and_acknowledge_it() -> None:
    """Reference defect D14: the process exits right after sending the TerminateSession flag, which may then be
    lost.

    It would be back if ``session/ending.py``: ``terminate`` did not ``await channel.drain()``.
    """
    async with basic(Echo, version="2.3.723.0") as (forwarding, agent):
        agent.agent.acknowledging = False
        assert forwarding.handler.interrupt(signal.SIGINT)
        await agent.until(lambda: agent.flags == [TERMINATE])
        await rounds()
        assert not forwarding.running.done()
        agent.agent.acknowledging = True
        assert (await forwarding.result()).is_normal


@pytest.mark.parametrize("moment", ["waiting", "connected", "settling"])
async def test_the_end_comes_at_any_moment(moment: str) -> None:
    async with basic(Echo) as (forwarding, agent):
        port = forwarding.notices.port
        if moment != "waiting":
            reader, writer = await forwarding.connect()
            writer.write(b"x")
            assert await read_exactly(reader, 1) == b"x"
            if moment == "settling":
                agent.agent.acknowledging = False
                writer.close()
                await agent.until(lambda: agent.flags == [DISCONNECT])
        forwarding.channel.end("")
        assert (await forwarding.result()).is_normal
        assert not is_listening(port)


async def test_d15_what_has_arrived_is_delivered_although_the_session_is_over() -> None:
    """Reference defect D15: channel_closed ends the process at once; what was not yet copied to the local
    connection is lost.

    It would be back if ``session/port.py``: ``PortHandler.run`` had ``await forwarder.close()`` in place of
    ``await forwarder.deliver()``.
    """
    data = noise(1 << 20) * 2
    async with basic(Chatter) as (forwarding, agent), stalled(forwarding.notices.port) as program:
        await asyncio.get_running_loop().sock_sendall(program, b"GET")
        await agent.until(lambda: agent.destinations[0].received)
        await agent.agent.write(data)
        agent.agent.close_channel("Unable to connect to specified port")
        await wait_until(lambda: not forwarding.channel.is_open)
        assert await receive_until_reset(program) == data  # the far end has not finished
        assert "Unable to connect to specified port" in (await forwarding.result()).text


@pytest.mark.parametrize("version", ["3.0.196.0", "2.3.50.0"])
async def test_old_agents_are_spoken_to_without_a_multiplexer(version: str) -> None:
    agent = MemoryAgent(properties=port_properties(), version=version)
    forwarding = Forwarding(agent, MemoryChannel(agent))
    await forwarding.start()
    BasicAgent(agent, Echo).connect()
    reader, writer = await forwarding.connect()
    writer.write(b"plain")
    assert await read_exactly(reader, 5) == b"plain"
    assert agent.data() == b"plain"
    await forwarding.stop()


async def test_every_row_of_the_exchange_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    table, clock = recorded(monkeypatch, BASIC), ManualClock()
    async with basic(Chatter, settings=PortSettings(clock=clock)) as (forwarding, agent):
        for number in (1, 2, 3, 4):
            reader, writer = await forwarding.connect()
            await settled(forwarding, clock, number)
            if number == 2:  # the agent's connection is still the first one: it may speak first
                agent.destinations[0].send(b"twice")
                agent.destinations[0].send(b"said")
                assert await read_exactly(reader, 9) == b"twicesaid"
            if number in (2, 3):
                for request in (b"one", b"two"):
                    writer.write(request)
                    await agent.until(lambda request=request: agent.destinations[-1].received.endswith(request))  # type: ignore[misc]
                agent.destinations[-1].send(b"answer")
                assert await read_exactly(reader, 6) == b"answer"
            writer.close()
            await wait_until(lambda: not forwarding.handler.connections())
        _, writer = await forwarding.connect()
        await settled(forwarding, clock, 5)
        writer.write(b"unanswered")
        await agent.until(lambda: agent.destinations[-1].received == b"unanswered")
        writer.close()
        await wait_until(lambda: not forwarding.handler.connections())
    async with basic(Echo) as (forwarding, _):
        reader, writer = await forwarding.connect()
        writer.write(b"at once")
        assert await read_exactly(reader, 7) == b"at once"
    assert not table.missed


@pytest.mark.parametrize("exchange", [*Exchange])
@pytest.mark.parametrize("step", [*ExchangeInput])
def test_an_exchange_refuses_what_has_no_row(exchange: Exchange, step: ExchangeInput) -> None:
    if (exchange, step) in TRANSITIONS:
        assert next_exchange(exchange, step) is TRANSITIONS[exchange, step]
    else:
        with pytest.raises(LocalProtocolError, match=f"{step.name} in state {exchange.name}"):
            next_exchange(exchange, step)
