"""A forwarded port with many connections: smux over the data channel, through a real websocket to real sockets."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from session_manager_plugin.agent import Sandbox, port_mux
from session_manager_plugin.agent.destination import Destination, DialledConnection
from session_manager_plugin.agent.port_mux import MuxPort
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.protocol import smux
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.protocol.smux import MAX_STREAM_UNREAD, SEND_HIGH_WATER, SEND_LOW_WATER
from tests.support.mux_client import MuxClient
from tests.support.ports import held_port
from tests.support.raw_client import DEADLINE
from tests.support.tcp_server import TcpServer
from tests.support.waiting import wait_until

FORWARDING = "AWS-StartPortForwardingSession"
REMOTE_HOST = "AWS-StartPortForwardingSessionToRemoteHost"
CONNECT_ERROR = Flag.CONNECT_TO_PORT_ERROR.serialize()
MIB = 1024 * 1024


@pytest.fixture
async def client() -> AsyncIterator[MuxClient]:
    """A client that is not connected yet."""
    async with MuxClient() as raw:
        yield raw


async def forward(sandbox: Sandbox, client: MuxClient, port: int, document: str = FORWARDING, **parameters: str) -> str:
    """Start a port session and open it; returns its id."""
    values = {name: [value] for name, value in {"portNumber": str(port), **parameters}.items()}
    started = await sandbox.start_session(document, values)
    await client.open(started.stream_url, started.token)
    return started.session_id


def program_of(sandbox: Sandbox, session_id: str) -> MuxPort:
    program = sandbox.session(session_id).agent.program
    assert isinstance(program, MuxPort)
    return program


# One stream.


async def test_a_stream_is_a_connection(sandbox: Sandbox, client: MuxClient) -> None:
    async with TcpServer(echoes=True) as server:
        session_id = await forward(sandbox, client, server.port)
        await client.until(lambda: client.ready is not None)
        assert not server.peers  # nothing is dialled before a stream is opened
        stream = await client.open_stream()
        await client.write(stream, b"hello")
        assert await client.read(stream, 5) == b"hello"
        assert len(server.peers) == 1
        assert sandbox.session(session_id).program_pid == 0


async def test_the_client_closes_a_stream(sandbox: Sandbox, client: MuxClient) -> None:
    async with TcpServer() as server:
        await forward(sandbox, client, server.port)
        stream = await client.open_stream()
        await client.write(stream, b"the last words")
        await client.close_stream(stream)
        peer = await server.accepted(0)
        await peer.until_received(b"the last words")
        await wait_until(lambda: peer.at_end)
        # Closed for good: what the destination still says is not carried.
        peer.transport.write(b"an answer")
        other = await client.open_stream()
        await client.write(other, b"x")
        await (await server.accepted(1)).until_received(b"x")
        assert client.streams[stream] == b""


async def test_the_destination_closes_a_stream_behind_its_last_bytes(sandbox: Sandbox, client: MuxClient) -> None:
    data = random.Random(1).randbytes(MIB)
    async with TcpServer(greeting=data, hangs_up=True) as server:
        await forward(sandbox, client, server.port)
        stream = await client.open_stream()
        assert await client.until_finished(stream) == data
        await wait_until(lambda: server.peers[0].gone)


async def test_an_end_of_file_of_the_destination_closes_both_directions(sandbox: Sandbox, client: MuxClient) -> None:
    async with TcpServer() as server:
        await forward(sandbox, client, server.port)
        stream = await client.open_stream()
        peer = await server.accepted(0)
        peer.transport.write(b"bye")
        peer.transport.write_eof()
        await client.until(lambda: stream in client.finished)
        assert client.streams[stream] == b"bye"
        await wait_until(lambda: peer.at_end)
        await client.write(stream, b"is anybody there")
        assert peer.received == b""


@pytest.mark.slow
async def test_a_destination_that_ends_without_reading_closes_its_stream_at_once(
    sandbox: Sandbox, client: MuxClient
) -> None:
    async with TcpServer(reading=False) as server:
        await forward(sandbox, client, server.port)
        stream = await client.open_stream()
        peer = await server.accepted(0)
        writing = asyncio.create_task(client.write(stream, bytes(16 * MIB)))
        await client.until(lambda: client.connection.send_capacity == 0)
        peer.transport.write(b"no")
        peer.transport.write_eof()
        await client.until(lambda: stream in client.finished)
        assert client.streams[stream] == b"no"
        await writing


# Many streams.


@pytest.mark.slow
async def test_64_streams_at_once_both_ways(sandbox: Sandbox, client: MuxClient) -> None:
    async with TcpServer(echoes=True) as server:
        await forward(sandbox, client, server.port)

        async def use(number: int) -> bool:
            data = random.Random(number).randbytes(100_000 + number)
            stream = await client.open_stream()
            await client.write(stream, data)
            echoed = await client.read(stream, len(data))
            await client.close_stream(stream)
            return echoed == data

        assert all(await asyncio.gather(*(use(number) for number in range(64))))
        assert len(server.peers) == 64
        await wait_until(lambda: all(peer.at_end for peer in server.peers))
        assert not client.flags


async def test_a_destination_that_does_not_read_stops_nobody_within_the_budget(
    sandbox: Sandbox, client: MuxClient
) -> None:
    async with TcpServer(reading=False) as server:
        await forward(sandbox, client, server.port)
        stuck = await client.open_stream()
        peer = await server.accepted(0)
        server.reading, server.echoes = True, True
        await client.write(stuck, bytes(MAX_STREAM_UNREAD))
        other = await client.open_stream()
        await client.write(other, b"small traffic")
        assert await client.read(other, 13) == b"small traffic"
        peer.transport.resume_reading()
        await wait_until(lambda: len(peer.received) == MAX_STREAM_UNREAD)


@pytest.mark.slow
async def test_a_destination_that_uses_up_the_budget_stops_the_client_at_its_window(
    sandbox: Sandbox, client: MuxClient
) -> None:
    data = random.Random(4).randbytes(24 * MIB)
    async with TcpServer(reading=False) as server:
        session_id = await forward(sandbox, client, server.port)
        stream = await client.open_stream()
        writing = asyncio.create_task(client.write(stream, data))
        await server.accepted(0)
        program = program_of(sandbox, session_id)
        await wait_until(lambda: not program.takes_input and client.connection.send_capacity == 0)
        for _ in range(200):
            await asyncio.sleep(0)
        assert not writing.done()
        assert program.mux.total_unread < MAX_STREAM_UNREAD + MIB
        server.peers[0].transport.resume_reading()
        await writing
        await client.close_stream(stream)
        await wait_until(lambda: server.peers[0].at_end)
        assert server.peers[0].received == data


@pytest.mark.slow
async def test_what_waits_for_a_slow_destination_is_counted_after_the_client_closed_the_stream(
    sandbox: Sandbox, client: MuxClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = MAX_STREAM_UNREAD
    made = DialledConnection.connection_made

    def made_with_a_small_buffer(self: DialledConnection, transport: asyncio.BaseTransport) -> None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        made(self, transport)

    monkeypatch.setattr(DialledConnection, "connection_made", made_with_a_small_buffer)
    async with TcpServer(reading=False) as server:
        session_id = await forward(sandbox, client, server.port)
        for number in range(3):
            stream = await client.open_stream()
            await client.write(stream, bytes(size))
            await client.close_stream(stream)
            await server.accepted(number)
        program = program_of(sandbox, session_id)
        await client.until(lambda: client.connection.in_flight == 0)
        assert program.mux.total_unread > 0
        for peer in server.peers:
            peer.transport.resume_reading()
        await wait_until(lambda: all(peer.at_end for peer in server.peers))
        assert [len(peer.received) for peer in server.peers] == [size] * 3
        await wait_until(lambda: program.mux.total_unread == 0)


async def test_the_destination_is_not_read_while_the_client_does_not_take_its_bytes(
    sandbox: Sandbox, client: MuxClient
) -> None:
    size = 48 * MIB
    async with TcpServer(greeting=bytes(size)) as server:
        session_id = await forward(sandbox, client, server.port)
        stream = await client.open_stream()
        await client.read(stream, 1)
        client.hold()
        program = program_of(sandbox, session_id)
        connection = sandbox.session(session_id).agent.endpoint
        await wait_until(lambda: program.mux.send_buffered(stream) > SEND_LOW_WATER and connection.send_capacity == 0)
        for _ in range(200):
            await asyncio.sleep(0)
        # One read of the event loop may exceed the limit.
        assert program.mux.send_buffered(stream) <= SEND_HIGH_WATER + 256 * 1024
        assert server.peers[0].transport.get_write_buffer_size() > size // 4
        client.release()
        await client.read(stream, MIB)


# Dialling.


async def test_a_destination_that_refuses_is_told_by_a_flag_and_closes_one_stream(
    sandbox: Sandbox, client: MuxClient
) -> None:
    with held_port() as port:
        session_id = await forward(sandbox, client, port)
        stream = await client.open_stream()
        await client.write(stream, b"hello")
        assert await client.until_finished(stream) == b""
        assert client.flags == [CONNECT_ERROR]
        async with TcpServer(port=port, echoes=True):
            other = await client.open_stream()
            await client.write(other, b"now there is somebody")
            assert await client.read(other, 21) == b"now there is somebody"
    assert client.flags == [CONNECT_ERROR]
    assert not sandbox.session(session_id).ended.is_set()


async def test_what_comes_before_the_destination_answers_is_held(
    sandbox: Sandbox, client: MuxClient, dial_when: Callable[[], asyncio.Event]
) -> None:
    may_dial = dial_when()
    async with TcpServer() as server:
        session_id = await forward(sandbox, client, server.port)
        open_stream, closed_stream = await client.open_stream(), await client.open_stream()
        await client.write(open_stream, b"early")
        await client.write(closed_stream, b"early and gone")
        await client.close_stream(closed_stream)
        await client.until(lambda: client.connection.in_flight == 0)
        program = program_of(sandbox, session_id)
        assert program.mux.total_unread == len(b"earlyearly and gone")
        may_dial.set()
        await (await server.accepted(0)).until_received(b"early")
        await (await server.accepted(1)).until_received(b"early and gone")
        await wait_until(lambda: server.peers[1].at_end and program.mux.total_unread == 0)
        assert not server.peers[0].at_end


async def test_streams_wait_for_one_another_and_have_a_limit(
    sandbox: Sandbox,
    client: MuxClient,
    dial_when: Callable[[], asyncio.Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(port_mux, "ACCEPT_BACKLOG", 3)
    may_dial = dial_when()
    async with TcpServer(greeting=b"!") as server:
        session_id = await forward(sandbox, client, server.port)
        streams = [await client.open_stream() for _ in range(3)]
        await client.until(lambda: client.connection.in_flight == 0)
        assert not program_of(sandbox, session_id).takes_input
        streams.append(await client.open_stream())
        for _ in range(200):
            await asyncio.sleep(0)
        assert client.connection.in_flight == 1
        may_dial.set()
        for stream in streams:
            assert await client.read(stream, 1) == b"!"


@pytest.fixture
def dial_when(monkeypatch: pytest.MonkeyPatch) -> Callable[[], asyncio.Event]:
    """Has every dialling wait for an event."""

    def wait_for() -> asyncio.Event:
        may_dial = asyncio.Event()
        dial: Callable[[Destination, DialledConnection], Awaitable[None]] = Destination.dial

        async def dial_later(self: Destination, connection: DialledConnection) -> None:
            await may_dial.wait()
            await dial(self, connection)

        monkeypatch.setattr(Destination, "dial", dial_later)
        return may_dial

    return wait_for


async def test_a_remote_host(sandbox: Sandbox, client: MuxClient) -> None:
    async with TcpServer(greeting=b"from afar") as server:
        await forward(sandbox, client, server.port, REMOTE_HOST, host="127.0.0.1", localPortNumber="8080")
        stream = await client.open_stream()
        assert await client.read(stream, 9) == b"from afar"
        assert client.ready is not None
        assert list(client.ready.properties.items()) == [
            ("host", "127.0.0.1"),
            ("localPortNumber", "8080"),
            ("portNumber", str(server.port)),
            ("type", "LocalPortForwarding"),
        ]


async def test_a_denied_host_ends_the_session(sandbox: Sandbox, client: MuxClient) -> None:
    session_id = await forward(sandbox, client, 80, REMOTE_HOST, host="169.254.169.254")
    assert await client.until_closed() == "Forwarding to IP address 169.254.169.254 is forbidden."
    assert sandbox.session(session_id).end_reason is EndReason.FAILED


async def test_a_host_that_is_not_found_is_like_a_destination_that_refuses(sandbox: Sandbox, client: MuxClient) -> None:
    await forward(sandbox, client, 80, REMOTE_HOST, host="no-such-host.invalid")
    assert await client.until_finished(await client.open_stream()) == b""
    assert client.flags == [CONNECT_ERROR]


async def test_the_socket_document_tells_the_client_its_socket(sandbox: Sandbox, client: MuxClient) -> None:
    async with TcpServer(greeting=b"!") as server:
        document = "AWS-StartPortForwardingSessionToSocket"
        await forward(sandbox, client, server.port, document, localUnixSocket="/tmp/some.sock")
        assert await client.read(await client.open_stream(), 1) == b"!"
        assert client.ready is not None
        assert client.ready.properties == {
            "localConnectionType": "unix",
            "localUnixSocket": "/tmp/some.sock",
            "portNumber": str(server.port),
            "type": "LocalPortForwarding",
        }


# The end.


async def test_the_terminate_flag_ends_the_session(sandbox: Sandbox, client: MuxClient) -> None:
    async with TcpServer() as server:
        session_id = await forward(sandbox, client, server.port)
        await client.open_stream()
        peer = await server.accepted(0)
        await client.send_flag(Flag.DISCONNECT_TO_PORT)  # means nothing here
        await client.send_flag(Flag.TERMINATE_SESSION)
        assert await client.until_closed() == ""
        session = sandbox.session(session_id)
        assert (session.end_reason, session.agent_state) == (EndReason.EXITED, "Terminating")
        await session.wait_closed()
        await wait_until(lambda: peer.gone or peer.at_end)


async def test_what_is_not_smux_ends_the_session(sandbox: Sandbox, client: MuxClient) -> None:
    async with TcpServer() as server:
        session_id = await forward(sandbox, client, server.port)
        await client.open_stream()
        await server.accepted(0)
        await client.send(PayloadType.OUTPUT, b"GET / HTTP/1.1\r\n")
        assert await client.until_closed() == ""
        assert sandbox.session(session_id).end_reason is EndReason.FAILED


async def test_closing_the_sandbox_leaves_no_socket(client: MuxClient) -> None:
    async with TcpServer(greeting=bytes(8 * MIB)) as server:
        async with Sandbox() as sandbox:
            session_id = await forward(sandbox, client, server.port)
            for number in range(8):
                stream = await client.open_stream()
                await server.accepted(number)
                if number % 2:
                    await client.close_stream(stream)
            connections = list(program_of(sandbox, session_id).destination.connections)
            assert connections
        assert all(connection.gone.done() for connection in connections)
        await wait_until(lambda: all(peer.gone for peer in server.peers))


@pytest.mark.slow
async def test_nothing_is_lost_over_a_lost_connection(sandbox: Sandbox, client: MuxClient) -> None:
    down, up = (random.Random(seed).randbytes(4 * MIB) for seed in (5, 6))
    async with TcpServer(greeting=down) as server:
        session_id = await forward(sandbox, client, server.port)
        stream = await client.open_stream()
        writing = asyncio.create_task(client.write(stream, up))
        for size in (MIB, 3 * MIB):
            await client.until_buffered(stream, size)
            await client.disconnect()
            await asyncio.wait_for(sandbox.session(session_id).disconnected.wait(), DEADLINE)
            resumed = sandbox.resume(session_id)
            await client.open(resumed.stream_url, resumed.token)
        assert await client.read(stream, len(down)) == down
        await writing
        await server.peers[0].until_received(up)


# Keep-alive.


KEEPALIVE_CLIENT, KEEPALIVE_AGENT = "1.2.331.0", "3.3.987.0"


@pytest.mark.parametrize(
    ("client_version", "agent_version", "keepalive"),
    [
        (KEEPALIVE_CLIENT, KEEPALIVE_AGENT, True),
        ("1.2.332.0", "3.3.987.0", False),
        ("1.2.332.0", "3.1.1511.0", True),
        ("1.2.332.0", "3.1.1512.0", False),
    ],
)
async def test_keepalive_by_the_versions_of_both_ends(
    client_version: str, agent_version: str, keepalive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smux, "KEEPALIVE_INTERVAL", 0.05)
    async with (
        TcpServer(echoes=True) as server,
        Sandbox(agent_version=agent_version) as sandbox,
        MuxClient(version=client_version) as client,
    ):
        await forward(sandbox, client, server.port)
        stream = await client.open_stream()
        await client.write(stream, b"x")
        await client.read(stream, 1)
        nops: list[bytes] = []
        receive_data = client.mux.receive_data

        def watch(data: bytes | bytearray, now: float) -> None:
            if data[1:2] == bytes([smux.NOP]):
                nops.append(bytes(data))
            receive_data(data, now)

        monkeypatch.setattr(client.mux, "receive_data", watch)
        if keepalive:
            await client.until(lambda: len(nops) >= 2)
            return
        async with Sandbox(agent_version=KEEPALIVE_AGENT) as other, MuxClient(version=KEEPALIVE_CLIENT) as witness:
            await forward(other, witness, server.port)  # a session with keep-alive tells when some would have come
            seen = 0

            def count(data: bytes | bytearray, now: float) -> None:
                nonlocal seen
                seen += data[1:2] == bytes([smux.NOP])

            monkeypatch.setattr(witness.mux, "receive_data", count)
            await witness.until(lambda: seen >= 2)
        assert not nops


async def test_a_silent_client_loses_the_session_when_keepalive_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smux, "KEEPALIVE_TIMEOUT", 0.1)
    async with (
        TcpServer() as server,
        Sandbox() as sandbox,
        MuxClient(version="1.2.0.0") as client,
    ):
        session_id = await forward(sandbox, client, server.port)
        assert await client.until_closed() == ""
        assert sandbox.session(session_id).end_reason is EndReason.FAILED
