"""The source of a session's local connections: its own listener, or an owner that deals them to several sessions."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from session_manager_plugin.protocol.socks import Reply, SocksRequest, SocksServer, SocksState
from session_manager_plugin.session.listener import Listener

HANDSHAKE_TIMEOUT = 10.0
"""Seconds for a client's SOCKS handshake."""

Accepted = Callable[[socket.socket], None]
Failed = Callable[[OSError], None]


class ConnectionSource(Protocol):
    """The part of ``Listener`` that one session uses."""

    def start(self, accepted: Accepted, failed: Failed) -> None:
        """Call ``accepted`` with each connection, non-blocking, and ``failed`` when accepting has failed for now."""

    def resume(self) -> None:
        """Accept again after a call of ``failed``."""

    def close(self) -> None:
        """Accept no more. Idempotent."""


class HandedConnections(ConnectionSource):
    """The connections that an owner hands to one session. ``resumed`` is called when the session has room again."""

    def __init__(self, resumed: Callable[[], None] = lambda: None) -> None:
        self._resumed = resumed
        self._accepted: Accepted | None = None
        self._failed: Failed | None = None
        self._closed = False

    @property
    def is_running(self) -> bool:
        """Whether the session accepts connections now."""
        return self._accepted is not None

    def start(self, accepted: Accepted, failed: Failed) -> None:
        """See ``ConnectionSource``."""
        if not self._closed:
            self._accepted, self._failed = accepted, failed
            self._resumed()

    def resume(self) -> None:
        """See ``ConnectionSource``."""
        self._resumed()

    def close(self) -> None:
        """See ``ConnectionSource``."""
        self._closed = True
        self._accepted = self._failed = None

    def hand(self, connection: socket.socket) -> None:
        """Hand over a connection, which belongs to the session from now on. Only while ``is_running``."""
        assert self._accepted is not None
        self._accepted(connection)

    def fail(self, error: OSError) -> None:
        """Report that accepting has failed for now. Only while ``is_running``."""
        assert self._failed is not None
        self._failed(error)


class ConnectionDealer:
    """Deals the connections of one listener to several sessions, in turn.

    While none of the sessions is running, the kernel queues connections.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._sources: list[HandedConnections] = []
        self._started = False

    def add(self) -> HandedConnections:
        """Return the source for one more session."""
        source = HandedConnections(self._resume)
        self._sources.append(source)
        return source

    def remove(self, source: HandedConnections) -> None:
        """Deal no further connections to ``source``."""
        source.close()
        self._sources.remove(source)
        if not any(each.is_running for each in self._sources):
            self._listener.pause()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()
        for source in self._sources:
            source.close()
        self._sources.clear()

    def _resume(self) -> None:
        if not self._started:
            self._started = True
            self._listener.start(self._deal, self._failed)
        else:
            self._listener.resume()

    def _next(self) -> HandedConnections | None:
        """Return the running source whose turn it is, and move it to the end of the queue."""
        for source in self._sources:
            if source.is_running:
                self._sources.remove(source)
                self._sources.append(source)
                return source
        return None

    def _deal(self, connection: socket.socket) -> None:
        source = self._next()
        if source is None:
            connection.close()
            self._listener.pause()
        else:
            source.hand(connection)

    def _failed(self, error: OSError) -> None:
        source = self._next()
        if source is not None:
            source.fail(error)


async def receive_socks_request(client: socket.socket) -> tuple[SocksServer, SocksRequest | None]:
    """Read the SOCKS handshake of ``client``, a non-blocking socket, and no byte beyond it.

    Returns the server's state machine and the request. The request is None when the client was refused, has
    disconnected, or has not completed the handshake within ``HANDSHAKE_TIMEOUT`` seconds; the reason of a refusal is in
    ``SocksServer.error``. Raises ``OSError``.
    """
    loop = asyncio.get_running_loop()
    server = SocksServer()
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            while needed := server.bytes_needed:
                data = await loop.sock_recv(client, needed)
                if not data:
                    return server, None
                server.receive_data(data)
                if answer := server.data_to_send():
                    await loop.sock_sendall(client, answer)
    except TimeoutError:
        return server, None
    return server, server.request


async def answer_socks_request(client: socket.socket, server: SocksServer, refusal: str = "") -> None:
    """Accept the request of ``client``, or refuse it because of ``refusal``. Raises ``OSError``."""
    if refusal:
        server.refuse(Reply.GENERAL_FAILURE, refusal)
    else:
        server.accept()
    assert server.state in (SocksState.ACCEPTED, SocksState.REFUSED)
    await asyncio.get_running_loop().sock_sendall(client, server.data_to_send())
