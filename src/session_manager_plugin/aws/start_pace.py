"""How fast sessions are started: as fast as the service allows, found out from its ThrottlingExceptions.

::

    not throttled yet     no limit
    throttled             the first time the rate is what the service has just accepted, later it shrinks by a tenth
    accepted              the rate grows by a fifth in a second

A rate that is a little too high costs nothing but refused calls, since the service's bucket is then always empty.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

from session_manager_plugin.aws.aws_errors import is_caused_by_throttling
from session_manager_plugin.errors import ConnectError, SessionManagerError

T = TypeVar("T")

MAX_ATTEMPTS = 20
"""Attempts of one start that the service throttles."""
FIRST_WAIT, LONGEST_WAIT = 0.25, 4.0
"""Seconds that a throttled start waits at most, the first time and in the end: a random part of it, twice as much each
time."""
MEASURED = 1.0
"""Seconds over which accepted starts are counted."""
DECREASE = 0.9
DECREASE_INTERVAL = 0.5
"""Seconds between two decreases: the calls that are under way when the first is throttled say nothing new."""
INCREASE = 0.2
"""Part of the rate, added in a second."""


TRANSIENT_ATTEMPTS = 3
"""Attempts of one start that fails for another reason that may pass by itself."""


class AdaptiveRate:
    """The rate alone: a value that is passed instants (seconds) and returns waits (seconds)."""

    def __init__(self) -> None:
        self.limit: float | None = None
        """Starts a second; None while the service has not throttled."""
        self._accepted: deque[float] = deque()
        self._count = 0
        self.refused = 0
        """Starts that the service has throttled."""
        self._first_at = self._last_at = 0.0
        self._next_at = 0.0
        self._decreased_at = -DECREASE_INTERVAL

    def reserve(self, now: float) -> float:
        """Reserve the next start and return the seconds until then."""
        at = max(now, self._next_at)
        if self.limit is not None:
            self._next_at = at + 1 / self.limit
        return at - now

    def accepted(self, now: float) -> None:
        """The service has accepted a start."""
        self._accepted.append(now)
        self._first_at = self._first_at if self._count else now
        self._last_at = now
        self._count += 1
        self.measure(now)
        if self.limit is not None:
            self.limit += INCREASE  # for each start, so that much of the rate in a second

    def throttled(self, now: float) -> None:
        """The service has throttled a start."""
        self.refused += 1
        if now - self._decreased_at < DECREASE_INTERVAL:
            return
        self._decreased_at = now
        measured = max(1.0, self.measure(now))
        self.limit = measured if self.limit is None else max(1.0, self.limit * DECREASE)

    @property
    def average(self) -> float:
        """Starts a second, from the first that was accepted to the last."""
        return self._count / max(1.0, self._last_at - self._first_at)

    def measure(self, now: float) -> float:
        """Return how many starts a second were accepted of late."""
        while self._accepted and self._accepted[0] <= now - MEASURED:
            self._accepted.popleft()
        return len(self._accepted) / MEASURED


class StartPace:
    """The pace of all sessions that a program starts."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        randomness: Callable[[], float] = random.random,
    ) -> None:
        self._rate = AdaptiveRate()
        self._clock = clock
        self._sleep = sleep
        self._random = randomness

    @property
    def limit(self) -> float | None:
        """Starts a second, as the service was found to allow; None while it has not throttled."""
        return self._rate.limit

    @property
    def refused(self) -> int:
        """Starts that the service has throttled, all attempts counted."""
        return self._rate.refused

    @property
    def measured(self) -> float:
        """Starts that were accepted in the last second."""
        return self._rate.measure(self._clock())

    @property
    def average(self) -> float:
        """Starts a second, from the first that was accepted to the last."""
        return self._rate.average

    async def run(self, start: Callable[[], Awaitable[T]]) -> T:
        """Return what ``start`` returns: it is called when its turn has come, again while it is throttled.

        Raises what it raises: a throttling after ``MAX_ATTEMPTS`` attempts.
        """
        longest = FIRST_WAIT
        for attempt in range(1, MAX_ATTEMPTS + 1):
            await self._sleep(self._rate.reserve(self._clock()))
            try:
                result = await start()
            except SessionManagerError as error:
                if attempt >= (MAX_ATTEMPTS if is_caused_by_throttling(error) else _transient_attempts(error)):
                    raise
                if is_caused_by_throttling(error):
                    self._rate.throttled(self._clock())
                await self._sleep(longest * self._random())
                longest = min(LONGEST_WAIT, 2 * longest)
            else:
                self._rate.accepted(self._clock())
                return result
        raise AssertionError


def _transient_attempts(error: SessionManagerError) -> int:
    return TRANSIENT_ATTEMPTS if isinstance(error, ConnectError) and error.retryable else 1
