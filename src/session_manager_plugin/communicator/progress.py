"""Lets senders wait for an acknowledgement, the beginning of the session, or its end."""

from __future__ import annotations

import asyncio


class Progress:
    """Any number of callers wait in ``next``; ``wake`` lets all of them check again."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | None = None
        self.is_awaited = False
        """Whether any caller waits."""

    async def next(self) -> None:
        """Wait until ``wake`` is called."""
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
            self.is_awaited = True
        await asyncio.shield(self._waiting)

    def wake(self) -> None:
        """Let all callers go on."""
        if self._waiting is not None:
            self._waiting.set_result(None)
            self._waiting = None
            self.is_awaited = False
