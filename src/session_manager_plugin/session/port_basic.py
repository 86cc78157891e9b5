"""Port forwarding for agents from before multiplexing: one local connection after the other.

The agent has one connection to the destination. It opens it when the session begins, closes it when we send the flag
DisconnectToPort, and opens another one when the next data comes. It says nothing when the destination closes.
The local connections that come meanwhile wait in the listener's backlog.

**What belongs to whom.** Nothing in the data tells which of the agent's connections it came from (reference defect D9:
what is left of one reaches the next local program). But the agent connects again only when data comes. So until the
first data of a local connection is sent, whatever arrives is of an earlier one, and is thrown away. (Before the first
local connection it is kept: the agent has connected already.) And that first data is sent only when the agent has
acknowledged the flag, which it does after closing, and then nothing has arrived for `PortSettings.settle_silence`
seconds: in this time comes the one piece that the agent may have read before it closed. A local connection that
exchanged nothing leaves the agent's as it is.

A protocol in which the server speaks first works on the first connection only. That is the agent's doing: it does not
connect again before we have sent something.

**Half-close.** DisconnectToPort closes the destination in both directions, so it is sent only when nothing has come for
`PortSettings.basic_silence` seconds after a local program's last byte, or when the program has closed the connection
altogether. Since the agent does not say when the destination has closed, silence is also the end of an answer; but a
local connection is reset if nothing has arrived after the last data that it sent.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from enum import Enum

from session_manager_plugin.errors import NotConnected
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.protocol.smux import SEND_HIGH_WATER, SEND_LOW_WATER
from session_manager_plugin.session.forwarder import Forwarder, PortSettings
from session_manager_plugin.session.local_connection import LocalConnection
from session_manager_plugin.session.peer_state import PeerState, PeerWatch
from session_manager_plugin.session.protocols import IDataChannel, Notices

MAX_KEPT = 8 * 1024 * 1024
"""Bytes kept for a local program that does not read, or has not come yet, before reading from the network pauses."""


class Exchange(Enum):
    """What was exchanged over the agent's connection, and for which local connection."""

    FRESH = "fresh"
    """Nothing yet. What arrives is for the first local connection."""
    SENT = "sent"
    """Data of the current local connection was sent, and nothing has arrived since."""
    RECEIVED = "received"
    """Something has arrived for the current local connection since it last sent."""
    STALE = "stale"
    """The local connection that it was for has ended. What arrives is thrown away until the next one sends."""


class BasicForwarder(Forwarder):
    """See the module docstring."""

    multiplexed = False

    def __init__(self, channel: IDataChannel, notices: Notices, settings: PortSettings | None = None) -> None:
        super().__init__(channel, notices, settings or PortSettings())
        self._current: LocalConnection | None = None
        """The local connection that what arrives is for."""
        self._exchange = Exchange.FRESH
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

    def _listen_to_far_end(self) -> None:
        self._channel.set_payload_handler(PayloadType.FLAG, self._flags_received)
        self._channel.set_input_handler(self._received)

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
        if self._exchange is Exchange.FRESH:
            self._current = connection
            self._give_early(connection)
        while data := await self._next_typed(connection):
            self._current, self._exchange = connection, Exchange.SENT
            await self._channel.send_input_data(data)
        exchanged = self._exchange in (Exchange.SENT, Exchange.RECEIVED)
        if exchanged:
            await self._await_answer(connection)
            await self._channel.send_flag(Flag.DISCONNECT_TO_PORT)
        self._current = None
        if exchanged:
            self._exchange = Exchange.STALE
        connection.finish()
        if exchanged:
            await self._channel.drain()
            await self._silence(self._settings.settle_silence)

    def _give_early(self, connection: LocalConnection) -> None:
        if self._early:
            self._exchange = Exchange.RECEIVED
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

    async def _await_answer(self, connection: LocalConnection) -> None:
        """The program has sent its last byte: return when it has closed the connection, or when nothing more is
        expected from the far end. Resets the connection if it has got no answer."""
        if connection.closed:
            return
        watch = PeerWatch(lambda: self._peer_state(connection), self._clock.time())
        await self._silence(self._settings.basic_silence, connection, watch)
        if watch.state is PeerState.CLOSED:
            connection.abort()
        elif self._exchange is Exchange.SENT and not connection.closed:
            if watch.state is PeerState.OPEN:
                self._tell_cut(connection, f"the far end sent nothing for {self._settings.basic_silence:g} s")
            connection.reset()

    async def _silence(
        self, seconds: float, connection: LocalConnection | None = None, watch: PeerWatch | None = None
    ) -> None:
        """Return when nothing has come from the far end for so long; or when `connection`, if given, is gone, or its
        program has closed it.

        While the link is down or what we sent may not have arrived, silence says nothing.
        """
        since = self._clock.time()
        while not (connection is not None and connection.closed):
            now = self._clock.time()
            if watch is not None and watch.check_at <= now:
                watch.check(now)
            if watch is not None and watch.state is PeerState.CLOSED:
                return
            since = max(since, self._heard_at)
            if since + seconds <= now:
                waits = connection is not None and connection.kept_size
                if not waits and self._channel.is_connected and not self._channel.retransmitting:
                    return
                since = now
            deadline = since + seconds if watch is None else min(since + seconds, watch.check_at)
            await self._something_until(deadline)

    async def _something_until(self, deadline: float) -> None:
        """Wait until something has happened on either side, or for that instant."""
        self._something.clear()
        timer = self._clock.call_later(max(0.0, deadline - self._clock.time()), self._something.set)
        try:
            await self._something.wait()
        finally:
            timer.cancel()

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
        self._heard_at = self._clock.time()
        if self._current is not None:
            self._exchange = Exchange.RECEIVED
            self._current.deliver([data])
        elif self._exchange is Exchange.FRESH:
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
