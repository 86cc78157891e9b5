"""A timer for deadlines that change all the time, mostly to later ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class EarliestTimer:
    """Calls ``due`` at the deadline of the last ``arm`` or earlier.

    A later deadline does not change the timer: ``due`` is called early, finds nothing to do, and arms the
    timer again. No timer is cancelled and created for each message. Deadlines are times of ``clock``, in seconds.
    """

    def __init__(self, due: Callable[[], None], clock: Callable[[], float]) -> None:
        self._due = due
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def arm(self, deadline: float) -> None:
        """Call ``due`` at ``deadline`` or earlier."""
        if deadline < self._timer_at:
            self.cancel()
            self._timer_at = deadline
            delay = max(0.0, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._fired)

    def cancel(self) -> None:
        """Do not call ``due`` until the next ``arm``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = float("inf")

    def _fired(self) -> None:
        self._timer = None
        self._timer_at = float("inf")
        self._due()
