"""Local connections whose program has shut down writing and may still read: the FIN to the far end is held back.

A connection is held until its program has closed its socket or the far end has been silent for too long. When too many
connections are held, the one with the longest silence is released; connections whose program is not known to have its
socket open come first. The limit is lower for programs in an unknown state, because most of them have closed their
socket. The module is pure, apart from the function passed in that returns a program's state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from session_manager_plugin.session.local_connection import LocalConnection
from session_manager_plugin.session.peer_state import PeerState, PeerWatch


@dataclass(slots=True)
class _Held:
    heard_at: float
    """When the program shut down writing, or data last arrived after that."""
    watch: PeerWatch


class HalfClosedConnections:
    """See the module docstring. Instants are float seconds of a monotonic clock."""

    def __init__(
        self, ask: Callable[[LocalConnection], PeerState], *, silence: float, maximum: int, maximum_unknown: int
    ) -> None:
        """``ask`` returns the state of a connection's program. ``silence`` is in seconds. At most ``maximum``
        connections are held, and at most ``maximum_unknown`` whose program's state is unknown."""
        self._ask = ask
        self._silence = silence
        self._maximum = maximum
        self._maximum_unknown = maximum_unknown
        self._held: dict[LocalConnection, _Held] = {}
        """In the order of their silence, the longest first."""

    def hold(self, connection: LocalConnection, now: float) -> bool:
        """Hold a connection whose program has just shut down writing. Returns False, and does not hold it, when the
        program has closed its socket."""
        watch = PeerWatch(lambda: self._ask(connection), now)
        if watch.state is PeerState.CLOSED:
            return False
        self._held[connection] = _Held(now, watch)
        return True

    def heard(self, connection: LocalConnection, now: float) -> None:
        """Measure silence from ``now`` on: data has arrived for the connection, or its silence does not count. Does
        nothing for a connection that is not held."""
        held = self._held.pop(connection, None)
        if held is not None:
            held.heard_at = now
            self._held[connection] = held

    def discard(self, connection: LocalConnection) -> None:
        """Release a connection, if it is held."""
        self._held.pop(connection, None)

    def clear(self) -> None:
        """Release all connections."""
        self._held.clear()

    def waits(self, connection: LocalConnection) -> bool:
        """Whether the program is known to have its socket open, and so waits for an answer."""
        held = self._held.get(connection)
        return held is not None and held.watch.state is PeerState.OPEN

    def next_timeout(self) -> float | None:
        """When to call ``take_closed`` and ``silent`` next; None when no connection is held."""
        instants = [min(held.watch.check_at, held.heard_at + self._silence) for held in self._held.values()]
        return min(instants, default=None)

    def take_closed(self, now: float) -> list[LocalConnection]:
        """Check the programs of the connections that are due. Releases and returns the connections whose program has
        closed its socket."""
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
        """Return the connections whose far end has been silent for too long. They stay held."""
        return [connection for connection, held in self._held.items() if held.heard_at + self._silence <= now]

    def surplus(self) -> LocalConnection | None:
        """Return the connection to release when too many are held; otherwise None."""
        unknown = [connection for connection in self._held if not self.waits(connection)]
        if len(unknown) > self._maximum_unknown:
            return unknown[0]
        return self.oldest() if len(self._held) > self._maximum else None

    def oldest(self) -> LocalConnection | None:
        """Return the connection to release first: the one with the longest silence among those for which ``waits`` is
        false or, if there is none, among all. None when no connection is held."""
        return next(
            (connection for connection in self._held if not self.waits(connection)), next(iter(self._held), None)
        )
