"""The local end of a forwarded port: listening sockets.

They are bound before the session is opened, so that a port in use is reported first. The kernel queues connections
until the session is ready and accepts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
import stat
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.utils.hosts import join_host_and_port

LOOPBACK_HOSTS = ("127.0.0.1", "::1")
BACKLOG = 1024
"""Connections that the kernel may queue, within its own limit."""
ACCEPT_BURST = 64
"""Connections accepted in a row before other events are handled."""
ACCEPT_RETRY_DELAY = 1.0
"""Seconds until the next attempt after accepting failed, usually because no descriptors were left."""
RESERVED_DESCRIPTORS = 16
"""Descriptors left free for reconnecting: sockets, a resolver, certificates, a credential process."""
_PORT_ATTEMPTS = 16
"""Attempts to find a free port: the port that the system picks on one address may be taken on another."""
_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Listener:
    """Sockets that listen on one port of several addresses, or on one path. Leaving the context manager closes them.

    ``port`` is the bound port, also if any free port was requested; None for a unix socket, which has a ``path``.
    """

    def __init__(self, sockets: Sequence[socket.socket], *, requested_port: int | None, path: str | None) -> None:
        self._sockets = sockets
        self._accepted: Callable[[socket.socket], None] | None = None
        self._failed: Callable[[OSError], None] | None = None
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._crowded = False
        """Whether the last accepted connection uses one of the reserved descriptors."""
        self._file = _identity(path)
        self.requested_port = requested_port
        self.path = path
        self.port: int | None = None if path is not None else sockets[0].getsockname()[1]

    @property
    def addresses(self) -> list[str]:
        """The addresses it listens on, as in ``127.0.0.1:5432`` and ``[::1]:5432``; empty for a unix socket."""
        return [] if self.path is not None else [join_host_and_port(*each.getsockname()[:2]) for each in self._sockets]

    def start(self, accepted: Callable[[socket.socket], None], failed: Callable[[OSError], None]) -> None:
        """Accept connections. Calls ``accepted`` with each socket, non-blocking, and ``failed`` with the error when
        accepting has failed; accepting is then retried after ``ACCEPT_RETRY_DELAY`` seconds."""
        self._accepted, self._failed = accepted, failed
        self.resume()

    def pause(self) -> None:
        """Stop accepting; the kernel queues further connections."""
        if self._accepting:
            self._accepting = False
            loop = asyncio.get_running_loop()
            for listening in self._sockets:
                loop.remove_reader(listening)
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def resume(self) -> None:
        """Accept connections again."""
        if self._accepting or not self._sockets:
            return
        self.pause()  # cancels the retry, if there is one
        self._accepting = True
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Stop listening at once, and remove the unix socket's file. Idempotent."""
        self.pause()
        for listening in self._sockets:
            listening.close()
        self._sockets = ()
        if self.path is not None and self._file is not None and _identity(self.path) == self._file:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self, listening: socket.socket) -> None:
        assert self._accepted is not None
        assert self._failed is not None
        for number in range(ACCEPT_BURST):
            if not self._accepting:
                return
            try:
                if self._crowded:
                    self._check_room(listening)
                connection, _peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if number:
                    return  # accept(2) without a free descriptor fails even if no connection waits; if one waits, the
                    # loop calls this method again
                # The socket stays readable while a connection waits, so an immediate retry would be a busy loop
                # (reference defect U16).
                self.pause()
                self._retry = asyncio.get_running_loop().call_later(ACCEPT_RETRY_DELAY, self.resume)
                self._failed(error)
                return
            connection.setblocking(False)
            self._crowded = connection.fileno() >= _last_usable()
            self._accepted(connection)

    def _check_room(self, listening: socket.socket) -> None:
        """Raise ``OSError`` (EMFILE) if only reserved descriptors are left.

        The kernel always assigns the lowest free number, so a duplicated descriptor has the number that the next
        connection would have.
        """
        descriptor = os.dup(listening.fileno())
        os.close(descriptor)
        self._crowded = descriptor >= _last_usable()
        if self._crowded:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _last_usable() -> float:
    """Return the highest descriptor that an accepted connection may use. At most an eighth of all are reserved."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit - 1 - min(RESERVED_DESCRIPTORS, limit // 8)


def listen_on_port(port: int, hosts: Sequence[str] = LOOPBACK_HOSTS) -> Listener:
    """Listen on one TCP port of all ``hosts`` (numeric addresses); port 0 picks a port that is free on all of them.

    Addresses that this machine does not have (IPv6 may be disabled) are left out. Raises ``ConfigurationError`` when
    the port is in use or not permitted, or when the machine has none of the addresses.
    """
    for attempt in range(_PORT_ATTEMPTS):
        try:
            return Listener(_bind_all(port, hosts), requested_port=port, path=None)
        except _PickedPortTaken as error:
            if attempt == _PORT_ATTEMPTS - 1:
                raise ConfigurationError(f"no port is free on all of {', '.join(hosts)}") from error
    raise AssertionError


class _PickedPortTaken(Exception):
    """The port that the system has picked on the first address is in use on another address."""


def _bind_all(port: int, hosts: Sequence[str]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    with contextlib.ExitStack() as undo:
        for host in hosts:
            actual_port = sockets[0].getsockname()[1] if sockets else port
            try:
                listening = _bind(host, actual_port)
            except OSError as error:
                if error.errno in _NO_SUCH_FAMILY:
                    missing = error
                    continue
                if error.errno == errno.EADDRINUSE and port == 0:
                    raise _PickedPortTaken from error
                raise ConfigurationError(_port_sentence(host, actual_port, error)) from error
            undo.callback(listening.close)
            sockets.append(listening)
        if not sockets:
            raise ConfigurationError(f"this machine has no address {' or '.join(hosts)} to listen on") from missing
        undo.pop_all()
    return sockets


def _bind(host: str, port: int) -> socket.socket:
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows the option would allow two programs to bind the same port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listening.family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _port_sentence(host: str, port: int, error: OSError) -> str:
    where = join_host_and_port(host, port)
    if error.errno == errno.EADDRINUSE:
        return f"{where} is in use by another program; choose another local port, or 0 for any free port"
    if error.errno == errno.EACCES:
        return f"no permission to listen on {where}; choose a local port above 1023"
    return f"cannot listen on {where}: {error.strerror}"


def listen_on_path(path: str) -> Listener:
    """Listen on a unix socket that only this user may connect to.

    A socket file without a listening program is replaced (reference defects U13, U14). Raises ``ConfigurationError``
    when the path is too long or in use, or its directory is not writable.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError("this system has no unix sockets; choose a local port")
    if not path or "\0" in path:  # on Linux these are abstract addresses, which are not files
        raise ConfigurationError(f"{path!r} is not the path of a unix socket")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        try:
            listening.bind(path)
        except OSError as error:
            raise ConfigurationError(_path_sentence(path, error)) from error
        os.chmod(path, 0o600)  # before ``listen``, so that nobody else can connect in between
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return Listener([listening], requested_port=None, path=path)


def _remove_stale(path: str) -> None:
    """Remove the socket file of a program that has ended. Raises ``ConfigurationError`` if a program listens on
    it, or if ``path`` exists and is not a socket."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # the path does not exist, or ``bind`` reports the error
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"{path} exists and is not a socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # do not wait for a program that is slow to accept
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINPROGRESS, errno.EACCES, errno.EPROTOTYPE):
                return
    raise ConfigurationError(f"{path} is in use by another program; choose another path")


def _path_sentence(path: str, error: OSError) -> str:
    if error.errno is None:  # Python's own check
        length = len(os.fsencode(path))
        return f"{path} is too long for a unix socket: {length} bytes; Linux allows 107, macOS 103"
    return f"cannot listen on {path}: {error.strerror}"


def _identity(path: str | None) -> tuple[int, int] | None:
    """Return the device and inode of a file, to recognise it later; None when there is no such file."""
    if path is None:
        return None
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
