"""Connecting to a gateway in stages: DNS, TCP, a proxy, TLS. ``GatewaySocket`` adds the websocket.

A data channel runs all stages with ``Opening``. ``smp probe`` runs them one by one, to see which one fails.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from enum import Enum
from itertools import chain, zip_longest
from typing import Any

from websockets.uri import WebSocketURI, parse_uri

from session_manager_plugin import __version__
from session_manager_plugin.communicator.http_answer import Answer, AnswerReader
from session_manager_plugin.communicator.route import Route
from session_manager_plugin.communicator.tls import ssl_context
from session_manager_plugin.utils.hosts import is_address, join_host_and_port

HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds until the next address, of the other family if possible, is tried in parallel (RFC 8305)."""
USER_AGENT = f"python-session-manager-plugin/{__version__}"

AddressInfo = tuple[Any, ...]
"""A result of ``getaddrinfo``: family, type, protocol, canonical name, address."""


class Stage(Enum):
    """The stages of an opening."""

    NAME = "name"
    TCP = "tcp"
    PROXY = "proxy"
    TLS = "tls"
    WEBSOCKET = "websocket"


class TunnelRefused(Exception):
    """A proxy has answered CONNECT with a status other than 2xx."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer


def deliver(protocol: asyncio.BufferedProtocol, data: bytes | bytearray) -> None:
    """Pass bytes to a protocol as a transport does."""
    position = 0
    while position < len(data):
        piece = memoryview(protocol.get_buffer(len(data) - position))
        size = min(len(piece), len(data) - position)
        piece[:size] = data[position : position + size]
        protocol.buffer_updated(size)
        position += size


class Opening:
    """Opens a link along a route, TLS included.

    ``context`` is the TLS context; None for a URL without TLS. ``stage`` is the current stage; after an exception, the
    stage that failed.
    """

    def __init__(self, route: Route, context: ssl.SSLContext | None) -> None:
        self.stage = Stage.NAME
        self._route = route
        self._context = context

    async def open(self) -> Link:
        """Return the link.

        Raises ``OSError`` and ``UnicodeError``; ``TunnelRefused`` or ``NotHTTP`` for an HTTP proxy's response; the
        exceptions of ``connect_through_socks`` for a SOCKS proxy.
        """
        route = self._route
        if route.is_socks:
            self.stage = Stage.PROXY
            link = Link(await connect_through_socks(route))
        else:
            addresses = await look_up(*route.dialled)
            self.stage = Stage.TCP
            link = Link(await connect_to_any(addresses))
        try:
            if route.proxy is not None and not route.is_socks:
                self.stage = Stage.PROXY
                answer = await link.tunnel(route)
                if not answer.is_success:
                    raise TunnelRefused(answer)
            if self._context is not None:
                self.stage = Stage.TLS
                await link.start_tls(self._context, route.host)
        except BaseException:
            link.abort()
            raise
        self.stage = Stage.WEBSOCKET
        return link


class Link:
    """A TCP connection to which a tunnel through a proxy, TLS, and at last a protocol are added.

    Owns the connected socket. ``abort`` closes it at any stage.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket: socket.socket | None = connected
        """The socket, until a transport owns it."""
        self._transport: asyncio.Transport | None = None
        self._incoming = _Incoming()

    async def tunnel(self, route: Route) -> Answer:
        """Request a tunnel from the HTTP proxy of ``route``, and return the response with any status.

        TLS with the proxy itself is verified with the platform's certificates. Raises ``NotHTTP`` and ``OSError``.
        """
        from websockets.proxy import prepare_connect_request

        proxy = route.proxy
        assert proxy is not None
        if proxy.scheme == "https":
            await self.start_tls(ssl_context(None), proxy.host)
        return await self._ask(prepare_connect_request(proxy, _uri_of(route), USER_AGENT))

    async def get(self, path: str, host: str) -> Answer:
        """Return the head of the response to an HTTP request. The link cannot be used afterwards. Raises like
        ``tunnel``."""
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n\r\n"
        return await self._ask(request.encode())

    async def _ask(self, request: bytes) -> Answer:
        if self._transport is None:
            await self._connect(self._incoming)
            assert self._transport is not None
        self._transport.write(request)
        reading = AnswerReader()
        while data := await self._incoming.read():
            if (answer := reading.feed(data)) is not None:
                return answer
        raise reading.end()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Make the TLS handshake and check the certificate against ``host``. Raises ``OSError`` (``ssl.SSLError``).

        After ``tunnel`` the handshake takes place inside the tunnel, which may itself use TLS.
        """
        if self._transport is None:
            await self._connect(self._incoming, ssl=context, server_hostname=host)
            return
        # The outer transport still calls its own protocol. A new protocol receives the data inside TLS.
        self._incoming = _Incoming()
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(self._transport, self._incoming, context, server_hostname=host)
        if secured is None:  # asyncio returns None if the connection has ended during the handshake
            raise ConnectionResetError
        self._transport = secured

    @property
    def tls(self) -> ssl.SSLObject:
        """The innermost TLS connection."""
        assert self._transport is not None
        made: ssl.SSLObject = self._transport.get_extra_info("ssl_object")
        return made

    async def hand_over(self, protocol: asyncio.BufferedProtocol) -> None:
        """Make ``protocol`` the protocol of the connection. It also receives data that has arrived already."""
        if self._transport is None:
            await self._connect(protocol)
            return
        incoming = self._incoming
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        deliver(protocol, incoming.received)
        if incoming.is_lost:
            protocol.connection_lost(incoming.error)

    async def _connect(self, protocol: asyncio.BaseProtocol, **tls: Any) -> None:
        connected, self._socket = self._socket, None
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: protocol, sock=connected, **tls)

    def abort(self) -> None:
        """Abort the connection. Idempotent."""
        if self._transport is not None:
            self._transport.abort()
        elif self._socket is not None:
            self._socket.close()


class _Incoming(asyncio.Protocol):
    """Keeps received data until another protocol takes over."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_lost = False
        self.error: Exception | None = None
        """Why the connection was lost; None for a normal end."""
        self._at_end = False
        self._changed = asyncio.Event()

    async def read(self) -> bytes:
        """Wait for bytes and return them; b"" at the end of the stream. Raises ``OSError`` if the connection is
        lost."""
        while not self.received and not self._at_end:
            self._changed.clear()
            await self._changed.wait()
        if not self.received and isinstance(self.error, OSError):
            raise self.error
        data = bytes(self.received)
        self.received.clear()
        return data

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._changed.set()

    def eof_received(self) -> None:
        self._at_end = True
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._at_end = self.is_lost = True
        self.error = exc
        self._changed.set()


async def connect_through_socks(route: Route) -> socket.socket:
    """Return a socket connected through the SOCKS proxy of ``route``.

    Raises ``ImportError`` without the extra package, ``OSError``, and the library's ``ProxyError``.
    """
    from websockets.asyncio.client import connect_socks_proxy  # imported only when needed: it is slow to import

    assert route.proxy is not None
    return await connect_socks_proxy(route.proxy, _uri_of(route))


def _uri_of(route: Route) -> WebSocketURI:
    """Return the destination in the form that the library's SOCKS client expects."""
    return parse_uri(f"{'wss' if route.is_secure else 'ws'}://{join_host_and_port(*route.target)}/")


# Names and TCP.


async def look_up(
    host: str, port: int, family: socket.AddressFamily = socket.AddressFamily.AF_UNSPEC
) -> list[AddressInfo]:
    """Return the addresses of ``host``. Raises ``OSError``, such as ``socket.gaierror``, and ``UnicodeError``."""
    if is_address(host):  # without a thread, during which tasks of the caller would start before the connection
        return socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    loop = asyncio.get_running_loop()
    return await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)


async def connect_to_any(addresses: Sequence[AddressInfo]) -> socket.socket:
    """Return a socket connected to the first address that accepts. Slow addresses do not delay the others.

    If all addresses fail alike, raises the first ``OSError``; otherwise an ``OSError`` with the texts of all.
    """
    waiting = deque(_interleaved(addresses))
    trying: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        while waiting or trying:
            if waiting:
                trying.add(asyncio.ensure_future(connect_to(waiting.popleft())))
            done, _ = await asyncio.wait(
                trying, timeout=HAPPY_EYEBALLS_DELAY if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                trying.remove(task)
                try:
                    return task.result()
                except OSError as error:
                    errors.append(error)
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_discard)
    if len({error.errno for error in errors}) == 1:
        raise errors[0]
    raise OSError("; ".join(os.strerror(error.errno) if error.errno else str(error) for error in errors))


def _interleaved(addresses: Sequence[AddressInfo]) -> list[AddressInfo]:
    """Return the addresses alternating between families, beginning with the family of the first address."""
    families = [
        [address for address in addresses if address[0] is family]
        for family in dict.fromkeys(address[0] for address in addresses)
    ]
    return [address for address in chain.from_iterable(zip_longest(*families)) if address is not None]


async def connect_to(address: AddressInfo) -> socket.socket:
    """Return a socket connected to one address. Raises ``OSError``."""
    family, kind, protocol, _, place = address
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connecting, place)
    except BaseException:
        connecting.close()
        raise
    return connecting


def _discard(task: asyncio.Task[socket.socket]) -> None:
    """Close the socket of an attempt that has succeeded too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
