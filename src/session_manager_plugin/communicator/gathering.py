"""Data that waits a moment for what follows it, to leave with it in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

GATHER_DELAY = 0.001
"""Seconds that the first piece waits at most."""
GATHER_SIZE = 64 * 1024
"""Bytes that wait at most."""


class Gathering:
    """What waits, as a number of bytes. ``leave`` is called when the first of them have waited for long enough.

    A terminal gives a long paste by pieces of 4 KiB, each of which would cost a write here and a read at the far end.
    """

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether there is anything."""
        return self._timer is not None

    def take(self, size: int) -> bool:
        """Let ``size`` bytes wait. False when that would be too many: then everything should leave."""
        if self._size + size > GATHER_SIZE:
            return False
        self._size += size
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_DELAY, self._delay_passed)
        return True

    def stop(self) -> None:
        """Nothing waits any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._size = 0

    def _delay_passed(self) -> None:
        self.stop()
        self._leave()
