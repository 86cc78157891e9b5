"""The websocket itself: the library's opening, and a data path of our own.

Opening (proxies, TLS, HTTP) is the library's. Once open, the binary messages are cut out of the bytes of one socket
read (``websocket_frames``; frames of every other kind are for the library's sans-I/O protocol), and all messages of
that read are handed on at once, without task, future or queue between them; what is sent in response leaves in one
write, with one call for the random masks of all its frames. ``docs/performance.md`` has what that gives.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import struct
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.client import ClientProtocol
from websockets.datastructures import HeadersLike
from websockets.exceptions import InvalidMessage, PayloadTooBig
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import State
from websockets.proxy import Proxy
from websockets.uri import parse_uri

from session_manager_plugin import __version__
from session_manager_plugin.communicator.aws_hosts import is_aws_host
from session_manager_plugin.communicator.certificate import look_at_certificate
from session_manager_plugin.communicator.config import Bearer, WebSocketConfig
from session_manager_plugin.communicator.connect_errors import connect_failure
from session_manager_plugin.communicator.http_answer import NotHTTP
from session_manager_plugin.communicator.opening import Opening, Stage
from session_manager_plugin.communicator.opening_signature import OpeningSignature
from session_manager_plugin.communicator.proxy import choose_proxy, parse_proxy
from session_manager_plugin.communicator.stream_url import (
    host_and_port,
    join_host_and_port,
    validate_websocket_url,
)
from session_manager_plugin.communicator.tls import ssl_context
from session_manager_plugin.errors import (
    ConnectionLost,
    InvalidURL,
    NotConnected,
    Refused,
    RemoteProtocolError,
    SessionManagerError,
)
from session_manager_plugin.protocol.websocket_frames import FrameReader
from session_manager_plugin.utils.logging import get_logger, redact_url
from session_manager_plugin.utils.text import ssl_text

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform for which the library has no compiled part
    from websockets.utils import apply_mask

_LOGGER = get_logger(__name__)
_LIBRARY_LOGGER = get_logger(f"{__name__}.websockets")
_LIBRARY_LOGGER.setLevel(logging.WARNING)  # below that the library shows headers and messages: the token, what is typed
USER_AGENT = f"python-session-manager-plugin/{__version__}"
CLOSE_TIMEOUT = 2.0
"""Seconds for the closing handshake; after that the connection is cut."""
WRITE_LIMIT = 1024 * 1024
"""Bytes waiting in the socket's buffer above which ``write_paused`` is told."""

Message = str | bytes | bytearray
_HEAD_END = b"\r\n\r\n"


class GatewaySocketOwner(Protocol):
    """Whom a connection tells what happens to it."""

    def contact(self) -> None:
        """Bytes came in."""

    def messages_received(self, connection: GatewaySocket, messages: list[Message]) -> None:
        """All messages of one read, in order."""

    def pong_received(self, payload: bytes) -> None:
        """A pong came."""

    def write_paused(self, connection: GatewaySocket, paused: bool) -> None:
        """The socket's buffer is full, or has room again."""

    def connection_ended(self, connection: GatewaySocket | None, error: Exception) -> None:
        """The connection is over, by no doing of ours."""


async def open_gateway_socket(config: WebSocketConfig, owner: GatewaySocketOwner) -> GatewaySocket:
    """Open the websocket of ``config``; call ``attach`` on it to let messages through.

    A signed request that the gateway refuses with status 403 is followed by an unsigned one, which decides.
    Raises ``InvalidURL``, ``ConfigurationError`` or ``ConnectError``, whose sentence says what prevented it.
    """
    if not validate_websocket_url(config.url):
        raise InvalidURL(f"the stream URL {redact_url(config.url)!r} cannot be used")
    signature = OpeningSignature.of(config.url, config.network, config.signer, config.connect_timeout)
    try:
        return await _open(config, owner, signature)
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
    host, port = host_and_port(config.url)
    place = join_host_and_port(host, port)
    network = config.network
    dialled, via = config.url, ""
    if network.dial is not None:
        via = join_host_and_port(network.dial[0], network.dial[1] or port)
        dialled = urlsplit(config.url)._replace(netloc=via).geturl()
    opening: Opening | None = None
    proxy: Proxy | None = None
    try:
        uri = parse_uri(config.url)
        choice = choose_proxy(dialled, network.proxy)
        if choice.url is not None:
            proxy = parse_proxy(choice.url, choice.reason)
            via = f"the proxy {join_host_and_port(proxy.host, proxy.port)}"
        _LOGGER.info("looking up %s and connecting to it", via or place)

        def create_connection(protocol: ClientProtocol, **options: Any) -> GatewaySocket:
            protocol.uri = uri  # what the Host header names, whatever is dialled
            return GatewaySocket(owner, protocol, signature, **options)

        opening = Opening(
            dialled,
            host=host,
            proxy=proxy,
            context=ssl_context(network.ca_bundle) if uri.secure else None,
            additional_headers=_bearer_header(config, host),
            user_agent_header=USER_AGENT,
            compression=None,
            open_timeout=config.connect_timeout,
            ping_interval=None,
            close_timeout=CLOSE_TIMEOUT,
            max_size=config.max_message_size,
            write_limit=WRITE_LIMIT,
            logger=_LIBRARY_LOGGER,
            create_connection=cast("type[ClientConnection]", create_connection),
        )
        if signature is not None:
            signature.start()
        connection = cast(GatewaySocket, await opening)
        _LOGGER.info("the websocket is open")
        return connection
    except SessionManagerError:
        raise
    except Exception as error:
        stage = Stage.NAME if opening is None else opening.stage
        certificate = None
        if isinstance(error, ssl.SSLCertVerificationError) and stage is Stage.TLS:
            way = urlsplit(dialled)._replace(path="/", query="").geturl()
            certificate = await look_at_certificate(way, host, proxy)
        raise connect_failure(
            error,
            place,
            via=via,
            timeout=config.connect_timeout,
            stage=stage,
            certificate=certificate,
            signature=signature,
            has_credentials=proxy is not None and proxy.username is not None,
            names=network.names,
        ) from error
    finally:
        if signature is not None:
            signature.stop()


def _bearer_header(config: WebSocketConfig, host: str) -> dict[str, str]:
    bearer = config.network.bearer
    if bearer is Bearer.ALWAYS or (bearer is Bearer.AUTO and not is_aws_host(host)):
        return {"Authorization": f"Bearer {config.token}"}
    return {}


def _tell_way(transport: asyncio.BaseTransport) -> None:
    """Log the address that was connected to, and what TLS agreed on."""
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        _LOGGER.info("connected to %s port %s", *peer[:2])
    tls = transport.get_extra_info("ssl_object")
    if tls is not None:
        issuer = [value for names in (tls.getpeercert() or {}).get("issuer", ()) for _key, value in names]
        _LOGGER.info("%s with %s; certificate issued by %s", tls.version(), tls.cipher()[0], ", ".join(issuer))
    _LOGGER.info("asking for a websocket")


_SHORT, _MEDIUM, _LONG = struct.Struct(">BB"), struct.Struct(">BBH"), struct.Struct(">BBQ")


def _masked_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """A whole message in one frame, as a client sends it (RFC 6455 5.2); ``mask`` is 4 bytes nobody can foresee."""
    length = len(payload)
    if length < 126:
        head = _SHORT.pack(0x80 | opcode, 0x80 | length)
    elif length < 65536:
        head = _MEDIUM.pack(0x80 | opcode, 0xFE, length)
    else:
        head = _LONG.pack(0x80 | opcode, 0xFF, length)
    return head + mask + apply_mask(payload, mask)


class GatewaySocket(ClientConnection):
    """The library's connection with its data path replaced.

    Messages may come in the same read as the answer to the opening, before ``open_gateway_socket`` has returned: they
    are kept until ``attach``. The library's callbacks need what ``connection_made`` sets up; a transport may end, and
    call the others, without it: then they do nothing.
    """

    def __init__(
        self, owner: GatewaySocketOwner, protocol: ClientProtocol, signature: OpeningSignature | None, **options: Any
    ) -> None:
        super().__init__(protocol, **options)
        self._signature = signature
        self._owner = owner
        self._made = False
        self._attached = False
        self._answer = b""
        assert protocol.max_message_size is not None
        self._frames = FrameReader(protocol.max_message_size)
        self._messages: list[Message] = []
        self._fragmented: Opcode | None = None
        self._fragments = bytearray()
        self._lost_by: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The way to the gateway is there, TLS included; the request for a websocket comes next."""
        super().connection_made(transport)
        self._made = True
        _tell_way(transport)

    async def handshake(
        self, additional_headers: HeadersLike | None = None, user_agent_header: str | None = USER_AGENT
    ) -> None:
        """Ask for the websocket, signed if it is to be, and wait for the answer.

        Raises ``NotHTTP``, and the library's exceptions for other answers but 101.
        """
        headers = dict(additional_headers or {})
        if self._signature is not None:
            headers |= await self._signature.headers()
        try:
            await super().handshake(headers, user_agent_header)
        except InvalidMessage as error:
            raise NotHTTP(self._answer, cut_short=isinstance(error.__cause__, EOFError)) from error

    def attach(self) -> None:
        """From here on messages go to the owner, and so does the news of the end."""
        self._attached = True
        self._hand_on()

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent; not any more once either end has begun to close."""
        return self.protocol.state is State.OPEN

    def set_reading(self, reading: bool) -> None:
        """Read from the socket, or stop."""
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
        masks = os.urandom(4 * len(messages))
        frames = []
        for position, message in enumerate(messages):
            mask = masks[4 * position : 4 * position + 4]
            if isinstance(message, str):
                frames.append(_masked_frame(Opcode.TEXT, message.encode(), mask))
            else:
                frames.append(_masked_frame(Opcode.BINARY, message, mask))
        if not self.transport.is_closing():
            self.transport.write(b"".join(frames))

    def ping_now(self, payload: bytes) -> None:
        """Send a ping, unless the websocket is closing."""
        if self.is_open:
            self.protocol.send_ping(payload)
            self._write()

    def _write(self) -> None:
        data = self.protocol.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(b"".join(data))

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._owner.contact()
        if self.protocol.state is State.CONNECTING:
            data = self._receive_opening(data)
        self._frames.feed(data)
        while True:
            messages, other = self._frames.read(binary=self._fragmented is None and self._is_receiving)
            self._messages += messages
            if not other:
                break
            self.protocol.receive_data(other)
            for event in self.protocol.events_received():
                self._take(cast(Frame, event))
        if self.protocol.writes:
            self._write()
        self._hand_on()

    def _receive_opening(self, data: bytes) -> bytes:
        """Pass the answer to the opening to the library, but no frame behind it, of which it would keep a part.

        Returns the bytes behind the answer.
        """
        if not self._made:
            return b""
        seen = len(self._answer)
        self._answer += data
        found = self._answer.find(_HEAD_END, max(0, seen - len(_HEAD_END) + 1))
        end = len(data) if found < 0 else found + len(_HEAD_END) - seen
        super().data_received(data[:end])
        rest = data[end:]
        if self.protocol.state is not State.CONNECTING:
            self._answer = b""
        elif rest:
            super().data_received(rest)  # an answer that opens nothing has a body
            rest = b""
        return rest

    @property
    def _is_receiving(self) -> bool:
        """Whether frames still count; not behind a close frame, nor behind what broke the rules."""
        return self.protocol.close_rcvd is None and self.protocol.parser_exc is None

    def eof_received(self) -> None:
        if self._made:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._made:
            super().connection_lost(exc)
            self._lost_by = exc
            self._hand_on()

    def pause_writing(self) -> None:
        if self._made:
            super().pause_writing()
            self._owner.write_paused(self, True)

    def resume_writing(self) -> None:
        if self._made:
            super().resume_writing()
            self._owner.write_paused(self, False)

    # Frames.

    def _take(self, frame: Frame) -> None:
        """What the library made of a frame that is not a whole binary message."""
        if frame.opcode is Opcode.PONG:
            self._owner.pong_received(bytes(frame.data))
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._take_fragment(frame)

    def _take_fragment(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._fragmented = frame.opcode
        self._fragments += frame.data
        if not frame.fin:
            return
        data, self._fragments = self._fragments, bytearray()
        opcode, self._fragmented = self._fragmented, None
        try:
            self._messages.append(data.decode() if opcode is Opcode.TEXT else data)
        except UnicodeDecodeError:
            self._messages.append(data)  # whoever parses messages refuses it, with a reason

    def _hand_on(self) -> None:
        """Give the owner what has come, and the end when it has."""
        if not self._attached:
            return
        if self._messages:
            messages, self._messages = self._messages, []
            self._owner.messages_received(self, messages)
        if not self.is_open:
            self._owner.connection_ended(self, self._reason())

    def _reason(self) -> SessionManagerError:
        close = self.protocol.close_rcvd
        if close is not None and close.code != CloseCode.NO_STATUS_RCVD:
            reason = f" ({close.reason})" if close.reason and close.reason.isprintable() else ""
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
        return ConnectionLost("the service closed the connection without a word")
