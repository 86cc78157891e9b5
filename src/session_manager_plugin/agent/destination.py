"""The destination of a port session: resolving its host, denied addresses, dialling, and TCP connections.

As in the official agent (``agent/session/plugins/port``), the host is resolved once, its addresses are tried in order
without a time limit, and an end of file from either side ends both directions of the connection.
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
"""The official agent's ``DeniedPortForwardingRemoteIPs``, without those of the instance's own network."""
DENIED_WITH_LOOPBACK = frozenset(
    ip_address(text)
    for text in (
        "169.254.170.2",  # credentials of ECS tasks
        "169.254.170.23",  # credentials of EKS pods
        "fd00:ec2::23",
    )
)
"""Addresses besides loopback that agents since ``LOOPBACK_DENIED_FROM`` refuse."""
WRITE_HIGH_WATER = 64 * 1024
"""Bytes waiting for the destination above which it counts as slow."""
WRITE_LOW_WATER = 16 * 1024


class Destination:
    """The host and port that the properties ``host`` (by default this machine) and ``portNumber`` name, and the
    connections to it.

    ``agent_version`` decides which addresses are denied.
    """

    def __init__(self, properties: Mapping[str, str], agent_version: str) -> None:
        self._host = properties.get("host", "")
        self._port = properties["portNumber"]
        self._denies_loopback = agent_compare(agent_version, LOOPBACK_DENIED_FROM) >= 0
        self.addresses: list[tuple[str, int]] = []
        self._unresolved = ""
        self.connections: set[DialledConnection] = set()

    async def resolve(self) -> None:
        """Resolve the host. An error is raised only by ``dial``.

        Raises ``ProgramError`` if one of its addresses is denied.
        """
        host = self._host or "localhost"
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # a label of more than 63 characters
            self._unresolved = f"dial tcp: lookup {host}: no such host"
            return
        self.addresses = list(dict.fromkeys((str(address[0]), int(address[1])) for *_, address in found))
        if not self._host:
            # IPv4 (127.0.0.1) first, regardless of the resolver's order.
            self.addresses.sort(key=lambda address: ":" in address[0])
        if self._host and any(self._denies(address) for address, _ in self.addresses):
            raise ProgramError(f"Forwarding to IP address {self._host} is forbidden.")

    def _denies(self, text: str) -> bool:
        """Whether a resolved address is denied."""
        address = ip_address(text)
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if self._denies_loopback and (address.is_loopback or address in DENIED_WITH_LOOPBACK):
            return True
        return address in DENIED_ADDRESSES

    async def dial(self, connection: DialledConnection) -> None:
        """Connect ``connection`` to the first address that accepts. Raises ``OSError``, with the official agent's text,
        if none does."""
        failure = self._unresolved
        self.connections.add(connection)
        connection.gone.add_done_callback(lambda _: self.connections.discard(connection))
        for address, port in self.addresses:
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
        """Abort all connections. Returns when they are closed."""
        connections = list(self.connections)
        for connection in connections:
            connection.abort()
        if connections:
            await asyncio.wait([connection.gone for connection in connections])


class ConnectionOwner(Protocol):
    """The callbacks of a connection."""

    def destination_sent(self, connection: DialledConnection, data: bytes) -> None:
        """The destination has sent ``data``."""
        ...

    def destination_caught_up(self, connection: DialledConnection) -> None:
        """``slow`` has become false."""
        ...

    def destination_closed(self, connection: DialledConnection, error: Exception | None) -> None:
        """The connection is closed: by the destination, by us after everything was written, or because it broke
        (``error``). Called once, if the connection was ever made."""
        ...


class DialledConnection(asyncio.Protocol):
    """One TCP connection to the destination. May be written to before it is made."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes | bytearray] = []
        self._closing = False
        self._at_end = False
        self.slow = False
        """Whether more than ``WRITE_HIGH_WATER`` bytes wait for the destination. Further writes are still queued."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection is closed."""

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The destination has accepted the connection."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        transport.set_write_buffer_limits(WRITE_HIGH_WATER, WRITE_LOW_WATER)
        if self._early:
            transport.writelines(self._early)
            self._early = []
        if self._closing:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """The destination has sent ``data``."""
        self._owner.destination_sent(self, data)

    def eof_received(self) -> bool:
        """The destination has sent its end of file; asyncio closes the connection after writing what is queued."""
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

    # Called by the owner.

    def write(self, pieces: list[bytes | bytearray]) -> None:
        """Send ``pieces`` once the connection is made. Ignored once it is closing."""
        if self._closing:
            return
        if self._transport is None:
            self._early += pieces
        else:
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def set_reading(self, wanted: bool) -> None:
        """Enable or disable reading from the destination."""
        if self._transport is not None and not self._transport.is_closing():
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self) -> None:
        """Close both directions after writing what is queued. No further data is read."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once. Await ``gone`` afterwards."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()
        elif not self.gone.done():
            self.gone.set_result(None)
