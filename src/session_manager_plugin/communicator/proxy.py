"""Which proxy a connection goes through."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from session_manager_plugin.communicator.utils import host_and_port, is_loopback

_NAMES = {"wss": ("wss", "socks", "https", "all"), "ws": ("ws", "socks", "https", "http", "all")}
"""For each scheme what stands before ``_PROXY``, the first one first: the websockets library's order, then ``ALL``."""


def proxy_for(url: str, given: str | None) -> str | None:
    """The URL of the proxy for a connection to ``url``, or None for a direct one.

    That is ``given``, or else the environment's (on macOS also the system's), where ``NO_PROXY`` makes exceptions.
    Loopback is never proxied. A proxy without a scheme is an HTTP proxy, as for curl.
    """
    host, port = host_and_port(url)
    if is_loopback(host):
        return None
    proxy = given or _environment_proxy(urlsplit(url).scheme, host, port)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _environment_proxy(scheme: str, host: str, port: int) -> str | None:
    if proxy_bypass(f"{host}:{port}"):
        return None
    proxies = getproxies()
    for name in _NAMES[scheme]:
        if proxy := proxies.get(name):
            if name == "socks" and proxy.startswith("http://"):  # so macOS gives its SOCKS proxy
                return proxy.replace("http", "socks5h", 1)
            return proxy
    return None
