"""The part that multiplexed and basic port forwarding share: accepting local connections, and ending them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from session_manager_plugin.session.connection_source import ConnectionSource
from session_manager_plugin.session.local_connection import ConnectionOwner, LocalConnection, ProxyClient
from session_manager_plugin.session.peer_state import PeerState, SocketTable
from session_manager_plugin.session.protocols import Clock, IDataChannel, Notices

DELIVERY_PATIENCE = 10.0
"""Seconds after which ``deliver`` aborts a connection whose program has read none of the remaining data."""


_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class PortSettings:
    """The settings of a forwarded port: limits, clock and callbacks."""

    mux_silence: float = 5.0
    """Seconds without data from the far end, after a local program's last byte, until the connection is reset."""
    basic_silence: float = 1.0
    """The same without multiplexing. Shorter, because the next local connection has to wait that long."""
    settle_silence: float = 0.25
    """Seconds without data after which an agent without multiplexing has sent everything of a closed connection."""
    dial_time: float = 0.05
    """Seconds from the agent's acknowledgement of a new stream until a refused connection has been reported: a refusal
    by the target itself, or by a host near it, takes a few milliseconds."""
    most_dial_time: float = 1.0
    """Seconds after which a proxy's client is answered although the new stream is not acknowledged yet."""
    max_held: int = 256
    """The maximum of half-closed connections held at once."""
    max_held_unknown: int = 16
    """The maximum of half-closed connections held whose program's state is ``PeerState.UNKNOWN``."""
    clock: Clock | None = None
    """By default the event loop."""
    peer_state: Callable[[socket.socket], PeerState] | None = None
    """Returns the state of the program at the other end of a socket. By default the kernel is asked."""
    opened: Callable[[LocalConnection], None] | None = None
    """Called with each local connection once it is open."""
    closed: Callable[[LocalConnection], None] | None = None
    """Called with each local connection once it is closed."""
    numbers: Iterator[int] | None = None
    """The numbers of the local connections, shared by several sessions; by default they count from 1."""


class Forwarder(ConnectionOwner, ABC):
    """The local connections of one session; belongs to the running event loop.

    ``failed`` receives the error that makes forwarding impossible.
    """

    multiplexed: bool

    def __init__(self, channel: IDataChannel, notices: Notices, settings: PortSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._notices = notices
        self._settings = settings
        self._clock: Clock = settings.clock or self._loop
        self._socket_table = SocketTable()
        self._ask_peer = settings.peer_state or self._socket_table.peer_state
        self._source: ConnectionSource | None = None
        self._starved = False
        """Whether accepting is paused until one of the open connections has been closed."""
        self._told_starved = False
        self._told_cut = False
        self._numbers = settings.numbers or itertools.count(1)
        self._has_accepted = False
        self._connections: set[LocalConnection] = set()
        self._gone = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self.failed: asyncio.Future[None] = self._loop.create_future()

    def start(self, source: ConnectionSource) -> None:
        """Start receiving from the data channel, and serving the connections of ``source``."""
        self._source = source
        self._listen_to_far_end()
        source.start(self._accept, self._accept_failed)

    @abstractmethod
    def _listen_to_far_end(self) -> None:
        """Register the handlers for data received through the data channel."""

    # Accepting.

    @abstractmethod
    def _accept(self, endpoint: socket.socket) -> None:
        """Serve a local program that has connected."""

    def _new_connection(self, endpoint: socket.socket) -> LocalConnection:
        self._starved = False
        if not self._has_accepted:
            self._has_accepted = True
            self._notices.connection_accepted(multiplexed=self.multiplexed)
        client = endpoint if isinstance(endpoint, ProxyClient) else None
        return LocalConnection(self, next(self._numbers), client)

    async def _open(self, connection: LocalConnection, endpoint: socket.socket) -> None:
        await self._loop.connect_accepted_socket(lambda: connection, endpoint)

    def _accept_failed(self, error: OSError) -> None:
        no_descriptors = error.errno in _NO_DESCRIPTORS
        if no_descriptors and self._release_descriptor():
            self._loop.call_soon(self._resume_accepting)  # by then the released descriptor is closed
            return
        self._starved = True  # until a connection is closed; the listener also tries again after a second
        if not self._told_starved:
            self._told_starved = True
            self._notices.trouble(
                f"cannot accept further connections for now: {error.strerror}"
                + ("; raise the limit (ulimit -n)" if no_descriptors else "")
            )

    def _release_descriptor(self) -> bool:
        """Close the half-closed connection that is needed least. Returns False when none is held."""
        return False

    def _resume_accepting(self) -> None:
        if self._source is not None and not self._over:
            self._source.resume()

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def connection_made(self, connection: LocalConnection) -> None:
        self._connections.add(connection)
        if self._settings.opened is not None:
            self._settings.opened(connection)
        if self._over:
            connection.abort()  # otherwise the program would wait for ever (reference defects H12, U16)

    def connection_lost(self, connection: LocalConnection) -> None:
        self._connections.discard(connection)
        self._gone.set()
        if self._settings.closed is not None:
            self._settings.closed(connection)
        if self._starved:
            self._starved = False
            self._loop.call_soon(self._resume_accepting)  # by then the connection's descriptor is closed

    # Half-closed connections.

    def _peer_state(self, connection: LocalConnection) -> PeerState:
        return self._ask_peer(connection.endpoint)

    def _tell_cut(self, connection: LocalConnection, reason: str) -> None:
        """Notify the user, once per session, that a half-closed connection was reset."""
        if not self._told_cut:
            self._told_cut = True
            self._notices.trouble(
                f"{connection} was reset: its program had finished sending and waited for an answer, but {reason}; "
                "the protocol has no half-close"
            )

    def describe(self) -> list[str]:
        """Return one line for each open connection, oldest first."""
        return [
            f"{connection}{', half closed' if connection.at_eof else ''}"
            for connection in sorted(self._connections, key=lambda connection: connection.number)
        ]

    # The end.

    async def deliver(self) -> None:
        """After the end of the session: deliver the received data to the local programs, and end their connections.

        Connections that the far end had not finished are reset after that. A connection whose program reads nothing for
        ``DELIVERY_PATIENCE`` seconds is aborted; the others are not affected. Returns when all are closed.
        """
        self._stop()
        for connection in self._connections:
            connection.reset()  # no effect on connections that the far end has finished
            connection.hurry()
        left = {connection: connection.undelivered for connection in self._connections}
        while left:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DELIVERY_PATIENCE):
                    await self._all_gone()
            for connection in self._connections:
                if connection.undelivered == left.get(connection):
                    connection.abort()
            left = {connection: connection.undelivered for connection in self._connections}
        await self.close()

    async def close(self) -> None:
        """Reset all local connections at once. Returns when they are closed."""
        self._stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._connections:
            connection.abort()
        await self._all_gone()
        self._socket_table.close()

    def _stop(self) -> None:
        """Stop receiving, from the data channel and from local programs."""
        self._over = True

    async def _all_gone(self) -> None:
        while self._connections:
            self._gone.clear()
            await self._gone.wait()
