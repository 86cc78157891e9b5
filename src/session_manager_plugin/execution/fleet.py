"""Running something on many targets: how many at once, and in which order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

FANOUT = 32
"""Targets at once, unless a caller says otherwise."""


async def run_on_all(
    targets: Iterable[T],
    run: Callable[[T], Awaitable[R]],
    *,
    fanout: int = FANOUT,
    batch: int = 0,
    is_stopped: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[R, None]:
    """Yield what ``run`` returns for each target, as it ends.

    At most ``fanout`` targets are at work at once. With a ``batch`` the next so many begin when all before have ended.
    While ``is_stopped`` no target begins, and the iterator ends when none is at work. Closing the iterator, as
    ``contextlib.aclosing`` does, cancels what is at work and waits for it.
    """
    waiting = deque(targets)
    running: set[asyncio.Future[R]] = set()
    batch = batch or len(waiting)
    left = batch
    try:
        while True:
            while waiting and left and len(running) < fanout and not is_stopped():
                running.add(asyncio.ensure_future(run(waiting.popleft())))
                left -= 1
            if running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
            elif waiting and not is_stopped():
                left = batch
            else:
                return
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
