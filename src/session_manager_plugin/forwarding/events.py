"""The events of a forward, and the objects in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from session_manager_plugin.session.link_health import LinkHealth
from session_manager_plugin.session.local_connection import LocalConnection
from session_manager_plugin.session.session import Session


@dataclass(frozen=True, slots=True)
class ForwardedPort:
    """A local end that accepts connections."""

    addresses: tuple[str, ...]
    """Where it listens: addresses such as ``127.0.0.1:5432`` and ``[::1]:5432``, or the path of a unix socket."""
    port: int | None
    """The TCP port; None for a unix socket."""
    target: str
    """The id of the target."""
    remote: str
    """The destination, as ``db.internal:5432``; ``socks5`` for a SOCKS server."""


class ForwardedConnection:
    """One local connection and the bytes counted so far."""

    def __init__(self, remote: str, session_id: str, connection: LocalConnection, now: float) -> None:
        self._connection = connection
        self.number = connection.number
        """Counted from 1 over all ports, in the order of accepting; messages name the connection by it too."""
        self.local = connection.local
        """The local end that accepted it: an address with its port, or the path of a unix socket."""
        self.peer = connection.peer
        """The program's address; empty on a unix socket."""
        self.remote = remote
        self.session_id = session_id
        self.opened_at = now
        """Seconds, of the event loop's clock."""

    @property
    def sent(self) -> int:
        """Bytes that the program has written."""
        return self._connection.sent_size

    @property
    def received(self) -> int:
        """Bytes that have arrived for the program."""
        return self._connection.received_size


class ForwardedSession:
    """One of the sessions of a forward."""

    def __init__(self, session: Session, remote: str) -> None:
        self._session = session
        self.remote = remote

    @property
    def session_id(self) -> str:
        """The session's id; empty before it is started."""
        return self._session.session_id

    @property
    def health(self) -> LinkHealth:
        """The current state of the session's link."""
        return self._session.health

    @property
    def latency(self) -> float | None:
        """Seconds the last ping took; None before the first answer."""
        return self._session.latency


@dataclass(frozen=True, slots=True)
class PortReady:
    """A port accepts connections from now on."""

    port: ForwardedPort


@dataclass(frozen=True, slots=True)
class ConnectionOpened:
    """A local program has connected."""

    connection: ForwardedConnection


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """A local connection is closed."""

    connection: ForwardedConnection


@dataclass(frozen=True, slots=True)
class LinkTroubled:
    """A session's link is lost or silent, and is being restored."""

    session: ForwardedSession
    sentence: str


@dataclass(frozen=True, slots=True)
class LinkRestored:
    """The link works again."""

    session: ForwardedSession
    sentence: str


@dataclass(frozen=True, slots=True)
class SessionOver:
    """A session has ended, or was closed because it was not in use; ``sentence`` states which."""

    session: ForwardedSession
    sentence: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem that does not end the forward."""

    sentence: str


ForwardEvent = PortReady | ConnectionOpened | ConnectionClosed | LinkTroubled | LinkRestored | SessionOver | Trouble
EventHandler = Callable[[ForwardEvent], None]
