"""What both ways of forwarding a port have in common: accepting local connections, and ending them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

from session_manager_plugin.session.listener import Listener
from session_manager_plugin.session.local_connection import ConnectionOwner, LocalConnection
from session_manager_plugin.session.protocols import IDataChannel, Notices

DELIVERY_PATIENCE = 10.0
"""Seconds that a local program may take nothing of what is left for it when the session is over."""


class Forwarder(ConnectionOwner, ABC):
    """The local connections of one session; belongs to the running event loop.

    `failed` gets what makes forwarding impossible.
    """

    multiplexed: bool

    def __init__(self, channel: IDataChannel, notices: Notices) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._notices = notices
        self._accepted = 0
        self._connections: set[LocalConnection] = set()
        self._gone = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        self.failed: asyncio.Future[None] = self._loop.create_future()

    @abstractmethod
    def start(self, listener: Listener) -> None:
        """Take what comes through the data channel, from its first byte on, and what connects to `listener`."""

    # Accepting.

    def _new_connection(self) -> LocalConnection:
        self._accepted += 1
        if self._accepted == 1:
            self._notices.connection_accepted(multiplexed=self.multiplexed)
        return LocalConnection(self, self._accepted)

    async def _open(self, connection: LocalConnection, endpoint: socket.socket) -> None:
        await self._loop.connect_accepted_socket(lambda: connection, endpoint)

    def _accept_failed(self, error: OSError) -> None:
        self._notices.trouble(f"no connection can be accepted at the moment: {error.strerror}")

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

    def _stop(self) -> None:
        """Take nothing more from either side."""
        self._over = True

    def _undelivered(self) -> int:
        return sum(connection.undelivered for connection in self._connections)

    async def _all_gone(self) -> None:
        while self._connections:
            self._gone.clear()
            await self._gone.wait()
