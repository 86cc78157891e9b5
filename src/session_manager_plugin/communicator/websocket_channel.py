"""One websocket: opening with retries, handlers, flow control, closing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from session_manager_plugin.communicator.config import (
    ConnectionHandler,
    ConnectionState,
    ErrorHandler,
    MessageHandler,
    MessageType,
    WebSocketConfig,
    WebSocketMessage,
)
from session_manager_plugin.communicator.gateway_socket import (
    CLOSE_TIMEOUT,
    GatewaySocket,
    Message,
    open_gateway_socket,
)
from session_manager_plugin.communicator.keepalive import Keepalive
from session_manager_plugin.errors import NotConnected, SessionManagerError
from session_manager_plugin.utils.logging import get_logger, redact_url, register_secret

BatchHandler = Callable[[list[Message]], None]
"""Receives all messages of one socket read, in order."""


class WebSocketChannel:
    """A websocket to a message gateway.

    The handler of ``set_message_handler`` receives each message; that of ``set_batch_handler`` receives all messages of
    a read in one call, which is faster. Without a handler, messages are kept, and reading pauses once
    ``max_queue_size`` are kept (or more: a read is kept whole). No message is dropped. Exceptions of these two handlers
    are passed to the error handler; an exception of the batch handler also ends the connection. All methods belong to
    one event loop.
    """

    def __init__(self, config: WebSocketConfig) -> None:
        self.logger = get_logger(__name__)
        self.last_error: Exception | None = None
        """Why the last attempt to connect failed, or the connection ended."""
        self.last_contact_at = 0.0
        """When the last byte was received, in monotonic seconds."""
        self._config = config
        self._connection: GatewaySocket | None = None
        self._state = ConnectionState.DISCONNECTED
        self._connect_lock = asyncio.Lock()
        self._queue: list[Message] = []
        self._reading_paused = False
        self._reading = True
        self._writing_paused = False
        self._writing_resumed = asyncio.Event()
        self._writing_resumed.set()
        self._message_handler: MessageHandler | None = None
        self._batch_handler: BatchHandler | None = None
        self._error_handler: ErrorHandler | None = None
        self._connection_handler: ConnectionHandler | None = None
        self._write_resumed_handler: Callable[[], None] | None = None
        self._silence_handler: Callable[[], None] | None = None
        self._keepalive = Keepalive(config.ping_interval, config.ping_timeout, self)
        self._message_count = 0
        self._bytes_received = 0
        self._bytes_sent = 0
        self._error_count = 0
        register_secret(config.token, owner=self)

    @property
    def config(self) -> WebSocketConfig:
        """The configuration of the last ``connect``, which the next one uses by default."""
        return self._config

    @property
    def is_connected(self) -> bool:
        """Whether messages can be sent."""
        return self._state is ConnectionState.CONNECTED and self._connection is not None

    @property
    def connection_state(self) -> ConnectionState:
        """The state of the connection."""
        return self._state

    @property
    def latency(self) -> float | None:
        """Seconds between the last answered ping and its pong; None before the first."""
        return self._keepalive.latency

    @property
    def can_write(self) -> bool:
        """Whether the websocket is open and the socket's buffer has room."""
        return self._connection is not None and self._connection.is_open and not self._writing_paused

    @property
    def unsent_size(self) -> int:
        """Bytes written that are still in this process's buffer."""
        return 0 if self._connection is None else self._connection.transport.get_write_buffer_size()

    @property
    def reading_paused(self) -> bool:
        """Whether reading from the network is paused."""
        return self._reading_paused or len(self._queue) >= self._config.max_queue_size

    def set_message_handler(self, handler: MessageHandler) -> None:
        """Call ``handler`` with each message."""
        self._message_handler = handler
        self._flush_queue()
        self._apply_flow_control()

    def set_batch_handler(self, handler: BatchHandler) -> None:
        """Call ``handler`` with the messages of each socket read as one list. Takes precedence over the message
        handler."""
        self._batch_handler = handler
        self._flush_queue()
        self._apply_flow_control()

    def set_error_handler(self, handler: ErrorHandler) -> None:
        """Call ``handler`` with every error: of connecting, of the connection, of the message handler."""
        self._error_handler = handler

    def set_connection_handler(self, handler: ConnectionHandler) -> None:
        """Call ``handler`` at every change of state."""
        self._connection_handler = handler

    def set_write_resumed_handler(self, handler: Callable[[], None]) -> None:
        """Call ``handler`` when ``can_write`` becomes true again."""
        self._write_resumed_handler = handler

    def set_silence_handler(self, handler: Callable[[], None]) -> None:
        """Call ``handler`` when ``silent_since`` is no longer None, and at every pong."""
        self._silence_handler = handler

    @property
    def silent_since(self) -> float | None:
        """When the oldest unanswered ping was sent, if ``SILENCE_DELAY`` has passed without data; otherwise None."""
        return self._keepalive.silent_since

    def check_link(self) -> None:
        """Send a ping now, to check the link, unless one is unanswered."""
        self._keepalive.check()

    def check_clock(self) -> None:
        """Send a ping now if this machine has slept. Cheap; call it when the user acts."""
        self._keepalive.check_clock()

    # Opening.

    async def connect(self, config: WebSocketConfig | None = None) -> bool:
        """Open the websocket, with up to ``retry_attempts`` attempts while the errors are temporary.

        ``config`` replaces the configuration from this attempt on: a new URL and token for the same session. Returns
        False if all attempts failed; the reason is in ``last_error`` and was passed to the error handler. Returns True
        if the websocket was opened, even if the far end has closed it since.
        """
        async with self._connect_lock:
            if self.is_connected:
                return True
            if config is not None:
                register_secret(config.token, owner=self)
                self._config = config
            self._set_state(ConnectionState.CONNECTING)
            try:
                connection = await self._open_with_retries()
            except asyncio.CancelledError:
                self._set_state(ConnectionState.CLOSED)
                raise
            if connection is None:
                return False
            self._connection = connection
            self._pause_writing(False)
            self.last_contact_at = time.monotonic()
            self._set_state(ConnectionState.CONNECTED)
            if self.is_connected:  # the handler may have closed the connection
                self._keepalive.start(connection)
                self._apply_flow_control()
                connection.attach()
            return True

    async def _open_with_retries(self) -> GatewaySocket | None:
        """Return the connection; None if every attempt failed, or ``close`` was called in the meantime."""
        config = self._config
        self.logger.info("connecting to %s", redact_url(config.url))
        attempt = 1
        while self._state is ConnectionState.CONNECTING:
            try:
                connection = await open_gateway_socket(config, self)
            except SessionManagerError as error:
                self._failed(error)
                if not getattr(error, "retryable", False) or attempt >= config.retry_attempts:
                    break
                await asyncio.sleep(config.retry_delay * attempt)
                attempt += 1
            else:
                if self._state is ConnectionState.CONNECTING:
                    return connection
                connection.transport.abort()
        if self._state is ConnectionState.CONNECTING:
            self._set_state(ConnectionState.ERROR)
        return None

    # Messages.

    async def send_message(self, data: str | bytes | dict[str, Any]) -> None:
        """Send one message, a dict as JSON text. Waits while the socket's buffer is full.

        Raises ``NotConnected`` (a ``RuntimeError``) if the websocket is not open, ``ValueError`` for other types.
        """
        if isinstance(data, dict):
            data = json.dumps(data)
        if not isinstance(data, str | bytes):
            raise ValueError(f"unsupported message type: {type(data).__name__}")
        await self._writing_resumed.wait()
        self.write_messages([data])

    def write_messages(self, messages: Sequence[str | bytes]) -> None:
        """Send messages in one write, without waiting. Raises ``NotConnected``."""
        if self._connection is None:
            raise NotConnected("the websocket is not connected")
        self._connection.write_messages(messages)
        self._bytes_sent += sum(map(len, messages))

    def pause_reading(self) -> None:
        """Stop reading from the socket and calling the handlers."""
        self._reading_paused = True
        self._apply_flow_control()

    def resume_reading(self) -> None:
        """Read from the socket and call the handlers again."""
        if self._reading_paused:
            self._reading_paused = False
            self._flush_queue()
            self._apply_flow_control()

    # ``GatewaySocketOwner``

    def messages_received(self, connection: GatewaySocket, messages: list[Message]) -> None:
        """All messages of one read."""
        if connection is not self._connection:
            return
        self._message_count += len(messages)
        self._bytes_received += sum(map(len, messages))
        if self._batch_handler is not None and not self._reading_paused and not self._queue:
            try:
                self._batch_handler(messages)
            except Exception as error:
                self._batch_failed(error)
            return
        self._queue.extend(messages)
        self._flush_queue()
        if self._queue:
            self._apply_flow_control()

    def pong_received(self, payload: bytes) -> None:
        """A pong was received."""
        self._keepalive.pong(payload)
        self.silence_changed()

    def silence_changed(self) -> None:
        """``silent_since`` may have changed."""
        if self._silence_handler is not None:
            self._silence_handler()

    def write_paused(self, connection: GatewaySocket, paused: bool) -> None:
        """The socket's buffer is full, or has room again."""
        if connection is not self._connection:
            return
        self._pause_writing(paused)
        if not paused and self._write_resumed_handler is not None:
            self._write_resumed_handler()

    def _pause_writing(self, paused: bool) -> None:
        self._writing_paused = paused
        self._writing_resumed.clear() if paused else self._writing_resumed.set()

    def connection_ended(self, connection: GatewaySocket | None, error: Exception) -> None:
        """The connection was lost, or closed by the far end. Only the first call for a connection has an effect."""
        if connection is None or connection is not self._connection:
            return
        self._detach()
        connection.transport.abort()
        self._failed(error)
        self._set_state(ConnectionState.ERROR)

    def _flush_queue(self) -> None:
        """Pass the queued messages to the handler, unless reading is paused or no handler is set."""
        if not self._queue or self._reading_paused:
            return
        if self._batch_handler is not None:
            messages, self._queue = self._queue, []
            try:
                self._batch_handler(messages)
            except Exception as error:
                self._batch_failed(error)
        elif self._message_handler is not None:
            messages, self._queue = self._queue, []
            self._deliver_each(messages)

    def _apply_flow_control(self) -> None:
        reading = not self.reading_paused
        if reading and not self._reading:
            self._keepalive.reading_resumed()
        self._reading = reading
        if self._connection is not None:
            self._connection.set_reading(reading)

    def _batch_failed(self, error: Exception) -> None:
        """End the connection because of a bug on this side: the state of the session is unknown."""
        self.logger.error("the message handler failed", exc_info=error)
        self.connection_ended(self._connection, error)

    def _deliver_each(self, messages: list[Message]) -> None:
        now = time.time()
        for position, message in enumerate(messages):
            if self._reading_paused or self._message_handler is None:
                self._queue[:0] = messages[position:]
                return
            kind = MessageType.TEXT if isinstance(message, str) else MessageType.BINARY
            data = message if isinstance(message, str) else bytes(message)
            try:
                self._message_handler(WebSocketMessage(kind, data, now))
            except Exception as error:
                self.logger.exception("the message handler failed")
                self._failed(error)

    # The end.

    async def close(self) -> None:
        """Close the websocket with a closing handshake, within ``CLOSE_TIMEOUT``. Idempotent."""
        if self._state in (ConnectionState.CLOSING, ConnectionState.CLOSED):
            return
        self._set_state(ConnectionState.CLOSING)
        connection = self._detach()
        if connection is not None:
            connection.set_reading(True)  # to receive the far end's close frame
            try:
                # ``GatewaySocket.close`` itself has no time limit.
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await connection.close()
            except TimeoutError:
                self.logger.info("the far end did not answer the close frame")
            finally:
                connection.transport.abort()
        self._set_state(ConnectionState.CLOSED)

    def drop(self, error: Exception) -> None:
        """Abort the connection as if it had been lost because of ``error``."""
        self.connection_ended(self._connection, error)

    def abort(self) -> None:
        """Abort the connection without a closing handshake."""
        connection = self._detach()
        if connection is not None:
            connection.transport.abort()
        self._set_state(ConnectionState.CLOSED)

    def _detach(self) -> GatewaySocket | None:
        """Ignore the connection from now on. Returns it, to be closed."""
        connection, self._connection = self._connection, None
        self._keepalive.stop()
        self._pause_writing(False)  # a waiting ``send_message`` then raises
        return connection

    def _failed(self, error: Exception) -> None:
        self.last_error = error
        self._error_count += 1
        if self._error_handler is not None:
            try:
                self._error_handler(error)
            except Exception:
                self.logger.exception("the error handler failed")

    def _set_state(self, state: ConnectionState) -> None:
        if state is self._state:
            return
        self.logger.debug("%s -> %s", self._state.value, state.value)
        self._state = state
        if self._connection_handler is not None:
            try:
                self._connection_handler(state)
            except Exception:
                self.logger.exception("the connection handler failed")

    def get_connection_info(self) -> dict[str, Any]:
        """Return facts for monitoring. The URL's token is shown as ``***``; times are in seconds since the Unix
        epoch; the bytes are those of messages, on all connections so far. ``tls`` is empty while there is no
        connection."""
        return {
            "state": self._state.value,
            "is_connected": self.is_connected,
            "url": redact_url(self._config.url),
            "tls": "" if self._connection is None else self._connection.tls,
            "message_count": self._message_count,
            "bytes_received": self._bytes_received,
            "bytes_sent": self._bytes_sent,
            "error_count": self._error_count,
            "last_ping_time": self._keepalive.last_ping_time,
            "last_pong_time": self._keepalive.last_pong_time,
            "queue_size": len(self._queue),
            "ping_interval": self._config.ping_interval,
        }


@contextlib.asynccontextmanager
async def websocket_channel(config: WebSocketConfig) -> AsyncIterator[WebSocketChannel]:
    """Yield a channel after calling ``connect`` (check ``is_connected``), and close it at the end of the block."""
    channel = WebSocketChannel(config)
    try:
        await channel.connect()
        yield channel
    finally:
        await channel.close()
