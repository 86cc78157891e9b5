"""Waiting for the first of several events that may end a session, and leaving no task behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Any


@contextlib.asynccontextmanager
async def first_of(*ways: asyncio.Future[Any], cancel: Collection[asyncio.Future[Any]]) -> AsyncIterator[None]:
    """Wait until one of ``ways`` is done, then run the block. On leaving, also after an exception or a cancellation,
    cancel the tasks ``cancel`` and wait until they have ended.

    After the block a task that was not done is cancelled; one that was done keeps its result or exception.
    """
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        yield
    finally:
        for task in cancel:
            task.cancel()
        await asyncio.gather(*cancel, return_exceptions=True)
