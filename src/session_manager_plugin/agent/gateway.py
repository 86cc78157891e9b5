"""The sandbox's one port: the HTTP API and the websocket end of the data channels, on loopback.

The server of the websockets library reads only GET requests, but AWS SDKs send POST. So connections begin here as plain
HTTP, and a request for a websocket is passed to the library's sans-I/O ``ServerProtocol``. This also keeps the path of
a message short: all messages of one read are passed to the session in one call, and its answers leave in one write,
without a task, future or queue. Unfragmented binary messages, of which a session consists, bypass the library
(``protocol/websocket_frames.py``).

States of a connection::

    HTTP      answers requests until one asks for a websocket, or no request arrives for ``OPENING_TIMEOUT``
    OPENING   a websocket, whose first message has to be the text message with the token
    OPEN      relays binary messages between the client and its session
    CLOSING   a close frame was sent; received data is ignored

The buffers for a client that does not read are bounded: above ``HIGH_WATER`` its session stops producing output, and
above ``MAX_UNREAD_SIZE`` the client's messages are not read either, since each would be answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from enum import Enum, auto
from http import HTTPStatus
from typing import cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from session_manager_plugin.agent.faults import ABNORMAL_CLOSURE
from session_manager_plugin.agent.http_messages import (
    BadRequestError,
    HttpRequest,
    HttpResponse,
    RequestReader,
    text_response,
)
from session_manager_plugin.agent.session import SandboxSession, SessionLookup
from session_manager_plugin.errors import RemoteProtocolError
from session_manager_plugin.protocol.payloads import OpenDataChannelInput
from session_manager_plugin.protocol.websocket_frames import FragmentJoiner, FrameReader, frame_header
from session_manager_plugin.utils.logging import get_logger

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library has no compiled part for this platform
    from websockets.utils import apply_mask

DATA_CHANNEL_PATH = "/v1/data-channel/"
OPENING_TIMEOUT = 30.0
"""Seconds within which a connection must send its next request, or a websocket its first message."""
CLOSE_TIMEOUT = 10.0
"""Seconds within which a client must answer a close frame or close its end."""
MAX_MESSAGE_SIZE = 64 * 1024
"""Bytes. Both ends send little more than 1 KiB in one message; only a handshake may be longer."""
HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024
MAX_UNREAD_SIZE = 4 * 1024 * 1024
"""Bytes queued for a client that does not read. A client that keeps to its window never reaches this."""

_LIBRARY_LOGGER = get_logger(f"{__name__}.websockets")
_LIBRARY_LOGGER.setLevel(logging.WARNING)  # at lower levels the library logs headers and messages, the token included


class _State(Enum):
    HTTP = auto()
    OPENING = auto()
    OPEN = auto()
    CLOSING = auto()


class Gateway:
    """Listens on 127.0.0.1. ``respond`` answers API requests, ``find_session`` returns sessions by id, ``refusal``
    returns why a request for a websocket is refused with status 403, or None."""

    def __init__(
        self,
        respond: Callable[[HttpRequest], HttpResponse],
        find_session: SessionLookup,
        refusal: Callable[[HttpRequest], str | None],
    ) -> None:
        self.respond = respond
        self.find_session = find_session
        self.refusal = refusal
        self.port = 0
        self.connections: set[SandboxSocket] = set()
        self._server: asyncio.Server | None = None

    async def start(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Listen on ``port``, 0 for any free port; with TLS if a context is given. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SandboxSocket(self), "127.0.0.1", port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end all connections. Data already written is sent, for a second at most."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.go_away()
        if gone := [connection.gone for connection in self.connections]:
            await asyncio.wait(gone, timeout=1)
        for connection in list(self.connections):
            connection.abort()
        await self._server.wait_closed()


class SandboxSocket(asyncio.Protocol):
    """One connection to the port; see the module docstring. It is its session's ``ClientLink`` while OPEN."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._state = _State.HTTP
        self._transport: asyncio.Transport
        self._requests = RequestReader()
        self._websocket = ServerProtocol(max_size=MAX_MESSAGE_SIZE, logger=_LIBRARY_LOGGER)
        self._frames = FrameReader(MAX_MESSAGE_SIZE, apply_mask)
        self._fragments = FragmentJoiner()
        self._stalled = False
        self._path_session_id = ""
        self._session: SandboxSession | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is closed."""

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        self._gateway.connections.add(self)
        self._expect_within(OPENING_TIMEOUT)

    def data_received(self, data: bytes) -> None:
        """The client has sent ``data``."""
        if self._state is _State.HTTP:
            self._requests.feed(data)
            self._answer_requests()
        else:
            self._frames.feed(data)
            self._handle_frames()

    def eof_received(self) -> bool:
        """The client has sent its end of file. The transport is closed after writing what is queued."""
        if self._state is not _State.HTTP:
            self._websocket.receive_eof()
            self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._gateway.connections.discard(self)
        if self._session is not None:
            self._session.detach(self)
        self.gone.set_result(None)

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        if self._session is not None:
            self._session.set_congested(self, True)

    def resume_writing(self) -> None:
        """The client has caught up."""
        if not self._stalled:
            self._transport.resume_reading()
        if self._session is not None:
            self._session.set_congested(self, False)

    # HTTP.

    def _answer_requests(self) -> None:
        try:
            while self._state is _State.HTTP and (request := self._requests.next_request()) is not None:
                self._answer(request)
        except BadRequestError as error:
            self._respond(text_response(error.status, str(error)), keep_alive=False)
        else:
            if self._requests.must_continue():
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _answer(self, request: HttpRequest) -> None:
        if "origin" in request.headers:
            # A page in a browser. Without this check any web site could send requests to its visitor's sandbox.
            refusal = text_response(HTTPStatus.FORBIDDEN, "The sandbox does not talk to browsers.")
            self._respond(refusal, keep_alive=False)
        elif not request.is_websocket:
            self._respond(self._gateway.respond(request), keep_alive=request.keep_alive)
        elif not request.path.startswith(DATA_CHANNEL_PATH):
            self._respond(text_response(HTTPStatus.NOT_FOUND, "No data channel here."), keep_alive=False)
        elif (reason := self._gateway.refusal(request)) is not None:
            body = json.dumps({"message": reason}).encode()
            self._respond(HttpResponse(HTTPStatus.FORBIDDEN, body, "application/json"), keep_alive=False)
        else:
            self._path_session_id = request.path.removeprefix(DATA_CHANNEL_PATH).partition("?")[0]
            session = self._gateway.find_session(self._path_session_id)
            if session is not None and not session.admit_websocket():
                self._respond(text_response(HTTPStatus.FORBIDDEN, "Forbidden"), keep_alive=False)
            else:
                self._open_websocket(request)

    def _respond(self, response: HttpResponse, *, keep_alive: bool) -> None:
        self._transport.write(response.serialize(keep_alive=keep_alive))
        if keep_alive:
            self._expect_within(OPENING_TIMEOUT)
        else:
            self._state = _State.CLOSING
            self._transport.close()

    # The websocket.

    def _open_websocket(self, request: HttpRequest) -> None:
        self._state = _State.OPENING
        self._expect_within(OPENING_TIMEOUT)
        self._websocket.receive_data(request.head)
        for event in self._websocket.events_received():
            assert isinstance(event, Request)
            self._websocket.send_response(self._websocket.accept(event))
        # Frames of the same read are handled only now, after the response to the request.
        if rest := self._requests.take_rest():
            self._frames.feed(rest)
        self._handle_frames()

    def _handle_frames(self) -> None:
        messages: list[bytes | bytearray] = []
        while True:
            payloads, other = self._frames.read(binary=self._state is _State.OPEN and not self._fragments.is_waiting)
            messages += payloads
            if not other:
                break
            if other[0] & 0x0F == Opcode.PING:
                if self._withholds_pongs():
                    continue
                if delay := self._pong_delay():
                    asyncio.get_running_loop().call_later(delay, self._answer_ping, other)
                    continue
            self._websocket.receive_data(other)
            self._handle_events(messages)
        if messages and self._session is not None:
            self._session.receive(self, messages)
        if self._websocket.state is not State.OPEN and self._state is not _State.CLOSING:
            self._leave()
        self._flush()

    def _handle_events(self, messages: list[bytes | bytearray]) -> None:
        for frame in self._websocket.events_received():
            assert isinstance(frame, Frame)
            if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            message = self._fragments.add(frame.opcode, cast(bytes, frame.data), fin=frame.fin)
            if message is None:
                continue
            opcode, data = message
            if self._state is _State.OPENING:
                self._open_session(opcode, data)
            elif opcode == Opcode.BINARY:
                messages.append(data)

    def _open_session(self, opcode: int, data: bytes | bytearray) -> None:
        session = self._gateway.find_session(self._path_session_id)
        token = _opening_token(data) if opcode == Opcode.TEXT else None
        if session is None or token is None or not session.take_token(token):
            self.close(CloseCode.POLICY_VIOLATION)
            return
        self._session = session
        self._state = _State.OPEN
        self._expect_within(None)
        session.attach(self)

    def _answer_ping(self, ping: bytes) -> None:
        """Answer a ping that was kept waiting."""
        if self._websocket.state is State.OPEN:
            self._websocket.receive_data(ping)
            self._handle_events([])
            self._flush()

    def _pong_delay(self) -> float:
        session = self._gateway.find_session(self._path_session_id)
        return 0.0 if session is None else session.pong_delay

    def _withholds_pongs(self) -> bool:
        session = self._gateway.find_session(self._path_session_id)
        return session is not None and session.withhold_pongs

    def send(self, messages: Sequence[bytes | bytearray]) -> None:
        """Send binary messages to the client in one write. Ignored once the websocket is closing."""
        if self._websocket.state is not State.OPEN:
            return
        self._flush()
        if not self._transport.is_closing():
            parts: list[bytes | bytearray] = []
            for message in messages:
                parts += (frame_header(len(message)), message)
            self._write(b"".join(parts))

    def close(self, code: int) -> None:
        """Close the websocket after writing what is queued."""
        if self._websocket.state is State.OPEN:
            self._websocket.send_close(code)
        self._leave()
        self._flush()

    def cut(self, code: int | None) -> None:
        """End the websocket as a fault does; see ``Faults.cut_code``."""
        if code is None:
            # SO_LINGER with 0 seconds makes the kernel send a reset and discard unsent data.
            with contextlib.suppress(OSError):
                connection: socket.socket = self._transport.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        elif code == ABNORMAL_CLOSURE:
            self._state = _State.CLOSING
            self._transport.close()
        else:
            self.close(code)

    def set_stalled(self, stalled: bool) -> None:
        """Stop or resume reading from the client."""
        self._stalled = stalled
        if stalled:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def go_away(self) -> None:
        """Close the websocket because the sandbox closes."""
        if self._state in (_State.OPENING, _State.OPEN):
            self.close(CloseCode.GOING_AWAY)
        elif self._state is _State.HTTP:
            self._transport.close()

    def abort(self) -> None:
        """Abort the connection at once."""
        self._transport.abort()

    def _leave(self) -> None:
        self._state = _State.CLOSING
        self._expect_within(CLOSE_TIMEOUT)
        if self._stalled:
            self.set_stalled(False)
        if self._session is not None:
            self._session.detach(self)

    def _flush(self) -> None:
        writes = self._websocket.data_to_send()
        if not writes or self._transport.is_closing():
            return
        ends = writes[-1] is SEND_EOF
        self._write(b"".join(writes))
        if ends and self._transport.can_write_eof():
            self._transport.write_eof()
        elif ends:  # TLS connections cannot be half closed
            self._transport.close()

    def _write(self, data: bytes) -> None:
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > MAX_UNREAD_SIZE:
            self._transport.pause_reading()

    # Time.

    def _expect_within(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._loop.call_later(seconds, self._overdue)

    def _overdue(self) -> None:
        if self._state is _State.OPENING:
            self.close(CloseCode.POLICY_VIOLATION)
        else:
            self._transport.close()


def _opening_token(data: bytes | bytearray) -> str | None:
    """Return the token of the message that opens a data channel; None if it is another message."""
    try:
        return OpenDataChannelInput.from_json(data).token
    except RemoteProtocolError:
        return None
