"""A handler that runs over a channel in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from session_manager_plugin.session.outcome import Outcome
from tests.support.memory_channel import MemoryChannel


class HandlerRun(Protocol):
    """The channel, and the task of the handler once it runs."""

    channel: MemoryChannel
    running: asyncio.Task[Outcome]


R = TypeVar("R", bound=HandlerRun)


@asynccontextmanager
async def ended_at_last(run: R) -> AsyncIterator[R]:
    """End the session behind the block, and wait until the handler has ended."""
    try:
        yield run
    finally:
        run.channel.end("")
        await asyncio.gather(run.running, return_exceptions=True)
        await run.channel.close()
