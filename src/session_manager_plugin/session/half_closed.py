"""Local connections whose program has sent its last byte and may still read: their FIN is held back.

Pure but for the question about a program, which the owner passes in. A connection stays here until its program has
closed it, the far end has been silent for too long, or there are too many of them; then the one that has heard
nothing for the longest time leaves. Where it is not known whether a program waits for an answer, most do not, and only
a few are held.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from session_manager_plugin.session.local_connection import LocalConnection
from session_manager_plugin.session.peer_state import PeerState, PeerWatch


@dataclass(slots=True)
class _Held:
    heard_at: float
    """The instant of the FIN, or of the far end's last sign after it."""
    watch: PeerWatch


class HalfClosedConnections:
    """See the module docstring. Instants are float seconds of a monotonic clock."""

    def __init__(
        self, ask: Callable[[LocalConnection], PeerState], *, silence: float, maximum: int, maximum_unknown: int
    ) -> None:
        """``silence`` is in seconds; at most ``maximum`` connections are held, ``maximum_unknown`` of them without
        knowing whether their program waits."""
        self._ask = ask
        self._silence = silence
        self._maximum = maximum
        self._maximum_unknown = maximum_unknown
        self._held: dict[LocalConnection, _Held] = {}
        """The longest silence first."""

    def hold(self, connection: LocalConnection, now: float) -> bool:
        """Hold a connection whose program has just stopped writing; False when the program has closed it."""
        watch = PeerWatch(lambda: self._ask(connection), now)
        if watch.state is PeerState.CLOSED:
            return False
        self._held[connection] = _Held(now, watch)
        return True

    def heard(self, connection: LocalConnection, now: float) -> None:
        """The far end has sent something for a connection, or its silence says nothing. Others are ignored."""
        held = self._held.pop(connection, None)
        if held is not None:
            held.heard_at = now
            self._held[connection] = held

    def discard(self, connection: LocalConnection) -> None:
        """Hold a connection no longer, if it is held."""
        self._held.pop(connection, None)

    def clear(self) -> None:
        """Hold nothing any more."""
        self._held.clear()

    def waits(self, connection: LocalConnection) -> bool:
        """Whether the program is known to wait for an answer."""
        held = self._held.get(connection)
        return held is not None and held.watch.state is PeerState.OPEN

    def next_timeout(self) -> float | None:
        """The instant of the next question, or of the next silence that lasts too long; None when nothing is held."""
        instants = [min(held.watch.check_at, held.heard_at + self._silence) for held in self._held.values()]
        return min(instants, default=None)

    def take_closed(self, now: float) -> list[LocalConnection]:
        """Ask about the connections that are due; returns those whose program has closed them, and holds them no
        longer."""
        due = [
            connection
            for connection, held in self._held.items()
            if held.watch.check_at <= now or held.heard_at + self._silence <= now
        ]
        closed = [connection for connection in due if self._held[connection].watch.check(now) is PeerState.CLOSED]
        for connection in closed:
            del self._held[connection]
        return closed

    def silent(self, now: float) -> list[LocalConnection]:
        """The connections whose far end has been silent for too long."""
        return [connection for connection, held in self._held.items() if held.heard_at + self._silence <= now]

    def surplus(self) -> LocalConnection | None:
        """The connection to release when there are too many; else None."""
        unknown = [connection for connection in self._held if not self.waits(connection)]
        if len(unknown) > self._maximum_unknown:
            return unknown[0]
        return self.oldest() if len(self._held) > self._maximum else None

    def oldest(self) -> LocalConnection | None:
        """The connection that is missed least: one of which it is not known that its program waits, or the one that
        has heard nothing for the longest time."""
        return next(
            (connection for connection in self._held if not self.waits(connection)), next(iter(self._held), None)
        )
