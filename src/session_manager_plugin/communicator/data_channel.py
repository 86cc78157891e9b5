"""The data channel of one session: a ``SessionEndpoint``, a ``WebSocketChannel`` and one timer.

Every stimulus ends in ``_pump``, which sends what is due, dispatches the events, and re-arms the timer. It runs once
per socket read, not once per message.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection
from typing import Any

from session_manager_plugin import PLUGIN_VERSION
from session_manager_plugin.communicator.config import ConnectionState, WebSocketConfig
from session_manager_plugin.communicator.data_key import DataKeyFetch
from session_manager_plugin.communicator.earliest_timer import EarliestTimer
from session_manager_plugin.communicator.gateway_socket import Message
from session_manager_plugin.communicator.inbox import Inbox
from session_manager_plugin.communicator.lifetime import LifeState, Lifetime
from session_manager_plugin.communicator.link_health import LinkMonitor
from session_manager_plugin.communicator.progress import Progress
from session_manager_plugin.communicator.reconnection import Reconnection
from session_manager_plugin.communicator.websocket_channel import WebSocketChannel
from session_manager_plugin.communicator.write_coalescer import WriteCoalescer
from session_manager_plugin.errors import (
    ConnectError,
    ConnectionLost,
    LocalProtocolError,
    NotConnected,
    SessionManagerError,
)
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataKeyRequired,
    DataReceived,
    Event,
    MessageRejected,
    MissingOutput,
    OutputStopped,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, Flag, PayloadType
from session_manager_plugin.protocol.payloads import Size
from session_manager_plugin.protocol.reliable import StreamProgress
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.session.link_health import LinkHealth
from session_manager_plugin.session.protocols import (
    IDataChannel,
    InputHandler,
    KeyService,
    OutputHandler,
    ResumeService,
)
from session_manager_plugin.utils.link_options import RECONNECT_TIMEOUT
from session_manager_plugin.utils.logging import get_logger

_OPEN = LifeState.OPEN  # an enum's attribute takes a tenth of a microsecond in Python 3.11
SHELL_SESSION_TYPES = ("Standard_Stream", "InteractiveCommands")
CLOSE_DRAIN_TIMEOUT = 2.0
"""Seconds that ``close`` waits for acknowledgements."""


class SessionDataChannel(IDataChannel):
    """See ``IDataChannel``. One instance is one session; it is opened once.

    ``session_types`` are those that the caller supports. ``handshake_required``: the session's document begins with a
    handshake, so a session without one fails. ``separate_outputs``: the session is for a command whose outputs must be
    kept apart; with an agent that cannot do that, the session ends with ``AgentTooOld`` before the command runs.
    ``key_service`` provides the key of encrypted sessions.

    After the loss of a websocket, the channel tries to reconnect for ``reconnect_timeout`` seconds (0: never), with
    tokens of ``resume_service``. Data sent in the meantime is kept; on the new websocket everything unacknowledged is
    retransmitted. If the session has not received any message yet, it ends at the loss unless there is a
    ``resume_service``, and then at the first failed request for a token.
    """

    def __init__(
        self,
        config: WebSocketConfig,
        *,
        session_id: str = "",
        session_types: Collection[str] = SHELL_SESSION_TYPES,
        handshake_required: bool = False,
        separate_outputs: bool = False,
        key_service: KeyService | None = None,
        resume_service: ResumeService | None = None,
        reconnect_timeout: float = RECONNECT_TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.logger = get_logger(__name__)
        self._clock = clock
        self._session_id = session_id
        self._channel = WebSocketChannel(config)
        self._channel.set_batch_handler(self._messages_received)
        self._channel.set_error_handler(self._channel_failed)
        self._channel.set_connection_handler(self._state_changed)
        self._channel.set_write_resumed_handler(self._pump)
        self._reconnection = Reconnection(
            self._channel, config, resume_service, reconnect_timeout, clock=clock, restored=self._restored
        )
        self._reconnecting: asyncio.Task[None] | None = None
        self._endpoint = SessionEndpoint(
            Role.CLIENT,
            version=PLUGIN_VERSION,
            epoch=time.time() - clock(),
            random_bytes=os.urandom,
            session_id=session_id,
            session_types=session_types,
            handshake_required=handshake_required,
            separate_outputs=separate_outputs,
        )
        self._data_key = DataKeyFetch(key_service, self._endpoint, clock, self._pump)
        self._link = LinkMonitor(
            self._channel, self._endpoint, self._reconnection, config, self._link_changed, clock=clock
        )
        self._channel.set_silence_handler(self._link.look)
        self._inbox = Inbox(self._flow_changed)
        self._output_handler: OutputHandler | None = None
        self._link_handler: Callable[[], None] | None = None
        self._output_stopped_handler: Callable[[], None] | None = None
        self._writable_handler: Callable[[], None] | None = None
        self._life = Lifetime()
        self._send_lock = asyncio.Lock()
        self._progress = Progress()
        self._coalescer = WriteCoalescer(self._pump)
        self._timer = EarliestTimer(self._timer_fired, clock)
        self._missing_output: MissingOutput | None = None

    # State.

    @property
    def session_id(self) -> str:
        return self._session_id

    @property
    def is_open(self) -> bool:
        return not self._over

    @property
    def last_error(self) -> Exception | None:
        return self._channel.last_error

    @property
    def latency(self) -> float | None:
        return self._channel.latency

    @property
    def retransmitting(self) -> int:
        return self._endpoint.retransmitting

    @property
    def connection_state(self) -> ConnectionState:
        """The state of the websocket underneath."""
        return self._channel.connection_state

    @property
    def is_connected(self) -> bool:
        return self._channel.is_connected

    @property
    def heard(self) -> bool:
        return self._link.heard_at is not None

    @property
    def health(self) -> LinkHealth:
        return self._link.health()

    @property
    def reconnects(self) -> int:
        return self._reconnection.count

    @property
    def input_progress(self) -> StreamProgress:
        return self._endpoint.progress

    @property
    def missing_output(self) -> MissingOutput | None:
        return self._missing_output if self._over else self._stopped_output()

    @property
    def output_gap(self) -> int:
        return self._endpoint.output_gap

    @property
    def lossy(self) -> bool:
        return self._endpoint.lossy

    def _stopped_output(self) -> MissingOutput | None:
        """The missing output, if the agent has stopped sending it. Other missing messages may still arrive."""
        missing = self._endpoint.missing_output
        return MissingOutput(stopped=True) if missing is not None and missing.stopped else None

    def get_channel_info(self) -> dict[str, Any]:
        """Return facts for monitoring: those of ``WebSocketChannel.get_connection_info`` and of the session."""
        if self._life.state is LifeState.UNOPENED:
            return {"state": "not_initialized", "is_open": False}
        health = self.health
        return {
            **self._channel.get_connection_info(),
            "is_open": self.is_open,
            "reading_paused": self._channel.reading_paused,
            "unsent_size": self._channel.unsent_size,
            "link": health.state.value,
            "trouble": health.sentence if health.troubled else "",
            "reconnects": self.reconnects,
            "latency": health.latency,
            "round_trip_time": self._endpoint.round_trip_time,
            "in_flight": self._endpoint.in_flight,
            "retransmitting": self.retransmitting,
            "retransmissions": self._endpoint.retransmissions,
            "encrypted": self._endpoint.encrypted,
            "encryption_key": self._data_key.key_id if self._endpoint.encrypted else "",
        }

    def set_input_handler(self, handler: InputHandler) -> None:
        self._inbox.set_handler(PayloadType.OUTPUT, handler)

    def set_output_handler(self, handler: OutputHandler) -> None:
        self._output_handler = handler

    def set_payload_handler(self, payload_type: int, handler: InputHandler) -> None:
        self._inbox.set_handler(payload_type, handler)

    def set_link_handler(self, handler: Callable[[], None]) -> None:
        self._link_handler = handler

    def set_output_stopped_handler(self, handler: Callable[[], None]) -> None:
        self._output_stopped_handler = handler

    # Life.

    async def open(self) -> bool:
        if self._life.state is not LifeState.UNOPENED:
            return self.is_open
        self._life.open()
        if not await self._channel.connect():
            self._end(self._channel.last_error or ConnectError("the data channel could not be opened"))
            return False
        return True  # even if the session has ended already: ``ready`` and ``ended`` raise the reason

    async def ready(self) -> SessionReady:
        return await self._life.ready()

    async def ended(self) -> str:
        return await self._life.ended()

    async def close(self) -> None:
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        if self.is_open and self._channel.is_connected and self._endpoint.in_flight:
            try:
                async with asyncio.timeout(CLOSE_DRAIN_TIMEOUT):
                    await self.drain()
            except (TimeoutError, SessionManagerError):
                self.logger.info("closed with %d messages unacknowledged", self._endpoint.in_flight)
            except asyncio.CancelledError:
                self._channel.abort()  # a caller that cancels waits for no closing handshake
                raise
        self._data_key.stop()
        self._timer.cancel()
        await self._channel.close()
        self._end(NotConnected("the data channel was closed"))

    @property
    def _over(self) -> bool:
        return self._life.state is not _OPEN

    def _end(self, outcome: str | Exception) -> None:
        """End the session, with the far end's closing text or with an error. Only the first call has an effect."""
        self._timer.cancel()
        self._coalescer.stop()
        self._reconnection.stop()
        self._link.over()
        if not self._over:
            # If this end closes the session, output still in transit does not count as missing.
            closing = isinstance(outcome, NotConnected)
            self._missing_output = self._stopped_output() if closing else self._endpoint.missing_output
            self._life.end(outcome)
        self._progress.wake()

    # Sending.

    async def send_input_data(self, data: bytes, *, more_follows: bool = False) -> None:
        """Send bytes of any length, in messages of at most 1024 bytes.

        ``more_follows=True``: further data follows immediately; this piece may be delayed up to 1 ms to share a write.

        Raises ``NotConnected`` (a ``RuntimeError``) when the channel is not open or the session is over.
        """
        if data:
            await self._send(PayloadType.OUTPUT, data, more_follows=more_follows)
            if self._output_handler is not None:
                self._output_handler(data)

    async def send_size(self, columns: int, rows: int) -> None:
        await self._send(PayloadType.SIZE, Size(columns, rows).to_json().encode())

    async def send_flag(self, flag: Flag) -> None:
        await self._send(PayloadType.FLAG, flag.serialize())

    @property
    def send_capacity(self) -> int:
        if self._life.state is not _OPEN or not self._channel.can_write:
            return 0
        return self._endpoint.send_capacity * MAX_PAYLOAD_SIZE

    def send_now(self, data: bytes, payload_type: PayloadType = PayloadType.OUTPUT) -> None:
        if self._over:
            raise NotConnected("the data channel is not open")
        if len(data) > self.send_capacity:
            raise LocalProtocolError(f"{len(data)} bytes to send, but the channel accepts {self.send_capacity}")
        self._endpoint.send_data(payload_type, data, self._clock())
        if payload_type is PayloadType.OUTPUT and self._output_handler is not None:
            self._output_handler(data)
        self._write()
        self._arm_timer()

    def set_writable_handler(self, handler: Callable[[], None]) -> None:
        self._writable_handler = handler

    async def _send(self, payload_type: PayloadType, data: bytes, *, more_follows: bool = False) -> None:
        endpoint = self._endpoint
        position = 0
        async with self._send_lock:
            while position < len(data):
                if self._over:
                    raise NotConnected("the data channel is not open")
                self._channel.check_clock()
                if capacity := endpoint.send_capacity * MAX_PAYLOAD_SIZE:
                    endpoint.send_data(payload_type, data[position : position + capacity], self._clock())
                    position += capacity
                if more_follows and position >= len(data) and self._coalescer.add(len(data)):
                    return
                self._coalescer.stop()
                self._pump()
                if position < len(data):
                    await self._progress.next()

    async def drain(self) -> None:
        while self._endpoint.in_flight:
            if self._over:
                await self.ended()
                raise NotConnected("the session ended before everything was acknowledged")
            await self._progress.next()

    def pause_reading(self) -> None:
        self._inbox.pause()

    def resume_reading(self) -> None:
        self._inbox.resume()

    def _flow_changed(self, reading: bool) -> None:
        if reading:
            self._channel.resume_reading()
            self._endpoint.reading_resumed(self._clock())
            self._arm_timer()
        else:
            self._channel.pause_reading()
            self._endpoint.reading_paused()

    # The link.

    async def reconnect(self) -> None:
        if self._reconnecting is not None:
            self._reconnection.hurry()
        elif self._channel.is_connected and not self._over:
            reconnects = self.reconnects
            await self._reconnection.prepare()
            if not self._reconnection.active and self.reconnects == reconnects:  # not lost in the meantime
                self._channel.drop(ConnectionLost("dropped by request"))

    def _state_changed(self, state: ConnectionState) -> None:
        if state is ConnectionState.CONNECTED:
            self._reconnection.opened()
            self._endpoint.connected(self._channel.config.token, self._clock())
            self._pump()
            self.logger.info("the token is sent; waiting for the session to begin")
        self._link.look(changed=True)

    def _channel_failed(self, error: Exception) -> None:
        if self._channel.connection_state is not ConnectionState.CONNECTED:
            return  # an attempt to connect failed; ``connect`` returns the result
        now = self._clock()
        self._endpoint.disconnected(now)
        self._pump()  # emits the end of a session that the service has closed
        # Other errors, such as violations of the websocket protocol, would happen again on a new websocket.
        lost = isinstance(error, ConnectionLost) and self._reconnection.timeout > 0
        if self._over or not lost or not (self.heard or self._reconnection.can_resume):
            self._end(error)
        else:
            self._reconnection.lost(error, now, patient=self.heard)
            self.logger.info("%s; reconnecting", error)
            if self._reconnecting is None:
                self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect())
            self._link.lost(now)

    async def _reconnect(self) -> None:
        try:
            while not self._channel.is_connected:  # a new websocket may be lost again
                await self._reconnection.run()
        except Exception as error:  # the session must end, because nothing reconnects any longer
            self._end(error)
            self._link.look(changed=True)
        finally:
            self._reconnecting = None

    def _restored(self) -> None:
        self._link.look(changed=True)

    def _link_changed(self) -> None:
        if self._link_handler is not None:
            self._link_handler()

    # Events.

    def _messages_received(self, messages: list[Message]) -> None:
        now = self._clock()
        self._reconnection.message_received()
        receive = self._endpoint.receive_message
        for message in messages:
            receive(message, now)
        self._link.message_received(now)
        self._pump()

    def _pump(self) -> None:
        """Send what is due, dispatch the events, re-arm the timer."""
        endpoint = self._endpoint
        if self._writable_handler is not None and self.send_capacity:
            self._writable_handler()  # first, so that its data and the due acknowledgements leave in one write
        self._write()
        while (event := endpoint.next_event()) is not None:
            if isinstance(event, DataReceived):
                self._inbox.receive(event.payload_type, event.data)
            else:
                self._dispatch(event)
        if self._progress.is_awaited and (endpoint.send_capacity or not endpoint.in_flight):
            self._progress.wake()
        self._arm_timer()

    def _write(self) -> None:
        if self._channel.can_write and not self._coalescer.waiting:
            outgoing = self._endpoint.messages_to_send(self._clock())
            if outgoing:
                self._channel.write_messages(outgoing)

    def _dispatch(self, event: Event) -> None:
        match event:
            case SessionReady():
                self.logger.info(
                    "the session has begun: type %s, agent %s",
                    event.session_type or "not announced (a shell)",
                    event.peer_version or "of unknown version (no handshake)",
                )
                self._life.begin(event)
            case ChannelClosedReceived(output):
                self.logger.info("the far end closed the session: %s", output or "without a reason")
                self._end(output)
            case DataKeyRequired(key_id, challenge):
                self._data_key.start(key_id, challenge)
            case SessionFailed(error):
                self._end(error)
            case MessageRejected(reason):
                self.logger.warning("a message was dropped: %s", reason)
            case OutputStopped():
                self.logger.warning("the agent sends no more of the command's output")
                if self._output_stopped_handler is not None:
                    self._output_stopped_handler()
            case PublicationPaused():
                self.logger.info("the target is away")
                self._link.pause_changed(True)
            case PublicationStarted():
                self.logger.info("the target is back")
                self._link.pause_changed(False)

    # The timer.

    def _arm_timer(self) -> None:
        if self._life.state is _OPEN and (deadline := self._endpoint.next_timeout()) is not None:
            self._timer.arm(deadline)

    def _timer_fired(self) -> None:
        self._endpoint.handle_timeout(self._clock())
        self._pump()
        self._link.look()
