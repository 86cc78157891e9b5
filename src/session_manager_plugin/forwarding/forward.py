"""Forwards: local ports and SOCKS servers on one target."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from session_manager_plugin.errors import UsageError
from session_manager_plugin.forwarding.destination import Destination
from session_manager_plugin.forwarding.events import (
    EventHandler,
    ForwardedConnection,
    ForwardedPort,
    ForwardedSession,
    PortReady,
)
from session_manager_plugin.forwarding.on_demand import OnDemandPools
from session_manager_plugin.forwarding.pool import SessionPool
from session_manager_plugin.forwarding.socks_server import SocksServer
from session_manager_plugin.session.connection_source import ConnectionDealer
from session_manager_plugin.session.forward_spec import ForwardSpec, LocalAddress
from session_manager_plugin.session.listener import LOOPBACK_HOSTS, Listener, listen_on_path, listen_on_port
from session_manager_plugin.session.session import Session
from session_manager_plugin.utils.hosts import is_address

MAX_SOCKS_SESSIONS = 32
"""Sessions at a time for the destinations of SOCKS clients."""
SOCKS = "socks5"
"""The ``remote`` of a SOCKS server's port."""
_ALL_HOSTS = ("0.0.0.0", "::")  # noqa: S104  (only where the user asks for it)


class ForwardServices(Protocol):
    """The operations of AWS that a forward uses."""

    async def resolve_target(self) -> str:
        """Return the id of the target. Raises the error that prevents it."""

    async def resolve_database(self, name: str) -> tuple[str, int]:
        """Return host and port of the RDS instance or cluster ``name``. Raises the error that prevents it."""

    def session(self, target_id: str, destination: Destination) -> Session:
        """Return a session that forwards connections to ``destination``; it is not started yet."""


class Forward:
    """Any number of forwarded ports on one target. An async context manager: entering opens them, leaving closes them.

    First all local ends are bound, then names are resolved, then the sessions are started together: ``pool`` of them
    for each destination of ``forwards``; each connection goes to the next of them in turn. ``socks`` are the local ends
    of SOCKS5 servers, whose sessions are opened when a client names a destination. With ``new_session``, a session of
    ``forwards`` that is lost for good is replaced; without it ``wait`` raises.
    """

    def __init__(
        self,
        services: ForwardServices,
        forwards: Sequence[ForwardSpec],
        socks: Sequence[LocalAddress] = (),
        *,
        pool: int = 1,
        new_session: bool = False,
        on_event: EventHandler = lambda _event: None,
    ) -> None:
        """``on_event`` is called with each event, in the event loop; it must not block."""
        self._services = services
        self._forwards = tuple(forwards)
        self._socks = tuple(socks)
        self._pool_size = pool
        self._new_session = new_session
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._listeners: list[Listener] = []
        self._pools: list[SessionPool] = []
        self._servers: list[SocksServer] = []
        self._on_demand: OnDemandPools | None = None
        self._target_id = ""
        self.ports: tuple[ForwardedPort, ...] = ()
        """The ports that accept connections: those of ``forwards``, then those of ``socks``. Empty before entering."""

    @property
    def port(self) -> int | None:
        """The TCP port of the first forward; None for a unix socket. Only while entered."""
        return self.ports[0].port

    def connections(self) -> list[ForwardedConnection]:
        """Return the local connections that are open at this moment, oldest first."""
        found = [connection for pool in self._all_pools for connection in pool.connections.values()]
        return sorted(found, key=lambda connection: connection.number)

    def sessions(self) -> list[ForwardedSession]:
        """Return the sessions that are open at this moment."""
        return [session for pool in self._all_pools for session in pool.sessions]

    async def open(self) -> None:
        """Bind everything, then start the sessions and wait until they are open.

        Raises ``ConfigurationError`` for a port that cannot be bound, before anything else happens, and the error that
        prevents a session. After an error nothing is left open.
        """
        try:
            self._bind()
            destinations = await self._resolve()
            await self._open_pools(destinations)
        except BaseException:
            await self.close()
            raise
        self._start_socks()
        remotes = [*map(str, destinations), *(SOCKS for _ in self._socks)]
        self.ports = tuple(map(self._describe, self._listeners, remotes))
        for port in self.ports:
            self._on_event(PortReady(port))

    async def wait(self) -> None:
        """Wait until a session that is not replaced has ended, and raise ``ForwardEnded``."""
        ended = [pool.ended for pool in self._pools] or [asyncio.get_running_loop().create_future()]
        done, _pending = await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        done.pop().result()

    async def close(self) -> None:
        """Close all ports and connections, and terminate the sessions. Idempotent."""
        for listener in self._listeners:
            listener.close()
        on_demand = [self._on_demand.close()] if self._on_demand is not None else []
        servers, pools = [each.close() for each in self._servers], [each.close() for each in self._pools]
        await asyncio.gather(*servers, *pools, *on_demand)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _all_pools(self) -> list[SessionPool]:
        return [*self._pools, *(self._on_demand.pools if self._on_demand is not None else ())]

    def _bind(self) -> None:
        locals_ = [*(forward.local for forward in self._forwards), *self._socks]
        for address in locals_:
            if (address.port or address.path) and locals_.count(address) > 1:
                raise UsageError(f"{address} is given twice; choose another local port, or 0 for any that is free")
        for address in locals_:
            self._listeners.append(_listen(address))

    async def _resolve(self) -> list[Destination]:
        """Resolve the target, and return the destination of each forward."""
        async with _UnwrappedTasks() as tasks:
            target = tasks.create_task(self._services.resolve_target())
            destinations = [tasks.create_task(self._destination(forward)) for forward in self._forwards]
        self._target_id = target.result()
        return [task.result() for task in destinations]

    async def _destination(self, forward: ForwardSpec) -> Destination:
        if not forward.rds:
            assert forward.port is not None
            return Destination(forward.host, forward.port)
        host, port = await self._services.resolve_database(forward.rds)
        return Destination(host, forward.port or port)

    async def _open_pools(self, destinations: Sequence[Destination]) -> None:
        for destination in dict.fromkeys(destinations):
            listeners = [
                listener for each, listener in zip(destinations, self._listeners, strict=False) if each == destination
            ]
            dealer = ConnectionDealer(listeners)
            self._pools.append(self._pool(destination, self._on_event, dealer, replaces=self._new_session))
        async with _UnwrappedTasks() as tasks:
            for pool in self._pools:
                tasks.create_task(pool.open())

    def _start_socks(self) -> None:
        if not self._socks:
            return
        self._on_demand = OnDemandPools(
            lambda destination, on_event: self._pool(destination, on_event, ConnectionDealer(), replaces=False),
            self._on_event,
            maximum=max(1, MAX_SOCKS_SESSIONS // self._pool_size),
        )
        for listener in self._listeners[len(self._forwards) :]:
            server = SocksServer(listener, self._on_demand, self._on_event)
            self._servers.append(server)
            server.start()

    def _pool(
        self, destination: Destination, on_event: EventHandler, dealer: ConnectionDealer, *, replaces: bool
    ) -> SessionPool:
        return SessionPool(
            lambda to: self._services.session(self._target_id, to),
            destination,
            dealer,
            on_event,
            count=self._pool_size,
            replaces=replaces,
            numbers=self._numbers,
        )

    def _describe(self, listener: Listener, remote: str) -> ForwardedPort:
        addresses = (listener.path,) if listener.path is not None else tuple(listener.addresses)
        return ForwardedPort(addresses, listener.port, self._target_id, remote)


class _UnwrappedTasks(asyncio.TaskGroup):
    """A task group that raises the first exception itself, not in a group."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc, traceback)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group.exceptions[0].__cause__


def _listen(address: LocalAddress) -> Listener:
    if address.path is not None:
        return listen_on_path(address.path)
    if not address.host or address.host == "localhost":
        return listen_on_port(address.port, LOOPBACK_HOSTS)
    if address.host == "*":
        return listen_on_port(address.port, _ALL_HOSTS)
    if not is_address(address.host):
        raise UsageError(f"{address.host} is not an address of this machine; give it in numbers, or * for all")
    return listen_on_port(address.port, [address.host])
