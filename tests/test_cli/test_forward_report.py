"""The events of `smp forward` as lines and as JSON."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from session_manager_plugin.cli import messages
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.forward_report import ForwardReport
from session_manager_plugin.errors import UsageError
from session_manager_plugin.forwarding.events import ForwardedPort, LinkTroubled, PortReady, Trouble

DATABASE = ForwardedPort(("127.0.0.1:5432", "[::1]:5432"), 5432, "i-0a1b2c3d4e5f60001", "db.internal:5432")
UNIX = ForwardedPort(("/tmp/web.sock",), None, "i-0a1b2c3d4e5f60001", "localhost:80")
SOCKS = ForwardedPort(("127.0.0.1:1080",), 1080, "i-0a1b2c3d4e5f60001", "socks5")
SESSION: Any = SimpleNamespace(session_id="alice-1", remote="db.internal:5432")


class Pipes:
    """Where a report writes to: standard output and standard error."""

    def __init__(self) -> None:
        self.out, stdout = os.pipe()
        self.err, stderr = os.pipe()
        self.writing = [stdout, stderr]
        self.environment = Environment(stdout=stdout, stderr=stderr, variables={})

    def read(self, descriptor: int) -> str:
        """What was written since the last time."""
        os.set_blocking(descriptor, False)
        try:
            return os.read(descriptor, 65536).decode()
        except BlockingIOError:
            return ""


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    made = Pipes()
    yield made
    for descriptor in (made.out, made.err, *made.writing):
        os.close(descriptor)


def test_lines_for_a_person(pipes: Pipes) -> None:
    report = ForwardReport(pipes.environment, as_json=False, ready_fd=None)
    for event in (PortReady(DATABASE), PortReady(UNIX), PortReady(SOCKS), LinkTroubled(SESSION, "lost"), Trouble("no")):
        report.handle(event)
    assert pipes.read(pipes.err).splitlines() == [
        "smp: listening on 127.0.0.1:5432 and [::1]:5432, for db.internal:5432 through i-0a1b2c3d4e5f60001",
        "smp: listening on /tmp/web.sock, for port 80 of i-0a1b2c3d4e5f60001",
        "smp: listening on 127.0.0.1:1080, a SOCKS5 server through i-0a1b2c3d4e5f60001",
        "smp: db.internal:5432: lost",
        "smp: no",
    ]
    assert not pipes.read(pipes.out)


def test_objects_for_a_program(pipes: Pipes) -> None:
    report = ForwardReport(pipes.environment, as_json=True, ready_fd=None)
    report.handle(PortReady(UNIX))
    report.handle(LinkTroubled(SESSION, "lost"))
    assert [json.loads(line) for line in pipes.read(pipes.out).splitlines()] == [
        {
            "event": "ready",
            "local": "/tmp/web.sock",
            "port": None,
            "target": "i-0a1b2c3d4e5f60001",
            "remote": "localhost:80",
        },
        {"event": "reconnecting", "session": "alice-1", "remote": "db.internal:5432", "text": "lost"},
    ]


def test_dropped_events_are_counted_in_an_event(pipes: Pipes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "STUCK_AFTER", 0.0)
    report = ForwardReport(pipes.environment, as_json=True, ready_fd=None)
    os.set_blocking(pipes.writing[0], False)
    with contextlib.suppress(BlockingIOError):
        while True:  # until the pipe is full
            os.write(pipes.writing[0], b"\n" * 65536)
    report.handle(PortReady(UNIX))
    while pipes.read(pipes.out):
        pass
    report.handle(PortReady(SOCKS))
    dropped, ready = (json.loads(line) for line in pipes.read(pipes.out).splitlines())
    assert dropped == {"event": "dropped", "count": 1}
    assert ready["remote"] == "socks5"


def test_a_descriptor_that_cannot_be_written_to(pipes: Pipes) -> None:
    with pytest.raises(UsageError, match=r"--ready-fd \d+: the descriptor is open for reading only"):
        ForwardReport(pipes.environment, as_json=False, ready_fd=pipes.out)
    with pytest.raises(UsageError, match="--ready-fd 999: Bad file descriptor"):
        ForwardReport(pipes.environment, as_json=False, ready_fd=999)


def open_ready(pipes: Pipes, descriptor: int) -> ForwardReport:
    """A report whose ready events go to ``descriptor``, and which is done with them."""
    report = ForwardReport(pipes.environment, as_json=False, ready_fd=descriptor)
    with report.shown(cast(Any, SimpleNamespace(ports=(UNIX, DATABASE))), cast(Any, SimpleNamespace())):
        assert report.is_ready
    return report


def test_ready_events_are_written_to_a_descriptor_which_is_closed(pipes: Pipes) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as events:
        open_ready(pipes, writing)
        assert [json.loads(line)["remote"] for line in events] == ["localhost:80", "db.internal:5432"]


def test_ready_events_that_cannot_be_written_are_an_error(pipes: Pipes) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(OSError, match="No space left") as raised:
        open_ready(pipes, full)
    assert raised.value.filename == f"--ready-fd {full}"
    os.close(full)


def test_a_reader_of_ready_events_may_stop_reading(pipes: Pipes) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    open_ready(pipes, writing)
