"""Parsing the URL of a proxy."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.utils.hosts import join_host_and_port
from session_manager_plugin.utils.proxy_url import decode_user_info, register_password, split_proxy_url

if TYPE_CHECKING:
    from websockets.proxy import Proxy

PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


def proxy_place(proxy: Proxy) -> str:
    """Return the URL of a proxy without user and password, as in ``http://proxy:3128``."""
    return f"{proxy.scheme}://{join_host_and_port(proxy.host, proxy.port)}"


def parse_proxy(url: str, source: str) -> Proxy:
    """Parse the URL of a proxy, and register its password as a secret.

    Raises ``ConfigurationError``, which names ``source`` but no part of the URL: any part of a malformed URL may belong
    to the password.
    """
    register_password(url)
    try:
        return _parse(url)
    except ValueError as error:
        raise ConfigurationError(f"the proxy of {source} cannot be used: {error}") from None


def _parse(url: str) -> Proxy:
    """Parse the URL of a proxy. Raises ``ValueError`` with the reason."""
    from websockets.proxy import Proxy  # most links have no proxy, and it imports urllib.request

    scheme, user_info, place = split_proxy_url(url)
    user, password = (None, None) if user_info is None else decode_user_info(user_info)
    if scheme.lower() not in PROXY_SCHEMES:
        raise ValueError(f"its URL begins with none of {', '.join(PROXY_SCHEMES)}")
    try:
        parts = urlsplit(f"{scheme}://{place}")
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            host = host.encode("idna").decode()
    except ValueError:
        host, port = "", 0
    if not host or port == 0:
        raise ValueError("its URL has no host and port; it is written SCHEME://USER:PASSWORD@HOST:PORT")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("its URL goes on behind host and port")
    port = port or (443 if parts.scheme == "https" else 80)
    if user_info is not None and ":" not in user_info:
        raise ValueError("its URL has a user without a password; it is written SCHEME://USER:PASSWORD@HOST:PORT")
    return Proxy(parts.scheme, host, port, user, password)
