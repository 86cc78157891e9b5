"""The route of a connection: the host to dial, the proxy, and the name that TLS checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from session_manager_plugin.communicator.proxy import parse_proxy, proxy_place
from session_manager_plugin.utils.hosts import host_and_port, join_host_and_port
from session_manager_plugin.utils.link_options import NetworkOptions
from session_manager_plugin.utils.proxy_choice import choose_proxy

if TYPE_CHECKING:
    from websockets.proxy import Proxy


@dataclass(frozen=True)
class Route:
    """The route of a connection for ``url`` (``ws`` or ``wss``)."""

    url: str = field(repr=False)
    place: str
    """``host:port`` of the URL."""
    host: str
    """The name that TLS checks."""
    target: tuple[str, int]
    """Host and port to connect to, through the proxy if there is one: those of the URL, or of ``--dial``."""
    proxy: Proxy | None = field(repr=False)
    """The proxy, with its password."""
    proxy_reason: str
    """The option, variable or file that names the proxy; without a proxy, why there is none."""

    @property
    def dialled(self) -> tuple[str, int]:
        """Host and port of the TCP connection: those of the proxy or of the target."""
        return self.target if self.proxy is None else (self.proxy.host, self.proxy.port)

    @property
    def via(self) -> str:
        """The proxy or address dialled instead of ``place``, for messages; empty if there is none."""
        if self.proxy is not None:
            return f"the proxy {join_host_and_port(*self.dialled)}"
        dialled = join_host_and_port(*self.dialled)
        return "" if dialled == self.place else dialled

    @property
    def is_secure(self) -> bool:
        """Whether the connection uses TLS."""
        return self.url.startswith("wss:")

    @property
    def is_socks(self) -> bool:
        """Whether the proxy is a SOCKS proxy."""
        return self.proxy is not None and self.proxy.scheme.startswith("socks")

    @property
    def proxy_place(self) -> str:
        """The URL of the proxy without user and password, as in ``http://proxy:3128``; empty without a proxy."""
        return "" if self.proxy is None else proxy_place(self.proxy)

    @property
    def has_proxy_credentials(self) -> bool:
        """Whether the URL of the proxy contains a user and a password."""
        return self.proxy is not None and self.proxy.username is not None


def route_of(url: str, network: NetworkOptions) -> Route:
    """Return the route of a valid websocket URL. Raises ``ConfigurationError`` for an invalid proxy."""
    host, port = host_and_port(url)
    target = (host, port) if network.dial is None else (network.dial[0], network.dial[1] or port)
    choice = choose_proxy(urlsplit(url)._replace(netloc=join_host_and_port(*target)).geturl(), network.proxy)
    proxy = None if choice.url is None else parse_proxy(choice.url, choice.reason)
    return Route(url, join_host_and_port(host, port), host, target, proxy, choice.reason)
