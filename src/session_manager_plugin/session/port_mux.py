"""Port forwarding for current agents: every local connection is a stream of one smux session.

**Half-close.** smux version 1 has no half-close: on our FIN the agent closes both directions of the destination, so
the answer to a request that ends with shutdown(SHUT_WR) would be lost (reference defect D8). After a local program's
last byte our FIN is therefore held back until the far end has sent its own FIN, or has sent nothing for
``PortSettings.mux_silence`` seconds while none of our data was on its way. In the second case the local connection is
reset, since the answer may be incomplete: a server that answers only at the end of its input sees that end too late.
If the program has closed its socket, which the kernel reports (``peer_state``), the FIN is sent at once.

**Slow readers.** Data that a local program does not read is kept, and ``MuxSession`` counts it as unread. Other
connections are not affected until the budgets are used up (reference defects H15, H16). Then reading from the network
pauses, and a notice names the connection that caused it.

**Fairness.** Frames are built only when the data channel accepts them, never ahead. Reading from a local program that
writes faster than that pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from session_manager_plugin.errors import NotConnected
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux import (
    SEND_HIGH_WATER,
    MuxSession,
    StreamData,
    StreamFinished,
    StreamOpened,
    StreamWritable,
)
from session_manager_plugin.session.forwarder import Forwarder, PortSettings
from session_manager_plugin.session.half_closed import HalfClosedConnections
from session_manager_plugin.session.local_connection import LocalConnection
from session_manager_plugin.session.protocols import Cancellable, IDataChannel, Notices


class MuxForwarder(Forwarder):
    """See the module docstring. ``failed`` receives the error that makes the smux session unusable."""

    multiplexed = True

    def __init__(
        self, channel: IDataChannel, notices: Notices, settings: PortSettings | None = None, *, keepalive: bool
    ) -> None:
        settings = settings or PortSettings()
        super().__init__(channel, notices, settings)
        self._mux = MuxSession(Role.CLIENT, keepalive=keepalive, now=self._clock.time())
        self._streams: dict[int, LocalConnection] = {}
        """The connections whose stream is open or finished."""
        self._held = HalfClosedConnections(
            self._peer_state,
            silence=settings.mux_silence,
            maximum=settings.max_held,
            maximum_unknown=settings.max_held_unknown,
        )
        self._refusals = 0
        """ConnectToPortError flags that have not been attributed to a stream yet."""
        self._reading_paused = False
        self._named: set[LocalConnection] = set()
        """The connections that a notice has named as slow."""
        self._link_away = False
        self._flushing: asyncio.Handle | None = None
        self._timer: Cancellable | None = None
        self._timer_at = float("inf")

    def _listen_to_far_end(self) -> None:
        self._channel.set_payload_handler(PayloadType.FLAG, self._flags_received)
        self._channel.set_writable_handler(self._flush)
        self._channel.set_input_handler(self._received)
        self._arm_timer()

    def _accept(self, endpoint: socket.socket) -> None:
        self._start_task(self._serve(self._new_connection(endpoint), endpoint))

    async def _serve(self, connection: LocalConnection, endpoint: socket.socket) -> None:
        await self._open(connection, endpoint)
        if connection.awaits_answer:
            await self._dialled()
            connection.accept()

    async def _dialled(self) -> None:
        """Wait until the agent has reported a refused connection, if the one to the destination of a new stream was
        refused. It does not report one that was made."""
        with contextlib.suppress(TimeoutError, NotConnected):
            async with asyncio.timeout(self._settings.most_dial_time):
                await asyncio.sleep(0)
                await self._channel.drain()
        await asyncio.sleep(self._settings.dial_time)

    def _stop(self) -> None:
        super()._stop()
        self._held.clear()
        for handle in (self._timer, self._flushing):
            if handle is not None:
                handle.cancel()
        self._apply_flow_control()

    # Callbacks for local programs (``ConnectionOwner``).

    def connection_made(self, connection: LocalConnection) -> None:
        super().connection_made(connection)
        if self._over:
            return
        connection.stream_id = self._mux.open_stream()
        self._streams[connection.stream_id] = connection
        # Later, so that bytes which the program has sent already are read first and share a message with the SYN.
        self._loop.call_soon(self._flush_soon)

    def data_received(self, connection: LocalConnection, data: bytes) -> None:
        if self._over:
            return
        self._mux.send_data(connection.stream_id, data)
        self._flush()
        if self._mux.send_buffered(connection.stream_id) > SEND_HIGH_WATER:
            connection.pause_reading()

    def eof_received(self, connection: LocalConnection) -> None:
        if self._over:
            return
        if not self._held.hold(connection, self._clock.time()):
            self._drop(connection)
            return
        while (surplus := self._held.surplus()) is not None:
            self._cut(surplus, f"more than {self._settings.max_held} connections wait like this")
        self._arm_timer()

    def data_delivered(self, connection: LocalConnection, size: int) -> None:
        self._mux.consumed(connection.stream_id, size)
        if connection.ending and not connection.kept_size:
            self._close_stream(connection)
        self._apply_flow_control()

    def connection_lost(self, connection: LocalConnection) -> None:
        super().connection_lost(connection)
        self._named.discard(connection)
        self._close_stream(connection)
        self._apply_flow_control()

    # Callbacks for the far end.

    def _received(self, data: bytes) -> None:
        if self._over:
            return
        self._mux.receive_data(data, self._clock.time())
        self._dispatch()
        self._flush()
        self._apply_flow_control()

    def _flags_received(self, data: bytes) -> None:
        flags = [data[start : start + 4] for start in range(0, len(data), 4)]  # several flags may arrive as one piece
        for _ in range(flags.count(Flag.CONNECT_TO_PORT_ERROR.serialize())):
            if all(connection.answered for connection in self._streams.values()):
                self._notices.destination_failed("")
            else:
                self._refusals += 1

    def _dispatch(self) -> None:
        while (event := self._mux.next_event()) is not None:
            if isinstance(event, StreamData):
                self._deliver(event)
            elif isinstance(event, StreamFinished):
                self._finished(self._streams[event.stream_id])
            elif isinstance(event, StreamWritable):
                self._streams[event.stream_id].resume_reading()
            elif isinstance(event, StreamOpened):
                self._mux.close_stream(event.stream_id)  # refused: an agent has no reason to open a stream
            else:
                self._stop()
                if not self.failed.done():
                    self.failed.set_exception(event.error)

    def _deliver(self, event: StreamData) -> None:
        connection = self._streams[event.stream_id]
        connection.answered = True
        if connection.at_eof:  # otherwise it is not held
            self._held.heard(connection, self._clock.time())
        self._mux.consumed(event.stream_id, connection.deliver(event.pieces))

    def _finished(self, connection: LocalConnection) -> None:
        self._held.discard(connection)
        if self._refusals and not connection.answered:
            # The flag does not name its stream. Agents connect one stream at a time, and send the FIN of a stream
            # that they could not connect right after the flag. So the flag is for the next stream to end without data.
            self._refusals -= 1
            self._notices.destination_failed(str(connection))
        else:
            connection.accept()
        connection.finish()
        if not connection.kept_size:  # otherwise the stream counts towards the budgets until all is delivered
            self._close_stream(connection)

    # Streams.

    def _close_stream(self, connection: LocalConnection) -> None:
        self._held.discard(connection)
        if self._streams.pop(connection.stream_id, None) is not None:
            self._mux.close_stream(connection.stream_id)
            self._flush_soon()

    def _flush(self) -> None:
        """Send as much as the data channel accepts."""
        if self._over or not self._mux.send_pending:
            return
        channel, mux = self._channel, self._mux
        while mux.send_pending and (capacity := channel.send_capacity) and (data := mux.data_to_send(capacity)):
            channel.send_now(data)
        self._dispatch()  # ``StreamWritable`` events

    def _flush_soon(self) -> None:
        if self._flushing is None and not self._over:
            self._flushing = self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flushing = None
        self._flush()

    def _apply_flow_control(self) -> None:
        pause = self._mux.reading_paused and not self._over
        if pause is self._reading_paused:
            return
        self._reading_paused = pause
        if not pause:
            self._channel.resume_reading()
            return
        self._channel.pause_reading()
        culprit = self._streams[self._mux.culprit or 0]
        if culprit not in self._named:
            self._named.add(culprit)
            self._notices.trouble(
                f"{culprit} does not read its data; all connections share one channel, so the others have to wait"
            )

    # Time.

    def _arm_timer(self) -> None:
        deadlines = [at for at in (self._held.next_timeout(), self._mux.next_timeout()) if at is not None]
        deadline = min(deadlines, default=self._timer_at)
        if deadline < self._timer_at:  # for a later deadline the timer fires early and is armed again
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._clock.call_later(max(0.0, deadline - self._clock.time()), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer, self._timer_at = None, float("inf")
        now = self._clock.time()
        away = not self._channel.is_connected
        if away is not self._link_away:
            self._link_away = away
            self._mux.excuse_silence(away)
        self._mux.handle_timeout(now)
        for connection in self._held.take_closed(now):
            self._drop(connection)
        for connection in self._held.silent(now):
            if self._is_waiting(connection):
                self._held.heard(connection, now)
            else:
                self._cut(connection, f"the far end sent nothing for {self._settings.mux_silence:g} s")
        self._dispatch()
        self._flush()
        if not self._over:
            self._arm_timer()

    def _is_waiting(self, connection: LocalConnection) -> bool:
        """Whether the far end's silence does not count.

        That is so while data of ours is unsent or may not have arrived, while the local program has not read the data
        kept for it, while the link is down, and while reading from the data channel is paused.
        """
        mux, channel = self._mux, self._channel
        waits = mux.send_buffered(connection.stream_id) or mux.unread(connection.stream_id)
        return bool(waits or self._reading_paused or channel.retransmitting or not channel.is_connected)

    # Half-closed connections.

    def _drop(self, connection: LocalConnection) -> None:
        """End a connection whose program has closed its socket. Data that the program has sent is still sent."""
        self._close_stream(connection)
        connection.abort()

    def _cut(self, connection: LocalConnection, reason: str) -> None:
        """Stop waiting for the rest of an answer: reset the connection, so that the program does not take an
        incomplete answer for a complete one."""
        if self._held.waits(connection):
            self._tell_cut(connection, reason)
        self._close_stream(connection)
        connection.reset()

    def _release_descriptor(self) -> bool:
        connection = self._held.oldest()
        if connection is None:
            return False
        self._cut(connection, "no descriptors were left for new connections")
        connection.abort()  # at once, even if data is undelivered
        return True
