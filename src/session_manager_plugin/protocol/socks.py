"""The server's end of SOCKS5 (RFC 1928): bytes in, bytes and a request out.

The client's two messages, integers big-endian::

    greeting   05  count  methods (count bytes, 1 to 255)
    request    05  command  00  type  address  port (2)
               type 1: IPv4 (4 bytes), 3: length (1 byte) and a name, 4: IPv6 (16 bytes)

and the server's: ``05 method``, and ``05 reply 00 01 00000000 0000``.

States::

    GREETING   the methods of authentication are awaited
    REQUEST    the request is awaited
    DECIDING   the request was received; the owner has to call ``accept`` or ``refuse``
    ACCEPTED   the bytes that follow belong to the connection
    REFUSED    the connection is to be closed once ``data_to_send`` has been sent

Only CONNECT is supported, without authentication: the user chooses the listener's address, and so who can reach it. The
agent resolves names. ``bytes_needed`` never includes a byte beyond the handshake: an owner that reads no more from the
socket leaves everything after the handshake unread.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from session_manager_plugin.errors import LocalProtocolError

VERSION: Final = 5
NO_AUTHENTICATION: Final = 0
NO_METHOD: Final = 0xFF
CONNECT: Final = 1
_ADDRESS_SIZES: Final = {1: 4, 4: 16}
_NAME: Final = 3
_HTTP_BEGINNINGS: Final = frozenset(b"CDGHOPT")
"""First letters of HTTP methods, sent by a browser that is configured for an HTTP proxy."""


class Reply(Enum):
    """The reply to a request (RFC 1928, section 6)."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


class SocksState(Enum):
    """See the module docstring."""

    GREETING = auto()
    REQUEST = auto()
    DECIDING = auto()
    ACCEPTED = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class SocksRequest:
    """The requested destination: a name or a numeric address, and a port."""

    host: str
    port: int


class SocksServer:
    """The server's end of one client's handshake.

    Read ``bytes_needed`` bytes at most, pass them to ``receive_data``, send ``data_to_send``; once ``request`` is set,
    call ``accept`` or ``refuse``.
    """

    def __init__(self) -> None:
        self._received = bytearray()
        self._to_send = bytearray()
        self.state = SocksState.GREETING
        self.request: SocksRequest | None = None
        """The client's request, from the state ``DECIDING`` on."""
        self.error = ""
        """Why the client was refused, as a sentence without a full stop; empty unless the state is ``REFUSED``."""

    @property
    def bytes_needed(self) -> int:
        """The number of bytes to read next, at most; 0 after the handshake."""
        if self.state is SocksState.GREETING:
            size = 2 if len(self._received) < 2 else 2 + self._received[1]
        elif self.state is SocksState.REQUEST:
            size = self._request_size()
        else:
            return 0
        return size - len(self._received)

    def receive_data(self, data: bytes) -> None:
        """Process bytes of the handshake, in pieces of any size up to ``bytes_needed``.

        Raises ``LocalProtocolError`` for more than ``bytes_needed``.
        """
        if len(data) > self.bytes_needed:
            raise LocalProtocolError(f"SOCKS: {len(data)} bytes received, {self.bytes_needed} were needed")
        self._received += data
        if self._received and self._received[0] != VERSION:
            self._refuse_version(self._received[0])
        elif not self.bytes_needed:
            if self.state is SocksState.GREETING:
                self._take_greeting()
            elif self.state is SocksState.REQUEST:
                self._take_request()

    def data_to_send(self) -> bytes:
        """Return the bytes to send to the client, and clear them."""
        data = bytes(self._to_send)
        self._to_send.clear()
        return data

    def accept(self) -> None:
        """Reply that the connection is made. Raises ``LocalProtocolError`` unless DECIDING."""
        self._decide(SocksState.ACCEPTED, Reply.SUCCEEDED)

    def refuse(self, reply: Reply, error: str) -> None:
        """Reply that the connection failed, with ``error`` as the reason. Raises ``LocalProtocolError`` unless
        DECIDING."""
        self._decide(SocksState.REFUSED, reply)
        self.error = error

    def _decide(self, state: SocksState, reply: Reply) -> None:
        if self.state is not SocksState.DECIDING:
            raise LocalProtocolError(f"SOCKS: a reply in state {self.state.name}")
        self._reply(state, reply)

    def _reply(self, state: SocksState, reply: Reply) -> None:
        self.state = state
        self._to_send += bytes((VERSION, reply.value, 0, 1, 0, 0, 0, 0, 0, 0))

    def _refuse_version(self, first: int) -> None:
        self.state = SocksState.REFUSED
        if first == 4:
            self.error = "the client uses SOCKS4; configure SOCKS5 (curl: --socks5-hostname)"
        elif first in _HTTP_BEGINNINGS:
            self.error = "the client expects an HTTP proxy; configure SOCKS5"
        else:
            self.error = "the client does not use SOCKS5"

    def _take_greeting(self) -> None:
        if NO_AUTHENTICATION in self._received[2:]:
            self.state = SocksState.REQUEST
            self._to_send += bytes((VERSION, NO_AUTHENTICATION))
        else:
            self.state = SocksState.REFUSED
            self.error = "the client requires authentication, which is not supported; remove the user name"
            self._to_send += bytes((VERSION, NO_METHOD))
        self._received.clear()

    def _request_size(self) -> int:
        """Return the size of the request, as far as the received bytes determine it."""
        if len(self._received) < 4:
            return 4
        kind = self._received[3]
        if kind == _NAME:
            return 5 if len(self._received) < 5 else 5 + self._received[4] + 2
        return 4 + _ADDRESS_SIZES[kind] + 2 if kind in _ADDRESS_SIZES else 4

    def _take_request(self) -> None:
        _version, command, _reserved, kind = self._received[:4]
        if kind != _NAME and kind not in _ADDRESS_SIZES:
            self._reply(SocksState.REFUSED, Reply.ADDRESS_TYPE_NOT_SUPPORTED)
            self.error = f"the client sent an address of the unknown type {kind}"
            return
        if command != CONNECT:
            self._reply(SocksState.REFUSED, Reply.COMMAND_NOT_SUPPORTED)
            self.error = "the client requests BIND or UDP; only TCP connections are supported"
            return
        raw = bytes(self._received[5:-2] if kind == _NAME else self._received[4:-2])
        try:
            host = _name(raw) if kind == _NAME else str(ipaddress.ip_address(raw))
        except ValueError:
            self._reply(SocksState.REFUSED, Reply.GENERAL_FAILURE)
            self.error = "the client's host name is empty or not printable ASCII"
            return
        self.request = SocksRequest(host, int.from_bytes(self._received[-2:], "big"))
        self.state = SocksState.DECIDING


def _name(raw: bytes) -> str:
    """Return the host name. Raises ``ValueError`` for an invalid one."""
    name = raw.decode("ascii")
    if not name or not name.isprintable() or " " in name:
        raise ValueError(raw)
    return name
