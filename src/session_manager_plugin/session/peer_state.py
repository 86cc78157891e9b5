"""Whether the program at the other end of an accepted connection has closed its socket, or has only stopped writing.

Both send the same FIN. On the machine itself the kernel knows the difference: a socket that no process holds any more
is an orphan, and has inode 0 in the socket table. Linux answers questions about one socket through netlink
(sock_diag(7))::

    offset  0                  16       17         18          20        24     72
    request nlmsghdr, type 20  family   protocol   0, 0        states    id
    answer  nlmsghdr, type 20  family   state      timer, …    id (48), expires, rqueue, wqueue, uid, inode
    error   nlmsghdr, type 2   int32: negative errno

    id      source port, destination port (big-endian), source address (16), destination address (16), interface,
            cookie (8, all ones: any)

Integers are in the machine's byte order but for the ports. The source is the socket that is asked about: the peer's.

A unix socket needs no question: poll(2) reports POLLHUP when the peer has closed it, and POLLRDHUP alone when it has
only stopped writing.
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
"""Seconds after the FIN until the second question: the kernel sends the FIN before it gives the socket up."""
MAX_CHECK_DELAY: Final = 1.0
"""Seconds between two questions, in the end; the delay doubles from ``FIRST_CHECK_DELAY``."""

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
    """What is known about the program at the other end of a connection."""

    OPEN = auto()
    """It holds its socket."""
    CLOSED = auto()
    """It has closed its socket, or has ended."""
    UNKNOWN = auto()
    """This system cannot be asked, or the program runs on another machine or in another network namespace."""


class SocketTable:
    """Asks the kernel about the peers of accepted connections. Owns a descriptor until ``close``."""

    def __init__(self) -> None:
        self._netlink = _open_netlink()
        self._sequence = itertools.count(1)
        self._loopback = 0
        with contextlib.suppress(OSError, AttributeError):
            self._loopback = socket.if_nametoindex("lo")  # finds sockets that are bound to it, and all the others

    def close(self) -> None:
        """Ask no more; every answer is ``UNKNOWN`` from now on. Idempotent."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def peer_state(self, endpoint: socket.socket) -> PeerState:
        """The state of the peer of ``endpoint``, a connected stream socket that has not been shut down for writing.

        Never waits, and raises nothing.
        """
        if sys.platform != "linux":
            return PeerState.UNKNOWN  # poll(2) of other systems reports POLLHUP for a half-close too
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
        if state == _LISTEN:  # the program's port is also one that somebody listens on, and the connection is gone
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
    netlink.setblocking(False)  # the answer is there when the question has been sent
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
    """Questions about one connection whose program has stopped writing: at once, then after growing delays.

    ``state`` is the last answer, ``check_at`` the instant of the next question.
    """

    def __init__(self, ask: Callable[[], PeerState], now: float) -> None:
        self._ask = ask
        self._delay = FIRST_CHECK_DELAY
        self.state = ask()
        self.check_at = now + self._delay

    def check(self, now: float) -> PeerState:
        """Ask again; returns the new ``state``."""
        self.state = self._ask()
        self._delay = min(2 * self._delay, MAX_CHECK_DELAY)
        self.check_at = now + self._delay
        return self.state
