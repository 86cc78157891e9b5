"""Where a port session leads: resolving its host, what is forbidden, dialling, and one TCP connection.

As the official agent does it (``agent/session/plugins/port``): the host is resolved once, its addresses are tried in
order, there is no time limit of its own, and an end of file from either side ends the connection in both directions.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Protocol, cast

from session_manager_plugin.agent.agent_versions import LOOPBACK_DENIED_FROM
from session_manager_plugin.agent.program import ProgramError
from session_manager_plugin.protocol.versions import agent_compare

DENIED_ADDRESSES = frozenset(
    ip_address(text)
    for text in (
        "169.254.169.254",  # instance metadata
        "169.254.169.253",  # the VPC's DNS
        "169.254.169.123",  # time
        "169.254.169.250",  # Windows licences
        "169.254.169.251",
        "fd00:ec2::254",
        "fd00:ec2::253",
        "fd00:ec2::123",
        "fd00:ec2::240",
    )
)
"""The official agent's ``DeniedPortForwardingRemoteIPs``; it adds some of the instance's own network."""
DENIED_WITH_LOOPBACK = frozenset(
    ip_address(text)
    for text in (
        "169.254.170.2",  # credentials of ECS tasks
        "169.254.170.23",  # credentials of EKS pods
        "fd00:ec2::23",
    )
)
"""What agents from ``LOOPBACK_DENIED_FROM`` on refuse besides loopback."""
WRITE_HIGH_WATER = 64 * 1024
"""Bytes that wait for the destination above which it counts as slow."""
WRITE_LOW_WATER = 16 * 1024


class Destination:
    """What the properties ``host`` (none: this machine) and ``portNumber`` name, and the connections to it.

    ``agent_version`` decides which addresses a ``host`` must not have.
    """

    def __init__(self, properties: Mapping[str, str], agent_version: str) -> None:
        self._host = properties.get("host", "")
        self._port = properties["portNumber"]
        self._denies_loopback = agent_compare(agent_version, LOOPBACK_DENIED_FROM) >= 0
        self._addresses: list[tuple[str, int]] = []
        self._unresolved = ""
        self._connections: set[DialledConnection] = set()

    async def resolve(self) -> None:
        """Look the host up; that it is not found, only ``dial`` tells.

        Raises ``ProgramError`` when one of its addresses is denied.
        """
        host = self._host or "localhost"
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # a label of more than 63 characters
            self._unresolved = f"dial tcp: lookup {host}: no such host"
            return
        self._addresses = list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in found))
        if not self._host:
            # 127.0.0.1 first, whatever the resolver prefers.
            self._addresses.sort(key=lambda address: ":" in address[0])
        if self._host and any(self._denies(address) for address, _ in self._addresses):
            raise ProgramError(f"Forwarding to IP address {self._host} is forbidden.")

    def _denies(self, text: str) -> bool:
        """Whether ``host`` must not have this address. Its spelling does not matter: it has been resolved."""
        address = ip_address(text)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if self._denies_loopback and (address.is_loopback or address in DENIED_WITH_LOOPBACK):
            return True
        return address in DENIED_ADDRESSES

    async def dial(self, connection: DialledConnection) -> None:
        """Connect ``connection`` to the first address that answers. Raises ``OSError``, whose text is the official
        agent's, when none does."""
        failure = self._unresolved
        self._connections.add(connection)
        connection.gone.add_done_callback(lambda _: self._connections.discard(connection))
        for address, port in self._addresses:
            try:
                await asyncio.get_running_loop().create_connection(lambda: connection, address, port)
            except OSError as error:
                reason = os.strerror(error.errno).lower() if error.errno else str(error)
                shown = f"[{address}]" if ":" in address else address
                failure = failure or f"dial tcp {shown}:{port}: connect: {reason}"
            else:
                return
        connection.abort()
        raise ConnectionError(failure)

    async def close(self) -> None:
        """Drop all connections; returns when they are closed."""
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        if connections:
            await asyncio.wait([connection.gone for connection in connections])


class ConnectionOwner(Protocol):
    """Who is told of what happens to a connection."""

    def destination_sent(self, connection: DialledConnection, data: bytes) -> None:
        """``data`` has come."""
        ...

    def destination_caught_up(self, connection: DialledConnection) -> None:
        """``slow`` is no longer true."""
        ...

    def destination_closed(self, connection: DialledConnection, error: Exception | None) -> None:
        """Nothing more comes: the destination has closed the connection, or it broke (``error``), or we have closed it
        and what was written has left. Comes once, unless the connection was never made."""
        ...


class DialledConnection(asyncio.Protocol):
    """One TCP connection to the destination. It may be written to before it is made, and is closed only once."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes | bytearray] = []
        self._closing = False
        self._at_end = False
        self.slow = False
        """Whether more waits for the destination than it should; what is written all the same is kept."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is closed."""

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The destination has answered."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        transport.set_write_buffer_limits(WRITE_HIGH_WATER, WRITE_LOW_WATER)
        if self._early:
            transport.writelines(self._early)
            self._early = []
        if self._closing:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """The destination has sent something."""
        self._owner.destination_sent(self, data)

    def eof_received(self) -> bool:
        """The destination sends no more; asyncio closes the connection behind what was written."""
        self._closing = self._at_end = True
        self._owner.destination_closed(self, None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        if not self.gone.done():
            self.gone.set_result(None)
        if not self._at_end:
            self._owner.destination_closed(self, exc)

    def pause_writing(self) -> None:
        """The destination reads too slowly."""
        self.slow = True

    def resume_writing(self) -> None:
        """The destination has caught up."""
        self.slow = False
        self._owner.destination_caught_up(self)

    # What its owner calls.

    def write(self, pieces: list[bytes | bytearray]) -> None:
        """Send ``pieces``, when the connection is made; nothing happens once it is closing."""
        if self._closing:
            return
        if self._transport is None:
            self._early += pieces
        else:
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def set_reading(self, wanted: bool) -> None:
        """Whether the destination may send."""
        if self._transport is not None and not self._transport.is_closing():
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self) -> None:
        """Close both directions behind what was written; nothing more comes from the destination."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; await ``gone``."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
        elif not self.gone.done():
            self.gone.set_result(None)
