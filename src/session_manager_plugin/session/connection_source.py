"""The source of a session's local connections: its own listener, or an owner that deals them to several sessions."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from session_manager_plugin.protocol.socks import Reply, SocksRequest, SocksServer
from session_manager_plugin.session.listener import Listener

HANDSHAKE_TIMEOUT = 10.0
"""Seconds for a client's SOCKS handshake."""

Accepted = Callable[[socket.socket], None]
Failed = Callable[[OSError], None]


class ConnectionSource(Protocol):
    """Where one session takes its connections from; a ``Listener`` is one."""

    def start(self, accepted: Accepted, failed: Failed) -> None:
        """Call ``accepted`` with each connection, a non-blocking socket, and ``failed`` when accepting has failed."""

    def pause(self) -> None:
        """Pass no connections until ``resume`` is called."""

    def resume(self) -> None:
        """Pass connections again, after ``pause`` or a call of ``failed``."""

    def close(self) -> None:
        """Pass no more. Idempotent."""


class HandedConnections(ConnectionSource):
    """The connections that an owner hands to one session. ``changed`` is called whenever ``is_running`` may have
    changed, and when the session resumes after ``fail``."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self._accepted: Accepted | None = None
        self._failed: Failed | None = None
        self._paused = False
        self._closed = False

    @property
    def is_running(self) -> bool:
        """Whether the session accepts connections now."""
        return self._accepted is not None and not self._paused

    def start(self, accepted: Accepted, failed: Failed) -> None:
        """See ``ConnectionSource``."""
        if not self._closed:
            self._accepted, self._failed = accepted, failed
            self._changed()

    def pause(self) -> None:
        """See ``ConnectionSource``."""
        self._paused = True
        self._changed()

    def resume(self) -> None:
        """See ``ConnectionSource``."""
        self._paused = False
        self._changed()

    def close(self) -> None:
        """See ``ConnectionSource``."""
        if not self._closed:
            self._closed = True
            self._accepted = self._failed = None
            self._changed()

    def hand(self, connection: socket.socket) -> None:
        """Hand over a connection, which belongs to the session from now on. Only while ``is_running``."""
        assert self._accepted is not None
        self._accepted(connection)

    def fail(self, error: OSError) -> None:
        """Report that accepting has failed with ``error``. Only while ``is_running``."""
        assert self._failed is not None
        self._failed(error)


class ConnectionDealer:
    """Deals connections to several sessions in turn. They come from ``listeners`` and from calls of ``deal``.

    While no session accepts connections, the kernel queues those to the listeners, and those passed to ``deal`` are
    kept here.
    """

    def __init__(self, listeners: Sequence[Listener] = ()) -> None:
        self._listeners = listeners
        self._sources: list[HandedConnections] = []
        self._waiting: deque[socket.socket] = deque()
        self._started = False
        self._closed = False

    @property
    def is_running(self) -> bool:
        """Whether a session takes connections at this moment."""
        return any(source.is_running for source in self._sources)

    def add(self) -> HandedConnections:
        """Return the source for one more session."""
        source = HandedConnections(self._changed)
        self._sources.append(source)
        return source

    def remove(self, source: HandedConnections) -> None:
        """Deal no further connections to ``source``. Idempotent."""
        source.close()
        if source in self._sources:
            self._sources.remove(source)

    def deal(self, connection: socket.socket) -> None:
        """Hand a connection to the session whose turn it is, or keep it until a session takes connections."""
        if self._closed:
            connection.close()
        elif (source := self._next()) is None:
            self._waiting.append(connection)
        else:
            source.hand(connection)

    def close(self) -> None:
        """Stop listening, and close the kept connections. Idempotent."""
        self._closed = True
        for listener in self._listeners:
            listener.close()
        for source in self._sources:
            source.close()
        self._sources.clear()
        while self._waiting:
            self._waiting.popleft().close()

    def _changed(self) -> None:
        if self._closed:
            return
        while self._waiting and (source := self._next()) is not None:
            source.hand(self._waiting.popleft())
        if not self.is_running:
            for listener in self._listeners:
                listener.pause()
        elif self._started:
            for listener in self._listeners:
                listener.resume()
        else:
            self._started = True
            for listener in self._listeners:
                listener.start(self.deal, self._failed)

    def _next(self) -> HandedConnections | None:
        """Return the running source whose turn it is, and move it to the end of the queue."""
        for source in self._sources:
            if source.is_running:
                self._sources.remove(source)
                self._sources.append(source)
                return source
        return None

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


async def refuse_socks_request(client: socket.socket, server: SocksServer, reason: str) -> None:
    """Refuse the request of ``client``. Raises ``OSError``."""
    server.refuse(Reply.GENERAL_FAILURE, reason)
    await asyncio.get_running_loop().sock_sendall(client, server.data_to_send())


def socks_answer(server: SocksServer) -> Callable[[bool], bytes]:
    """Return a function that returns the answer to a request that was received: whether the connection is made."""

    def answer(connected: bool) -> bytes:
        if connected:
            server.accept()
        else:
            server.refuse(Reply.CONNECTION_REFUSED, "the target could not connect")
        return server.data_to_send()

    return answer
