"""What both ways of forwarding a port have in common: accepting local connections, and ending them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from session_manager_plugin.session.listener import Listener
from session_manager_plugin.session.local_connection import ConnectionOwner, LocalConnection
from session_manager_plugin.session.peer_state import PeerState, SocketTable
from session_manager_plugin.session.protocols import Clock, IDataChannel, Notices

DELIVERY_PATIENCE = 10.0
"""Seconds that a local program may take nothing of what is left for it when the session is over."""


_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class PortSettings:
    """Limits of a forwarded port, and what it learns the time and the state of local programs from."""

    mux_silence: float = 5.0
    """Seconds that the far end may send nothing after a local program's last byte before the connection is given up."""
    basic_silence: float = 1.0
    """The same without multiplexing. It is shorter since the next connection has to wait for it."""
    settle_silence: float = 0.25
    """Seconds without data after which an agent without multiplexing has sent the last of a connection."""
    max_held: int = 256
    """Half-closed connections held at once."""
    max_held_unknown: int = 16
    """The same, of those that may be closed altogether."""
    clock: Clock | None = None
    """By default the event loop."""
    peer_state: Callable[[socket.socket], PeerState] | None = None
    """Returns the state of the program at the other end of a socket; by default the kernel is asked."""


class Forwarder(ConnectionOwner, ABC):
    """The local connections of one session; belongs to the running event loop.

    `failed` gets what makes forwarding impossible.
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
        self._listener: Listener | None = None
        self._starved = False
        """Whether connections wait to be accepted until one of ours has gone."""
        self._told_starved = False
        self._told_cut = False
        self._accepted = 0
        self._connections: set[LocalConnection] = set()
        self._gone = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self.failed: asyncio.Future[None] = self._loop.create_future()

    def start(self, listener: Listener) -> None:
        """Take what comes through the data channel, from its first byte on, and what connects to `listener`."""
        self._listener = listener
        self._listen_to_far_end()
        listener.start(self._accept, self._accept_failed)

    @abstractmethod
    def _listen_to_far_end(self) -> None:
        """Take what comes through the data channel."""

    # Accepting.

    @abstractmethod
    def _accept(self, endpoint: socket.socket) -> None:
        """Serve a local program that has connected."""

    def _new_connection(self) -> LocalConnection:
        self._starved = False
        self._accepted += 1
        if self._accepted == 1:
            self._notices.connection_accepted(multiplexed=self.multiplexed)
        return LocalConnection(self, self._accepted)

    async def _open(self, connection: LocalConnection, endpoint: socket.socket) -> None:
        await self._loop.connect_accepted_socket(lambda: connection, endpoint)

    def _accept_failed(self, error: OSError) -> None:
        no_descriptors = error.errno in _NO_DESCRIPTORS
        if no_descriptors and self._release_descriptor():
            self._loop.call_soon(self._resume_accepting)  # by then the descriptor is free
            return
        self._starved = True  # until a connection has gone; the listener tries again after a second as well
        if not self._told_starved:
            self._told_starved = True
            self._notices.trouble(
                f"new connections have to wait: {error.strerror}"
                + ("; raise the limit (ulimit -n)" if no_descriptors else "")
            )

    def _release_descriptor(self) -> bool:
        """Close a connection that is missed little; False when there is none."""
        return False

    def _resume_accepting(self) -> None:
        if self._listener is not None and not self._over:
            self._listener.resume()

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def connection_made(self, connection: LocalConnection) -> None:
        self._connections.add(connection)
        if self._over:
            connection.abort()  # it must not wait for what never comes (reference defects H12, U16)

    def connection_lost(self, connection: LocalConnection) -> None:
        self._connections.discard(connection)
        self._gone.set()
        if self._starved:
            self._starved = False
            self._loop.call_soon(self._resume_accepting)  # by then its descriptor is free

    # Half-closed connections.

    def _peer_state(self, connection: LocalConnection) -> PeerState:
        return self._ask_peer(connection.endpoint)

    def _tell_cut(self, connection: LocalConnection, reason: str) -> None:
        """Say once a session that a half-closed connection was reset."""
        if not self._told_cut:
            self._told_cut = True
            self._notices.trouble(
                f"{connection} was reset while its program, which had finished sending, waited for an answer: "
                f"{reason}; the protocol cannot pass a half-close on"
            )

    def describe(self) -> list[str]:
        """A line for each connection that is open, oldest first."""
        return [
            f"{connection}{', half closed' if connection.at_eof else ''}"
            for connection in sorted(self._connections, key=lambda connection: connection.number)
        ]

    # The end.

    async def deliver(self) -> None:
        """The session is over: give the local programs what has arrived, and end their connections.

        Those that the far end had not finished are reset. Returns when they are gone; a program that takes nothing
        for `DELIVERY_PATIENCE` is given up.
        """
        self._stop()
        for connection in self._connections:
            connection.reset()  # but for those that are finishing
            connection.hurry()
        before, left = -1, self._undelivered()
        while self._connections and left != before:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DELIVERY_PATIENCE):
                    await self._all_gone()
            before, left = left, self._undelivered()
        await self.close()

    async def close(self) -> None:
        """End all local connections at once, with a reset, and return when they are gone."""
        self._stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self._connections:
            connection.abort()
        await self._all_gone()
        self._socket_table.close()

    def _stop(self) -> None:
        """Take nothing more from either side."""
        self._over = True

    def _undelivered(self) -> int:
        return sum(connection.undelivered for connection in self._connections)

    async def _all_gone(self) -> None:
        while self._connections:
            self._gone.clear()
            await self._gone.wait()
