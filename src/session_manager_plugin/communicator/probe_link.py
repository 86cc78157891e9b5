"""The way to a host, one step at a time, for who wants to know which step fails: names, TCP, proxy, TLS.

A data channel takes these steps at once (``connection.open_connection``). Here each is a call of its own, which raises
what went wrong as it came; the decisions (which proxy, which certificates to trust) are the data channel's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from websockets.exceptions import InvalidProxy, ProxyError
from websockets.proxy import parse_proxy, prepare_connect_request
from websockets.uri import parse_uri

from session_manager_plugin.communicator.connection import USER_AGENT
from session_manager_plugin.communicator.failures import connect_failure
from session_manager_plugin.communicator.proxy import proxy_for
from session_manager_plugin.communicator.tls import ssl_context
from session_manager_plugin.communicator.types import NetworkOptions
from session_manager_plugin.communicator.utils import host_and_port, is_loopback, join_host_and_port
from session_manager_plugin.errors import ConnectError

FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
MAX_ADDRESSES = 8
"""Addresses of one family that are tried, all at once."""
_NO_ADDRESS = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)
"""What ``getaddrinfo`` says when a name has no address of the family, rather than when it could not find out."""
_VARIABLES = {"wss": ("wss", "socks", "https", "all"), "ws": ("ws", "socks", "https", "http", "all")}


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
    proxy: str | None = field(repr=False)
    """URL of the proxy, with its password."""
    proxy_reason: str
    """Why this proxy, or why none."""

    @property
    def is_secure(self) -> bool:
        """Whether there is TLS."""
        return self.url.startswith("wss:")

    @property
    def proxy_place(self) -> str:
        """The proxy without its password, as in ``http://proxy:3128``."""
        parts = urlsplit(self.proxy or "")
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def route_of(url: str, network: NetworkOptions) -> Route:
    """The route of a valid websocket URL. Raises ``ConfigurationError`` for a proxy that cannot be used."""
    host, port = host_and_port(url)
    inner_url, inner = url, (host, port)
    if network.dial is not None:
        inner = network.dial[0], network.dial[1] or port
        inner_url = urlsplit(url)._replace(netloc=join_host_and_port(*inner)).geturl()
    place = join_host_and_port(host, port)
    proxy = proxy_for(inner_url, network.proxy)
    reason = _proxy_reason(inner_url, network, proxy)
    dialled = inner
    if proxy is not None:
        try:
            parsed = parse_proxy(proxy)
        except (InvalidProxy, ValueError) as error:
            raise connect_failure(error, place, via=f"the proxy of {reason}", timeout=0) from error
        dialled = parsed.host, parsed.port
    return Route(url, place, host, dialled, inner_url, proxy, reason)


def _proxy_reason(url: str, network: NetworkOptions, proxy: str | None) -> str:
    host, _ = host_and_port(url)
    if is_loopback(host):
        return "loopback is never proxied"
    if proxy is not None and network.proxy:
        return "--proxy"
    proxies = getproxies()
    names = [name for name in _VARIABLES[urlsplit(url).scheme] if proxies.get(name)]
    if not names:
        return "no proxy is set"
    if proxy is None:
        return f"NO_PROXY excepts {host}"
    spellings = (f"{names[0]}_proxy", f"{names[0].upper()}_PROXY")
    return next((name for name in spellings if os.environ.get(name)), "the system's settings")


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


@dataclass(frozen=True)
class Answer:
    """The head of an HTTP response."""

    status: int
    reason: str
    headers: dict[str, str]
    """By their names in lower case; of several with one name, all values joined by commas."""


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
        Raises ``ConnectError`` when what answers is no HTTP.
        """
        assert route.proxy is not None
        proxy = parse_proxy(route.proxy)
        if proxy.scheme == "https":
            await self.start_tls(ssl_context(None), proxy.host)
        self.writer.write(prepare_connect_request(proxy, parse_uri(route.inner_url), USER_AGENT))
        return await self._read_answer(route.proxy_place)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """The TLS handshake; ``host`` is the name to check. Raises ``OSError`` (``ssl.SSLError`` is one)."""
        await self.writer.start_tls(context, server_hostname=host)

    @property
    def tls(self) -> ssl.SSLObject:
        """The TLS connection that was made last."""
        made: ssl.SSLObject = self.writer.get_extra_info("ssl_object")
        return made

    async def get(self, path: str, host: str) -> Answer:
        """The head of the answer to an HTTP request. The link is of no further use."""
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n\r\n"
        self.writer.write(request.encode())
        return await self._read_answer(host)

    async def _read_answer(self, place: str) -> Answer:
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            what = "something that is no HTTP" if error.partial else "nothing"
            raise ConnectError(f"{place} answered {what} and closed the connection", host=place) from error
        except asyncio.LimitOverrunError as error:
            raise ConnectError(f"{place} answered something that is no HTTP", host=place) from error
        line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        version, _, rest = line.partition(" ")
        status, _, reason = rest.partition(" ")
        if not version.startswith("HTTP/") or not (status.isascii() and status.isdigit()):
            raise ConnectError(f"{place} answered something that is no HTTP", host=place)
        headers: dict[str, str] = {}
        for name, _, value in (given.partition(":") for given in lines):
            known = headers.get(name.lower())
            headers[name.lower()] = f"{known}, {value.strip()}" if known else value.strip()
        return Answer(int(status), reason, headers)

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
        return await client.connect_socks_proxy(parse_proxy(route.proxy), parse_uri(route.inner_url))
    except (ImportError, OSError, ProxyError) as error:
        raise connect_failure(error, route.place, via=f"the proxy {route.proxy_place}", timeout=0) from error


def trusted(ca_bundle: str | None) -> ssl.SSLContext:
    """The context of a data channel. Raises ``ConfigurationError``."""
    return ssl_context(ca_bundle)


def trusting_anything() -> ssl.SSLContext:
    """A context for one purpose: to look at a certificate that was refused. Nothing is ever sent over it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
