"""``SocketTable``: the kernel's information about the program at the other end of a connection."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from session_manager_plugin.session.peer_state import MAX_CHECK_DELAY, PeerState, PeerWatch, SocketTable

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")


@pytest.fixture
def table() -> Iterator[SocketTable]:
    """A table, closed in the end."""
    asked = SocketTable()
    yield asked
    asked.close()


@contextlib.contextmanager
def joined(family: int, address: str, program: socket.socket | None = None) -> Iterator[tuple[socket.socket, ...]]:
    """A program's socket, and the accepted one that belongs to it."""
    with socket.socket(family) as listening:
        listening.bind((address, 0) if family != socket.AF_UNIX else address)
        listening.listen()
        program = program or socket.socket(family)
        with program:
            name = listening.getsockname()
            if program.family == socket.AF_INET6 != family:
                name = (f"::ffff:{name[0]}", name[1])
            program.connect(name)
            accepted, _ = listening.accept()
            with accepted:
                yield program, accepted


FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_UNIX, "s")]


@linux_only
@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_a_half_close_is_told_from_a_close(
    table: SocketTable, family: int, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with joined(family, address) as (program, accepted):
        assert table.peer_state(accepted) is PeerState.OPEN
        program.shutdown(socket.SHUT_WR)
        assert table.peer_state(accepted) is PeerState.OPEN
        program.close()
        assert table.peer_state(accepted) is PeerState.CLOSED


@linux_only
@pytest.mark.parametrize(("family", "address"), FAMILIES)
def test_a_program_that_goes_at_once(
    table: SocketTable, family: int, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with joined(family, address) as (program, accepted):
        accepted.send(b"that it does not read")
        program.close()
        assert table.peer_state(accepted) is PeerState.CLOSED


@linux_only
def test_a_reset(table: SocketTable) -> None:
    with joined(socket.AF_INET, "127.0.0.1") as (program, accepted):
        program.shutdown(socket.SHUT_WR)
        program.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        program.close()
        assert table.peer_state(accepted) is PeerState.CLOSED


@linux_only
def test_a_socket_that_another_descriptor_holds_is_open(table: SocketTable) -> None:
    """As a child that has inherited it does."""
    with joined(socket.AF_INET, "127.0.0.1") as (program, accepted):
        program.shutdown(socket.SHUT_WR)
        inherited = os.dup(program.fileno())
        program.close()
        assert table.peer_state(accepted) is PeerState.OPEN
        os.close(inherited)
        assert table.peer_state(accepted) is PeerState.CLOSED


@linux_only
def test_a_program_that_uses_ipv6_for_ipv4(table: SocketTable) -> None:
    with joined(socket.AF_INET, "127.0.0.1", socket.socket(socket.AF_INET6)) as (program, accepted):
        assert table.peer_state(accepted) is PeerState.OPEN
        program.close()
        assert table.peer_state(accepted) is PeerState.CLOSED


@linux_only
def test_a_program_that_is_bound_to_the_loopback_interface(table: SocketTable) -> None:
    program = socket.socket()
    program.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_BINDTODEVICE", 25), b"lo\0")
    with joined(socket.AF_INET, "127.0.0.1", program) as (program, accepted):
        assert table.peer_state(accepted) is PeerState.OPEN
        program.close()
        assert table.peer_state(accepted) is PeerState.CLOSED


@pytest.mark.parametrize("cause", ["no netlink", "refused", "closed", "another system"])
def test_what_cannot_be_asked_is_unknown(monkeypatch: pytest.MonkeyPatch, cause: str) -> None:
    if cause == "no netlink":
        monkeypatch.delattr(socket, "AF_NETLINK", raising=False)
    elif cause == "refused":
        monkeypatch.setattr(socket, "AF_NETLINK", 250, raising=False)  # no such family
    elif cause == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
    table = SocketTable()
    if cause == "closed":
        table.close()
    with joined(socket.AF_INET, "127.0.0.1") as (program, accepted):
        assert table.peer_state(accepted) is PeerState.UNKNOWN
        program.close()
        assert table.peer_state(accepted) is PeerState.UNKNOWN
    table.close()


def test_a_socket_that_is_closed_itself_is_unknown(table: SocketTable) -> None:
    with joined(socket.AF_INET, "127.0.0.1") as (_, accepted):
        accepted.close()
        assert table.peer_state(accepted) is PeerState.UNKNOWN


def test_questions_grow_rare() -> None:
    asked_at: list[float] = []
    now = 0.0

    def ask() -> PeerState:
        asked_at.append(now)
        return PeerState.OPEN

    watch = PeerWatch(ask, now)
    while watch.check_at < 10.0:
        now = watch.check_at
        watch.check(now)
    assert asked_at[0] == 0.0
    assert asked_at[1] < 0.05  # the FIN is sent a moment before the socket is given up
    delays = [later - earlier for earlier, later in itertools.pairwise(asked_at)]
    assert all(later > earlier - 1e-9 for earlier, later in itertools.pairwise(delays))
    assert max(delays) <= MAX_CHECK_DELAY + 1e-9
    assert len(asked_at) < 20
