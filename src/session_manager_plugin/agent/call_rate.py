"""The rates above which calls are throttled."""

from __future__ import annotations

from collections.abc import Callable


class CallRate:
    """A token bucket for one second of calls, refilled at ``rate`` per second; 0 means no limit. ``now`` returns the
    time in seconds. Raises ``ValueError`` for a negative rate."""

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        if rate < 0:
            raise ValueError("a rate is a number from 0 on")
        self._rate = rate
        self._now = now
        self._tokens = self._size = max(1.0, rate)
        self._filled_at = now()

    def take(self) -> bool:
        """Whether one more call is accepted now. If so, it is counted."""
        if not self._rate:
            return True
        now = self._now()
        self._tokens = min(self._size, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
