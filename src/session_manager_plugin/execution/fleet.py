"""Running a function for many targets: how many at once, and in which order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

FANOUT = 32
"""Targets at once, by default."""


async def run_on_all(
    targets: Iterable[T],
    run: Callable[[T], Awaitable[R]],
    *,
    fanout: int = FANOUT,
    batch: int = 0,
    is_stopped: Callable[[], bool] = lambda: False,
) -> AsyncGenerator[R, None]:
    """Yield the result of ``run`` for each target, in the order in which the calls end.

    At most ``fanout`` calls run at once. With a ``batch``, targets are started in groups of that size, each group after
    all calls of the previous one have ended. While ``is_stopped`` returns true no call is started, and the iterator
    ends when none is running. Closing the iterator, as ``contextlib.aclosing`` does, cancels the running calls and
    waits for them.
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
