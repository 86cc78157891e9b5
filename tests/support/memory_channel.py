"""A data channel in memory: a client's core, an agent's core, and the event loop between them.

``MemoryChannel`` is the ``IDataChannel`` that a session handler is given, ``MemoryAgent`` the far end that a test
writes the script for. Between the two is the whole protocol, and nothing that waits: no socket, no websocket.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

from session_manager_plugin.errors import LocalProtocolError, NotConnected, SessionManagerError
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataReceived,
    Event,
    MissingOutput,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.messages import (
    MAX_PAYLOAD_SIZE,
    ClientMessage,
    ClientMessageType,
    Flag,
    PayloadType,
)
from session_manager_plugin.protocol.payloads import ChannelClosed, Size
from session_manager_plugin.protocol.reliable import StreamProgress
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.session.link_health import LinkHealth, LinkState
from session_manager_plugin.session.protocols import IDataChannel, InputHandler, OutputHandler
from session_manager_plugin.session.runner import HANDLERS
from tests.support.pair import Peer
from tests.support.waiting import Happenings

SESSION_ID = "alice-0a1b2c3d4e5f60718"


class _End(Happenings):
    """One core with its timer; what it sends reaches ``other`` in the next round of the event loop."""

    def __init__(self, role: Role, version: str) -> None:
        super().__init__()
        self.connection = SessionEndpoint(
            role,
            version=version,
            epoch=time.time() - time.monotonic(),
            random_bytes=random.Random(role.value).randbytes,
            session_id=SESSION_ID,
            session_types=frozenset(HANDLERS),
        )
        self.other: _End | None = None
        self.acknowledging = True
        """Whether its acknowledgements leave."""
        self.losing = False
        """Whether all that it sends is lost."""
        self._timer: asyncio.TimerHandle | None = None

    def take(self, messages: list[bytes | str]) -> None:
        """Receive messages, all that came at once."""
        for message in messages:
            self.connection.receive_message(message, time.monotonic())
        self.pump()

    def pump(self) -> None:
        """Send what is due, take the events, arm the timer."""
        self.transmit()
        while (event := self.connection.next_event()) is not None:
            self._dispatch(event)
        self.transmit()
        self.arm()
        self.happened()

    def arm(self) -> None:
        """Have the timer fire when something is due."""
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.connection.next_timeout()
        if deadline is not None:
            delay = max(0.0, deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._fired)

    def transmit(self) -> None:
        """Send what is due."""
        messages = [
            message
            for message in self.connection.messages_to_send(time.monotonic())
            if self.acknowledging or not _is_acknowledgement(message)
        ]
        if messages and not self.losing and self.other is not None:
            asyncio.get_running_loop().call_soon(self.other.take, messages)

    def stop(self) -> None:
        """No timer is left behind."""
        if self._timer is not None:
            self._timer.cancel()

    def _fired(self) -> None:
        self.connection.handle_timeout(time.monotonic())
        self.pump()

    def _dispatch(self, event: Event) -> None:
        raise NotImplementedError


class MemoryAgent(_End):
    """The far end. ``received`` holds what came, as pairs of payload type and bytes in order."""

    def __init__(
        self,
        session_type: str | None = "Port",
        properties: dict[str, Any] | None = None,
        *,
        version: str = "3.3.0.0",
    ) -> None:
        super().__init__(Role.AGENT, version)
        self.session_type = session_type
        self.properties = properties
        self.received: list[tuple[int, bytes]] = []
        self.recording = True
        self.data_handler: Callable[[int, bytes], None] = lambda payload_type, data: None
        self.writable_handler: Callable[[], None] = lambda: None
        self._gateway = Peer()

    def begin(self) -> None:
        """The client has come."""
        self.connection.connected(None, time.monotonic())
        if self.session_type is None:
            self.connection.skip_handshake()
        else:
            self.connection.request_handshake(self.session_type, self.properties, time.monotonic())
        self.pump()

    def data(self, payload_type: int = PayloadType.OUTPUT) -> bytes:
        """All that came of one payload type."""
        return b"".join(data for kind, data in self.received if kind == payload_type)

    @property
    def capacity(self) -> int:
        """Bytes that ``send`` takes now."""
        return self.connection.send_capacity * MAX_PAYLOAD_SIZE

    def send(self, data: bytes, payload_type: int = PayloadType.OUTPUT) -> None:
        """Send at most ``capacity`` bytes."""
        now = time.monotonic()
        for position in range(0, len(data), MAX_PAYLOAD_SIZE):
            self.connection.send_data(payload_type, data[position : position + MAX_PAYLOAD_SIZE], now)
        self.pump()

    async def write(self, data: bytes, payload_type: int = PayloadType.OUTPUT) -> None:
        """Send any number of bytes; waits while the window is full."""
        while data:
            await self.until(lambda: self.capacity)
            piece, data = data[: self.capacity], data[self.capacity :]
            self.send(piece, payload_type)

    def close_channel(self, output: str = "") -> None:
        """The service says that the session is over."""
        closed = ChannelClosed(SESSION_ID, output).to_json().encode()
        assert self.other is not None
        self.transmit()
        messages: list[bytes | str] = [self._gateway.control(ClientMessageType.CHANNEL_CLOSED.value, closed)]
        asyncio.get_running_loop().call_soon(self.other.take, messages)

    def pump(self) -> None:
        super().pump()
        if self.connection.send_capacity:
            self.writable_handler()

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, DataReceived):
            if self.recording:
                self.received.extend((event.payload_type, bytes(payload)) for payload in event.payloads)
            self.data_handler(event.payload_type, event.data)


class MemoryChannel(_End, IDataChannel):
    """See ``IDataChannel``. ``calls`` tells what was done with it that leaves no trace at the far end."""

    def __init__(self, agent: MemoryAgent, *, version: str = "1.3.0.0") -> None:
        super().__init__(Role.CLIENT, version)
        self.agent = agent
        self.other, agent.other = agent, self
        self.reading_paused = False
        self.pauses = 0
        """How often reading was paused."""
        self.unread = 0
        """Bytes that came while reading was paused."""
        self.blocked = False
        """Whether the socket would take nothing."""
        self.link_up = True
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[SessionReady] = loop.create_future()
        self._ended: asyncio.Future[str] = loop.create_future()
        self._input_handler: InputHandler | None = None
        self._payload_handlers: dict[int, InputHandler] = {}
        self._writable_handler: Callable[[], None] = lambda: None
        self._unclaimed: list[tuple[int, bytes]] = []
        self._waiting: list[bytes | str] = []

    # Facts.

    @property
    def session_id(self) -> str:
        return SESSION_ID

    @property
    def is_open(self) -> bool:
        return not self._ended.done()

    @property
    def is_connected(self) -> bool:
        return self.link_up

    @property
    def heard(self) -> bool:
        return True

    @property
    def input_progress(self) -> StreamProgress:
        return self.connection.progress

    @property
    def health(self) -> LinkHealth:
        if self.link_up:
            return LinkHealth(LinkState.CONNECTED)
        return LinkHealth(LinkState.RECONNECTING, True, 3.0, "attempt 2", "cut")

    @property
    def missing_output(self) -> MissingOutput | None:
        return self.connection.missing_output if self._ended.done() else None

    @property
    def output_gap(self) -> int:
        return self.connection.output_gap

    @property
    def lossy(self) -> bool:
        return self.connection.lossy

    def set_output_stopped_handler(self, handler: Callable[[], None]) -> None:
        self.output_stopped = handler

    @property
    def last_error(self) -> Exception | None:
        return None

    @property
    def latency(self) -> float | None:
        return None

    @property
    def retransmitting(self) -> int:
        return self.connection.retransmitting

    @property
    def reconnects(self) -> int:
        return 0

    async def reconnect(self) -> None:
        raise NotImplementedError

    def get_channel_info(self) -> dict[str, Any]:
        raise NotImplementedError

    def set_link_handler(self, handler: Callable[[], None]) -> None:
        raise NotImplementedError

    # Life.

    async def open(self) -> bool:
        self.agent.begin()
        self.connection.connected("token", time.monotonic())
        self.pump()
        return True

    async def close(self) -> None:
        self.end(NotConnected("closed"))
        self.stop()
        self.agent.stop()

    async def ready(self) -> SessionReady:
        return await asyncio.shield(self._ready)

    async def ended(self) -> str:
        return await asyncio.shield(self._ended)

    def end(self, outcome: str | SessionManagerError) -> None:
        """The session is over."""
        if self._ended.done():
            return
        if isinstance(outcome, str):
            self._ended.set_result(outcome)
        else:
            self._ended.set_exception(outcome)
            self._ended.exception()
        self.happened()

    def disconnect(self) -> None:
        """The websocket is gone."""
        self.connection.disconnected(time.monotonic())
        self.pump()

    # Sending.

    @property
    def send_capacity(self) -> int:
        if self.blocked or self._ended.done():
            return 0
        return self.connection.send_capacity * MAX_PAYLOAD_SIZE

    def send_now(self, data: bytes, payload_type: PayloadType = PayloadType.OUTPUT) -> None:
        if self._ended.done():
            raise NotConnected("the session is over")
        if len(data) > self.send_capacity:
            raise LocalProtocolError("more than the window takes")
        for position in range(0, len(data), MAX_PAYLOAD_SIZE):
            piece = data[position : position + MAX_PAYLOAD_SIZE]
            self.connection.send_data(payload_type, piece, time.monotonic())
        self.transmit()
        self.arm()

    async def send_input_data(self, data: bytes, *, more_follows: bool = False) -> None:
        await self._send(PayloadType.OUTPUT, data)

    async def send_size(self, columns: int, rows: int) -> None:
        await self._send(PayloadType.SIZE, Size(columns, rows).to_json().encode())

    async def send_flag(self, flag: Flag) -> None:
        await self._send(PayloadType.FLAG, flag.serialize())

    async def _send(self, payload_type: PayloadType, data: bytes) -> None:
        while data:
            await self.until(lambda: self.send_capacity or self._ended.done())
            capacity = self.send_capacity
            self.send_now(data[:capacity], payload_type)
            data = data[capacity:]

    async def drain(self) -> None:
        await self.until(lambda: not self.connection.in_flight or self._ended.done())
        if self.connection.in_flight:
            raise NotConnected("the session is over")

    def set_writable_handler(self, handler: Callable[[], None]) -> None:
        self._writable_handler = handler

    # Receiving.

    def set_input_handler(self, handler: InputHandler) -> None:
        self._input_handler = handler
        unclaimed, self._unclaimed = self._unclaimed, []
        for payload_type, data in unclaimed:
            self._receive_payload(payload_type, data)

    def set_output_handler(self, handler: OutputHandler) -> None:
        raise NotImplementedError

    def set_payload_handler(self, payload_type: int, handler: InputHandler) -> None:
        self._payload_handlers[payload_type] = handler

    def pause_reading(self) -> None:
        self.reading_paused = True
        self.pauses += 1

    def resume_reading(self) -> None:
        self.reading_paused = False
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.take(waiting)

    def take(self, messages: list[bytes | str]) -> None:
        if self.reading_paused:
            self._waiting.extend(messages)
        else:
            super().take(messages)

    def pump(self) -> None:
        if self.send_capacity:
            self._writable_handler()
        super().pump()

    def _dispatch(self, event: Event) -> None:
        if isinstance(event, SessionReady):
            if not self._ready.done():
                self._ready.set_result(event)
        elif isinstance(event, DataReceived):
            self._receive_payload(event.payload_type, event.data)
        elif isinstance(event, ChannelClosedReceived):
            self.end(event.output)
        elif isinstance(event, SessionFailed):
            self.end(event.error)

    def _receive_payload(self, payload_type: int, data: bytes) -> None:
        if self._input_handler is None:
            self._unclaimed.append((payload_type, data))
            return
        handler = self._payload_handlers.get(payload_type)
        if payload_type == PayloadType.OUTPUT:
            handler = self._input_handler
        if handler is not None:
            handler(data)


def _is_acknowledgement(message: bytes | str) -> bool:
    return isinstance(message, bytes) and ClientMessage.parse(message).message_type == ClientMessageType.ACKNOWLEDGE
