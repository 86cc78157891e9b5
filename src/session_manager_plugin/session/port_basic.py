"""Port forwarding for agents from before multiplexing: one local connection after the other.

The agent has one connection to the destination. It opens it when the session begins, closes it when we send the flag
DisconnectToPort, and opens another one when the next data comes. It says nothing when the destination closes.
The local connections that come meanwhile wait in the listener's backlog.

**What belongs to whom.** Nothing in the data tells which of the agent's connections it came from (reference defect D9:
what is left of one reaches the next local program). But the agent connects again only when data comes. So until the
first data of a local connection is sent, whatever arrives is of an earlier one, and is thrown away. (Before the first
local connection it is kept: the agent has connected already.) And that first data is sent only when the agent has
acknowledged the flag, which it does after closing, and then nothing has arrived for `SETTLE_SILENCE`: in this time
comes the one piece that the agent may have read before it closed. A local connection that exchanged nothing leaves
the agent's as it is.

A protocol in which the server speaks first works on the first connection only. That is the agent's doing: it does not
connect again before we have sent something.

**Half-close.** DisconnectToPort closes the destination in both directions, so it is sent only when nothing has come for
`HALF_CLOSE_SILENCE` after a local program's last byte. It is shorter than with multiplexing since the next connection
has to wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque

from session_manager_plugin.errors import NotConnected
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.protocol.smux import SEND_HIGH_WATER, SEND_LOW_WATER
from session_manager_plugin.session.forwarder import Forwarder
from session_manager_plugin.session.listener import Listener
from session_manager_plugin.session.local_connection import LocalConnection
from session_manager_plugin.session.protocols import IDataChannel, Notices

SETTLE_SILENCE = 0.25
HALF_CLOSE_SILENCE = 1.0
MAX_KEPT = 8 * 1024 * 1024
"""Bytes kept for a local program that does not read, or has not come yet, before reading from the network pauses."""


class BasicForwarder(Forwarder):
    """See the module docstring."""

    multiplexed = False

    def __init__(self, channel: IDataChannel, notices: Notices) -> None:
        super().__init__(channel, notices)
        self._listener: Listener | None = None
        self._current: LocalConnection | None = None
        """The local connection that what arrives is for."""
        self._fresh = True
        """Whether nothing was exchanged yet over the connection that the agent has made."""
        self._early: list[bytes] = []
        """What has arrived before the first local connection."""
        self._typed: deque[bytes] = deque()
        """What the local program has written and was not sent."""
        self._typed_size = 0
        self._something = asyncio.Event()
        """Set when the local program has done something."""
        self._heard_at = 0.0
        """The instant at which something last came from the far end."""
        self._reading_paused = False

    def start(self, listener: Listener) -> None:
        self._listener = listener
        self._channel.set_payload_handler(PayloadType.FLAG, self._flags_received)
        self._channel.set_input_handler(self._received)
        listener.start(self._accept, self._accept_failed)

    def _accept(self, endpoint: socket.socket) -> None:
        assert self._listener is not None
        self._listener.pause()
        self._start_task(self._serve(self._new_connection(), endpoint)).add_done_callback(self._served)

    def _served(self, serving: asyncio.Task[None]) -> None:
        if serving.cancelled() or self._over:
            return
        error = serving.exception()
        if error is None:
            assert self._listener is not None
            self._listener.resume()
        elif not isinstance(error, NotConnected) and not self.failed.done():
            self.failed.set_exception(error)  # else the session is over, and its owner knows how

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await super().close()

    def _stop(self) -> None:
        super()._stop()
        self._apply_flow_control()

    # One local connection.

    async def _serve(self, connection: LocalConnection, endpoint: socket.socket) -> None:
        """Join one local connection to the agent's until it has ended and the agent is done with it."""
        self._typed.clear()
        self._typed_size = 0
        await self._open(connection, endpoint)
        if self._fresh:
            self._current = connection
            self._give_early(connection)
        while data := await self._next_typed(connection):
            self._current, self._fresh = connection, False
            await self._channel.send_input_data(data)
        exchanged = self._current is connection and not self._fresh
        if exchanged:
            await self._silence(HALF_CLOSE_SILENCE, connection)
            await self._channel.send_flag(Flag.DISCONNECT_TO_PORT)
        self._current = None
        connection.finish()
        if exchanged:
            await self._channel.drain()
            self._heard_at = time.monotonic()
            await self._silence(SETTLE_SILENCE)

    def _give_early(self, connection: LocalConnection) -> None:
        if self._early:
            self._fresh = False
            connection.deliver(self._early)
            self._early = []
            self._apply_flow_control()

    async def _next_typed(self, connection: LocalConnection) -> bytes:
        """What the local program has written; b"" when it has written its last or is gone."""
        while not self._typed:
            if connection.at_eof or connection.closed:
                return b""
            self._something.clear()
            await self._something.wait()
        data = self._typed.popleft()
        self._typed_size -= len(data)
        if self._typed_size <= SEND_LOW_WATER:
            connection.resume_reading()
        return data

    async def _silence(self, seconds: float, connection: LocalConnection | None = None) -> None:
        """Return when nothing has come from the far end for so long; or when `connection`, if given, is gone.

        While the link is down or what we sent may not have arrived, silence says nothing.
        """
        since = time.monotonic()
        while connection is None or not connection.closed:
            since = max(since, self._heard_at)
            remaining = since + seconds - time.monotonic()
            if remaining <= 0:
                waits = connection is not None and connection.kept_size
                if not waits and self._channel.state == "connected" and not self._channel.retransmitting:
                    return
                since, remaining = time.monotonic(), seconds
            self._something.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._something.wait()

    # What the local program does (`ConnectionOwner`).

    def data_received(self, connection: LocalConnection, data: bytes) -> None:
        self._typed.append(data)
        self._typed_size += len(data)
        if self._typed_size > SEND_HIGH_WATER:
            connection.pause_reading()
        self._something.set()

    def eof_received(self, connection: LocalConnection) -> None:
        self._something.set()

    def data_delivered(self, connection: LocalConnection, size: int) -> None:
        self._apply_flow_control()

    def connection_lost(self, connection: LocalConnection) -> None:
        super().connection_lost(connection)
        self._something.set()
        self._apply_flow_control()

    # What the far end does.

    def _received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        if self._current is not None:
            self._fresh = False
            self._current.deliver([data])
        elif self._fresh:
            self._early.append(data)
        self._apply_flow_control()

    def _flags_received(self, data: bytes) -> None:
        if data.endswith(Flag.CONNECT_TO_PORT_ERROR.serialize()):
            self._notices.destination_failed("")

    def _apply_flow_control(self) -> None:
        kept = sum(map(len, self._early)) + sum(connection.kept_size for connection in self._connections)
        if kept > MAX_KEPT and not self._over:
            self._reading_paused = True
            self._channel.pause_reading()
        elif self._reading_paused and (kept <= MAX_KEPT // 2 or self._over):
            self._reading_paused = False
            self._channel.resume_reading()
