"""Waiting for a state: looked at whenever something happens, and with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from session_manager_plugin.cli.signals import REPEAT_TIME

DEADLINE = 60.0
"""Seconds after which what was awaited counts as not having come: far more than a busy machine needs."""


class Happenings:
    """Whoever notices something calls ``happened``; whoever waits for a state awaits ``until``."""

    def __init__(self) -> None:
        self._something = asyncio.Event()

    def happened(self) -> None:
        """Have everybody who waits look again."""
        self._something.set()
        self._something = asyncio.Event()

    async def until(self, reached: Callable[[], object]) -> None:
        """Wait until ``reached`` gives something true."""
        async with asyncio.timeout(DEADLINE):
            while not reached():
                await self._something.wait()


async def wait_until(reached: Callable[[], object]) -> None:
    """Wait until ``reached`` gives something true, where nobody tells when that may be."""
    async with asyncio.timeout(DEADLINE):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def until_a_signal_counts_again() -> None:
    """Wait as long as the same signal is taken for the one before (``REPEAT_TIME``)."""
    sent_at = time.monotonic()
    await wait_until(lambda: time.monotonic() > sent_at + REPEAT_TIME)


async def rounds(count: int = 20) -> None:
    """Let the event loop do all that it can do without waiting for anything."""
    for _ in range(count):
        await asyncio.sleep(0)
