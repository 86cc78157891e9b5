"""Whether the program at the other end of an accepted connection has closed its socket, or only shut down writing.

Both send the same FIN. For a connection within one machine the kernel can distinguish them: a socket that no process
has open is an orphan, with inode 0 in the socket table. Linux answers requests about one socket through netlink
(sock_diag(7))::

    offset  0                  16       17         18          20        24     72
    request nlmsghdr, type 20  family   protocol   0, 0        states    id
    answer  nlmsghdr, type 20  family   state      timer, …    id (48), expires, rqueue, wqueue, uid, inode
    error   nlmsghdr, type 2   int32: negative errno

    id      source port, destination port (big-endian), source address (16), destination address (16), interface,
            cookie (8, all ones: any)

Integers are in the machine's byte order, except for the ports. The source is the address of the socket that the request
is about, the peer's.

A unix socket needs no request: poll(2) reports POLLHUP when the peer has closed its socket, and only POLLRDHUP when
the peer has shut down writing.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import select
import socket
import struct
import sys
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final

FIRST_CHECK_DELAY: Final = 0.02
"""Seconds from the first check, at the FIN, to the second: the kernel sends the FIN before it orphans the socket."""
MAX_CHECK_DELAY: Final = 1.0
"""Seconds between two checks at most. The delay starts at ``FIRST_CHECK_DELAY`` and doubles."""

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_ALL_STATES = 0xFFFFFFFF
_LISTEN = 10
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBHI")
_PORTS = struct.Struct("!HH")
_INTERFACE_AND_COOKIE = struct.Struct("=III")
_ANSWER = struct.Struct("=BB50x5I")
_ANY_COOKIE = 0xFFFFFFFF


class PeerState(Enum):
    """The state of the program at the other end of a connection."""

    OPEN = auto()
    """The program has its socket open."""
    CLOSED = auto()
    """The program has closed its socket, or has ended."""
    UNKNOWN = auto()
    """The system cannot report the state, or the program runs on another machine or in another network namespace."""


class SocketTable:
    """Asks the kernel about the peers of accepted connections. Owns a descriptor until ``close``."""

    def __init__(self) -> None:
        self._netlink = _open_netlink()
        self._sequence = itertools.count(1)
        self._loopback = 0
        with contextlib.suppress(OSError, AttributeError):
            self._loopback = socket.if_nametoindex("lo")  # matches unbound sockets as well as those bound to ``lo``

    def close(self) -> None:
        """Close the descriptor. Every later ``peer_state`` of a TCP socket is ``UNKNOWN``. Idempotent."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def peer_state(self, endpoint: socket.socket) -> PeerState:
        """Return the state of the peer of ``endpoint``, a connected stream socket not shut down for writing.

        Does not block and does not raise.
        """
        if sys.platform != "linux":
            return PeerState.UNKNOWN  # on other systems poll(2) reports POLLHUP for a half-close as well
        try:
            if _is_hung_up(endpoint):
                return PeerState.CLOSED
            if endpoint.family == socket.AF_UNIX:
                return PeerState.OPEN
            return self._ask(endpoint)
        except (OSError, ValueError, struct.error):
            return PeerState.UNKNOWN

    def _ask(self, endpoint: socket.socket) -> PeerState:
        own, peer = endpoint.getsockname(), endpoint.getpeername()
        if self._netlink is None or not ipaddress.ip_address(peer[0]).is_loopback:
            return PeerState.UNKNOWN
        sequence = next(self._sequence) & 0xFFFFFFFF
        self._netlink.send(_question(sequence, endpoint.family, peer, own, self._loopback))
        while True:
            answer = self._netlink.recv(512)
            _, message_type, _, number, _ = _HEADER.unpack_from(answer)
            if number == sequence:
                break
        if message_type != _SOCK_DIAG_BY_FAMILY:
            return PeerState.UNKNOWN
        _, state, *_, inode = _ANSWER.unpack_from(answer, _HEADER.size)
        if state == _LISTEN:  # the connection is gone, and the request matched a listener on the program's port
            return PeerState.CLOSED
        return PeerState.OPEN if inode else PeerState.CLOSED


def _open_netlink() -> socket.socket | None:
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None
    try:
        netlink = socket.socket(family, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
    except OSError:
        return None
    netlink.setblocking(False)  # the answer is available as soon as the request is sent
    try:
        netlink.connect((0, 0))
    except OSError:
        netlink.close()
        return None
    return netlink


def _question(
    sequence: int, family: int, source: tuple[Any, ...], destination: tuple[Any, ...], interface: int
) -> bytes:
    body = b"".join(
        (
            _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _ALL_STATES),
            _PORTS.pack(source[1], destination[1]),
            socket.inet_pton(family, source[0]).ljust(16, b"\0"),
            socket.inet_pton(family, destination[0]).ljust(16, b"\0"),
            _INTERFACE_AND_COOKIE.pack(interface, _ANY_COOKIE, _ANY_COOKIE),
        )
    )
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body


def _is_hung_up(endpoint: socket.socket) -> bool:
    """Whether the peer has closed a unix socket, or a reset has arrived."""
    poll = select.poll()
    poll.register(endpoint.fileno(), 0)
    return bool(poll.poll(0))


class PeerWatch:
    """Checks of one connection whose program has shut down writing: the first at once, then after growing delays.

    ``state`` is the result of the last check, ``check_at`` the time of the next.
    """

    def __init__(self, ask: Callable[[], PeerState], now: float) -> None:
        self._ask = ask
        self._delay = FIRST_CHECK_DELAY
        self.state = ask()
        self.check_at = now + self._delay

    def check(self, now: float) -> PeerState:
        """Check again. Returns the new ``state``."""
        self.state = self._ask()
        self._delay = min(2 * self._delay, MAX_CHECK_DELAY)
        self.check_at = now + self._delay
        return self.state
