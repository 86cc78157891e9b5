"""Connections dealt to several sessions, and the SOCKS handshake on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import pytest

from session_manager_plugin.protocol.socks import SocksRequest, SocksState
from session_manager_plugin.session import connection_source
from session_manager_plugin.session.connection_source import (
    ConnectionDealer,
    HandedConnections,
    receive_socks_request,
    refuse_socks_request,
    socks_answer,
)
from session_manager_plugin.session.listener import listen_on_port
from tests.support.waiting import DEADLINE, wait_until

REQUEST = b"\x05\x01\x00\x03\x02db\x15\x38"


class Session:
    """Takes what is dealt to it."""

    def __init__(self, source: HandedConnections) -> None:
        self.source = source
        self.taken: list[socket.socket] = []
        self.errors: list[OSError] = []

    def start(self) -> None:
        self.source.start(self.taken.append, self.errors.append)

    def close(self) -> None:
        for taken in self.taken:
            taken.close()


class Bench(contextlib.ExitStack):
    """A listener dealt to some sessions."""

    def __init__(self, count: int) -> None:
        super().__init__()
        listener = listen_on_port(0)
        assert listener.port is not None
        self.port = listener.port
        self.dealer = ConnectionDealer([listener])
        self.callback(self.dealer.close)
        self.sessions = [Session(self.dealer.add()) for _ in range(count)]
        for session in self.sessions:
            self.callback(session.close)

    def connect(self, count: int = 1) -> None:
        for _ in range(count):
            self.enter_context(socket.create_connection(("127.0.0.1", self.port)))

    @property
    def taken(self) -> list[int]:
        return [len(session.taken) for session in self.sessions]


async def test_connections_are_dealt_in_turn() -> None:
    with Bench(3) as bench:
        for session in bench.sessions:
            session.start()
        bench.connect(7)
        await wait_until(lambda: sum(bench.taken) == 7)
        assert sorted(bench.taken) == [2, 2, 3]


async def test_connections_wait_until_a_session_is_running() -> None:
    with Bench(2) as bench:
        bench.connect(2)
        bench.sessions[1].start()
        await wait_until(lambda: bench.taken == [0, 2])


async def test_a_session_that_is_gone_gets_nothing_more() -> None:
    with Bench(2) as bench:
        first, second = bench.sessions
        first.start()
        second.start()
        bench.dealer.remove(first.source)
        bench.connect(3)
        await wait_until(lambda: bench.taken == [0, 3])
        bench.dealer.remove(second.source)
        bench.connect()  # kept by the kernel
        third = Session(bench.dealer.add())
        bench.callback(third.close)
        third.start()
        await wait_until(lambda: third.taken)
        assert bench.taken == [0, 3]


async def test_a_source_that_was_closed_before_it_started_takes_nothing() -> None:
    with Bench(1) as bench:
        bench.sessions[0].source.close()
        bench.sessions[0].start()
        assert not bench.sessions[0].source.is_running


async def test_a_lack_of_descriptors_is_told_to_one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    with Bench(2) as bench:
        for session in bench.sessions:
            session.start()

        def accept(_listening: socket.socket) -> object:
            raise OSError(errno.EMFILE, "Too many open files")

        monkeypatch.setattr(socket.socket, "accept", accept)
        bench.connect()
        await wait_until(lambda: any(session.errors for session in bench.sessions))
        assert sorted(len(session.errors) for session in bench.sessions) == [0, 1]
        monkeypatch.undo()
        bench.sessions[0].source.resume()
        await wait_until(lambda: sum(bench.taken) == 1)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = socket.socketpair()
    client.setblocking(False)
    server.setblocking(False)
    with client, server:
        yield client, server


async def test_a_socks_request_leaves_the_data_behind_it_unread(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(b"\x05\x01\x00" + REQUEST + b"SELECT 1")
    handshake, request = await receive_socks_request(server)
    assert request == SocksRequest("db", 5432)
    assert client.recv(100) == b"\x05\x00"
    assert socks_answer(handshake)(True) == b"\x05\x00\x00\x01" + bytes(6)
    assert server.recv(100) == b"SELECT 1"


async def test_a_socks_request_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(b"\x05\x01\x00" + REQUEST)
    handshake, _request = await receive_socks_request(server)
    await refuse_socks_request(server, handshake, "no session to db")
    assert client.recv(100)[:4] == b"\x05\x00\x05\x01"
    assert (handshake.state, handshake.error) == (SocksState.REFUSED, "no session to db")


@pytest.mark.parametrize("data", [b"", b"\x05", b"\x05\x01\x00\x05\x01"])
async def test_a_client_that_hangs_up(data: bytes, pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    assert (await receive_socks_request(server))[1] is None


async def test_a_client_that_says_nothing(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_source, "HANDSHAKE_TIMEOUT", 0.0)
    async with asyncio.timeout(DEADLINE):
        assert (await receive_socks_request(pair[1]))[1] is None
