"""One connection of a local program to a forwarded port.

From the program to the far end: data is passed to the owner as soon as it is read; the owner pauses and resumes
reading. From the far end to the program: ``deliver`` never waits. Data that the socket does not accept at once is kept,
and the owner is called back once it is written. Three ways to end the connection::

    finish()   writes the kept data, then shuts down writing. Until the program closes its socket, and for
               ``LINGER_TIMEOUT`` at most, its further data is read and discarded: closing a socket with unread data
               sends a reset, and the program might lose data that it has not read yet.
    reset()    writes the kept data, then resets, so that the program does not take incomplete data for complete.
    abort()    resets at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Protocol, cast

from session_manager_plugin.utils.hosts import join_host_and_port

LINGER_TIMEOUT = 5.0
"""Seconds that a program has to close its socket after our shutdown of writing."""
HURRIED_LINGER_TIMEOUT = 0.5
"""The same after the end of the session, when ``Forwarder.deliver`` waits for all connections."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class ProxyClient(socket.socket):
    """The socket of a program that has asked a proxy for a connection, and waits for the answer."""

    def __init__(self, client: socket.socket, answer: Callable[[bool], bytes]) -> None:
        """Takes the place of ``client``, which is detached. ``answer`` is called once, with whether the connection is
        made, and returns the bytes for the program."""
        super().__init__(client.family, client.type, client.proto, client.detach())
        self.setblocking(False)
        self.answer = answer


class ConnectionOwner(Protocol):
    """The callbacks of a ``LocalConnection``. They must not raise."""

    def connection_made(self, connection: LocalConnection) -> None:
        """The connection is open. ``data_received`` follows unless the owner pauses reading."""

    def data_received(self, connection: LocalConnection, data: bytes) -> None:
        """The program has written ``data``."""

    def eof_received(self, connection: LocalConnection) -> None:
        """The program has shut down writing or closed its socket. It may still read."""

    def data_delivered(self, connection: LocalConnection, size: int) -> None:
        """``size`` bytes that were kept have been written to the socket."""

    def connection_lost(self, connection: LocalConnection) -> None:
        """The connection is closed. Called once for each ``connection_made``."""


class _Ending(Enum):
    NONE = auto()
    FINISH = auto()
    RESET = auto()


class LocalConnection(asyncio.Protocol):
    """See the module docstring. ``stream_id`` and ``answered`` (data has arrived from the far end) are set by the
    owner."""

    def __init__(self, owner: ConnectionOwner, number: int, client: ProxyClient | None = None) -> None:
        """``client`` is the socket, if the program waits for the answer of a proxy: ``accept`` writes it, or a refusal
        is written when the connection ends without any data."""
        self._owner = owner
        self._client = client
        self.number = number
        """Names the connection in messages."""
        self._transport: asyncio.Transport | None = None
        self._kept: deque[bytes | bytearray] = deque()
        self._socket_full = False
        self._ending = _Ending.NONE
        self.ending = False
        """Whether the owner has called ``finish`` or ``reset``. The program's further data is discarded."""
        self._lingering: asyncio.TimerHandle | None = None
        self._linger_timeout = LINGER_TIMEOUT
        self._peer = ""
        self._local = ""
        self.kept_size = 0
        """Bytes kept because the socket did not accept them."""
        self.sent_size = 0
        """Bytes that the program has written."""
        self.received_size = 0
        """Bytes that have arrived for the program."""
        self.at_eof = False
        """Whether the program has shut down writing or closed its socket."""
        self.closed = False
        self.stream_id = 0
        self.answered = False

    def __str__(self) -> str:
        return f"connection {self.number}{f' from {self._peer}' if self._peer else ''}"

    @property
    def peer(self) -> str:
        """The program's address, as ``127.0.0.1:50312``; empty on a unix socket."""
        return self._peer

    @property
    def local(self) -> str:
        """The accepting address, as ``127.0.0.1:5432``, or the path of a unix socket; empty before it is open."""
        return self._local

    @property
    def endpoint(self) -> socket.socket:
        """The accepted socket, to ask the kernel about its peer. Only while the connection is open."""
        assert self._transport is not None
        endpoint: socket.socket = self._transport.get_extra_info("socket")
        return endpoint

    @property
    def undelivered(self) -> int:
        """Bytes kept here and in the transport's buffer, but not in the kernel's."""
        transport = self._transport
        return self.kept_size + (transport.get_write_buffer_size() if transport is not None else 0)

    # From the far end to the program.

    @property
    def awaits_answer(self) -> bool:
        """Whether the program waits for the answer of a proxy."""
        return self._client is not None

    def accept(self) -> None:
        """Answer that the connection is made, if the program waits for that."""
        self._answer(True)

    def _answer(self, connected: bool) -> None:
        client, self._client = self._client, None
        if client is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.write(client.answer(connected))

    def deliver(self, pieces: Sequence[bytes | bytearray]) -> int:
        """Write to the program. Returns the number of bytes written or discarded; the others are kept, and
        ``data_delivered`` follows for them."""
        if self._transport is None or self.ending or self._transport.is_closing():
            return sum(map(len, pieces))
        if self._client is not None:
            self.accept()
        size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        self.received_size += size
        if self._socket_full:
            self._kept.extend(pieces)
            self.kept_size += size
            return 0
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)
        return size

    def finish(self) -> None:
        """End the connection after the far end has sent everything: see the module docstring."""
        self._end(_Ending.FINISH)

    def reset(self) -> None:
        """End the connection before the far end has sent everything: see the module docstring."""
        self._end(_Ending.RESET)

    def abort(self) -> None:
        """Reset the connection at once."""
        if self._transport is not None and not self.closed:
            self._reset()

    def hurry(self) -> None:
        """Shorten the wait for the program to close its socket, also a later one, to ``HURRIED_LINGER_TIMEOUT``."""
        self._linger_timeout = HURRIED_LINGER_TIMEOUT
        if self._lingering is not None:
            self._linger()

    def _end(self, ending: _Ending) -> None:
        if self.ending or self.closed:
            return
        self._answer(False)
        self._ending, self.ending = ending, True
        self.resume_reading()  # up to the end of the data, which is discarded
        self._proceed()

    def _proceed(self) -> None:
        """Take the next step of ``finish`` or ``reset``, if all kept data is written."""
        transport = self._transport
        if self._kept or self.closed or transport is None:
            return
        if self._ending is _Ending.RESET:
            if transport.get_write_buffer_size():
                transport.set_write_buffer_limits(0)  # asyncio calls ``resume_writing`` when the buffer is empty
            else:
                self._reset()
        elif self._ending is _Ending.FINISH:
            if self.at_eof:
                self._close()
            elif self._lingering is None:
                with contextlib.suppress(OSError):  # the program has disconnected
                    transport.write_eof()
                self._linger()

    def _linger(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
        self._lingering = asyncio.get_running_loop().call_later(self._linger_timeout, self._close)

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()  # writes its buffer first

    def _reset(self) -> None:
        assert self._transport is not None
        endpoint = self.endpoint
        if endpoint.family != getattr(socket, "AF_UNIX", None):
            with contextlib.suppress(OSError):
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    # From the program to the far end.

    def pause_reading(self) -> None:
        """Stop reading from the program until ``resume_reading``."""
        if self._transport is not None and not self.at_eof:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the program again."""
        if self._transport is not None and not self.at_eof:
            self._transport.resume_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self._peer = join_host_and_port(peer[0], peer[1])
        local = transport.get_extra_info("sockname")
        self._local = join_host_and_port(local[0], local[1]) if isinstance(local, tuple) else str(local or "")
        self._owner.connection_made(self)

    def data_received(self, data: bytes) -> None:
        if not self.ending:
            self.sent_size += len(data)
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
            # Later: the transport that is calling this method must not be closed during the call.
            asyncio.get_running_loop().call_soon(self._proceed)
        if delivered:
            self._owner.data_delivered(self, delivered)  # last, because the owner may call ``deliver`` again

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._lingering is not None:
            self._lingering.cancel()
        self._kept.clear()
        self.kept_size = 0
        self._owner.connection_lost(self)
