"""Pings a websocket, measures its latency and notices a dead link."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from session_manager_plugin.communicator.connection import GatewayConnection
from session_manager_plugin.errors import ConnectionLost


class KeepaliveOwner(Protocol):
    """What the judgement needs to know, and whom it tells."""

    last_contact_at: float

    @property
    def reading_paused(self) -> bool:
        """Whether we ourselves do not read."""

    def connection_ended(self, connection: GatewayConnection | None, error: Exception) -> None:
        """The link is dead."""


class Keepalive:
    """One ping at the start and one every ``interval`` seconds (none when that is 0).

    A link is dead ``timeout`` seconds after a ping that brought neither a pong nor any other traffic. A gateway that
    has never answered a ping on this connection is judged by its other traffic only, and while we ourselves do not
    read, silence says nothing. ``last_ping_time`` and ``last_pong_time`` are in seconds since the Unix epoch.
    """

    def __init__(self, interval: float, timeout: float, owner: KeepaliveOwner) -> None:
        self.latency: float | None = None
        self.last_ping_time: float | None = None
        self.last_pong_time: float | None = None
        self._interval = interval
        self._timeout = timeout
        self._owner = owner
        self._connection: GatewayConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answered = False
        self._resumed_at = 0.0
        self._pinged_at = 0.0
        self._payload = b""
        self._waiting_since: float | None = None
        """The instant of the first ping after the last sign of life."""

    def start(self, connection: GatewayConnection) -> None:
        """Watch a new connection; the first ping leaves now."""
        self.stop()
        self._connection = connection
        self._answered = False
        self._waiting_since = None
        if self._interval > 0:
            self._ping(time.monotonic())
            self._arm()

    def stop(self) -> None:
        """Send no more pings."""
        self._connection = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pong(self, payload: bytes) -> None:
        """A pong came."""
        self._answered = True
        self.last_pong_time = time.time()
        if payload == self._payload:
            self.latency = time.monotonic() - self._pinged_at

    def reading_resumed(self) -> None:
        """Reading goes on: what was not read meanwhile is not held against the far end."""
        self._resumed_at = time.monotonic()

    def _ping(self, now: float) -> None:
        if self._connection is None:
            return
        self._pinged_at = now
        self.last_ping_time = time.time()
        self._payload = f"keepalive {now:.6f}".encode()
        if self._waiting_since is None:
            self._waiting_since = now
        self._connection.ping_now(self._payload)

    def _fired(self) -> None:
        owner = self._owner
        now = time.monotonic()
        if self._waiting_since is not None:
            if max(owner.last_contact_at, self._resumed_at) >= self._waiting_since:
                self._waiting_since = None
            elif self._answered and not owner.reading_paused and now >= self._waiting_since + self._timeout:
                owner.connection_ended(
                    self._connection,
                    ConnectionLost(f"the link is dead: nothing came for {self._timeout:g} seconds after a ping"),
                )
                return
        if now >= self._pinged_at + self._interval:
            self._ping(now)
        self._arm()

    def _arm(self) -> None:
        """Wake up for the next ping, or before it for the judgement."""
        now = time.monotonic()
        wake_at = self._pinged_at + self._interval
        if self._waiting_since is not None and now < self._waiting_since + self._timeout < wake_at:
            wake_at = self._waiting_since + self._timeout
        self._timer = asyncio.get_running_loop().call_later(max(0.0, wake_at - now), self._fired)
