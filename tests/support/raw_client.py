"""A client of a few lines: ``SessionEndpoint(Role.CLIENT)`` over websockets, without anything of ours between.

It shows what the far end does on the wire; what the real client makes of it is tested elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataReceived,
    Event,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, Flag, PayloadType
from session_manager_plugin.protocol.payloads import Size
from session_manager_plugin.protocol.role import Role

SESSION_TYPES = ("Standard_Stream", "InteractiveCommands", "NonInteractiveCommands", "Port")
DEADLINE = 60.0
"""Seconds after which something that was awaited counts as not having come."""


class RawClient:
    """One session's client end, over any number of websockets; use as an async context manager.

    ``output`` is what the far end has sent and nothing has taken yet, ``error_output`` what came as STDERR, ``flags``
    what came as FLAG; ``exit_code`` the text of that message; ``ready`` the ``SessionReady`` event once it came;
    ``channel_closed`` the output of that message; ``close_code`` the last websocket's. Set ``tls`` for a ``wss`` URL.
    """

    def __init__(self, *, version: str = "1.3.0.0", handshake_required: bool = False) -> None:
        self._loop = asyncio.get_running_loop()
        self.connection = SessionEndpoint(
            Role.CLIENT,
            version=version,
            epoch=time.time() - self._loop.time(),
            random_bytes=os.urandom,
            session_types=SESSION_TYPES,
            handshake_required=handshake_required,
        )
        self.output = bytearray()
        self.error_output = bytearray()
        self.flags: list[bytes] = []
        self.exit_code: str | None = None
        self.ready: SessionReady | None = None
        self.failed: SessionFailed | None = None
        self.channel_closed: str | None = None
        self.close_code: int | None = None
        self.tls: ssl.SSLContext | None = None
        self._changed = asyncio.Event()
        self.websocket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._may_receive = asyncio.Event()
        self._may_receive.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.disconnect()

    async def open(self, stream_url: str, token: str | None) -> None:
        """Open a websocket and send the token; resends what is unacknowledged."""
        assert token is not None
        self.close_code = None
        self.websocket = await connect(stream_url, proxy=None, compression=None, ssl=self.tls)
        self.connection.connected(token, self._loop.time())
        self._tasks = [asyncio.create_task(self._receive()), asyncio.create_task(self._keep_time())]
        await self._send_due()

    async def disconnect(self) -> None:
        """Lose the websocket as a dropped network does: no close frame. The session stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self.websocket is not None:
            self.websocket.transport.abort()
            await self.websocket.wait_closed()
            self.websocket = None
            self.connection.disconnected(self._loop.time())

    def hold(self) -> None:
        """Take no more messages, so that the websocket is not read after a few."""
        self._may_receive.clear()

    def release(self) -> None:
        """Take messages again."""
        self._may_receive.set()

    async def send_input(self, data: bytes) -> None:
        """Type ``data``, as fast as the window opens."""
        for start in range(0, len(data), MAX_PAYLOAD_SIZE):
            await self.send(PayloadType.OUTPUT, data[start : start + MAX_PAYLOAD_SIZE])

    async def send_flag(self, flag: Flag) -> None:
        """Send a flag."""
        await self.send(PayloadType.FLAG, flag.serialize())

    async def resize(self, columns: int, rows: int) -> None:
        """Report a terminal size."""
        await self.send(PayloadType.SIZE, Size(columns, rows).to_json().encode())

    async def send(self, payload_type: PayloadType, payload: bytes) -> None:
        """Send one stream message when the session is ready and its window has room."""
        await self.until(lambda: self.connection.send_capacity > 0)
        self.connection.send_data(payload_type, payload, self._loop.time())
        await self._send_due()

    async def read_until(self, marker: bytes) -> bytes:
        """The output up to and including ``marker``."""
        await self.until(lambda: marker in self.output)
        end = self.output.index(marker) + len(marker)
        taken = bytes(self.output[:end])
        del self.output[:end]
        return taken

    async def read_exactly(self, size: int) -> bytes:
        """The next ``size`` bytes of output."""
        await self.until_size(size)
        taken = bytes(self.output[:size])
        del self.output[:size]
        return taken

    async def until_size(self, size: int) -> None:
        """Return when at least ``size`` bytes of output wait to be taken."""
        await self.until(lambda: len(self.output) >= size)

    async def until_closed(self) -> str:
        """The output of ``channel_closed``, once it came and the websocket is closed."""
        await self.until(lambda: self.channel_closed is not None and self.close_code is not None)
        assert self.channel_closed is not None
        return self.channel_closed

    async def until(self, predicate: Callable[[], bool]) -> None:
        """Return when ``predicate()`` is true; raises ``TimeoutError``."""
        async with asyncio.timeout(DEADLINE):
            while not predicate():
                self._changed.clear()
                await self._changed.wait()

    def take_output(self, event: DataReceived) -> None:
        """Output has come."""
        self.output += event.data

    async def _receive(self) -> None:
        assert self.websocket is not None
        with contextlib.suppress(ConnectionClosed):
            async for message in self.websocket:
                await self._may_receive.wait()
                self.connection.receive_message(message, self._loop.time())
                await self._send_due()
        self.close_code = self.websocket.close_code
        self._changed.set()

    async def _keep_time(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self.connection.handle_timeout(self._loop.time())
            await self._send_due()

    async def _send_due(self) -> None:
        while (event := self.connection.next_event()) is not None:
            self._take(event)
        self._changed.set()
        if self.websocket is not None:
            with contextlib.suppress(ConnectionClosed):
                for message in self.connection.messages_to_send(self._loop.time()):
                    await self.websocket.send(message)

    def _take(self, event: Event) -> None:
        match event:
            case DataReceived(payload_type=PayloadType.OUTPUT):
                self.take_output(event)
            case DataReceived(payload_type=PayloadType.STDERR):
                self.error_output += event.data
            case DataReceived(payload_type=PayloadType.EXIT_CODE):
                self.exit_code = event.data.decode()
            case DataReceived(payload_type=PayloadType.FLAG):
                self.flags += [bytes(payload) for payload in event.payloads]
            case SessionReady():
                self.ready = event
            case SessionFailed():
                self.failed = event
            case ChannelClosedReceived(output=output):
                self.channel_closed = output
