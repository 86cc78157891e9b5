"""SOCKS servers: sessions on demand, kept while they are used, and never more than there may be."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.errors import ConnectError
from session_manager_plugin.forwarding.destination import Destination
from session_manager_plugin.forwarding.events import EventHandler, Trouble
from session_manager_plugin.forwarding.forward import Forward
from session_manager_plugin.forwarding.on_demand import OnDemandPools
from session_manager_plugin.forwarding.pool import SessionPool
from session_manager_plugin.session.connection_source import ConnectionDealer
from tests.support.forward_services import TARGET, Bench, bench, echo_server
from tests.support.forwarding import read_exactly, read_to_end
from tests.support.waiting import DEADLINE, wait_until

SUCCEEDED, GENERAL_FAILURE, CONNECTION_REFUSED = 0, 1, 5


class Client:
    """A SOCKS client, which asks to be connected to a host by its name."""

    def __init__(self, forward: Forward) -> None:
        assert forward.port is not None
        self._local_port = forward.port
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def connect(self, host: str, port: int) -> int:
        """Return the server's reply."""
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._local_port)
        name = host.encode()
        self.writer.write(b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
        assert await read_exactly(self.reader, 2) == b"\x05\x00"
        return (await read_exactly(self.reader, 10))[1]

    async def say(self, data: bytes) -> bytes:
        """Send ``data`` and return as many bytes of the answer."""
        self.writer.write(data)
        return await read_exactly(self.reader, len(data))

    def close(self) -> None:
        """Close the connection."""
        self.writer.close()


async def test_each_destination_has_one_session() -> None:
    async with bench() as at, echo_server() as one, echo_server(bytes.upper) as other:
        async with at.forward(socks=["0"]) as forward:
            assert not at.sandbox.sessions
            assert [(port.target, port.remote) for port in forward.ports] == [(TARGET, "socks5")]
            clients = [Client(forward) for _ in range(6)]
            replies = await asyncio.gather(
                *(client.connect("localhost", (one, other)[number % 2]) for number, client in enumerate(clients))
            )
            assert replies == [SUCCEEDED] * 6
            answers = await asyncio.gather(*(client.say(b"hello") for client in clients))
            assert answers == [b"hello", b"HELLO"] * 3
            assert len(at.sandbox.sessions) == len(forward.sessions()) == 2
            assert {each.remote for each in forward.connections()} == {f"localhost:{one}", f"localhost:{other}"}
            for client in clients:
                client.close()
        assert not at.open_sessions


async def test_a_destination_without_a_session_is_refused() -> None:
    async with bench() as at, echo_server() as port, at.forward(socks=["0"]) as forward:
        for _ in range(2):
            at.services.refusals = [ConnectError("AWS is busy")]
            client = Client(forward)
            assert await client.connect("localhost", port) == GENERAL_FAILURE
            assert await read_to_end(client.reader) == b""
            client.close()
        assert at.of(Trouble) == [Trouble(f"localhost:{port}: AWS is busy")]
        client = Client(forward)
        assert await client.connect("localhost", port) == SUCCEEDED
        assert await client.say(b"hello") == b"hello"
        client.close()


async def test_a_connection_that_the_target_cannot_make_is_refused() -> None:
    """A port where nothing listens: the agent reports that, and reports no connection that it has made."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with bench() as at, at.forward(socks=["0"]) as forward:
        for _ in range(2):
            client = Client(forward)
            assert await client.connect("localhost", port) == CONNECTION_REFUSED
            assert await read_to_end(client.reader) == b""
            client.close()
        await wait_until(lambda: len(at.of(Trouble)) == 2)
        assert "could not connect to its destination" in str(at.of(Trouble)[0])


@pytest.mark.parametrize("greeting", [b"220 ready\r\n", b""])
async def test_a_destination_that_speaks_or_ends_first(greeting: bytes) -> None:
    """Its data follows the answer to the client; a connection that it closes at once was made nevertheless."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, bench() as at, at.forward(socks=["0"]) as forward:
        client = Client(forward)
        assert await client.connect("localhost", server.sockets[0].getsockname()[1]) == SUCCEEDED
        assert await read_to_end(client.reader) == greeting
        client.close()


async def test_a_client_that_does_not_speak_socks() -> None:
    async with bench() as at, at.forward(socks=["0"]) as forward:
        reader, writer = await asyncio.open_connection("127.0.0.1", forward.port)
        writer.write(b"GET http://intranet/ HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await read_to_end(reader) == b""
        writer.close()
        (trouble,) = at.of(Trouble)
        assert "expects an HTTP proxy" in str(trouble)


async def test_a_session_that_has_ended_is_opened_anew() -> None:
    async with bench() as at, echo_server() as port, at.forward(socks=["0"]) as forward:
        client = Client(forward)
        await client.connect("localhost", port)
        (session,) = at.open_sessions
        at.sandbox.end_session(session.session_id, "Idle timeout.")
        await wait_until(lambda: at.of(Trouble))
        client.close()
        client = Client(forward)
        assert await client.connect("localhost", port) == SUCCEEDED
        assert await client.say(b"hello") == b"hello"
        client.close()


@contextlib.asynccontextmanager
async def on_demand(
    at: Bench, *, maximum: int = 32, idle_timeout: float = DEADLINE, room_timeout: float = DEADLINE
) -> AsyncIterator[OnDemandPools]:
    """Pools of one session."""

    def new_pool(destination: Destination, on_event: EventHandler) -> SessionPool:
        return SessionPool(
            lambda to: at.services.session(TARGET, to),
            destination,
            ConnectionDealer(),
            on_event,
            count=1,
            replaces=False,
        )

    pools = OnDemandPools(
        new_pool, at.events.append, maximum=maximum, idle_timeout=idle_timeout, room_timeout=room_timeout
    )
    try:
        yield pools
    finally:
        await pools.close()


async def connected(pool: SessionPool) -> socket.socket:
    """A program's end of a connection of a pool."""
    local, program = socket.socketpair()
    local.setblocking(False)
    pool.deal(local)
    await wait_until(lambda: pool.connections)
    return program


async def test_idle_sessions_are_closed() -> None:
    async with bench() as at, on_demand(at, idle_timeout=0.02) as pools:
        await pools.pool(Destination("", 80))
        assert len(at.open_sessions) == 1
        await wait_until(lambda: not at.open_sessions)
        assert not pools.pools


async def test_a_session_is_kept_while_it_is_used() -> None:
    async with bench() as at, echo_server() as port, on_demand(at, idle_timeout=0.02) as pools:
        pool = await pools.pool(Destination("", port))
        program = await connected(pool)
        await pools.pool(Destination("", 80))
        await wait_until(lambda: len(pools.pools) == 1)
        assert pools.pools == [pool]
        program.close()
        await wait_until(lambda: not at.open_sessions)


async def test_the_longest_idle_makes_room() -> None:
    async with bench() as at, echo_server() as port, on_demand(at, maximum=2) as pools:
        used = await pools.pool(Destination("", port))
        program = await connected(used)
        for number in (80, 81, 82):
            await pools.pool(Destination("", number))
            assert len(at.open_sessions) <= 2
        assert [pool.destination.port for pool in pools.pools] == [port, 82]
        program.close()


async def test_no_room() -> None:
    async with bench() as at, echo_server() as port, on_demand(at, maximum=1, room_timeout=0.0) as pools:
        program = await connected(await pools.pool(Destination("", port)))
        with pytest.raises(ConnectError, match="1 destinations are in use"):
            await pools.pool(Destination("", 80))
        program.close()


async def test_a_destination_waits_for_room() -> None:
    async with bench() as at, echo_server() as port, on_demand(at, maximum=1) as pools:
        program = await connected(await pools.pool(Destination("", port)))
        waiting = asyncio.ensure_future(pools.pool(Destination("", 81)))
        program.close()
        assert (await asyncio.wait_for(waiting, DEADLINE)).destination.port == 81


async def test_waiting_callers_share_one_opening() -> None:
    async with bench() as at, on_demand(at) as pools:
        found = await asyncio.gather(*(pools.pool(Destination("", 80)) for _ in range(5)))
        assert len(set(map(id, found))) == len(at.sandbox.sessions) == 1
        at.services.refusals = [ConnectError("busy")]
        results = await asyncio.gather(*(pools.pool(Destination("", 81)) for _ in range(5)), return_exceptions=True)
        assert {str(result) for result in results} == {"busy"}
