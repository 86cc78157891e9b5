"""The sessions to one destination: started together, and replaced when they are lost, if requested."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import Callable, Iterator
from typing import NoReturn

from session_manager_plugin.errors import ForwardEnded, SessionManagerError
from session_manager_plugin.forwarding.destination import Destination
from session_manager_plugin.forwarding.events import (
    ConnectionClosed,
    ConnectionOpened,
    EventHandler,
    ForwardedConnection,
    ForwardedSession,
    LinkRestored,
    LinkTroubled,
    SessionOver,
    Trouble,
)
from session_manager_plugin.protocol.versions import agent_supports_mux
from session_manager_plugin.session.connection_source import ConnectionDealer
from session_manager_plugin.session.forwarder import PortSettings
from session_manager_plugin.session.local_connection import LocalConnection
from session_manager_plugin.session.notices import PlainNotices
from session_manager_plugin.session.port import PortHandler
from session_manager_plugin.session.session import Session

OpenSession = Callable[[Destination], Session]
"""Returns a session, not yet started, that forwards connections to a destination."""
AGENT_TIMEOUT = 0.5
"""Seconds for the agent to end a session, before TerminateSession is called."""
REPLACE_INTERVALS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds before the attempts to replace a session; the last interval is repeated."""


class SessionPool:
    """``count`` sessions to ``destination``; ``dealer`` deals connections to them in turn.

    With ``replaces``, a session that has ended is replaced, however many attempts that takes; without it, the reason is
    set as the exception of ``ended``. Connections wait until a session is open.
    """

    def __init__(
        self,
        open_session: OpenSession,
        destination: Destination,
        dealer: ConnectionDealer,
        on_event: EventHandler,
        *,
        count: int,
        replaces: bool,
        numbers: Iterator[int] | None = None,
    ) -> None:
        """``numbers`` yields the numbers of the connections."""
        self.open_session = open_session
        self.destination = destination
        self.dealer = dealer
        self.on_event = on_event
        self._count = count
        self._replaces = replaces
        self.numbers = numbers or itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self.sessions: list[ForwardedSession] = []
        """The sessions that are open."""
        self.connections: dict[LocalConnection, ForwardedConnection] = {}
        """The local connections that are open."""
        self._dealt = 0
        """Connections passed to ``deal`` that are not open yet."""
        self.used_at = self._loop.time()
        """The instant (of the event loop) of the last change of a connection."""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        """Done when a session that is not replaced has ended; its exception is the reason."""

    async def open(self) -> None:
        """Start all sessions and wait until they are open. If one fails, closes all and raises its error."""
        opened: list[asyncio.Future[None]] = [self._loop.create_future() for _ in range(self._count)]
        self._tasks = [asyncio.ensure_future(self._serve(each)) for each in opened]
        try:
            await asyncio.gather(*opened)
        except BaseException:
            await self.close()
            raise

    @property
    def is_used(self) -> bool:
        """Whether connections are open or wait for a session."""
        return bool(self.connections or self._dealt)

    def deal(self, connection: socket.socket) -> None:
        """Forward a connection that was not accepted by the dealer's listeners. It then belongs to the pool."""
        self._dealt += 1
        self.dealer.deal(connection)

    async def close(self) -> None:
        """Close the connections and terminate the sessions. Idempotent."""
        self.dealer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if not self.ended.cancel() and not self.ended.cancelled():
            self.ended.exception()  # retrieved, in case the owner has not done so

    async def _serve(self, opened: asyncio.Future[None]) -> None:
        """Run one session after the other, until one that is not replaced has ended."""
        intervals, replaces, told = iter(REPLACE_INTERVALS), False, ""
        interval = REPLACE_INTERVALS[-1]
        while True:
            run = _Run(self, replaces=replaces)
            try:
                await run.to_the_end(opened)
            except Exception as error:
                if not opened.done():
                    opened.set_exception(error)
                if opened.cancelled() or opened.exception() is not None:
                    return
                if not self._replaces or not isinstance(error, SessionManagerError):
                    if not self.ended.done():
                        self.ended.set_exception(error)
                    return
                if run.was_open:
                    intervals, told = iter(REPLACE_INTERVALS), ""
                    self.on_event(Trouble(f"{error}; starting another one"))
                elif str(error) != told:
                    told = str(error)
                    self.on_event(Trouble(f"no session to {self.destination}, trying again: {error}"))
            replaces = True
            interval = next(intervals, interval)
            await asyncio.sleep(interval)

    def connection_opened(self, connection: LocalConnection, session_id: str) -> None:
        """A session has opened a local connection."""
        self._dealt = max(0, self._dealt - 1)
        opened = ForwardedConnection(str(self.destination), session_id, connection, self._loop.time())
        self.connections[connection] = opened
        self.used_at = opened.opened_at
        self.on_event(ConnectionOpened(opened))

    def connection_closed(self, connection: LocalConnection) -> None:
        """A local connection is closed."""
        closed = self.connections.pop(connection, None)
        if closed is not None:
            self.used_at = self._loop.time()
            self.on_event(ConnectionClosed(closed))


class _Run:
    """One session of a pool, from its start to its end."""

    def __init__(self, pool: SessionPool, *, replaces: bool) -> None:
        """``replaces``: the session replaces one that has ended."""
        self._pool = pool
        self._replaces = replaces
        self._session = pool.open_session(pool.destination)
        self._facts = ForwardedSession(self._session, str(pool.destination))
        self._told = False
        """Whether the current trouble of the link was reported."""
        self.was_open = False

    async def to_the_end(self, opened: asyncio.Future[None]) -> NoReturn:
        """Run the session; ``opened`` is set once it accepts connections. Raises the error that prevents opening
        it, and ``ForwardEnded`` once it has ended."""
        pool, session = self._pool, self._session
        source = pool.dealer.add()
        try:
            ready = await session.open()
            self.was_open = True
            session.set_link_handler(self._link_changed)
            pool.sessions.append(self._facts)
            if self._replaces:
                pool.on_event(LinkRestored(self._facts, f"session {session.session_id} replaces it"))
            settings = PortSettings(
                opened=lambda connection: pool.connection_opened(connection, session.session_id),
                closed=pool.connection_closed,
                numbers=pool.numbers,
            )
            if not agent_supports_mux(ready.peer_version):
                pool.on_event(Trouble(f"{pool.destination}: the agent is old and serves one connection at a time"))
            notices = PlainNotices(lambda sentence: pool.on_event(Trouble(f"{pool.destination}: {sentence}")))
            if not opened.done():
                opened.set_result(None)
            await self._forward(PortHandler(ready, notices, settings=settings, source=source))
        finally:
            pool.dealer.remove(source)
            if self._facts in pool.sessions:
                pool.sessions.remove(self._facts)
            if self.was_open:
                await self._wait_for_agent()
            await session.close()

    async def _forward(self, handler: PortHandler) -> NoReturn:
        name = f"session {self._session.session_id} to {self._pool.destination}"
        cause: Exception | None = None
        try:
            text = " ".join((await handler.run(self._session.channel)).text.split())
            sentence = f"{name} was closed by the far end{': ' if text else ''}{text}"
        except SessionManagerError as error:
            sentence, cause = f"{name} was lost: {error}", error
        except asyncio.CancelledError:
            self._pool.on_event(SessionOver(self._facts, f"{name} was closed"))
            raise
        self._pool.on_event(SessionOver(self._facts, sentence))
        raise ForwardEnded(sentence) from cause

    async def _wait_for_agent(self) -> None:
        """Wait until the agent has ended the session, as the handler has requested.

        TerminateSession is then not called. Each call takes a tenth of a second of CPU time, too long to terminate many
        sessions in time.
        """
        with contextlib.suppress(TimeoutError, SessionManagerError):
            async with asyncio.timeout(AGENT_TIMEOUT):
                await self._session.channel.ended()

    def _link_changed(self) -> None:
        health = self._session.health
        if health.troubled and not self._told:
            self._told = True
            self._pool.on_event(LinkTroubled(self._facts, health.sentence))
        elif self._told and health.restored_after is not None:
            self._told = False
            self._pool.on_event(LinkRestored(self._facts, health.sentence))
