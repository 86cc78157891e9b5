"""One connection of a local program to a forwarded port.

Towards the far end it does nothing by itself: what the program writes goes to the owner at once, and the owner pauses
it. Towards the program it never makes anybody wait: what the socket does not take at once is kept here, and the
owner is told when it has gone. How it ends::

    finish()   what is kept is delivered, then the end of the data. What the program still writes is read and thrown
               away for a while: a socket closed with something unread sends a reset, which may overtake the data.
    reset()    what is kept is delivered, then a reset: nobody must take a part for the whole.
    abort()    at once, with a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import Protocol, cast

from session_manager_plugin.utils.hosts import join_host_and_port

LINGER_TIMEOUT = 5.0
"""Seconds that a program has to close its end once it has been given the end of the data."""
HURRIED_LINGER_TIMEOUT = 0.5
"""The same when the session is over and everybody waits."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ConnectionOwner(Protocol):
    """What a `LocalConnection` tells. None of these may raise."""

    def connection_made(self, connection: LocalConnection) -> None:
        """It is open. Unless the owner pauses it, `data_received` follows."""

    def data_received(self, connection: LocalConnection, data: bytes) -> None:
        """The program has written something."""

    def eof_received(self, connection: LocalConnection) -> None:
        """The program writes no more, but may still read."""

    def data_delivered(self, connection: LocalConnection, size: int) -> None:
        """`size` bytes that were kept have gone to the socket."""

    def connection_lost(self, connection: LocalConnection) -> None:
        """It is gone, for whatever reason; said once for each `connection_made`."""


class _Ending(Enum):
    NONE = auto()
    FINISH = auto()
    RESET = auto()


class LocalConnection(asyncio.Protocol):
    """See the module docstring. `stream_id` and `answered` (something came from the far end) are the owner's."""

    def __init__(self, owner: ConnectionOwner, number: int) -> None:
        self._owner = owner
        self.number = number
        """From 1, in the order of their coming."""
        self._transport: asyncio.Transport | None = None
        self._kept: deque[bytes | bytearray] = deque()
        self._socket_full = False
        self._ending = _Ending.NONE
        self._lingering: asyncio.TimerHandle | None = None
        self._linger_timeout = LINGER_TIMEOUT
        self._peer = ""
        self.kept_size = 0
        """Bytes that the socket has not taken."""
        self.at_eof = False
        """Whether the program has written its last."""
        self.closed = False
        self.stream_id = 0
        self.answered = False

    def __str__(self) -> str:
        return f"connection {self.number}{f' from {self._peer}' if self._peer else ''}"

    @property
    def ending(self) -> bool:
        """Whether the owner has ended it; what the program writes is of no interest any more."""
        return self._ending is not _Ending.NONE

    @property
    def endpoint(self) -> socket.socket:
        """The accepted socket, to ask about; only while the connection is open."""
        assert self._transport is not None
        endpoint: socket.socket = self._transport.get_extra_info("socket")
        return endpoint

    @property
    def undelivered(self) -> int:
        """Bytes kept here and in the transport's buffer; the kernel's are not known."""
        transport = self._transport
        return self.kept_size + (transport.get_write_buffer_size() if transport is not None else 0)

    # From the far end to the program.

    def deliver(self, pieces: Sequence[bytes | bytearray]) -> int:
        """Write to the program; gives how many bytes need not be kept. For the rest `data_delivered` follows."""
        if self._transport is None or self.ending or self._transport.is_closing():
            return sum(map(len, pieces))
        if self._socket_full:
            self._kept.extend(pieces)
            self.kept_size += sum(map(len, pieces))
            return 0
        if len(pieces) == 1:
            self._transport.write(pieces[0])
            return len(pieces[0])
        self._transport.writelines(pieces)
        return sum(map(len, pieces))

    def finish(self) -> None:
        """The far end has nothing more: see the module docstring."""
        self._end(_Ending.FINISH)

    def reset(self) -> None:
        """The far end is gone without having finished: see the module docstring."""
        self._end(_Ending.RESET)

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None and not self.closed:
            self._reset()

    def hurry(self) -> None:
        """Do not wait long for a program that is, or will be, given the end of the data."""
        self._linger_timeout = HURRIED_LINGER_TIMEOUT
        if self._lingering is not None:
            self._linger()

    def _end(self, ending: _Ending) -> None:
        if self.ending or self.closed:
            return
        self._ending = ending
        self.resume_reading()  # to see the end of what is thrown away
        self._proceed()

    def _proceed(self) -> None:
        """Go on ending, if everything kept is delivered."""
        transport = self._transport
        if self._kept or self.closed or transport is None:
            return
        if self._ending is _Ending.RESET:
            if transport.get_write_buffer_size():
                transport.set_write_buffer_limits(0)  # `resume_writing` comes when it is empty
            else:
                self._reset()
        elif self._ending is _Ending.FINISH:
            if self.at_eof:
                self._close()
            elif self._lingering is None:
                with contextlib.suppress(OSError):  # it is gone already
                    transport.write_eof()
                self._linger()

    def _linger(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        self._lingering = asyncio.get_running_loop().call_later(self._linger_timeout, self._close)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()  # what is in its buffer is written first

    def _reset(self) -> None:
        assert self._transport is not None
        endpoint = self.endpoint
        if endpoint.family != getattr(socket, "AF_UNIX", None):
            with contextlib.suppress(OSError):
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    # From the program to the far end.

    def pause_reading(self) -> None:
        """Take no more from the program for now."""
        if self._transport is not None and not self.at_eof:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        if self._transport is not None and not self.at_eof:
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._peer = join_host_and_port(peer[0], peer[1])
        self._owner.connection_made(self)

    def data_received(self, data: bytes) -> None:
        if not self.ending:
            self._owner.data_received(self, data)

    def eof_received(self) -> bool:
        self.at_eof = True
        if self.ending:
            self._proceed()
        else:
            self._owner.eof_received(self)
        return True  # the other direction stays open until the owner ends it

    def pause_writing(self) -> None:
        self._socket_full = True

    def resume_writing(self) -> None:
        self._socket_full = False
        assert self._transport is not None
        delivered = 0
        while self._kept and not self._socket_full:
            piece = self._kept.popleft()
            delivered += len(piece)
            self._transport.write(piece)
        self.kept_size -= delivered
        if self.ending:
            # Not at once: asyncio's transport, which is calling us, does not expect to be closed meanwhile.
            asyncio.get_running_loop().call_soon(self._proceed)
        if delivered:
            self._owner.data_delivered(self, delivered)  # last: the owner may have more for us

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._lingering is not None:
            self._lingering.cancel()
        self._kept.clear()
        self.kept_size = 0
        self._owner.connection_lost(self)
