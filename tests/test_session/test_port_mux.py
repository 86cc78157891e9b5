"""``PortHandler`` with agents that multiplex: real local sockets, the agent in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from session_manager_plugin.errors import ConnectionLost, RemoteProtocolError, TimedOut
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.protocol.payloads import HandshakeComplete
from session_manager_plugin.protocol.smux import (
    FIN,
    HEADER,
    HEADER_SIZE,
    MAX_STREAM_UNREAD,
    MAX_TOTAL_UNREAD,
    NOP,
    PSH,
    SEND_HIGH_WATER,
    SHARED_FRAME_DATA,
    VERSION,
)
from session_manager_plugin.session.forwarder import PortSettings
from session_manager_plugin.session.local_connection import LocalConnection
from session_manager_plugin.session.peer_state import PeerState
from session_manager_plugin.session.port_mux import MuxForwarder
from tests.support.clock import ManualClock
from tests.support.forwarding import (
    Forwarding,
    is_listening,
    mux,
    port_properties,
    read_exactly,
    read_to_end,
    receive_all,
    stalled,
    use_small_buffers,
)
from tests.support.memory_channel import MemoryAgent, MemoryChannel
from tests.support.port_agent import Answer, Destination, Echo, MuxAgent, Sink, Source
from tests.support.waiting import DEADLINE, rounds, wait_until

LISTENER = import_module("session_manager_plugin.session.listener")
FORWARDER = import_module("session_manager_plugin.session.forwarder")
SMUX = import_module("session_manager_plugin.protocol.smux")
PORT = import_module("session_manager_plugin.session.port")
LOCAL = import_module("session_manager_plugin.session.local_connection")

TERMINATE = Flag.TERMINATE_SESSION.serialize()
NOP_FRAME = HEADER.pack(VERSION, NOP, 0, 0)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")
REFUSED = Flag.CONNECT_TO_PORT_ERROR.serialize()


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no other place has."""
    return random.Random(seed).randbytes(size)


@pytest.fixture(autouse=True)
def _small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_buffers(monkeypatch)


class Chatter(Destination):
    """Sends what the test says, when it says so."""


# Data.


async def test_bytes_go_both_ways_as_they_are() -> None:
    data = bytes(range(256)) * 700 + noise(50_000)
    async with mux(Echo) as (forwarding, _):
        reader, writer = await forwarding.connect()
        writer.write(data)
        assert await read_exactly(reader, len(data)) == data
    assert forwarding.notices.accepted == 1
    assert forwarding.notices.troubles == []


async def test_d1_a_newline_that_travels_alone_stays_a_newline() -> None:
    """Reference defect D1: a message that is one newline arrives as a carriage return; 1017 bytes behind the smux
    header of 8 put the last byte into a message of its own.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint.send_data`` transmitted ``b"\\r" if payload ==
    b"\\n" else payload``.
    """
    async with mux(Echo) as (forwarding, _):
        reader, writer = await forwarding.connect()
        for data in (b"\n", noise(1016) + b"\n"):
            writer.write(data)
            assert await read_exactly(reader, len(data)) == data


async def test_both_loopback_addresses_lead_to_the_far_end() -> None:
    async with mux(Echo) as (forwarding, _):
        for host in ("127.0.0.1", "::1"):
            reader, writer = await forwarding.connect(host)
            writer.write(host.encode())
            assert await read_exactly(reader, len(host)) == host.encode()


async def test_a_server_that_speaks_first() -> None:
    class Greeter(Destination):
        def connected(self) -> None:
            self.send(b"220 ready\r\n")

    async with mux(Greeter) as (forwarding, _):
        reader, _writer = await forwarding.connect()
        assert await read_exactly(reader, 11) == b"220 ready\r\n"


async def test_64_connections_at_once() -> None:
    size = 40_000

    async def talk(forwarding: Forwarding, number: int) -> None:
        data = noise(size, number)
        reader, writer = await forwarding.connect()
        writer.write(data)
        assert await read_exactly(reader, size) == data
        writer.write_eof()

    async with mux(Echo) as (forwarding, agent):
        await asyncio.gather(*(talk(forwarding, number) for number in range(64)))
        assert len(agent.destinations) == 64
    assert forwarding.notices.troubles == []


# Half-closed connections.


async def test_d8_the_answer_to_a_request_that_ends_with_shutdown_arrives() -> None:
    """Reference defect D8: a local half-close closes both directions, so the answer never arrives.

    It would be back if ``session/port_mux.py``: ``MuxForwarder.eof_received`` began with
    ``self._close_stream(connection)``.
    """
    request, answer = noise(3000), noise(100_000, 2)
    async with mux(lambda: Answer(request, answer, delay=0.1)) as (forwarding, _):
        reader, writer = await forwarding.connect()
        writer.write(request)
        writer.write_eof()
        assert await read_to_end(reader) == answer


async def test_a_half_closed_connection_whose_far_end_stays_silent_is_reset() -> None:
    """What has come may be a part of the answer; it must not look like the whole."""
    clock = ManualClock()
    async with mux(Echo, settings=PortSettings(clock=clock)) as (forwarding, agent):
        for stream_id in (3, 5):
            reader, writer = await forwarding.connect()
            writer.write(b"hello")
            writer.write_eof()
            assert await read_exactly(reader, 5) == b"hello"
            await forwarding.half_closed(1)
            clock.advance(4.9)
            assert len(forwarding.handler.connections()) == 1
            clock.advance(0.2)
            await agent.until(lambda: agent.finished[-1:] == [stream_id])  # noqa: B023
            with pytest.raises(ConnectionResetError):
                await read_to_end(reader)
    (trouble,) = forwarding.notices.troubles  # once for the session
    assert trouble.startswith("connection 1 from 127.0.0.1:")
    assert "the far end sent nothing for 5 s" in trouble


async def test_silence_counts_from_the_far_ends_last_byte() -> None:
    clock, destination = ManualClock(), Chatter()
    async with mux(lambda: destination, settings=PortSettings(clock=clock)) as (forwarding, agent):
        reader, writer = await forwarding.connect()
        writer.write_eof()
        await agent.until(lambda: agent.destinations)
        await forwarding.half_closed(1)
        clock.advance(4.0)
        destination.send(b".")
        assert await read_exactly(reader, 1) == b"."
        clock.advance(4.9)
        destination.send(b"late")
        assert await read_exactly(reader, 4) == b"late"


async def test_silence_says_nothing_while_the_request_has_not_left() -> None:
    clock, request = ManualClock(), noise(5000)
    async with mux(lambda: Answer(request, b"done"), settings=PortSettings(clock=clock)) as (forwarding, agent):
        reader, writer = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        forwarding.channel.blocked = True
        writer.write(request)
        writer.write_eof()
        await forwarding.half_closed(1)
        clock.advance(60.0)
        forwarding.channel.blocked = False
        forwarding.channel.pump()
        assert await read_to_end(reader) == b"done"


@pytest.mark.parametrize("trouble", ["unacknowledged", "link down"])
async def test_silence_says_nothing_while_the_link_is_in_trouble(trouble: str) -> None:
    clock = ManualClock()
    async with mux(Echo, settings=PortSettings(clock=clock)) as (forwarding, agent):
        reader, writer = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        if trouble == "link down":
            forwarding.channel.link_up = False
        else:
            agent.agent.acknowledging = False
        writer.write(b"x")
        writer.write_eof()
        assert await read_exactly(reader, 1) == b"x"
        await forwarding.half_closed(1)
        if trouble == "unacknowledged":
            await forwarding.channel.until(lambda: forwarding.channel.retransmitting)
        clock.advance(60.0)
        agent.destinations[3].send(b"still there")
        assert await read_exactly(reader, 11) == b"still there"
        forwarding.channel.link_up = agent.agent.acknowledging = True
        await forwarding.channel.until(lambda: not forwarding.channel.connection.in_flight)
        clock.advance(5.0)
        await agent.until(lambda: agent.finished == [3])


async def test_more_half_closed_connections_than_may_be_held() -> None:
    settings = PortSettings(clock=ManualClock(), max_held=3)
    async with mux(Echo, settings=settings) as (forwarding, agent):
        readers = []
        for number in range(5):
            reader, writer = await forwarding.connect()
            readers.append(reader)
            writer.write_eof()
            await agent.until(lambda: len(agent.finished) == max(0, number - 2))  # noqa: B023
        assert agent.finished == [3, 5]
        for reader in readers[:2]:
            with pytest.raises(ConnectionResetError):
                await read_to_end(reader)
    (trouble,) = forwarding.notices.troubles
    assert "more than 3 connections wait like this" in trouble


async def test_few_are_held_where_a_close_cannot_be_told_from_a_half_close() -> None:
    """Most of them are closed, so that nothing is said of them either."""
    settings = PortSettings(clock=ManualClock(), max_held_unknown=2, peer_state=lambda _endpoint: PeerState.UNKNOWN)
    async with mux(Echo, settings=settings) as (forwarding, agent):
        readers = []
        for _ in range(5):
            reader, writer = await forwarding.connect()
            readers.append(reader)
            writer.write_eof()
            await forwarding.half_closed(min(len(readers), 2))
        await agent.until(lambda: agent.finished == [3, 5, 7])
        for reader in readers[:3]:
            with pytest.raises(ConnectionResetError):
                await read_to_end(reader)
    assert forwarding.notices.troubles == []


@linux_only
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "unix"])
async def test_a_connection_that_is_closed_altogether_is_not_held(host: str, tmp_path: Path) -> None:
    """What its program had sent still arrives. The clock stands still: nothing waits for a silence."""
    unix: dict[str, Any] = {"localConnectionType": "unix", "localUnixSocket": str(tmp_path / "s")}
    data = noise(20_000)
    settings = PortSettings(clock=ManualClock())
    async with mux(Echo, settings=settings, **(unix if host == "unix" else {})) as (forwarding, agent):
        for number in range(20):
            reader, writer = await forwarding.connect(host)
            writer.write(data)
            assert await read_exactly(reader, len(data)) == data
            writer.write(b"bye")
            writer.close()
            await agent.until(lambda: len(agent.finished) == number + 1)  # noqa: B023
        assert all(destination.received == data + b"bye" for destination in agent.destinations.values())
        assert all(destination.closed for destination in agent.destinations.values())
        await wait_until(lambda: not forwarding.handler.connections())
    assert forwarding.notices.troubles == []


@linux_only
@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_a_half_closed_connection_that_is_closed_later(how: str) -> None:
    clock, destination = ManualClock(), Chatter()
    async with mux(lambda: destination, settings=PortSettings(clock=clock)) as (forwarding, agent):
        async with stalled(forwarding.notices.port) as program:
            program.shutdown(socket.SHUT_WR)
            await forwarding.half_closed(1)
            await wait_until(lambda: agent.destinations)
            clock.advance(3.0)
            destination.send(b"not the end")
            assert await asyncio.get_running_loop().sock_recv(program, 100) == b"not the end"
            if how == "reset":
                program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        def ended() -> bool:
            clock.advance(0.01)  # the question may be due before the data that was just sent has been noted
            return agent.finished == [3]

        await wait_until(ended)
        await wait_until(lambda: not forwarding.handler.connections())
    assert forwarding.notices.troubles == []


async def test_programs_that_wait_are_asked_after_seldom() -> None:
    clock = ManualClock()
    asked: list[float] = []

    def ask(_endpoint: socket.socket) -> PeerState:
        asked.append(clock.time())
        return PeerState.OPEN

    async with mux(Echo, settings=PortSettings(clock=clock, peer_state=ask)) as (forwarding, _agent):
        _reader, writer = await forwarding.connect()
        writer.write_eof()
        await forwarding.half_closed(1)
        clock.advance(5.0)
        await wait_until(lambda: not forwarding.handler.connections())
        clock.advance(60.0)
    assert 5 < len(asked) < 15


# Descriptors.


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """All that the process may have are in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as taken:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                taken.callback(os.close, os.dup(0))
        yield


async def test_a_half_closed_connection_makes_way_when_there_are_no_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LISTENER, "ACCEPT_RETRY_DELAY", 1000.0)
    async with mux(Echo, settings=PortSettings(clock=ManualClock())) as (forwarding, _agent):
        waiting = []
        for number in range(2):
            reader, writer = await forwarding.connect()
            waiting.append(reader)
            writer.write_eof()
            await forwarding.half_closed(number + 1)
        with socket.socket() as program, no_descriptors():
            program.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(program, ("127.0.0.1", forwarding.notices.port))
            await loop.sock_sendall(program, b"hello")
            async with asyncio.timeout(DEADLINE):
                assert await loop.sock_recv(program, 5) == b"hello"
            with pytest.raises(ConnectionResetError):
                await read_to_end(waiting[0])
            await forwarding.half_closed(1)
    (trouble,) = forwarding.notices.troubles
    assert "no descriptors were left for new connections" in trouble


async def test_without_descriptors_the_next_connection_waits_until_one_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And that is said once."""
    monkeypatch.setattr(LISTENER, "ACCEPT_RETRY_DELAY", 1000.0)
    loop = asyncio.get_running_loop()
    async with mux(Echo) as (forwarding, _agent), contextlib.AsyncExitStack() as stack:
        programs = [await stack.enter_async_context(stalled(forwarding.notices.port)) for _ in range(2)]
        await wait_until(lambda: len(forwarding.handler.connections()) == 2)
        newcomers = [stack.enter_context(socket.socket()) for _ in programs]
        with no_descriptors():
            for program, newcomer in zip(programs, newcomers, strict=True):
                newcomer.setblocking(False)
                await loop.sock_connect(newcomer, ("127.0.0.1", forwarding.notices.port))
                await forwarding.notices.until(lambda: forwarding.notices.troubles)
                program.close()
                stack.callback(os.close, os.dup(0))  # it is not the program's own descriptor that helps
                await loop.sock_sendall(newcomer, b"hello")
                async with asyncio.timeout(DEADLINE):
                    assert await loop.sock_recv(newcomer, 5) == b"hello"
    (trouble,) = forwarding.notices.troubles
    assert trouble == "cannot accept further connections for now: Too many open files; raise the limit (ulimit -n)"


async def test_the_far_ends_close_comes_behind_its_data_and_ends_the_connection() -> None:
    answer = noise(300_000)
    async with mux(lambda: Answer(b"GET", answer)) as (forwarding, agent):
        reader, writer = await forwarding.connect()
        writer.write(b"GET")
        assert await read_to_end(reader) == answer
        await agent.until(lambda: not agent.mux.send_pending)
        writer.close()
        await asyncio.wait_for(writer.wait_closed(), DEADLINE)


async def test_an_answer_is_not_lost_to_what_the_program_still_writes() -> None:
    """A server that answers early and closes, as to an upload that is too large: the rest of the upload must not
    make the kernel throw away the answer that the program has not read yet."""
    answer = noise(30_000)
    async with mux(lambda: Answer(b"PUT", answer)) as (forwarding, _):
        reader, writer = await forwarding.connect()
        writer.write(b"PUT")
        await read_exactly(reader, 100)
        for _ in range(50):
            writer.write(bytes(10_000))
            await asyncio.sleep(0)
        assert len(await read_to_end(reader)) == len(answer) - 100


async def test_a_program_that_does_not_close_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOCAL, "LINGER_TIMEOUT", 0.05)
    async with mux(lambda: Answer(b"GET", b"ok")) as (forwarding, _):
        reader, writer = await forwarding.connect()
        writer.write(b"GET")
        assert await read_to_end(reader) == b"ok"

        async def write_on() -> None:
            while True:
                writer.write(b"more")
                await writer.drain()
                await asyncio.sleep(0.001)

        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await asyncio.wait_for(write_on(), DEADLINE)


async def test_a_program_that_goes_away_closes_the_far_end_at_once() -> None:
    destination = Chatter()
    async with mux(lambda: destination) as (forwarding, agent):
        async with stalled(forwarding.notices.port) as program:
            await agent.until(lambda: agent.destinations)
            program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await agent.until(lambda: agent.finished == [3])
        assert destination.closed


# Slow ends.


async def test_h15_a_stalled_program_stops_nobody_else() -> None:
    """Reference defect H15: a local program that does not read blocks the reader of the websocket:
    acknowledgements, pongs and all other streams stand still.

    It would be back if ``session/port_mux.py``: ``MuxForwarder._apply_flow_control`` paused when
    ``self._mux.total_unread > 0``.
    """
    destinations: list[Destination] = [Source(MAX_STREAM_UNREAD), Echo()]
    async with mux(lambda: destinations.pop(0)) as (forwarding, agent), stalled(forwarding.notices.port) as program:
        await agent.until(lambda: agent.destinations and not agent.mux.send_pending)
        reader, writer = await forwarding.connect()
        for number in range(20):
            data = noise(5000, number)
            writer.write(data)
            assert await read_exactly(reader, len(data)) == data
        assert not forwarding.channel.reading_paused
        assert forwarding.channel.pauses == 0
        assert len(await receive_all(program)) == MAX_STREAM_UNREAD
    assert forwarding.notices.troubles == []


async def test_h16_a_stalled_stream_with_4_mib_unread_pauses_all_and_is_named() -> None:
    """Reference defect H16: 4 MiB unread of one stream stall all streams, without a word; here they do so only
    beyond that, with the culprit's name, and all goes on when it reads.

    It would be back if ``session/port_mux.py``: ``MuxForwarder._apply_flow_control`` did not call
    ``self._notices.trouble`` (the word).
    """
    size = MAX_STREAM_UNREAD + 24 * 1024 * 1024
    destinations: list[Destination] = [Source(size), Echo()]
    async with mux(lambda: destinations.pop(0)) as (forwarding, _agent), stalled(forwarding.notices.port) as program:
        await forwarding.notices.until(lambda: forwarding.notices.troubles)
        name = f"connection 1 from 127.0.0.1:{program.getsockname()[1]}"
        assert forwarding.notices.troubles[0].startswith(f"{name} does not read its data")
        assert forwarding.channel.reading_paused
        reader, writer = await forwarding.connect()
        writer.write(b"hello")
        assert len(await receive_all(program)) == size
        assert await read_exactly(reader, 5) == b"hello"
        assert not forwarding.channel.reading_paused
    assert len(forwarding.notices.troubles) == 1


@pytest.mark.slow
async def test_h16_many_stalled_streams_are_limited_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference defect H16: the other budget: what all streams together hold is limited too.

    It would be back if ``session/port_mux.py``: ``MuxForwarder._apply_flow_control`` began with ``pause = False``
    (that the limit is missing, not that it is too low).
    """
    monkeypatch.setattr(SMUX, "MAX_TOTAL_UNREAD", 6 * 1024 * 1024)
    assert MAX_TOTAL_UNREAD == 64 * 1024 * 1024
    size = 8 * 1024 * 1024
    async with mux(lambda: Source(size)) as (forwarding, _), contextlib.AsyncExitStack() as stack:
        programs = [await stack.enter_async_context(stalled(forwarding.notices.port)) for _ in range(4)]
        await forwarding.notices.until(lambda: forwarding.notices.troubles)
        for data in await asyncio.gather(*map(receive_all, programs)):
            assert len(data) == size


async def test_a_stalled_program_that_goes_away_lets_the_others_go_on() -> None:
    destinations: list[Destination] = [Source(1 << 30), Echo()]
    async with mux(lambda: destinations.pop(0)) as (forwarding, agent):
        async with stalled(forwarding.notices.port):
            await forwarding.notices.until(lambda: forwarding.channel.reading_paused)
            reader, writer = await forwarding.connect()
            writer.write(b"hello")
        assert await read_exactly(reader, 5) == b"hello"
        assert agent.finished[0] == 3


async def test_a_finished_stream_counts_until_its_program_has_read_all() -> None:
    """Else a far end that closes at once would fill the memory behind programs that do not read."""
    fin = HEADER.pack(VERSION, FIN, 0, 3)
    async with (
        mux(lambda: Source(MAX_STREAM_UNREAD)) as (forwarding, agent),
        stalled(forwarding.notices.port) as program,
    ):
        agent.agent.recording = True
        await agent.until(lambda: agent.destinations and not agent.mux.send_pending)
        await wait_until(lambda: not agent.agent.connection.in_flight)
        assert fin not in agent.agent.data()
        assert len(await receive_all(program)) == MAX_STREAM_UNREAD
        await agent.agent.until(lambda: agent.agent.data().endswith(fin))


async def test_a_program_that_writes_faster_than_the_far_end_takes_is_slowed_down() -> None:
    sink = Sink()
    async with mux(lambda: sink) as (forwarding, agent):
        _reader, writer = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        agent.agent.acknowledging = False
        limit = 64 * 1024 * 1024
        written = 0
        with contextlib.suppress(TimeoutError):
            while written < limit:
                writer.write(bytes(1 << 18))
                written += 1 << 18
                await asyncio.wait_for(writer.drain(), 0.5)
        assert written < limit
        agent.agent.acknowledging = True
        await agent.until(lambda: sink.size == written)
    assert written > SEND_HIGH_WATER


async def test_a_keystroke_is_not_behind_another_programs_queue() -> None:
    destinations: list[Destination] = [Sink(), Echo()]
    async with mux(lambda: destinations.pop(0)) as (forwarding, agent):
        _, bulk = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        reader, writer = await forwarding.connect()
        await agent.until(lambda: len(agent.destinations) == 2)
        forwarding.channel.blocked = True
        bulk.write(bytes(60_000))
        await bulk.drain()
        writer.write(b"k")
        await rounds(100)  # the forwarder reads both
        agent.agent.recording = True
        forwarding.channel.blocked = False
        forwarding.channel.pump()
        assert await read_exactly(reader, 1) == b"k"
        sent = agent.agent.data()
        assert len(sent) > 30_000
        assert sent.index(HEADER.pack(VERSION, PSH, 1, 5) + b"k") <= SHARED_FRAME_DATA + 2 * HEADER_SIZE


# What goes wrong with one stream.


async def test_a_destination_that_refuses_is_told_with_the_connection_it_was_for() -> None:
    answers: list[Destination | None] = [Echo(), None, Echo()]
    async with mux(lambda: answers.pop(0)) as (forwarding, agent):
        first_reader, first = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        second_reader, second = await forwarding.connect()
        assert await read_to_end(second_reader) == b""
        port = second.get_extra_info("sockname")[1]
        await forwarding.notices.until(lambda: forwarding.notices.failures)
        assert forwarding.notices.failures == [f"connection 2 from 127.0.0.1:{port}"]
        # Nobody else notices.
        third_reader, third = await forwarding.connect()
        for reader, writer in ((first_reader, first), (third_reader, third)):
            writer.write(b"hello")
            assert await read_exactly(reader, 5) == b"hello"
    assert forwarding.notices.troubles == []


async def test_a_refusal_for_a_connection_that_has_gone_is_told_without_a_name() -> None:
    async with mux(Echo) as (forwarding, agent):
        agent.agent.send(REFUSED, PayloadType.FLAG)
        await forwarding.notices.until(lambda: forwarding.notices.failures)
        assert forwarding.notices.failures == [""]


async def test_refusals_that_come_at_once() -> None:
    async with mux(lambda: None) as (forwarding, _agent):
        forwarding.channel.blocked = True
        programs = [await forwarding.connect() for _ in range(3)]
        await asyncio.sleep(0)
        forwarding.channel.blocked = False
        forwarding.channel.pump()
        for reader, _writer in programs:
            assert await read_to_end(reader) == b""
        await forwarding.notices.until(lambda: len(forwarding.notices.failures) == 3)
        assert [name.split()[1] for name in forwarding.notices.failures] == ["1", "2", "3"]


async def test_d10_flags_and_other_payloads_never_reach_a_program() -> None:
    """Reference defect D10: the four bytes of a flag are written into the user's stream.

    It would be back if ``session/port_mux.py``: ``MuxForwarder.start`` gave ``self._received`` as the handler of
    ``PayloadType.FLAG``.
    """
    destination = Chatter()
    async with mux(lambda: destination) as (forwarding, agent):
        reader, _writer = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        for payload_type in (PayloadType.FLAG, PayloadType.STDERR, PayloadType.EXIT_CODE, PayloadType.ERROR):
            agent.agent.send(REFUSED, payload_type)
        destination.send(b"data")
        destination.finish()
        assert await read_to_end(reader) == b"data"
    assert agent.failed is None


async def test_streams_that_the_far_end_opens_are_closed() -> None:
    async with mux(Echo) as (_forwarding, agent):
        stream_id = agent.mux.open_stream()
        agent.destinations[stream_id] = Chatter()
        agent.mux.send_data(stream_id, b"surprise")
        agent.flush()
        await agent.until(lambda: stream_id in agent.finished)


# The session's beginning.


async def test_h5_what_comes_before_everything_is_set_up_does_no_harm() -> None:
    """Reference defect H5: any frame between the start of the handler and the set-up of the multiplexer crashes the
    reader.

    Back when ``MuxForwarder.__init__`` leaves ``self._mux`` to ``start``, behind ``set_input_handler``.
    """
    agent = MemoryAgent(properties=port_properties())
    forwarding = Forwarding(agent, MemoryChannel(agent))
    mux_agent = MuxAgent(agent, Echo)
    await forwarding.open()
    agent.send(NOP_FRAME * 3)  # before the handler is made
    await agent.until(lambda: not agent.connection.in_flight)
    starting = asyncio.ensure_future(forwarding.start())
    agent.send(NOP_FRAME)  # and in the moment in which it starts
    await starting
    reader, writer = await forwarding.connect()
    writer.write(b"hello")
    assert await read_exactly(reader, 5) == b"hello"
    assert mux_agent.failed is None
    await forwarding.stop()


async def test_h14_a_second_completed_handshake_changes_nothing() -> None:
    """Reference defect H14: a second pending session type blocks the reader for good.

    It would be back if ``protocol/endpoint.py``: ``SessionEndpoint._handshake_error`` failed a session whose
    handshake is settled too. That it fails then, and does not hang, is structural; see
    ``test_h14_a_session_that_becomes_ready_twice_goes_on``.
    """
    async with mux(Echo) as (forwarding, agent):
        complete = HandshakeComplete(1).to_json().encode()
        for _ in range(3):
            agent.agent.send(complete, PayloadType.HANDSHAKE_COMPLETE)
        reader, writer = await forwarding.connect()
        writer.write(b"hello")
        assert await read_exactly(reader, 5) == b"hello"


async def test_u13_no_file_stands_for_the_multiplexer() -> None:
    """Reference defect U13: a private unix socket with a predictable name in the shared temporary directory, which,
    left behind, makes the next run fail.

    Back with ``asyncio.open_unix_connection`` between the listener and the multiplexer.
    """
    async with mux(Echo) as (forwarding, _):
        reader, writer = await forwarding.connect()
        writer.write(b"hello")
        assert await read_exactly(reader, 5) == b"hello"
        assert not os.listdir(tempfile.gettempdir())  # it is this test's own
        writer.close()


# The session's end.


async def test_d14_the_flag_is_acknowledged_before_the_end() -> None:
    """Reference defect D14: the process exits right after sending the TerminateSession flag, which may then be
    lost.

    It would be back if ``session/ending.py``: ``terminate`` did not ``await channel.drain()``.
    """
    async with mux(Echo) as (forwarding, agent):
        agent.agent.acknowledging = False
        assert forwarding.handler.interrupt(signal.SIGINT)
        await agent.until(lambda: agent.flags == [TERMINATE])
        await rounds()
        assert not forwarding.running.done()
        agent.agent.acknowledging = True
        assert (await forwarding.result()).is_normal
        assert forwarding.channel.connection.in_flight == 0
    assert forwarding.notices.interruptions == 1


async def test_a_flag_that_is_never_acknowledged_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PORT, "INTERRUPTED_TIMEOUT", 0.05)
    async with mux(Echo) as (forwarding, agent):
        agent.agent.acknowledging = False
        assert forwarding.handler.interrupt(signal.SIGQUIT)
        assert (await forwarding.result()).is_normal


async def test_after_an_interrupt_nothing_listens_and_connections_are_reset() -> None:
    async with mux(Echo) as (forwarding, agent):
        reader, _writer = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        port = forwarding.notices.port
        assert forwarding.handler.interrupt(signal.SIGINT)
        assert not forwarding.handler.interrupt(signal.SIGINT)
        with pytest.raises(ConnectionResetError):
            await read_to_end(reader)
        assert not is_listening(port)
        assert not is_listening(port, "::1")
        assert (await forwarding.result()).is_normal
        assert not forwarding.handler.interrupt(signal.SIGINT)


async def test_an_interrupt_while_a_stalled_program_pauses_reading() -> None:
    async with mux(lambda: Source(1 << 30)) as (forwarding, agent):
        async with stalled(forwarding.notices.port):
            await forwarding.notices.until(lambda: forwarding.channel.reading_paused)
            assert forwarding.handler.interrupt(signal.SIGINT)
            assert (await forwarding.result()).is_normal
            assert forwarding.channel.connection.in_flight == 0
        assert agent.flags == [TERMINATE]


async def test_other_signals_are_not_for_the_handler() -> None:
    async with mux(Echo) as (forwarding, _):
        assert not forwarding.handler.interrupt(signal.SIGTERM)
        assert not forwarding.running.done()


async def test_a_cancelled_handler_sends_the_flag_and_leaves_nothing() -> None:
    async with mux(Echo) as (forwarding, agent):
        reader, _writer = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        port = forwarding.notices.port
        forwarding.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forwarding.running
        with pytest.raises(ConnectionResetError):
            await read_to_end(reader)
        assert not is_listening(port)
        await agent.until(lambda: agent.flags == [TERMINATE])


async def test_d15_what_has_arrived_is_delivered_although_the_session_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference defect D15: channel_closed ends the process at once; what was not yet copied to a local
    connection is lost.

    It would be back if ``session/port.py``: ``PortHandler.run`` had ``await forwarder.close()`` in place of
    ``await forwarder.deliver()``.
    """
    monkeypatch.setattr(LOCAL, "LINGER_TIMEOUT", 3600.0)
    async with (
        mux(lambda: Source(MAX_STREAM_UNREAD)) as (forwarding, agent),
        stalled(forwarding.notices.port) as program,
    ):
        await agent.until(lambda: agent.destinations and not agent.mux.send_pending)
        agent.agent.close_channel()
        await wait_until(lambda: not forwarding.channel.is_open)
        assert len(await receive_all(program)) == MAX_STREAM_UNREAD
        # It has not closed its end, and nobody waits for that.
        assert (await asyncio.wait_for(asyncio.shield(forwarding.running), DEADLINE)).is_normal


async def test_an_unfinished_stream_ends_in_a_reset() -> None:
    """So that a part is not taken for the whole."""
    destination = Chatter()
    async with mux(lambda: destination) as (forwarding, agent):
        reader, _writer = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        destination.send(b"a part")
        assert await read_exactly(reader, 6) == b"a part"
        agent.agent.close_channel()
        with pytest.raises(ConnectionResetError):
            await read_to_end(reader)
        assert (await forwarding.result()).is_normal


async def test_a_program_that_never_reads_does_not_keep_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FORWARDER, "DELIVERY_PATIENCE", 0.1)
    async with mux(lambda: Source(MAX_STREAM_UNREAD)) as (forwarding, agent), stalled(forwarding.notices.port):
        await agent.until(lambda: agent.destinations and not agent.mux.send_pending)
        agent.agent.close_channel()
        assert (await forwarding.result()).is_normal


async def test_a_program_that_never_reads_affects_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reset while another one still reads, which then receives everything."""
    patience, real_timeout = 3600.0, asyncio.timeout
    waits: list[asyncio.Timeout] = []

    def timeout(delay: float | None) -> asyncio.Timeout:
        if delay != patience:
            return real_timeout(delay)
        waits.append(real_timeout(None))
        return waits[-1]

    monkeypatch.setattr(FORWARDER, "DELIVERY_PATIENCE", patience)
    monkeypatch.setattr(FORWARDER.asyncio, "timeout", timeout)
    async with (
        mux(lambda: Source(MAX_STREAM_UNREAD)) as (forwarding, agent),
        stalled(forwarding.notices.port),
        stalled(forwarding.notices.port) as reading,
    ):
        await agent.until(lambda: len(agent.destinations) == 2 and not agent.mux.send_pending)
        agent.agent.close_channel()
        await wait_until(lambda: not forwarding.channel.is_open)
        received = bytearray()
        loop = asyncio.get_running_loop()
        while len(received) < MAX_STREAM_UNREAD // 2:
            received += await loop.sock_recv(reading, 16384)
        waits[-1].reschedule(loop.time())
        await wait_until(lambda: len(forwarding.handler.connections()) < 2)
        [left] = forwarding.handler.connections()
        assert left.startswith("connection 2")
        received += await receive_all(reading)
        assert len(received) == MAX_STREAM_UNREAD
        assert (await forwarding.result()).is_normal


async def test_the_far_ends_text_is_raised() -> None:
    async with mux(Echo) as (forwarding, agent):
        agent.agent.close_channel("Your session has been terminated for idling.\n")
        assert "terminated for idling" in (await forwarding.result()).text


async def test_a_lost_link_is_raised_and_resets() -> None:
    async with mux(Echo) as (forwarding, agent):
        reader, _writer = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        forwarding.channel.end(ConnectionLost("gone"))
        with pytest.raises(ConnectionLost, match="gone"):
            await forwarding.result()
        with pytest.raises(ConnectionResetError):
            await read_to_end(reader)


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (b"\x02\x02\x00\x00\x03\x00\x00\x00", "smux frame of version 2"),
        (b"\x01\x09\x00\x00\x03\x00\x00\x00", "unknown command 9"),
    ],
)
async def test_malformed_frames_end_the_session_with_a_sentence(frame: bytes, sentence: str) -> None:
    async with mux(Echo) as (forwarding, agent):
        reader, _writer = await forwarding.connect()
        await agent.until(lambda: agent.destinations)
        agent.agent.send(frame)
        with pytest.raises(RemoteProtocolError, match=sentence):
            await forwarding.result()
        with pytest.raises(ConnectionResetError):
            await read_to_end(reader)
        assert agent.flags == [TERMINATE]


async def test_h12_nobody_is_accepted_when_the_session_has_failed() -> None:
    """Reference defect H12: after a failure the listener stays open and accepts one more connection, which leads
    nowhere.

    It would be back if ``session/port.py``: ``PortHandler.run`` did not close the listener by ``with
    self._bind()``; or, for those on the way, ``session/forwarder.py``: ``Forwarder.connection_made`` did not
    ``connection.abort()`` (reference defect U16).
    """
    async with mux(lambda: Source(MAX_STREAM_UNREAD)) as (forwarding, agent):
        port = forwarding.notices.port
        async with stalled(port) as program:
            await agent.until(lambda: agent.destinations and not agent.mux.send_pending)
            forwarding.channel.end(ConnectionLost("gone"))
            await wait_until(lambda: not is_listening(port))
            assert not forwarding.running.done()  # the program has not read all
            assert not is_listening(port, "::1")
            assert len(await receive_all(program)) == MAX_STREAM_UNREAD
        with pytest.raises(ConnectionLost):
            await forwarding.result()


async def test_a_failure_resets_those_who_wait_to_be_accepted() -> None:
    async with mux(Echo) as (forwarding, _):
        programs = [await forwarding.connect() for _ in range(3)]
        forwarding.channel.end(ConnectionLost("gone"))
        for reader, _writer in programs:
            with pytest.raises(ConnectionResetError):
                await read_to_end(reader)


async def test_u16_a_connection_that_cannot_get_a_stream_is_closed() -> None:
    """Reference defect U16: when no stream can be opened, the accepted connection stays open and idle.

    Back without ``connection.abort()`` in ``Forwarder.connection_made``.
    """
    async with mux(Echo) as (forwarding, _):
        forwarder = MuxForwarder(forwarding.channel, forwarding.notices, keepalive=False)
        await forwarder.close()
        program, endpoint = socket.socketpair()
        endpoint.setblocking(False)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: LocalConnection(forwarder, 1), endpoint)
        reader, writer = await asyncio.open_connection(sock=program)
        assert await read_to_end(reader) == b""
        writer.close()


# Keep-alive.


async def test_an_old_agents_keep_alive_is_answered() -> None:
    clock = ManualClock()
    async with mux(Echo, version="3.1.1511.0", settings=PortSettings(clock=clock)) as (_forwarding, agent):
        agent.agent.recording = True
        for count in (1, 2):
            clock.advance(SMUX.KEEPALIVE_INTERVAL)
            await agent.until(lambda: agent.agent.data() == count * NOP_FRAME)  # noqa: B023


async def test_newer_agents_get_no_keep_alive() -> None:
    clock = ManualClock()
    async with mux(Echo, version="3.1.1511.1", settings=PortSettings(clock=clock)) as (forwarding, agent):
        agent.agent.recording = True
        clock.advance(10 * SMUX.KEEPALIVE_TIMEOUT)
        reader, writer = await forwarding.connect()
        writer.write(b"x")
        assert await read_exactly(reader, 1) == b"x"
        assert NOP_FRAME not in agent.agent.data()


async def test_an_old_agent_that_falls_silent_ends_the_session() -> None:
    clock = ManualClock()
    async with mux(Echo, version="3.1.1511.0", settings=PortSettings(clock=clock)) as (forwarding, _):
        clock.advance(2 * SMUX.KEEPALIVE_TIMEOUT)
        with pytest.raises(TimedOut, match="no data was received on the forwarding channel"):
            await forwarding.result()


async def test_a_link_that_is_down_is_not_taken_for_a_silent_agent() -> None:
    clock = ManualClock()
    async with mux(Echo, version="3.1.1511.0", settings=PortSettings(clock=clock)) as (forwarding, _):
        forwarding.channel.link_up = False
        clock.advance(10 * SMUX.KEEPALIVE_TIMEOUT)
        forwarding.channel.link_up = True
        reader, writer = await forwarding.connect()
        writer.write(b"hello")
        assert await read_exactly(reader, 5) == b"hello"
        clock.advance(3 * SMUX.KEEPALIVE_TIMEOUT)
        with pytest.raises(TimedOut):
            await forwarding.result()
