"""Looking up the addresses of a name by family, and connecting to each of them."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from session_manager_plugin.communicator.opening import AddressInfo, connect_to
from session_manager_plugin.communicator.opening import look_up as look_up_addresses

FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
MAX_ADDRESSES = 8
"""Addresses of one family that are tried at once."""
_NO_ADDRESS = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
)
"""Errors of ``getaddrinfo`` for a name without an address of the family."""


@dataclass(frozen=True)
class Addresses:
    """The addresses of a name in one family, or the error of DNS."""

    family: socket.AddressFamily
    addresses: tuple[AddressInfo, ...] = ()
    error: str = ""


def literal_family(host: str) -> socket.AddressFamily | None:
    """Return the family of ``host`` if it is an address; None if it is a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


async def look_up(host: str, port: int, family: socket.AddressFamily, timeout: float) -> Addresses:
    """Look up the addresses of one family. Having none is not an error. Does not raise network errors."""
    try:
        async with asyncio.timeout(timeout):
            found = await look_up_addresses(host, port, family)
    except TimeoutError:
        return Addresses(family, error=f"no answer within {timeout:g} s")
    except socket.gaierror as error:
        if error.errno in _NO_ADDRESS:
            return Addresses(family)
        return Addresses(family, error=error.strerror or str(error))
    except (OSError, UnicodeError) as error:
        return Addresses(family, error=str(error))
    return Addresses(family, tuple(dict.fromkeys(found)))


@dataclass
class Attempt:
    """One attempt to connect: the socket or the error, and the duration."""

    address: str
    seconds: float
    connected: socket.socket | None = None
    error: Exception | None = None


async def connect_all(found: Addresses, timeout: float) -> list[Attempt]:
    """Connect to all addresses of one family at once. The caller owns the sockets."""
    return list(await asyncio.gather(*(_connect(address, timeout) for address in found.addresses[:MAX_ADDRESSES])))


async def _connect(address: AddressInfo, timeout: float) -> Attempt:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    shown = str(address[4][0])
    try:
        async with asyncio.timeout(timeout):
            connected = await connect_to(address)
    except OSError as error:  # TimeoutError too
        return Attempt(shown, loop.time() - begun, error=error)
    return Attempt(shown, loop.time() - begun, connected=connected)
