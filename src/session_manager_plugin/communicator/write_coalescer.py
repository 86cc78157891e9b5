"""Delays small writes for a moment, so that they share one write with the data that follows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

GATHER_DELAY = 0.001
"""Most seconds that a byte waits."""
GATHER_SIZE = 64 * 1024
"""Most bytes that wait."""


class WriteCoalescer:
    """Counts the bytes that wait for a shared write. Calls ``flush`` once the oldest byte has waited ``GATHER_DELAY``
    seconds.

    A terminal returns a long paste in reads of at most 4 KiB. Without coalescing each read costs a write here and a
    read at the far end.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        self._flush = flush
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self.waiting = False
        """Whether bytes are waiting."""

    def add(self, size: int) -> bool:
        """Delay ``size`` further bytes. Returns False, and adds nothing, if more than ``GATHER_SIZE`` would wait: the
        caller then writes everything."""
        if self._size + size > GATHER_SIZE:
            return False
        self._size += size
        if self._timer is None:
            self.waiting = True
            self._timer = asyncio.get_running_loop().call_later(GATHER_DELAY, self._delay_passed)
        return True

    def stop(self) -> None:
        """Count the waiting bytes as written."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._size = 0
            self.waiting = False

    def _delay_passed(self) -> None:
        self.stop()
        self._flush()
