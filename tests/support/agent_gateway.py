"""A message gateway and the agent behind it in a few lines: ``SessionEndpoint(Role.AGENT)`` over websockets.

What the client makes of a far end is tested with it; the embedded agent, which is a product, has tests of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import time
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import DataReceived, Event, SessionReady
from session_manager_plugin.protocol.messages import (
    MAX_PAYLOAD_SIZE,
    ClientMessage,
    ClientMessageType,
    MessageIds,
    PayloadType,
)
from session_manager_plugin.protocol.payloads import ChannelClosed
from session_manager_plugin.protocol.role import Role
from tests.support.waiting import Happenings

SESSION_ID = "alice-0a1b2c3d4e5f60718"
TOKEN = "a token that must stay secret"


class AgentGateway(Happenings):
    """The far end of one session; use as an async context manager.

    ``handshake`` is the session type it announces in a handshake; None does without one, as current agents do for a
    plain shell, and then ``greeting`` is what it sends at once. With ``kms_key_id`` it asks for encryption.
    ``received`` holds the bytes that came, by payload type, ``openings`` the first message of each websocket.
    """

    def __init__(
        self,
        *,
        handshake: str | None = None,
        kms_key_id: str = "",
        greeting: bytes = b"$ ",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        source = random.Random("the far end").randbytes
        self.connection = SessionEndpoint(
            Role.AGENT,
            version="3.3.0.0",
            epoch=time.time() - time.monotonic(),
            random_bytes=source,
            session_id=SESSION_ID,
        )
        self.port = 0
        self.url = ""
        """The session's stream URL."""
        self.ready: SessionReady | None = None
        self.received: dict[int, bytearray] = {}
        self.openings: list[dict[str, Any]] = []
        self.most_in_flight = 0
        self.held_back: list[bytes | str] = []
        """Acknowledgements that were due while it did not acknowledge."""
        self.close_code: int | None = None
        """How the last websocket was closed, once it is."""
        self._handshake = handshake
        self._kms_key_id = kms_key_id
        self._greeting = greeting
        self._tls = tls
        self._acknowledging = True
        self._websocket: ServerConnection | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._message_ids = MessageIds(source)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        # No pings of its own, no compression: what the gateway does, it does because a test says so.
        self._server = await serve(self._serve, "127.0.0.1", 0, compression=None, ping_interval=None, ssl=self._tls)
        port = next(iter(self._server.sockets)).getsockname()[1]
        self.port = port
        self.url = f"{'ws' if self._tls is None else 'wss'}://127.0.0.1:{port}/v1/data-channel/{SESSION_ID}?role=publish_subscribe"
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.close()
        await self._server.wait_closed()

    @property
    def input(self) -> bytes:
        """What the client has typed."""
        return bytes(self.received.get(PayloadType.OUTPUT, b""))

    @property
    def websocket(self) -> ServerConnection:
        """The last websocket."""
        assert self._websocket is not None
        return self._websocket

    async def write(self, data: bytes, payload_type: int = PayloadType.OUTPUT) -> None:
        """Have the remote program write; waits while the window is full."""
        connection = self.connection
        for position in range(0, len(data), MAX_PAYLOAD_SIZE):
            if not connection.send_capacity:
                await self.pump()
                await self.until(lambda: connection.send_capacity)
            payload = data[position : position + MAX_PAYLOAD_SIZE]
            connection.send_data(payload_type, payload, time.monotonic())
        await self.pump()

    async def close_channel(self, output: str = "") -> None:
        """Say that the session is over."""
        closed = ChannelClosed(SESSION_ID, output).to_json().encode()
        await self.send_control(ClientMessageType.CHANNEL_CLOSED, closed)

    async def send_control(self, message_type: ClientMessageType, payload: bytes = b"{}") -> None:
        """Send a message outside the stream."""
        created_date = int(time.time() * 1000)
        message = ClientMessage(message_type.value, 0, 0, payload, self._message_ids.next(), created_date)
        await self.send_raw(message.serialize())

    async def send_raw(self, message: bytes | str) -> None:
        """Send a websocket message as it is."""
        await self.websocket.send(message)

    async def close_websocket(self, code: int = 1000, reason: str = "") -> None:
        """Close the websocket."""
        await self.websocket.close(code, reason)

    def stop_acknowledging(self) -> None:
        """Take what comes, and hold the acknowledgements back."""
        self._acknowledging = False

    async def acknowledge_again(self) -> None:
        """Send the acknowledgements held back, and all that follow."""
        self._acknowledging = True
        held_back, self.held_back = self.held_back, []
        for message in held_back:
            await self.send_raw(message)

    async def _serve(self, websocket: ServerConnection) -> None:
        self._websocket = websocket
        now = time.monotonic
        try:
            self.openings.append(json.loads(await websocket.recv()))
            self.connection.connected(None, now())
            if len(self.openings) == 1:
                if self._handshake is None:
                    self.connection.skip_handshake()
                    if self._greeting:
                        self.connection.send_data(PayloadType.OUTPUT, self._greeting, now())
                else:
                    self.connection.request_handshake(self._handshake, None, now(), kms_key_id=self._kms_key_id)
            await self.pump()
            async for message in websocket:
                self.connection.receive_message(message, now())
                await self.pump()
        except ConnectionClosed:
            pass
        self.close_code = websocket.close_code
        self.connection.disconnected(now())
        self.happened()

    async def pump(self) -> None:
        """Send what is due, take the events, arm the timer."""
        connection = self.connection
        for message in connection.messages_to_send(time.monotonic()):
            if self._acknowledging or not _is_acknowledgement(message):
                with contextlib.suppress(ConnectionClosed):
                    await self.send_raw(message)
            else:
                self.held_back.append(message)
        while (event := connection.next_event()) is not None:
            self._take(event)
        self.most_in_flight = max(self.most_in_flight, connection.in_flight)
        self._arm()
        self.happened()

    def _take(self, event: Event) -> None:
        if isinstance(event, SessionReady):
            self.ready = event
        elif isinstance(event, DataReceived):
            self.received.setdefault(event.payload_type, bytearray()).extend(event.data)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self.connection.next_timeout()
        if deadline is not None:
            delay = max(0.0, deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._fired)

    def _fired(self) -> None:
        self.connection.handle_timeout(time.monotonic())
        task = asyncio.ensure_future(self.pump())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_acknowledgement(message: bytes | str) -> bool:
    return isinstance(message, bytes) and ClientMessage.parse(message).message_type == ClientMessageType.ACKNOWLEDGE
