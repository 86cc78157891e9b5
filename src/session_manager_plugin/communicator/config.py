"""The configuration of a link, and the communicator's states, messages and callback types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from session_manager_plugin.session.protocols import RequestSigner
from session_manager_plugin.utils.link_options import LinkOptions, NetworkOptions
from session_manager_plugin.utils.logging import redact_url


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


@dataclass(frozen=True)
class WebSocketConfig:
    """How to open one websocket. Intervals, timeouts and delays are in seconds, sizes in bytes.

    The defaults are for use without a session; a session uses those of ``LinkOptions``.
    """

    url: str
    token: str = field(repr=False)
    ping_interval: float = 30.0
    """Between keepalive pings; 0 sends none."""
    ping_timeout: float = 10.0
    """If nothing is received for so long after a ping, the link counts as dead."""
    connect_timeout: float = 30.0
    """For TCP, proxy, TLS and the opening handshake together."""
    max_message_size: int = 1024 * 1024
    """A larger incoming message ends the connection. Messages of Session Manager are about 1 KiB."""
    max_queue_size: int = 100
    """While no handler is set, messages are kept. Once this many are kept, reading from the socket pauses."""
    retry_attempts: int = 3
    retry_delay: float = 1.0
    """The delay before the second attempt. The delay before the n-th attempt is n - 1 times as long."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    signer: RequestSigner | None = field(default=None, repr=False)
    """Signs the opening requests that ``network.sign`` selects; without it none is signed."""

    def __repr__(self) -> str:
        return (
            f"WebSocketConfig(url={redact_url(self.url)!r}, ping_interval={self.ping_interval}, "
            f"ping_timeout={self.ping_timeout}, connect_timeout={self.connect_timeout}, network={self.network!r})"
        )


MessageHandler = Callable[[WebSocketMessage], None]
ErrorHandler = Callable[[Exception], None]
ConnectionHandler = Callable[[ConnectionState], None]


def session_websocket_config(
    link: LinkOptions, url: str, token: str, signer: RequestSigner | None = None
) -> WebSocketConfig:
    """Return the configuration of a session's websockets. ``connect`` tries once: the session itself retries."""
    return WebSocketConfig(
        url,
        token,
        ping_interval=link.keepalive,
        connect_timeout=link.connect_timeout,
        retry_attempts=1,
        network=link,
        signer=signer,
    )


def create_websocket_config(stream_url: str, token: str, **kwargs: Any) -> WebSocketConfig:
    """Return a configuration with the defaults of ``WebSocketConfig``; ``kwargs`` are its other fields.

    Raises ``TypeError`` for an unknown keyword.
    """
    return WebSocketConfig(url=stream_url, token=token, **kwargs)
