"""The configuration of a link, and the communicator's states, messages and callback types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from session_manager_plugin.session.protocols import RequestSigner
from session_manager_plugin.utils.link_defaults import CONNECT_TIMEOUT, KEEPALIVE, RECONNECT_TIMEOUT
from session_manager_plugin.utils.logging import redact_url
from session_manager_plugin.utils.setting_names import SMP_SETTINGS, SettingNames


class MessageType(Enum):
    """The kind of a websocket message."""

    TEXT = "text"
    BINARY = "binary"
    CLOSE = "close"
    ERROR = "error"


class ConnectionState(Enum):
    """The state of a websocket connection."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSING = "closing"
    CLOSED = "closed"
    ERROR = "error"


@dataclass
class WebSocketMessage:
    """One websocket message; ``timestamp`` is in seconds since the Unix epoch."""

    message_type: MessageType
    data: str | bytes
    timestamp: float | None = None


class Bearer(Enum):
    """Whether the token also goes into an ``Authorization: Bearer`` header of the opening request."""

    AUTO = "auto"
    """To hosts that are not AWS service hosts, which take the token from the first message."""
    ALWAYS = "always"
    NEVER = "never"


class Sign(Enum):
    """Whether the opening request is signed with AWS credentials (SigV4)."""

    AUTO = "auto"
    """To the message gateways of AWS."""
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True)
class NetworkOptions:
    """How to reach the host of the URL."""

    bearer: Bearer = Bearer.AUTO
    proxy: str | None = field(default=None, repr=False)
    """URL of an HTTP or SOCKS proxy (it may hold a password); None takes the environment's. Loopback is never
    proxied."""
    ca_bundle: str | None = None
    """File of CA certificates instead of the platform's."""
    dial: tuple[str, int | None] | None = None
    """Host and port to connect to instead of the URL's, whose name stays in TLS and in the Host header."""
    sign: Sign = Sign.AUTO
    """A request has one ``Authorization`` header: with ``Bearer.ALWAYS`` nothing is signed, else a signature takes the
    place of the token."""
    names: SettingNames = SMP_SETTINGS
    """How messages name these settings."""


@dataclass(frozen=True, kw_only=True)
class LinkOptions(NetworkOptions):
    """How the link of a session is made, watched and restored. Times are in seconds."""

    keepalive: float = KEEPALIVE
    """Between two pings; 0 sends none."""
    connect_timeout: float = CONNECT_TIMEOUT
    """For each attempt to connect: DNS, TCP, proxy, TLS and websocket together."""
    reconnect_timeout: float = RECONNECT_TIMEOUT
    """For restoring a lost connection; 0 ends the session with it."""
    insecure: bool = False
    """Allow ``ws://`` to another machine, where the token travels unencrypted."""

    def websocket_config(self, url: str, token: str, signer: RequestSigner | None = None) -> WebSocketConfig:
        """Return the configuration of this link's websockets. Each is tried once: a session repeats attempts itself."""
        return WebSocketConfig(
            url,
            token,
            ping_interval=self.keepalive,
            connect_timeout=self.connect_timeout,
            retry_attempts=1,
            network=self,
            signer=signer,
        )


@dataclass(frozen=True)
class WebSocketConfig:
    """How to open one websocket. Intervals, timeouts and delays are in seconds, sizes in bytes.

    The defaults are those of the class for use on its own; a session has those of ``LinkOptions``.
    """

    url: str
    token: str = field(repr=False)
    ping_interval: float = 30.0
    """Between keepalive pings; 0 sends none."""
    ping_timeout: float = 10.0
    """Silence after a ping that makes the link dead; any inbound traffic counts as a sign of life."""
    connect_timeout: float = 30.0
    """For TCP, proxy, TLS and the opening handshake together."""
    max_message_size: int = 1024 * 1024
    """A larger incoming message ends the connection; Session Manager's are about 1 KiB."""
    max_queue_size: int = 100
    """Messages kept while no handler is set, before reading from the socket pauses."""
    retry_attempts: int = 3
    retry_delay: float = 1.0
    """Before the second attempt; twice that before the third, and so on."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    signer: RequestSigner | None = field(default=None, repr=False)
    """Signs the opening requests that ``network.sign`` names; None signs none."""

    def __repr__(self) -> str:
        return (
            f"WebSocketConfig(url={redact_url(self.url)!r}, ping_interval={self.ping_interval}, "
            f"ping_timeout={self.ping_timeout}, connect_timeout={self.connect_timeout}, network={self.network!r})"
        )


MessageHandler = Callable[[WebSocketMessage], None]
ErrorHandler = Callable[[Exception], None]
ConnectionHandler = Callable[[ConnectionState], None]


def create_websocket_config(stream_url: str, token: str, **kwargs: Any) -> WebSocketConfig:
    """Return a configuration with the defaults of ``WebSocketConfig``; ``kwargs`` are its other fields.

    Raises ``TypeError`` for a keyword that is no field: a misspelt one would otherwise have no effect.
    """
    return WebSocketConfig(url=stream_url, token=token, **kwargs)
