"""Port forwarding for agents without multiplexing: one local connection at a time.

The agent has one connection to the destination. The agent opens that connection when the session begins, closes it on
the flag DisconnectToPort, and opens a new connection when the next data arrives. The agent does not report that the
destination has closed. Further local connections wait in the listener's backlog.

**Whose data it is.** Received data does not name the agent's connection that it came from (reference defect D9: the
rest of an earlier connection reaches the next local program). But the agent opens a new connection only after it has
received data. Therefore:

- Data that arrives before a local connection has sent anything belongs to an earlier connection, and is discarded.
  The first local connection is the exception: the agent is connected already, so the data is kept for it.
- The first data of a local connection is sent only once two conditions are met. The agent has acknowledged
  DisconnectToPort, which it does after closing its connection. Then no data has arrived for
  ``PortSettings.settle_silence`` seconds, in which the agent's last piece, read before closing, would have arrived.
- After a local connection without any data in either direction, DisconnectToPort is not sent: the next local
  connection uses the same connection of the agent.

A protocol in which the server sends first works on the first local connection only, because the agent does not open
its next connection before it has received data.

**Half-close.** DisconnectToPort closes both directions of the destination. It is therefore sent once the local program
has closed its socket, or once nothing has arrived for ``PortSettings.basic_silence`` seconds after the program's last
byte. That silence also counts as the end of the answer, since the agent does not report that the destination has
closed. If nothing at all has arrived since the program last sent, the local connection is reset.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Mapping
from enum import Enum

from session_manager_plugin.errors import LocalProtocolError, NotConnected
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.protocol.smux import SEND_HIGH_WATER, SEND_LOW_WATER
from session_manager_plugin.session.forwarder import Forwarder, PortSettings
from session_manager_plugin.session.local_connection import LocalConnection
from session_manager_plugin.session.peer_state import PeerState, PeerWatch
from session_manager_plugin.session.protocols import IDataChannel, Notices

MAX_KEPT = 8 * 1024 * 1024
"""Bytes kept for a local program that does not read, or has not connected yet, before reading from the network
pauses."""


class Exchange(Enum):
    """The data exchanged over the agent's connection, and the local connection that received data is for."""

    FRESH = "fresh"
    """No data yet. Received data is for the first local connection."""
    SENT = "sent"
    """Data of the current local connection was sent, and nothing has arrived since."""
    RECEIVED = "received"
    """Data has arrived for the current local connection since it last sent."""
    STALE = "stale"
    """The local connection has ended. Received data is discarded until the next local connection sends."""


class ExchangeInput(Enum):
    """The inputs of the state machine."""

    SEND = "send"
    """Data of the current local connection is sent."""
    RECEIVE = "receive"
    """Data has arrived for the current local connection."""
    END = "end"
    """The local connection has ended."""


TRANSITIONS: Mapping[tuple[Exchange, ExchangeInput], Exchange] = {
    (Exchange.FRESH, ExchangeInput.SEND): Exchange.SENT,
    (Exchange.FRESH, ExchangeInput.RECEIVE): Exchange.RECEIVED,
    (Exchange.FRESH, ExchangeInput.END): Exchange.FRESH,
    (Exchange.SENT, ExchangeInput.SEND): Exchange.SENT,
    (Exchange.SENT, ExchangeInput.RECEIVE): Exchange.RECEIVED,
    (Exchange.SENT, ExchangeInput.END): Exchange.STALE,
    (Exchange.RECEIVED, ExchangeInput.SEND): Exchange.SENT,
    (Exchange.RECEIVED, ExchangeInput.RECEIVE): Exchange.RECEIVED,
    (Exchange.RECEIVED, ExchangeInput.END): Exchange.STALE,
    (Exchange.STALE, ExchangeInput.SEND): Exchange.SENT,
    (Exchange.STALE, ExchangeInput.END): Exchange.STALE,
}
"""``STALE`` has no row for ``RECEIVE``: data that arrives then is discarded and is no input."""


def next_exchange(exchange: Exchange, step: ExchangeInput) -> Exchange:
    """Return the state that ``step`` leads to. Raises ``LocalProtocolError`` if the table has no row for it."""
    try:
        return TRANSITIONS[exchange, step]
    except KeyError:
        raise LocalProtocolError(f"exchange: {step.name} in state {exchange.name}") from None


class BasicForwarder(Forwarder):
    """See the module docstring."""

    multiplexed = False

    def __init__(self, channel: IDataChannel, notices: Notices, settings: PortSettings | None = None) -> None:
        super().__init__(channel, notices, settings or PortSettings())
        self._current: LocalConnection | None = None
        """The local connection that received data is for."""
        self._exchange = Exchange.FRESH
        self._early: list[bytes] = []
        """Data that has arrived before the first local connection."""
        self._typed: deque[bytes] = deque()
        """Data that the local program has written and that was not sent yet."""
        self._typed_size = 0
        self._something = asyncio.Event()
        """Set when the local program has written, shut down writing or disconnected, and at a wait's deadline."""
        self._heard_at = 0.0
        """When data last arrived from the far end."""
        self._reading_paused = False

    def _listen_to_far_end(self) -> None:
        self._channel.set_payload_handler(PayloadType.FLAG, self._flags_received)
        self._channel.set_input_handler(self._received)

    def _accept(self, endpoint: socket.socket) -> None:
        assert self._source is not None
        self._source.pause()
        self._start_task(self._serve(self._new_connection(endpoint), endpoint)).add_done_callback(self._served)

    def _served(self, serving: asyncio.Task[None]) -> None:
        if serving.cancelled() or self._over:
            return
        error = serving.exception()
        if error is None:
            assert self._source is not None
            self._source.resume()
        elif not isinstance(error, NotConnected) and not self.failed.done():
            self.failed.set_exception(error)  # ``NotConnected``: the session has ended, and the channel reports why

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await super().close()

    def _stop(self) -> None:
        super()._stop()
        self._apply_flow_control()

    def _apply(self, step: ExchangeInput) -> None:
        self._exchange = next_exchange(self._exchange, step)

    # One local connection.

    async def _serve(self, connection: LocalConnection, endpoint: socket.socket) -> None:
        """Forward one local connection. Returns once it has ended and the agent has closed its own connection."""
        self._typed.clear()
        self._typed_size = 0
        await self._open(connection, endpoint)
        connection.accept()  # the agent has connected already, or this session would have failed
        if self._exchange is Exchange.FRESH:
            self._current = connection
            self._give_early(connection)
        while data := await self._next_typed(connection):
            self._current = connection
            self._apply(ExchangeInput.SEND)
            await self._channel.send_input_data(data)
        exchanged = self._exchange in (Exchange.SENT, Exchange.RECEIVED)
        if exchanged:
            await self._await_answer(connection)
            await self._channel.send_flag(Flag.DISCONNECT_TO_PORT)
        self._current = None
        self._apply(ExchangeInput.END)
        connection.finish()
        if exchanged:
            await self._channel.drain()
            await self._silence(self._settings.settle_silence)

    def _give_early(self, connection: LocalConnection) -> None:
        if self._early:
            self._apply(ExchangeInput.RECEIVE)
            connection.deliver(self._early)
            self._early = []
            self._apply_flow_control()

    async def _next_typed(self, connection: LocalConnection) -> bytes:
        """Wait for data of the local program and return it; empty after its end of data or once it has disconnected."""
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
        """After the program's last byte: wait until the program has closed its socket, or the far end has been silent
        for ``PortSettings.basic_silence``. Resets the connection if no answer has arrived."""
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
        """Wait until nothing has arrived from the far end for ``seconds``, ``connection`` is lost, or ``watch`` reports
        that its program has closed its socket.

        Silence does not count while the link is down, while sent data may not have arrived, or while the program
        has not read the data kept for it.
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
        """Wait until ``_something`` is set, at ``deadline`` at the latest."""
        self._something.clear()
        timer = self._clock.call_later(max(0.0, deadline - self._clock.time()), self._something.set)
        try:
            await self._something.wait()
        finally:
            timer.cancel()

    # Callbacks for the local program (``ConnectionOwner``).

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

    # Callbacks for the far end.

    def _received(self, data: bytes) -> None:
        self._heard_at = self._clock.time()
        if self._current is not None:
            self._apply(ExchangeInput.RECEIVE)
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
