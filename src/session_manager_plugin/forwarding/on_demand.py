"""Sessions opened at the first connection to a destination, and closed when they are idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from session_manager_plugin.errors import ConnectError, SessionManagerError
from session_manager_plugin.forwarding.destination import Destination
from session_manager_plugin.forwarding.events import ConnectionClosed, EventHandler, ForwardEvent, Trouble
from session_manager_plugin.forwarding.pool import SessionPool

IDLE_TIMEOUT = 60.0
"""Seconds without a connection after which the sessions to a destination are closed."""
ROOM_TIMEOUT = 15.0
"""Seconds that a new destination waits for another one to become idle, when the maximum is in use."""


class _Entry:
    """The sessions to one destination."""

    def __init__(self, pool: SessionPool) -> None:
        self.pool = pool
        self.opening = asyncio.ensure_future(pool.open())
        self.waiting = 0
        """Callers of ``pool`` that wait for the opening."""
        self.unwanted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the sessions are to be closed to make room."""
        self.watching: asyncio.Task[None]

    @property
    def is_idle(self) -> bool:
        """Whether no connection uses the sessions or waits for them."""
        return self.opening.done() and not self.waiting and not self.pool.is_used


class OnDemandPools:
    """The pools of at most ``maximum`` destinations at a time."""

    def __init__(
        self,
        new_pool: Callable[[Destination, EventHandler], SessionPool],
        on_event: EventHandler,
        *,
        maximum: int,
        idle_timeout: float = IDLE_TIMEOUT,
        room_timeout: float = ROOM_TIMEOUT,
    ) -> None:
        self._new_pool = new_pool
        self._on_event = on_event
        self._maximum = maximum
        self._idle_timeout = idle_timeout
        self._room_timeout = room_timeout
        self._entries: dict[Destination, _Entry] = {}
        self._room = asyncio.Lock()
        self._changed = asyncio.Event()
        """Set when a destination may have become idle or is gone."""

    @property
    def pools(self) -> list[SessionPool]:
        """The pools that are open or being opened."""
        return [entry.pool for entry in self._entries.values()]

    async def pool(self, destination: Destination) -> SessionPool:
        """Return the open pool of a destination. Use it at once: it is closed when it is idle.

        Raises ``SessionManagerError`` when no session could be opened, or there is no room for another destination.
        """
        entry = self._entries.get(destination)
        if entry is None:
            async with self._room:  # one caller at a time, so that no other takes the room
                entry = self._entries.get(destination)
                if entry is None:
                    await self._make_room()
                    entry = self._entries[destination] = _Entry(self._new_pool(destination, self._observe))
                    entry.watching = asyncio.ensure_future(self._watch(destination, entry))
        entry.waiting += 1
        try:
            await asyncio.shield(entry.opening)
        finally:
            entry.waiting -= 1
            self._changed.set()
        return entry.pool

    async def close(self) -> None:
        """Close every pool."""
        watching = [entry.watching for entry in self._entries.values()]
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)

    async def _make_room(self) -> None:
        """If ``maximum`` pools exist, wait until one is idle, and close the one that has been idle for longest."""
        if len(self._entries) < self._maximum:
            return
        try:
            async with asyncio.timeout(self._room_timeout):
                while not any(entry.is_idle for entry in self._entries.values()):
                    self._changed.clear()
                    await self._changed.wait()
                    if len(self._entries) < self._maximum:
                        return
        except TimeoutError:
            raise ConnectError(f"{self._maximum} destinations are in use, and no more are allowed at a time") from None
        idle = [entry for entry in self._entries.values() if entry.is_idle]
        longest = min(idle, key=lambda entry: entry.pool.used_at)
        longest.unwanted.set_result(None)
        await asyncio.wait({longest.watching})

    def _observe(self, event: ForwardEvent) -> None:
        self._on_event(event)
        if isinstance(event, ConnectionClosed):
            self._changed.set()

    async def _watch(self, destination: Destination, entry: _Entry) -> None:
        """Close the pool of ``entry`` when it is idle, unwanted or has lost its session."""
        pool = entry.pool
        try:
            await entry.opening
            await self._until_over(entry)
            if pool.ended.done() and (error := pool.ended.exception()) is not None:
                self._on_event(Trouble(str(error)))
        except SessionManagerError:
            pass  # ``pool`` raises it
        finally:
            del self._entries[destination]
            entry.opening.cancel()
            self._changed.set()
            await pool.close()

    async def _until_over(self, entry: _Entry) -> None:
        pool, loop = entry.pool, asyncio.get_running_loop()
        while not pool.ended.done() and not entry.unwanted.done():
            left = pool.used_at + self._idle_timeout - loop.time()
            if left <= 0 and entry.is_idle:
                return
            await asyncio.wait(
                {pool.ended, entry.unwanted},
                timeout=left if left > 0 else self._idle_timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
