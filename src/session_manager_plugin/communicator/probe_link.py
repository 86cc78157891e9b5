"""The way to a host, one step at a time, for who wants to know which step fails: names, TCP, proxy, TLS.

A data channel takes these steps at once (``open_gateway_socket``). Here each is a call of its own, which raises
what went wrong as it came; the decisions (which proxy, which certificates to trust) are the data channel's.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ProxyError
from websockets.proxy import Proxy, prepare_connect_request
from websockets.uri import parse_uri

from session_manager_plugin.communicator.config import NetworkOptions
from session_manager_plugin.communicator.connect_errors import connect_failure
from session_manager_plugin.communicator.gateway_socket import USER_AGENT
from session_manager_plugin.communicator.http_answer import Answer, AnswerReader
from session_manager_plugin.communicator.opening import Stage
from session_manager_plugin.communicator.proxy import choose_proxy, parse_proxy, proxy_place
from session_manager_plugin.communicator.stream_url import host_and_port, join_host_and_port
from session_manager_plugin.communicator.tls import ssl_context

FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
READ_SIZE = 65536
MAX_ADDRESSES = 8
"""Addresses of one family that are tried, all at once."""
_NO_ADDRESS = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)
"""What ``getaddrinfo`` says when a name has no address of the family, rather than when it could not find out."""


@dataclass(frozen=True)
class Route:
    """Where a connection for ``url`` (ws or wss) leads."""

    url: str = field(repr=False)
    place: str
    """``host:port`` of the URL."""
    host: str
    """The name that TLS checks."""
    dialled: tuple[str, int]
    """What TCP connects to: the proxy, or the URL's host, or what stands for it."""
    inner_url: str = field(repr=False)
    """The URL with the host that is really wanted, which a proxy is asked for."""
    proxy: Proxy | None = field(repr=False)
    """With its password."""
    proxy_reason: str
    """Why this proxy, or why none."""

    @property
    def is_secure(self) -> bool:
        """Whether there is TLS."""
        return self.url.startswith("wss:")

    @property
    def is_socks(self) -> bool:
        """Whether the proxy is a SOCKS proxy."""
        return self.proxy is not None and self.proxy.scheme.startswith("socks")

    @property
    def proxy_place(self) -> str:
        """The proxy without its password, as in ``http://proxy:3128``; empty without one."""
        return "" if self.proxy is None else proxy_place(self.proxy)


def route_of(url: str, network: NetworkOptions) -> Route:
    """The route of a valid websocket URL. Raises ``ConfigurationError`` for a proxy that cannot be used."""
    host, port = host_and_port(url)
    inner_url, inner = url, (host, port)
    if network.dial is not None:
        inner = network.dial[0], network.dial[1] or port
        inner_url = urlsplit(url)._replace(netloc=join_host_and_port(*inner)).geturl()
    choice = choose_proxy(inner_url, network.proxy)
    proxy = None if choice.url is None else parse_proxy(choice.url, choice.reason)
    dialled = inner if proxy is None else (proxy.host, proxy.port)
    return Route(url, join_host_and_port(host, port), host, dialled, inner_url, proxy, choice.reason)


# Names.

Address = tuple[Any, ...]
"""As the socket module has it: host, port and, for IPv6, flow and scope."""


@dataclass(frozen=True)
class Addresses:
    """What looking up a name of one family gave: addresses, or an error when that could not be found out."""

    family: socket.AddressFamily
    addresses: tuple[Address, ...] = ()
    error: str = ""


def literal_family(host: str) -> socket.AddressFamily | None:
    """The family of ``host`` when it is an address, not a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


async def look_up(host: str, port: int, family: socket.AddressFamily, timeout: float) -> Addresses:
    """The addresses of one family; none is no error. Never raises for the network's sake."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    except TimeoutError:
        return Addresses(family, error=f"no answer within {timeout:g} s")
    except socket.gaierror as error:
        if error.errno in _NO_ADDRESS:
            return Addresses(family)
        return Addresses(family, error=error.strerror or str(error))
    except (OSError, UnicodeError) as error:
        return Addresses(family, error=str(error))
    return Addresses(family, tuple(dict.fromkeys(address for *_, address in found)))


# TCP.


@dataclass
class Attempt:
    """One address that was tried; a socket, or what went wrong, and after how many seconds."""

    address: Address
    seconds: float
    connected: socket.socket | None = None
    error: Exception | None = None


async def connect_all(found: Addresses, timeout: float) -> list[Attempt]:
    """Connect to all addresses of one family at once. Whoever calls owns the sockets."""
    return list(
        await asyncio.gather(*(_connect(found.family, address, timeout) for address in found.addresses[:MAX_ADDRESSES]))
    )


async def _connect(family: socket.AddressFamily, address: Address, timeout: float) -> Attempt:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    connecting: socket.socket | None = None
    try:
        connecting = socket.socket(family, socket.SOCK_STREAM)
        connecting.setblocking(False)
        async with asyncio.timeout(timeout):
            await loop.sock_connect(connecting, address)
    except OSError as error:  # TimeoutError too
        if connecting is not None:
            connecting.close()
        return Attempt(address, loop.time() - begun, error=error)
    except BaseException:
        if connecting is not None:
            connecting.close()
        raise
    return Attempt(address, loop.time() - begun, connected=connecting)


# Streams.


class Link:
    """A TCP connection that becomes more: a tunnel through a proxy, TLS, HTTP."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._transport = writer.transport  # of TCP, whatever is put on top of it

    @classmethod
    async def over(cls, connected: socket.socket) -> Link:
        """A link over a connected socket, which it owns from here on."""
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            return cls(*await asyncio.open_connection(sock=connected))
        except BaseException:
            connected.close()
            raise

    async def tunnel(self, route: Route) -> Answer:
        """Ask the HTTP proxy of ``route`` for a tunnel; gives its answer, whatever the status is.

        A proxy that is spoken to by TLS is verified with the platform's certificates, as a data channel does.
        Raises ``NotHTTP`` and ``OSError``.
        """
        assert route.proxy is not None
        if route.proxy.scheme == "https":
            await self.start_tls(ssl_context(None), route.proxy.host)
        self.writer.write(prepare_connect_request(route.proxy, parse_uri(route.inner_url), USER_AGENT))
        return await self._read_answer()

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """The TLS handshake; ``host`` is the name to check. Raises ``OSError`` (``ssl.SSLError`` is one)."""
        await self.writer.start_tls(context, server_hostname=host)

    @property
    def tls(self) -> ssl.SSLObject:
        """The TLS connection that was made last."""
        made: ssl.SSLObject = self.writer.get_extra_info("ssl_object")
        return made

    async def get(self, path: str, host: str) -> Answer:
        """The head of the answer to an HTTP request. The link is of no further use. Raises as ``tunnel``."""
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n\r\n"
        self.writer.write(request.encode())
        return await self._read_answer()

    async def _read_answer(self) -> Answer:
        reading = AnswerReader()
        while data := await self.reader.read(READ_SIZE):
            if (answer := reading.feed(data)) is not None:
                return answer
        raise reading.end()

    async def close(self) -> None:
        """Cut the connection."""
        self.writer.transport.abort()
        self._transport.abort()
        # Not `wait_closed`: after a TLS handshake that came to nothing it waits for ever.
        await asyncio.sleep(0)


async def connect_through_socks(route: Route) -> socket.socket:
    """A socket that leads through the SOCKS proxy of ``route``, on a connection of its own.

    Raises ``ConfigurationError`` without the extra package, and ``ConnectError``.
    """
    from websockets.asyncio import client

    assert route.proxy is not None
    try:
        return await client.connect_socks_proxy(route.proxy, parse_uri(route.inner_url))
    except (ImportError, OSError, ProxyError) as error:
        via = f"the proxy {route.proxy_place}"
        raise connect_failure(error, route.place, via=via, timeout=0, stage=Stage.PROXY) from error


def trusted(ca_bundle: str | None) -> ssl.SSLContext:
    """The context of a data channel. Raises ``ConfigurationError``."""
    return ssl_context(ca_bundle)
