"""Choosing the proxy of a connection, with its source, for websockets and for calls to AWS alike."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from session_manager_plugin.utils.hosts import host_and_port, is_loopback, join_host_and_port
from session_manager_plugin.utils.proxy_url import proxies_set, proxy_source

_SECURE, _PLAIN = ("wss", "socks", "https", "all"), ("ws", "socks", "https", "http", "all")
_NAMES = {"wss": _SECURE, "https": _SECURE, "ws": _PLAIN, "http": _PLAIN}
"""For each scheme the prefixes of ``_PROXY`` in order of precedence: those of the websockets library, then ``ALL``."""
_ENTRY = re.compile(r"\[(?P<ipv6>[^\]]*)\](?::(?P<port6>\d+))?|(?P<host>[^:]*)(?::(?P<port>\d+))?")
"""An entry of ``NO_PROXY`` with an optional port; an IPv6 address or network without brackets does not match."""


@dataclass(frozen=True)
class ProxyChoice:
    """The proxy of a connection, or None, and the reason."""

    url: str | None = field(repr=False)
    """The URL, which may contain a password."""
    reason: str
    """The option, variable or system setting that names the proxy; without a proxy, why there is none."""


def choose_proxy(url: str, given: str | None) -> ProxyChoice:
    """Return the proxy for a connection to ``url``: ``given``, or the proxy of the environment (on macOS and Windows
    also of the system), unless ``NO_PROXY`` matches the host.

    Loopback is never proxied. A proxy without a scheme is an HTTP proxy, as for curl.
    """
    host, port = host_and_port(url)
    if is_loopback(host):
        return ProxyChoice(None, "loopback is never proxied")
    if given:
        return ProxyChoice(_with_scheme(given), "--proxy")
    proxies = proxies_set()
    name = next((name for name in _NAMES[urlsplit(url).scheme] if proxies.get(name)), None)
    if name is None:
        return ProxyChoice(None, "no proxy is set")
    if _is_excepted(host, port):
        return ProxyChoice(None, f"NO_PROXY excepts {host}")
    proxy = proxies[name]
    if name == "socks" and proxy.startswith("http://"):  # the form of a SOCKS proxy of macOS
        proxy = proxy.replace("http", "socks5h", 1)
    return ProxyChoice(_with_scheme(proxy), proxy_source(name))


def proxy_for(url: str, given: str | None) -> str | None:
    """Return the URL of the proxy of ``choose_proxy``, or None."""
    return choose_proxy(url, given).url


def _with_scheme(proxy: str) -> str:
    return proxy if "://" in proxy else f"http://{proxy}"


# Exceptions.


def _is_excepted(host: str, port: int) -> bool:
    from urllib.request import getproxies_environment, proxy_bypass

    environment = getproxies_environment()
    if exceptions := environment.get("no"):
        return any(_matches(entry.strip().lower(), host.lower().rstrip("."), port) for entry in exceptions.split(","))
    return not environment and proxy_bypass(join_host_and_port(host, port))  # the system's own exceptions


def _matches(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of ``NO_PROXY`` matches this host: ``*``, a name or the end of one (``example.com``,
    ``.example.com``, ``*.example.com``), an address, a network (``10.0.0.0/8``), each also with ``:PORT``."""
    if not entry:
        return False
    name = entry
    if (match := _ENTRY.fullmatch(entry)) is not None:
        name = match["ipv6"] if match["ipv6"] is not None else match["host"]
        wanted = match["port6"] or match["port"]
        if wanted is not None and int(wanted) != port:
            return False
    if name == "*":
        return True
    if (network := _network(name)) is not None:
        try:
            return ip_address(host) in network
        except ValueError:
            return False
    domain = name.removeprefix("*").lstrip(".").rstrip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None
