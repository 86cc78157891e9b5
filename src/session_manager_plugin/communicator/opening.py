"""The way to a gateway, in stages: its name, TCP, a proxy, TLS; then the library's opening of the websocket.

The library's own way hands its connection to a transport before TLS is there, and a handshake that fails then ends in
a callback that the connection is not ready for. Here a connection gets its transport when the way is complete.
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
from typing import Any, cast

from websockets.asyncio.client import ClientConnection, connect, connect_socks_proxy
from websockets.proxy import Proxy, prepare_connect_request

from session_manager_plugin.communicator.http_answer import Answer, AnswerReader, NotHTTP
from session_manager_plugin.communicator.stream_url import is_address
from session_manager_plugin.communicator.tls import ssl_context

HAPPY_EYEBALLS_DELAY = 0.25
"""Seconds until the next address, of the other family if there is one, is tried as well (RFC 8305)."""

AddressInfo = tuple[Any, ...]
"""As ``getaddrinfo`` returns it: family, type, protocol, canonical name, address."""


class Stage(Enum):
    """How far an opening has come."""

    NAME = "name"
    TCP = "tcp"
    PROXY = "proxy"
    TLS = "tls"
    WEBSOCKET = "websocket"


class TunnelRefused(Exception):
    """A proxy answered a CONNECT request with another status than 2xx."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer


class Opening(connect):
    """The library's opening over a way of our own, without redirects: they may lead to another host, and the first
    message is the token.

    ``context`` is that of TLS, whose server must prove to be ``host``; None for an opening without TLS. ``stage`` is
    the stage that is being tried, or was when an exception was raised: ``OSError``, ``TunnelRefused`` and ``NotHTTP``
    for the proxy's answer, or the library's.
    """

    def __init__(
        self, url: str, *, host: str, proxy: Proxy | None, context: ssl.SSLContext | None, **options: Any
    ) -> None:
        super().__init__(url, proxy=None, **options)
        self.stage = Stage.NAME
        self._host = host
        self._proxy = proxy
        self._context = context

    def process_redirect(self, exc: Exception) -> Exception | str:
        """The library asks for the URL to follow; there is none."""
        return exc

    async def open_tcp_connection(self) -> ClientConnection:
        """A connection whose transport leads to the gateway, TLS included."""
        loop = asyncio.get_running_loop()
        proxy = self._proxy
        if proxy is not None and proxy.scheme.startswith("http"):
            transport = await self._tunnel(proxy)
            if self._context is not None:
                self.stage = Stage.TLS
                transport = await _start_tls(transport, self._context, self._host)
            if transport.is_closing():
                raise ConnectionResetError
            connection = self.factory(self.ws_uri)
            transport.set_protocol(connection)
            connection.connection_made(transport)
        else:
            if proxy is not None:
                self.stage = Stage.PROXY
                connected = await connect_socks_proxy(proxy, self.ws_uri)
            else:
                connected = await self._connect(self.ws_uri.host, self.ws_uri.port)
            tls: dict[str, Any] = {}
            if self._context is not None:
                self.stage = Stage.TLS
                tls = {"ssl": self._context, "server_hostname": self._host}
            _, connection = await loop.create_connection(lambda: self.factory(self.ws_uri), sock=connected, **tls)
        self.stage = Stage.WEBSOCKET
        return connection

    async def _connect(self, host: str, port: int) -> socket.socket:
        self.stage = Stage.NAME
        if is_address(host):  # without a thread's detour: what is begun here comes before what others have begun
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        else:
            addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        self.stage = Stage.TCP
        return await _connect_to_any(addresses)

    async def _tunnel(self, proxy: Proxy) -> asyncio.Transport:
        """A transport that leads through an HTTP proxy. It is verified with the platform's certificates if TLS is
        spoken with the proxy itself."""
        connected = await self._connect(proxy.host, proxy.port)
        self.stage = Stage.PROXY
        tls: dict[str, Any] = {}
        if proxy.scheme == "https":
            tls = {"ssl": ssl_context(None), "server_hostname": proxy.host}
        request = prepare_connect_request(proxy, self.ws_uri, self.user_agent_header)
        transport, tunnel = await asyncio.get_running_loop().create_connection(
            lambda: _Tunnel(request), sock=connected, **tls
        )
        try:
            answer = await tunnel.answer
            if not 200 <= answer.status < 300:
                raise TunnelRefused(answer)
        except BaseException:
            transport.abort()
            raise
        return transport


class _Tunnel(asyncio.Protocol):
    """Sends a CONNECT request; ``answer`` is what the proxy said. Raises from there ``NotHTTP`` or ``OSError``."""

    def __init__(self, request: bytes) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._request = request
        self._reader = AnswerReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.answer.done():
            return
        try:
            answer = self._reader.feed(data)
        except NotHTTP as error:
            self.answer.set_exception(error)
        else:
            if answer is not None:
                self.answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc if isinstance(exc, OSError) else self._reader.end())


async def _start_tls(transport: asyncio.Transport, context: ssl.SSLContext, host: str) -> asyncio.Transport:
    """TLS over a transport; the protocol of the result is to be set. Raises ``OSError`` (``ssl.SSLError`` is one)."""
    secured = await asyncio.get_running_loop().start_tls(transport, asyncio.Protocol(), context, server_hostname=host)
    if secured is None:  # asyncio's result for a connection that ended during the handshake
        raise ConnectionResetError
    return secured


# TCP.


async def _connect_to_any(addresses: Sequence[AddressInfo]) -> socket.socket:
    """A socket that is connected to one of the addresses; the slow ones do not delay.

    Raises the ``OSError`` of the first address, or one that holds the texts of all when they failed in several ways.
    """
    waiting = deque(_interleaved(addresses))
    trying: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        while waiting or trying:
            if waiting:
                trying.add(asyncio.ensure_future(_connect_to(waiting.popleft())))
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
    """The addresses, alternating between their families, the family of the first one first."""
    families = [
        [address for address in addresses if address[0] is family]
        for family in dict.fromkeys(address[0] for address in addresses)
    ]
    return [address for address in chain.from_iterable(zip_longest(*families)) if address is not None]


async def _connect_to(address: AddressInfo) -> socket.socket:
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
    """Close the socket of an attempt that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
