"""The SOCKS5 servers of a forward: each connection names its own destination."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from session_manager_plugin.errors import SessionManagerError
from session_manager_plugin.forwarding.destination import Destination
from session_manager_plugin.forwarding.events import EventHandler, Trouble
from session_manager_plugin.forwarding.on_demand import OnDemandPools
from session_manager_plugin.session.connection_source import (
    receive_socks_request,
    refuse_socks_request,
    socks_answer,
)
from session_manager_plugin.session.listener import Listener
from session_manager_plugin.session.local_connection import ProxyClient

_MOST_TOLD = 1000
"""Subjects whose last problem is remembered, so that it is reported only once."""


class SocksServer:
    """Serves the SOCKS5 clients of ``listener`` with the sessions of ``pools``. Names are resolved by the target."""

    def __init__(self, listener: Listener, pools: OnDemandPools, on_event: EventHandler) -> None:
        self._listener = listener
        self._pools = pools
        self._on_event = on_event
        self._clients: set[asyncio.Task[None]] = set()
        self._told: dict[str, str] = {}

    def start(self) -> None:
        """Accept clients."""
        self._listener.start(self._accept, self._accept_failed)

    async def close(self) -> None:
        """Stop listening, and close the clients whose destination is not known or not open yet."""
        self._listener.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _accept(self, client: socket.socket) -> None:
        task = asyncio.ensure_future(self._serve(client))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    def _accept_failed(self, error: OSError) -> None:
        self._tell("new connections have to wait", error.strerror or str(error))

    async def _serve(self, client: socket.socket) -> None:
        """Read a client's destination, and hand the client to a session with it. On failure close the client."""
        with contextlib.ExitStack() as unless_handed, contextlib.suppress(OSError):
            unless_handed.callback(client.close)
            server, request = await receive_socks_request(client)
            if request is None:
                self._tell("a SOCKS client", server.error)
                return
            destination = Destination(request.host, request.port)
            try:
                pool = await self._pools.pool(destination)
            except SessionManagerError as error:
                self._tell(str(destination), str(error))
                await refuse_socks_request(client, server, str(error))
                return
            self._told.pop(str(destination), None)
            unless_handed.pop_all()
            pool.deal(ProxyClient(client, socks_answer(server)))

    def _tell(self, subject: str, problem: str) -> None:
        """Report a problem, unless it equals the last one reported for ``subject``."""
        if not problem or self._told.get(subject) == problem:
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[subject] = problem
        self._on_event(Trouble(f"{subject}: {problem}"))
