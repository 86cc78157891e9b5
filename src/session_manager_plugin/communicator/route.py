"""The route of a connection: which host is dialled, through which proxy, and which name TLS checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from websockets.proxy import Proxy

from session_manager_plugin.communicator.proxy import parse_proxy, proxy_place
from session_manager_plugin.utils.hosts import host_and_port, join_host_and_port
from session_manager_plugin.utils.link_options import NetworkOptions
from session_manager_plugin.utils.proxy_choice import choose_proxy


@dataclass(frozen=True)
class Route:
    """Where a connection for ``url`` (``ws`` or ``wss``) leads."""

    url: str = field(repr=False)
    place: str
    """``host:port`` of the URL."""
    host: str
    """The name that TLS checks."""
    target: tuple[str, int]
    """Host and port to reach, if necessary through the proxy: those of the URL, or of ``--dial``."""
    proxy: Proxy | None = field(repr=False)
    """With its password."""
    proxy_reason: str
    """The option, variable or place that names the proxy; without a proxy, why there is none."""

    @property
    def dialled(self) -> tuple[str, int]:
        """Host and port of the TCP connection: the proxy's, or the target's."""
        return self.target if self.proxy is None else (self.proxy.host, self.proxy.port)

    @property
    def via(self) -> str:
        """What is dialled instead of ``place``, for messages: a proxy, an address, or empty."""
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
        """The proxy without user and password, as in ``http://proxy:3128``; empty without a proxy."""
        return "" if self.proxy is None else proxy_place(self.proxy)

    @property
    def has_proxy_credentials(self) -> bool:
        """Whether the URL of the proxy holds a user and a password."""
        return self.proxy is not None and self.proxy.username is not None


def route_of(url: str, network: NetworkOptions) -> Route:
    """Return the route of a valid websocket URL. Raises ``ConfigurationError`` for a proxy that cannot be used."""
    host, port = host_and_port(url)
    target = (host, port) if network.dial is None else (network.dial[0], network.dial[1] or port)
    choice = choose_proxy(urlsplit(url)._replace(netloc=join_host_and_port(*target)).geturl(), network.proxy)
    proxy = None if choice.url is None else parse_proxy(choice.url, choice.reason)
    return Route(url, join_host_and_port(host, port), host, target, proxy, choice.reason)
