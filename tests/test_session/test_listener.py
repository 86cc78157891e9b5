"""``Listener``: binding and accepting on ports and unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import stat
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.session.listener import Listener, listen_on_path, listen_on_port
from tests.support.waiting import Happenings

LISTENER = import_module("session_manager_plugin.session.listener")


class Visitors(Happenings):
    """Whoever was accepted by ``listener``."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.listener = listener
        self.sockets: list[socket.socket] = []
        self.errors: list[OSError] = []

    def accept(self, visitor: socket.socket) -> None:
        """The listener's handler."""
        self.sockets.append(visitor)
        self.happened()

    def fail(self, error: OSError) -> None:
        """The handler of what goes wrong."""
        self.errors.append(error)
        self.happened()

    def close(self) -> None:
        """Show everybody out."""
        for visitor in self.sockets:
            visitor.close()


@contextlib.contextmanager
def visited(listener: Listener) -> Iterator[Visitors]:
    """A listener that accepts."""
    visitors = Visitors(listener)
    with listener:
        listener.start(visitors.accept, visitors.fail)
        yield visitors
    visitors.close()


@contextlib.contextmanager
def visit(listener: Listener, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A program that connects."""
    if listener.path is not None:
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.connect(listener.path)
            yield visitor
    else:
        assert listener.port is not None
        with socket.create_connection((host, listener.port)) as visitor:
            yield visitor


# Ports.


async def test_u23_both_loopback_addresses_are_bound() -> None:
    """Reference defect U23: only one of 127.0.0.1 and ::1 is bound.

    Back with ``LOOPBACK_HOSTS = ("127.0.0.1",)``.
    """
    with visited(listen_on_port(0)) as visitors:
        listener = visitors.listener
        assert listener.addresses == [f"127.0.0.1:{listener.port}", f"[::1]:{listener.port}"]
        with visit(listener, "127.0.0.1") as over_ipv4, visit(listener, "::1") as over_ipv6:
            await visitors.until(lambda: len(visitors.sockets) == 2)
            names = {visitor.getpeername()[:2] for visitor in visitors.sockets}
            assert names == {over_ipv4.getsockname()[:2], over_ipv6.getsockname()[:2]}


def test_nothing_but_loopback_is_bound() -> None:
    with listen_on_port(0) as listener:
        assert [address.rpartition(":")[0] for address in listener.addresses] == ["127.0.0.1", "[::1]"]


def test_a_port_that_is_asked_for() -> None:
    with listen_on_port(0) as first:
        port = first.port
    assert port is not None
    with listen_on_port(port) as listener:
        assert listener.port == port
        assert listener.requested_port == port
        assert listener.path is None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_is_told_at_once(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf":{port} is in use by another program; choose another"):
            listen_on_port(port)
        # Nothing is left over on the other address.
        with pytest.raises(ConfigurationError):
            listen_on_port(port)


def test_two_listeners_cannot_have_one_port_though_neither_has_accepted() -> None:
    with listen_on_port(0) as listener, pytest.raises(ConfigurationError, match="is in use"):
        listen_on_port(listener.port or 0)


def test_a_picked_port_that_is_taken_on_the_other_address_is_picked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = LISTENER._bind
    taken: list[int] = []

    def bind_with_bad_luck(host: str, port: int) -> socket.socket:
        if host == "::1" and len(taken) < 3:
            taken.append(port)
            raise OSError(errno.EADDRINUSE, "Address already in use")
        made: socket.socket = bind(host, port)
        return made

    monkeypatch.setattr(LISTENER, "_bind", bind_with_bad_luck)
    with listen_on_port(0) as listener:
        assert listener.port not in taken
        assert len(listener.addresses) == 2
    assert len(taken) == 3


def test_no_port_that_is_free_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    bind = LISTENER._bind

    def bind_ipv4_only(host: str, port: int) -> socket.socket:
        if host == "::1":
            raise OSError(errno.EADDRINUSE, "Address already in use")
        made: socket.socket = bind(host, port)
        return made

    monkeypatch.setattr(LISTENER, "_bind", bind_ipv4_only)
    with pytest.raises(ConfigurationError, match=r"no port is free on all of 127\.0\.0\.1, ::1"):
        listen_on_port(0)


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_without_ipv6_there_is_ipv4(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    bind = LISTENER._bind

    def bind_without_ipv6(host: str, port: int) -> socket.socket:
        if ":" in host:
            raise OSError(number, os.strerror(number))
        made: socket.socket = bind(host, port)
        return made

    monkeypatch.setattr(LISTENER, "_bind", bind_without_ipv6)
    with listen_on_port(0) as listener:
        assert listener.addresses == [f"127.0.0.1:{listener.port}"]
    with pytest.raises(ConfigurationError, match="this machine has no address ::1 to listen on"):
        listen_on_port(0, ["::1"])


def test_a_port_that_may_not_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(host: str, port: int) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(LISTENER, "_bind", refuse)
    with pytest.raises(ConfigurationError, match=r"no permission to listen on 127\.0\.0\.1:80"):
        listen_on_port(80)


def test_an_address_of_another_machine() -> None:
    with pytest.raises(ConfigurationError, match=r"no address 192\.0\.2\.1 to listen on"):
        listen_on_port(0, ["192.0.2.1"])


# Accepting.


async def test_connections_before_the_start_wait_and_those_after_the_end_are_refused() -> None:
    listener = listen_on_port(0)
    visitors = Visitors(listener)
    with visit(listener) as early:
        listener.start(visitors.accept, visitors.fail)
        await visitors.until(lambda: visitors.sockets)
        assert visitors.sockets[0].getpeername() == early.getsockname()
        assert not visitors.sockets[0].getblocking()
    listener.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError), visit(listener):
        pass
    visitors.close()


async def test_a_pause_keeps_visitors_waiting() -> None:
    with visited(listen_on_port(0)) as visitors, contextlib.ExitStack() as stack:
        listener = visitors.listener

        def accept_one(visitor: socket.socket) -> None:
            visitors.accept(visitor)
            listener.pause()

        listener.pause()
        listener.start(accept_one, visitors.fail)
        for _ in range(3):
            stack.enter_context(visit(listener))
        await visitors.until(lambda: visitors.sockets)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(visitors.sockets) == 1
        listener.resume()
        listener.resume()
        await visitors.until(lambda: len(visitors.sockets) == 2)


async def test_u16_without_descriptors_accepting_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reference defect U16: errors of accept(2) are repeated without a pause, which takes a whole CPU.

    Back without ``self.pause()`` in the ``except OSError`` of ``Listener._accept``.
    """
    monkeypatch.setattr(LISTENER, "ACCEPT_RETRY_DELAY", 0.05)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with visited(listen_on_port(0)) as visitors, socket.socket() as visitor, contextlib.ExitStack() as taken:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
            with contextlib.suppress(OSError):
                while True:
                    taken.callback(os.close, os.dup(0))
            visitor.connect(("127.0.0.1", visitors.listener.port))
            await visitors.until(lambda: visitors.errors)
            for _ in range(20):
                await asyncio.sleep(0)
            assert [error.errno for error in visitors.errors] == [errno.EMFILE]
            await visitors.until(lambda: len(visitors.errors) == 2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await visitors.until(lambda: visitors.sockets)


async def test_accepting_leaves_descriptors_for_a_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no more of the reserved ones at each attempt, and goes on when connections are closed."""
    monkeypatch.setattr(LISTENER, "ACCEPT_RETRY_DELAY", 1000.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with visited(listen_on_port(0)) as visitors, contextlib.ExitStack() as undo:
        callers = [undo.enter_context(socket.socket()) for _ in range(12)]
        with contextlib.ExitStack() as taken:
            undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
            while (descriptor := os.dup(0)) < 256 - LISTENER.RESERVED_DESCRIPTORS - 4:
                taken.callback(os.close, descriptor)
            os.close(descriptor)
            for caller in callers:
                caller.connect(("127.0.0.1", visitors.listener.port))
            await visitors.until(lambda: visitors.errors)
            accepted = len(visitors.sockets)
            for attempt in range(1, 4):
                visitors.listener.resume()
                await visitors.until(lambda: len(visitors.errors) > attempt)  # noqa: B023
            assert [error.errno for error in visitors.errors] == [errno.EMFILE] * 4
            assert 0 < len(visitors.sockets) == accepted < len(callers)
            for _ in range(LISTENER.RESERVED_DESCRIPTORS // 2):
                taken.callback(os.close, os.dup(0))
        visitors.listener.resume()
        await visitors.until(lambda: len(visitors.sockets) == len(callers))


# Unix sockets.


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "db.sock")
    with visited(listen_on_path(path)) as visitors, visit(visitors.listener):
        await visitors.until(lambda: visitors.sockets)


def test_only_this_user_may_connect_to_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "db.sock"
    before = os.umask(0)
    try:
        with listen_on_path(str(path)) as listener:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert (listener.path, listener.port, listener.requested_port, listener.addresses) == (
                str(path),
                None,
                None,
                [],
            )
    finally:
        os.umask(before)


def test_u14_the_file_of_a_unix_socket_goes_and_a_stale_one_is_replaced(tmp_path: Path) -> None:
    """Reference defect U14: the file stays behind, and with it the next start fails.

    Back without the call of ``_remove_stale``, or without ``os.unlink(self.path)`` in ``Listener.close``.
    """
    path = str(tmp_path / "db.sock")
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
        killed.listen()
    assert os.path.exists(path)
    with listen_on_path(path) as listener, visit(listener):
        pass
    assert not os.path.exists(path)


def test_a_unix_socket_that_is_in_use_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "db.sock")
    with listen_on_path(path) as listener:
        with pytest.raises(ConfigurationError, match=r"db\.sock is in use by another program"):
            listen_on_path(path)
        with visit(listener):
            pass


def test_a_unix_socket_whose_backlog_is_full_is_in_use(tmp_path: Path) -> None:
    path = str(tmp_path / "db.sock")
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as waiting:
        busy.bind(path)
        busy.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                visitor = waiting.enter_context(socket.socket(socket.AF_UNIX))
                visitor.setblocking(False)
                visitor.connect(path)
        with pytest.raises(ConfigurationError, match="is in use by another program"):
            listen_on_path(path)


def test_other_files_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "db.sock"
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match=r"db\.sock exists and is not a socket"):
        listen_on_path(str(path))
    assert path.read_text() == "precious"


def test_the_file_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "db.sock"
    listener = listen_on_path(str(path))
    path.unlink()
    with listen_on_path(str(path)):
        listener.close()
        assert path.exists()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    path = str(tmp_path / ("x" * 120))
    with pytest.raises(ConfigurationError, match=rf"is too long for a unix socket: {len(path)} bytes"):
        listen_on_path(path)


def test_a_path_in_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot listen on .*/none/db\.sock: No such file or directory"):
        listen_on_path(str(tmp_path / "none" / "db.sock"))


@pytest.mark.parametrize("path", ["", "\0hidden", "a\0b"])
def test_names_outside_the_file_system_are_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the path of a unix socket"):
        listen_on_path(path)


def test_a_system_without_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    with pytest.raises(ConfigurationError, match="no unix sockets; choose a local port"):
        listen_on_path("db.sock")
