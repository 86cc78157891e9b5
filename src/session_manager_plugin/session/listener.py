"""The local end of a forwarded port: sockets that listen, bound long before they accept.

Binding and accepting are apart, so that a port in use is noticed before a session is opened for nothing. From the
binding on the kernel keeps connections waiting; they are accepted once the session is ready.
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
"""Connections that the kernel queues, as far as its own limit allows."""
ACCEPT_BURST = 64
"""Connections accepted in a row before other events are handled."""
ACCEPT_RETRY_DELAY = 1.0
"""Seconds without accepting when there are no descriptors left."""
RESERVED_DESCRIPTORS = 16
"""Descriptors that accepting leaves free, for reconnecting: sockets, a resolver, certificates, a credential process."""
_PORT_ATTEMPTS = 16
"""How many ports that the system has picked on one address are tried on the others."""
_NO_SUCH_FAMILY = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Listener:
    """Sockets that listen on one port of several addresses, or on one path. A context manager: leaving closes it.

    `port` is the port, also where any free one was asked for; None for a unix socket, which has a `path`.
    """

    def __init__(self, sockets: Sequence[socket.socket], *, requested_port: int | None, path: str | None) -> None:
        self._sockets = sockets
        self._accepted: Callable[[socket.socket], None] | None = None
        self._failed: Callable[[OSError], None] | None = None
        self._accepting = False
        self._retry: asyncio.TimerHandle | None = None
        self._crowded = False
        """Whether the last connection has taken one of the reserved descriptors."""
        self._file = _identity(path)
        self.requested_port = requested_port
        self.path = path
        self.port: int | None = None if path is not None else sockets[0].getsockname()[1]

    @property
    def addresses(self) -> list[str]:
        """What it listens on, as `127.0.0.1:5432` and `[::1]:5432`."""
        return [] if self.path is not None else [join_host_and_port(*each.getsockname()[:2]) for each in self._sockets]

    def start(self, accepted: Callable[[socket.socket], None], failed: Callable[[OSError], None]) -> None:
        """Give every connection to `accepted`, non-blocking. `failed` is told why none can be accepted for a while."""
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
        """Go on accepting."""
        if self._accepting or not self._sockets:
            return
        self.pause()  # the retry, if there is one
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
                    return  # without descriptors accept(2) fails with nobody waiting too; if somebody is, we are called
                # The socket stays readable as long as somebody waits, so to try again at once would take all the
                # time there is (reference defect U16).
                self.pause()
                self._retry = asyncio.get_running_loop().call_later(ACCEPT_RETRY_DELAY, self.resume)
                self._failed(error)
                return
            connection.setblocking(False)
            self._crowded = connection.fileno() >= _last_usable()
            self._accepted(connection)

    def _check_room(self, listening: socket.socket) -> None:
        """Raise `OSError` (EMFILE) if only reserved descriptors are left. The lowest free number is always next."""
        descriptor = os.dup(listening.fileno())
        os.close(descriptor)
        self._crowded = descriptor >= _last_usable()
        if self._crowded:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _last_usable() -> float:
    """The last descriptor that accepting may take; an eighth of them at most is reserved."""
    try:
        import resource
    except ImportError:  # Windows
        return math.inf
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit - 1 - min(RESERVED_DESCRIPTORS, limit // 8)


def listen_on_port(port: int, hosts: Sequence[str] = LOOPBACK_HOSTS) -> Listener:
    """Listen on one TCP port of all `hosts` (numeric addresses); port 0 picks one that is free on all of them.

    An address that this machine does not have (IPv6 may be switched off) is left out. Raises `ConfigurationError`
    when the port is taken or may not be used, or no address is left.
    """
    for attempt in range(_PORT_ATTEMPTS):
        try:
            return Listener(_bind_all(port, hosts), requested_port=port, path=None)
        except _PickedPortTaken as error:
            if attempt == _PORT_ATTEMPTS - 1:
                raise ConfigurationError(f"no port is free on all of {', '.join(hosts)}") from error
    raise AssertionError


class _PickedPortTaken(Exception):
    """The port that the system has picked on the first address is taken on another one."""


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
        if os.name == "posix":  # elsewhere it would let two programs have the same port
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
        return f"{where} is in use by another program; choose another local port, or 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"{where} may not be used by this user; choose a local port above 1023"
    return f"cannot listen on {where}: {error.strerror}"


def listen_on_path(path: str) -> Listener:
    """Listen on a unix socket that only this user may connect to.

    A socket nobody listens on any more is replaced (reference defects U13, U14). Raises `ConfigurationError` when the
    path is too long or taken, or its directory cannot be written to.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError("this system has no unix sockets; choose a local port")
    if not path or "\0" in path:  # to Linux these are names outside the file system
        raise ConfigurationError(f"{path!r} is not the path of a unix socket")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        try:
            listening.bind(path)
        except OSError as error:
            raise ConfigurationError(_path_sentence(path, error)) from error
        os.chmod(path, 0o600)  # before `listen` nobody gets in
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return Listener([listening], requested_port=None, path=path)


def _remove_stale(path: str) -> None:
    """Remove the socket of a program that has ended; raises `ConfigurationError` for anything else that is there."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return  # not there, or not to be found out: `bind` says what is wrong
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"{path} exists and is not a socket; choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a program that is slow to accept is there nevertheless
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
        return f"{path} is too long for a unix socket: {length} bytes, and Linux takes 107, macOS 103"
    return f"cannot listen on {path}: {error.strerror}"


def _identity(path: str | None) -> tuple[int, int] | None:
    """What tells a file from another one of the same name."""
    if path is None:
        return None
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
