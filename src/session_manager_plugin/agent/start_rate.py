"""How many sessions a second the service starts: StartSession is throttled above it."""

from __future__ import annotations

from collections.abc import Callable


class StartRate:
    """A bucket of one second's tokens, refilled at ``rate`` a second; 0 is without a limit. ``now`` is the clock, in
    seconds. Raises ``ValueError`` for less than 0."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        if rate < 0:
            raise ValueError("a rate is a number from 0 on")
        self._rate = rate
        self._now = now
        self._tokens = self._size = max(1.0, rate)
        self._filled_at = now()

    def take(self) -> bool:
        """Whether one more session may start now; it is counted if so."""
        if not self._rate:
            return True
        now = self._now()
        self._tokens = min(self._size, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
