"""Parsing and formatting hosts and ports."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

_SECURE = ("wss", "https")


def host_and_port(url: str) -> tuple[str, int]:
    """Return host and port of a valid URL. The default port is that of its scheme."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme in _SECURE else 80)


def join_host_and_port(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(host: str) -> bool:
    """Return whether ``host`` is an IP address, which needs no DNS."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is this machine: ``localhost`` or a loopback address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().endswith(".localhost")
