"""The websocket itself: the library's sans-I/O protocol, and a data path of our own.

``opening`` makes the connection to the gateway. The library handles the opening handshake and all frames but binary
messages. Binary messages are parsed here (``websocket_frames``): the owner receives all messages of one socket read at
once, without a task, future or queue in between. The owner's answers leave in one write, with one call for the random
masks of all frames. ``docs/performance.md`` has the measurements.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from session_manager_plugin.communicator.aws_hosts import is_aws_host
from session_manager_plugin.communicator.config import WebSocketConfig
from session_manager_plugin.communicator.http_answer import Answer, NotHTTP, answer_of
from session_manager_plugin.communicator.opening import USER_AGENT, Opening, Stage
from session_manager_plugin.communicator.opening_signature import OpeningSignature
from session_manager_plugin.communicator.read_coalescer import ReadCoalescer
from session_manager_plugin.communicator.route import Route, route_of
from session_manager_plugin.communicator.stream_url import validate_websocket_url
from session_manager_plugin.communicator.tls import ssl_context
from session_manager_plugin.errors import (
    ConnectionLost,
    InvalidURL,
    NotConnected,
    ProxyRefused,
    Refused,
    RemoteProtocolError,
    SessionManagerError,
)
from session_manager_plugin.protocol.websocket_frames import FragmentJoiner, FrameReader, FrameWriter
from session_manager_plugin.utils.hosts import host_and_port, join_host_and_port
from session_manager_plugin.utils.link_options import Bearer
from session_manager_plugin.utils.logging import get_logger, redact_url
from session_manager_plugin.utils.text import printable, ssl_text

try:
    from websockets.speedups import apply_mask
except ImportError:  # the library has no compiled part for this platform
    from websockets.utils import apply_mask

_LOGGER = get_logger(__name__)
_LIBRARY_LOGGER = get_logger(f"{__name__}.websockets")
_LIBRARY_LOGGER.setLevel(logging.WARNING)  # at lower levels the library logs headers and messages, the token included
CLOSE_TIMEOUT = 2.0
"""Seconds for the closing handshake; after that the connection is cut."""
READ_SIZE = 64 * 1024
"""Most bytes of one read of the socket, some fifty messages. Each session has a buffer of this size."""
WRITE_LIMIT = 1024 * 1024
"""Bytes in the socket's write buffer above which ``write_paused`` is called."""

Message = str | bytes | bytearray
_HEAD_END = b"\r\n\r\n"


class GatewaySocketOwner(Protocol):
    """The callbacks of a ``GatewaySocket``."""

    last_contact_at: float
    """When the last byte was received, in seconds of the socket's clock. The socket sets it at every read."""

    def messages_received(self, connection: GatewaySocket, messages: list[Message]) -> None:
        """All messages of one read, in order."""

    def pong_received(self, payload: bytes) -> None:
        """A pong was received."""

    def write_paused(self, connection: GatewaySocket, paused: bool) -> None:
        """The socket's buffer is full, or has room again."""

    def connection_ended(self, connection: GatewaySocket | None, error: Exception) -> None:
        """The connection was lost, or closed by the far end."""


async def open_gateway_socket(config: WebSocketConfig, owner: GatewaySocketOwner) -> GatewaySocket:
    """Open the websocket of ``config``. Call ``attach`` on the result to receive messages.

    If the gateway refuses a signed request with status 403, an unsigned request follows.
    Raises ``InvalidURL``, ``ConfigurationError`` or ``ConnectError``.
    """
    if not validate_websocket_url(config.url):
        raise InvalidURL(f"invalid stream URL {redact_url(config.url)!r}")
    signature = OpeningSignature.of(config.url, config.network, config.signer, config.connect_timeout)
    try:
        return await _open(config, owner, signature)
    except ProxyRefused:
        raise
    except Refused as error:
        if signature is None or not signature.sent or error.status != HTTPStatus.FORBIDDEN:
            raise
        refusal = error
    _LOGGER.info("%s; trying once without a signature", refusal)
    signature.signer.refused()
    signature.withdraw()
    try:
        connection = await _open(config, owner, signature)
    except Refused as error:
        raise Refused(
            f"{refusal}. Without a signature: {error}", host=error.host, status=error.status, retryable=error.retryable
        ) from error
    signature.signer.opened_unsigned(f"{refusal}; the connection was opened without a signature")
    return connection


async def _open(
    config: WebSocketConfig, owner: GatewaySocketOwner, signature: OpeningSignature | None
) -> GatewaySocket:
    place = join_host_and_port(*host_and_port(config.url))
    network = config.network
    route: Route | None = None
    opening: Opening | None = None
    try:
        route = route_of(config.url, network)
        _LOGGER.info("looking up %s and connecting to it", route.via or place)
        opening = Opening(route, ssl_context(network.ca_bundle) if route.is_secure else None)
        if signature is not None:
            signature.start()
        async with asyncio.timeout(config.connect_timeout):
            link = await opening.open()
            try:
                connection = GatewaySocket(owner, client_protocol(config.url, config.max_message_size))
                await link.hand_over(connection)
                headers = bearer_header(config.token, network.bearer, route.host)
                if signature is not None:
                    headers |= await signature.headers()
                await connection.handshake(headers)
            except BaseException:
                link.abort()
                raise
        _LOGGER.info("the websocket is open")
        return connection
    except SessionManagerError:
        raise
    except Exception as error:
        from session_manager_plugin.communicator.certificate import look_at_certificate
        from session_manager_plugin.communicator.connect_errors import connect_failure

        stage = Stage.NAME if opening is None else opening.stage
        certificate = None
        if route is not None and isinstance(error, ssl.SSLCertVerificationError) and stage is Stage.TLS:
            certificate = await look_at_certificate(route)
        raise connect_failure(
            error,
            place,
            via="" if route is None else route.via,
            timeout=config.connect_timeout,
            stage=stage,
            certificate=certificate,
            signature=signature,
            has_credentials=route is not None and route.has_proxy_credentials,
            names=network.names,
        ) from error
    finally:
        if signature is not None:
            signature.stop()


def client_protocol(url: str, max_size: int) -> ClientProtocol:
    """Return the library's protocol object for a websocket. ``max_size`` limits a message, in bytes.

    Raises the library's ``InvalidURI``.
    """
    return ClientProtocol(parse_uri(url), max_size=max_size, logger=_LIBRARY_LOGGER)


def bearer_header(token: str, bearer: Bearer, host: str) -> dict[str, str]:
    """Return the header with the token for a request to ``host``; empty if no such header is sent."""
    if token and (bearer is Bearer.ALWAYS or (bearer is Bearer.AUTO and not is_aws_host(host))):
        return {"Authorization": f"Bearer {token}"}
    return {}


def _log_way(transport: asyncio.BaseTransport) -> None:
    """Log the address of the connection and the parameters of TLS."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        _LOGGER.info("connected to %s port %s", *peer[:2])
    tls = transport.get_extra_info("ssl_object")
    if tls is not None:
        issuer = [value for names in (tls.getpeercert() or {}).get("issuer", ()) for _key, value in names]
        _LOGGER.info("%s with %s; certificate issued by %s", tls.version(), tls.cipher()[0], ", ".join(issuer))
    _LOGGER.info("asking for a websocket")


def _decoded(opcode: int, data: bytes | bytearray) -> Message:
    """Return a text message as ``str``, other messages unchanged.

    A text message that is not UTF-8 is returned as bytes: the session rejects it with a reason.
    """
    if opcode == Opcode.TEXT:
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    return data


class GatewaySocket(asyncio.BufferedProtocol):
    """One websocket: the library's sans-I/O protocol, with a data path of our own beside it.

    Call ``handshake`` once the connection is made, then ``attach``. Messages that arrive before ``attach``, possibly in
    the same read as the response to the opening request, are kept.
    """

    def __init__(
        self, owner: GatewaySocketOwner, protocol: ClientProtocol, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.transport: asyncio.Transport
        """Set when the connection is made."""
        self.protocol = protocol
        self.is_open = protocol.state is State.OPEN
        """Whether messages can be sent; false once either end has begun to close."""
        self._owner = owner
        self._attached = False
        self._opened = protocol.state is not State.CONNECTING
        """Whether the response to the opening request was received."""
        self._answered = asyncio.Event()
        self._response: Response | None = None
        self._answer = b""
        """The bytes received so far of the response to the opening request."""
        assert protocol.max_message_size is not None
        self._read_buffer = memoryview(bytearray(READ_SIZE))
        self._reader = FrameReader(protocol.max_message_size)
        self._writer = FrameWriter(os.urandom, apply_mask)
        self._reads_binary = True
        """Whether a binary message may come next. Otherwise all frames are passed to the library."""
        self._messages: list[Message] = []
        self._in_read = False
        """Whether a read is being processed. Messages sent meanwhile are acknowledgements, which are not answered."""
        self._coalescer = ReadCoalescer()
        self._low_water = 1
        self._wait_timer: asyncio.TimerHandle | None = None
        self._fragments = FragmentJoiner()
        self._lost = asyncio.Event()
        self._lost_by: Exception | None = None

    async def handshake(self, headers: Mapping[str, str]) -> Answer:
        """Send the opening request with additional ``headers``, and return the response, which has status 101.

        Raises ``NotHTTP``, and the library's exceptions for other responses. The caller then aborts the connection.
        """
        protocol = self.protocol
        request = protocol.connect()
        request.headers["User-Agent"] = USER_AGENT
        for name, value in headers.items():
            request.headers.pop(name, None)  # assignment alone would add a second value
            request.headers[name] = value
        protocol.send_request(request)
        self._write()
        await self._answered.wait()
        error = protocol.handshake_exc
        if isinstance(error, InvalidMessage):
            raise NotHTTP(self._answer, cut_short=isinstance(error.__cause__, EOFError)) from error
        if error is not None:
            raise error
        assert self._response is not None
        return answer_of(self._response)

    @property
    def tls(self) -> str:
        """Version and cipher of TLS; ``none`` without TLS."""
        tls = self.transport.get_extra_info("ssl_object")
        return f"{tls.version()}, {tls.cipher()[0]}" if tls is not None else "none"

    def attach(self) -> None:
        """Pass messages to the owner, beginning with those received so far."""
        self._attached = True
        if self._messages:
            messages, self._messages = self._messages, []
            self._owner.messages_received(self, messages)
        self._report_end()

    def set_reading(self, reading: bool) -> None:
        """Read from the socket, or stop reading."""
        if self.transport.is_closing():
            return
        if reading:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def write_messages(self, messages: Sequence[str | bytes]) -> None:
        """Send messages in one write. Raises ``NotConnected``."""
        if not self.is_open:
            raise NotConnected("the websocket is closing")
        if not self._in_read:
            self._coalescer.sent(self._clock())
            self._set_low_water(1)
        if not self.transport.is_closing():
            self.transport.write(self._writer.write(messages))

    def ping_now(self, payload: bytes) -> None:
        """Send a ping, unless the websocket is closing."""
        if self.is_open:
            self.protocol.send_ping(payload)
            self._write()

    def _write(self) -> None:
        """Send what the library has to send. Call this after everything that may change the library's state."""
        self.is_open = self.protocol.state is State.OPEN
        data = b"".join(self.protocol.data_to_send())  # an empty item requests a half-close, which is not needed
        if data and not self.transport.is_closing():
            self.transport.write(data)

    async def close(self) -> None:
        """Send a close frame and wait, without a time limit, until the far end has closed the connection."""
        if self.is_open:
            self.protocol.send_close(CloseCode.NORMAL_CLOSURE)
            self._write()
        await self._lost.wait()

    # asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection to the gateway is made, TLS included."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._loop = asyncio.get_running_loop()
        self.transport.set_write_buffer_limits(high=WRITE_LIMIT)
        _log_way(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the buffer for the next read. (``asyncio.Protocol`` would allocate memory for each read.)"""
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process the bytes of one read."""
        now = self._owner.last_contact_at = self._clock()
        self._in_read = True
        data = self._read_buffer[:nbytes]
        if not self._opened:
            data = memoryview(self._receive_opening(bytes(data)))
            self._opened = self.protocol.state is not State.CONNECTING
        self._reader.feed(data)
        received, other = self._reader.read(binary=self._reads_binary)
        self._messages += received
        if other:
            self._receive_others(other)
        if self._attached:
            if self._messages:
                messages, self._messages = self._messages, []
                self._set_low_water(self._coalescer.received(messages, now))
                self._owner.messages_received(self, messages)
            if other:
                self._report_end()
        self._in_read = False

    def _receive_others(self, frame: bytes) -> None:
        """Process a frame that is not a whole binary message, and everything received after it."""
        while frame:
            self.protocol.receive_data(frame)
            for event in self.protocol.events_received():
                self._take(cast(Frame, event))
            self._reads_binary = self._is_receiving and not self._fragments.is_waiting
            received, frame = self._reader.read(binary=self._reads_binary)
            self._messages += received
        self._write()

    def _set_low_water(self, size: int) -> None:
        """Make the kernel report the socket as readable only once it has ``size`` bytes, or after the coalescer's
        ``wait``."""
        if self._wait_timer is not None:
            self._wait_timer.cancel()
            self._wait_timer = None
        if size > 1:
            self._wait_timer = self._loop.call_later(self._coalescer.wait, self._set_low_water, 1)
        if size != self._low_water:
            self._low_water = size
            with contextlib.suppress(OSError):  # the system has no such option
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _receive_opening(self, data: bytes) -> bytes:
        """Pass the response to the opening request to the library, and return the frames after it.

        The library would buffer a part of those frames.
        """
        seen = len(self._answer)
        self._answer += data
        found = self._answer.find(_HEAD_END, max(0, seen - len(_HEAD_END) + 1))
        end = len(data) if found < 0 else found + len(_HEAD_END) - seen
        self.protocol.receive_data(data[:end])
        rest = data[end:]
        if rest and self.protocol.state is State.CONNECTING:
            self.protocol.receive_data(rest)  # the body of a response that refuses the websocket
            rest = b""
        self._look_for_answer()
        return rest

    def _look_for_answer(self) -> None:
        for event in self.protocol.events_received():
            self._response = cast(Response, event)
        self.is_open = self.protocol.state is State.OPEN
        if self._response is not None or self.protocol.handshake_exc is not None:
            self._answered.set()

    @property
    def _is_receiving(self) -> bool:
        """Whether frames are processed; false after a close frame and after an illegal frame."""
        return self.protocol.close_rcvd is None and self.protocol.parser_exc is None

    def eof_received(self) -> None:
        """The far end has sent its end of file. The transport closes itself."""
        self._receive_end()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed. ``exc`` is None for a normal end."""
        self._lost_by = exc
        if self._wait_timer is not None:
            self._wait_timer.cancel()
        self._receive_end()
        self._lost.set()
        self._report_end()

    def _receive_end(self) -> None:
        self.protocol.receive_eof()
        if not self._answered.is_set():
            self._look_for_answer()
        self._write()

    def pause_writing(self) -> None:
        """The socket's write buffer is full."""
        self._owner.write_paused(self, True)

    def resume_writing(self) -> None:
        """The socket's write buffer has room again."""
        self._owner.write_paused(self, False)

    # Frames.

    def _take(self, frame: Frame) -> None:
        """Process a frame that the library has parsed."""
        if frame.opcode is Opcode.PONG:
            self._owner.pong_received(bytes(frame.data))
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            message = self._fragments.add(frame.opcode, cast(bytes, frame.data), fin=frame.fin)
            if message is not None:
                self._messages.append(_decoded(*message))

    def _report_end(self) -> None:
        if self._attached and not self.is_open:
            self._owner.connection_ended(self, self._reason())

    def _reason(self) -> SessionManagerError:
        close = self.protocol.close_rcvd
        if close is not None and close.code != CloseCode.NO_STATUS_RCVD:
            reason = f" ({printable(close.reason)})" if close.reason else ""
            return ConnectionLost(
                f"the service closed the connection with code {close.code:d}{reason}", close_code=close.code
            )
        broken = self.protocol.parser_exc
        if isinstance(broken, PayloadTooBig):
            return RemoteProtocolError(f"the service sent a message that is too long: {broken}")
        if broken is not None and not isinstance(broken, EOFError):
            return RemoteProtocolError(f"the service broke the websocket protocol: {broken}")
        if isinstance(self._lost_by, ssl.SSLError):
            return ConnectionLost(f"the connection broke: {ssl_text(self._lost_by)}")
        if isinstance(self._lost_by, OSError):
            return ConnectionLost(f"the connection broke: {self._lost_by.strerror or self._lost_by}")
        return ConnectionLost("the service closed the connection without a reason")
