"""A TCP server for a test to act as: every connection is an object that shows what came and sends what it is told."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, cast

from tests.support.waiting import rounds, wait_until


class Peer(asyncio.Protocol):
    """One connection. ``received`` is what came, ``at_end`` whether the other end sends no more, ``gone`` whether the
    connection is closed, for the reason ``error`` if it broke."""

    def __init__(self, server: TcpServer) -> None:
        self._server = server
        self.received = bytearray()
        self.at_end = False
        self.gone = False
        self.error: Exception | None = None
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        self.transport = cast(asyncio.Transport, transport)
        self._server.peers.append(self)
        if not self._server.reading:
            self.transport.pause_reading()
        if self._server.greeting:
            self.transport.write(self._server.greeting)
        if self._server.hangs_up:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Something came."""
        self.received += data
        if self._server.echoes:
            self.transport.write(data)

    def eof_received(self) -> bool:
        """The other end sends no more; this one stays open."""
        self.at_end = True
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self.gone = True
        self.error = exc

    async def until_received(self, data: bytes) -> None:
        """Return when exactly ``data`` has come."""
        await wait_until(lambda: len(self.received) >= len(data))
        assert self.received == data


class TcpServer:
    """Listens on a port of 127.0.0.1, or of ``host``, while the context is entered.

    With ``echoes`` it sends back what comes; ``greeting`` goes to everybody first; with ``hangs_up`` it closes each
    connection then; without ``reading`` it takes nothing.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        echoes: bool = False,
        greeting: bytes = b"",
        hangs_up: bool = False,
        reading: bool = True,
    ) -> None:
        self.peers: list[Peer] = []
        self.echoes = echoes
        self.greeting = greeting
        self.hangs_up = hangs_up
        self.reading = reading
        self._host = host
        self.port = port

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Peer(self), self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await rounds()  # asyncio leaks a connection that it has accepted but not set up when the server is closed
        await self.stop()
        for peer in self.peers:
            if not peer.gone:
                peer.transport.abort()
        await wait_until(lambda: all(peer.gone for peer in self.peers))

    async def stop(self) -> None:
        """Accept nobody any more; connections stay."""
        self._server.close()

    async def accepted(self, number: int) -> Peer:
        """The connection of this number, counted from 0."""
        await wait_until(lambda: len(self.peers) > number)
        return self.peers[number]
