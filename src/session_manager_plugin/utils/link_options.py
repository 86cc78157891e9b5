"""The options of a session's connection, and their defaults.

This is a module of its own because the help of the commands shows the defaults, and must not import an event loop and a
websocket library for that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from session_manager_plugin.utils.setting_names import SMP_SETTINGS, SettingNames

KEEPALIVE = 15.0
"""Seconds between two pings: below the idle limits of NAT routers and proxies."""
CONNECT_TIMEOUT = 30.0
"""Seconds for one attempt to connect: a proxy that asks the user for consent may take that long."""
RECONNECT_TIMEOUT = 900.0
"""Seconds for restoring a lost connection: longer than a walk between two offices."""


class Bearer(Enum):
    """Whether the opening request also has an ``Authorization: Bearer`` header with the token."""

    AUTO = "auto"
    """For hosts that are not AWS service hosts, which read the token from the first message."""
    ALWAYS = "always"
    NEVER = "never"


class Sign(Enum):
    """Whether the opening request is signed with AWS credentials (SigV4)."""

    AUTO = "auto"
    """For the message gateways of AWS."""
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True)
class NetworkOptions:
    """How to reach the host of the URL."""

    bearer: Bearer = Bearer.AUTO
    proxy: str | None = field(default=None, repr=False)
    """URL of an HTTP or SOCKS proxy, which may contain a password; None uses the environment's. Loopback is never
    proxied."""
    ca_bundle: str | None = None
    """File of CA certificates instead of the platform's."""
    dial: tuple[str, int | None] | None = None
    """Host and port to connect to instead of the URL's. The URL's name is still used in TLS and in the Host header."""
    sign: Sign = Sign.AUTO
    """Whether to sign. A request has only one ``Authorization`` header: with ``Bearer.ALWAYS`` no request is signed,
    otherwise a signature replaces the token."""
    names: SettingNames = field(default=SMP_SETTINGS, repr=False)
    """The names of these settings in messages."""


@dataclass(frozen=True, kw_only=True)
class LinkOptions(NetworkOptions):
    """The options of a session's connection. Times are in seconds."""

    keepalive: float = KEEPALIVE
    """Between two pings; 0 sends none."""
    connect_timeout: float = CONNECT_TIMEOUT
    """For each attempt to connect: DNS, TCP, proxy, TLS and websocket together."""
    reconnect_timeout: float = RECONNECT_TIMEOUT
    """For restoring a lost connection; with 0 the session ends when the connection is lost."""
    insecure: bool = False
    """Allow ``ws://`` to another machine, which sends the token unencrypted."""
