"""Pings a websocket, measures its latency, and detects a dead link."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from session_manager_plugin.communicator.gateway_socket import GatewaySocket
from session_manager_plugin.errors import ConnectionLost

SILENCE_DELAY = 2.0
"""Seconds without an answer to a ping after which the link counts as silent."""
CLOCK_JUMP = 5.0
"""Seconds. If a timer is later than this, or the wall clock has advanced by more than this beyond the monotonic clock,
this machine has slept or this process was stopped."""


class KeepaliveOwner(Protocol):
    """The callbacks and facts that a ``Keepalive`` needs."""

    last_contact_at: float

    @property
    def reading_paused(self) -> bool:
        """Whether this side has stopped reading."""

    def connection_ended(self, connection: GatewaySocket | None, error: Exception) -> None:
        """The link is dead."""

    def silence_changed(self) -> None:
        """``silent_since`` is no longer None."""


class Keepalive:
    """Sends one ping at the start and one every ``interval`` seconds (none if that is 0).

    The link is dead if neither a pong nor any other traffic has arrived ``timeout`` seconds after a ping. Silence does
    not count while this side does not read, nor if the gateway has never answered a ping on this connection. After this
    machine has slept, or this process was stopped, a new ping is sent and its timeout starts. ``last_ping_time`` and
    ``last_pong_time`` are in seconds since the Unix epoch.
    """

    def __init__(self, interval: float, timeout: float, owner: KeepaliveOwner) -> None:
        self.latency: float | None = None
        self.last_ping_time: float | None = None
        self.last_pong_time: float | None = None
        self._interval = interval
        self._timeout = timeout
        self._owner = owner
        self._connection: GatewaySocket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self._answered = False
        self._resumed_at = 0.0
        self._pinged_at = 0.0
        self._payload = b""
        self._waiting_since: float | None = None
        """When the oldest ping was sent after which nothing was received."""
        self._wall_offset = 0.0

    @property
    def silent_since(self) -> float | None:
        """When the oldest unanswered ping was sent, if ``SILENCE_DELAY`` has passed without data; otherwise None."""
        since = self._waiting_since
        if since is None or not self._is_silent(since) or not self._answered or self._owner.reading_paused:
            return None
        return since if time.monotonic() >= since + min(SILENCE_DELAY, self._timeout) else None

    def start(self, connection: GatewaySocket) -> None:
        """Watch a new connection. The first ping is sent now."""
        self.stop()
        self._connection = connection
        self._answered = False
        self._waiting_since = None
        if self._interval > 0:
            self._ping(time.monotonic())
            self._arm()

    def stop(self) -> None:
        """Stop sending pings."""
        self._connection = None
        self._waiting_since = None
        self._cancel_timer()

    def check(self) -> None:
        """Send a ping now, unless one is unanswered or pings are off."""
        if self._connection is not None and self._interval > 0 and self._waiting_since is None:
            self._ping(time.monotonic())
            self._arm()

    def check_clock(self) -> None:
        """Send a ping now if this machine has slept, because the network may have changed. Cheap; call it when
        something happens after a pause."""
        if self._interval > 0 and time.time() - time.monotonic() > self._wall_offset + CLOCK_JUMP:
            self._woke(time.monotonic())
            self._arm()

    def pong(self, payload: bytes) -> None:
        """A pong was received."""
        self._answered = True
        self._waiting_since = None
        self.last_pong_time = time.time()
        if payload == self._payload:
            self.latency = time.monotonic() - self._pinged_at
        self._arm()

    def reading_resumed(self) -> None:
        """Note that reading continues: the silence before does not count."""
        self._resumed_at = time.monotonic()

    def _is_silent(self, since: float) -> bool:
        return max(self._owner.last_contact_at, self._resumed_at) < since

    def _ping(self, now: float) -> None:
        if self._connection is None:
            return
        self._pinged_at = now
        self._wall_offset = time.time() - now
        self.last_ping_time = time.time()
        self._payload = f"keepalive {now:.6f}".encode()
        if self._waiting_since is None:
            self._waiting_since = now
        self._connection.ping_now(self._payload)

    def _woke(self, now: float) -> None:
        self._waiting_since = None
        self._ping(now)

    def _fired(self) -> None:
        self._timer = None
        now = time.monotonic()
        if now > self._wake_at + CLOCK_JUMP or time.time() - now > self._wall_offset + CLOCK_JUMP:
            self._woke(now)
        elif (since := self._waiting_since) is not None:
            if not self._is_silent(since):
                self._waiting_since = None
            elif self._answered and not self._owner.reading_paused:
                if now >= since + self._timeout:
                    self._owner.connection_ended(
                        self._connection,
                        ConnectionLost(f"no answer to a ping within {self._timeout:g} seconds"),
                    )
                    return
                self._owner.silence_changed()
        if now >= self._pinged_at + self._interval:
            self._ping(now)
        self._arm()

    def _arm(self) -> None:
        """Set the timer for the next ping, or for an earlier limit after the oldest unanswered ping."""
        if self._connection is None:
            return
        now = time.monotonic()
        self._wake_at = self._pinged_at + self._interval
        if self._waiting_since is not None:
            for delay in (SILENCE_DELAY, self._timeout):
                if now < self._waiting_since + delay < self._wake_at:
                    self._wake_at = self._waiting_since + delay
                    break
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._wake_at - now), self._fired)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
