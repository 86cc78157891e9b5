"""The live table of `smp forward`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.forward_table import ForwardTable, Rates, format_size, render, rows_of
from session_manager_plugin.session.link_health import LinkHealth, LinkState

CONNECTED = LinkHealth(LinkState.CONNECTED, latency=0.0123)
LOST = LinkHealth(LinkState.RECONNECTING, True, 7.0, "attempt 2", "cut")


def connection(number: int, sent: int = 0, received: int = 0, session: str = "one", **facts: str) -> Any:
    """A connection to a database."""
    return SimpleNamespace(
        number=number,
        peer=facts.get("peer", f"127.0.0.1:{50000 + number}"),
        local="/tmp/db.sock",
        remote="db.internal:5432",
        session_id=session,
        sent=sent,
        received=received,
    )


def session(session_id: str = "one", health: LinkHealth = CONNECTED) -> Any:
    """Its session."""
    return SimpleNamespace(session_id=session_id, remote="db.internal:5432", health=health)


class FakeForward:
    """What the table looks at."""

    def __init__(self) -> None:
        self.open = [connection(1, 1200, 3_400_000)]

    def connections(self) -> list[Any]:
        return self.open

    def sessions(self) -> list[Any]:
        return [session()]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_row_for_each_connection_and_for_each_unused_session() -> None:
    rows = rows_of(
        [connection(1, 1200, 3_400_000), connection(2, peer=""), connection(3, session="gone")],
        [session(), session("two", LOST)],
        {1: 1_250_000.0},
    )
    assert [tuple(row) for row in rows] == [
        ("127.0.0.1:50001", "db.internal:5432", "1.2 kB", "3.4 MB", "1.2 MB/s", "12 ms", "connected"),
        ("/tmp/db.sock", "db.internal:5432", "0 B", "0 B", "", "12 ms", "connected"),
        ("127.0.0.1:50003", "db.internal:5432", "0 B", "0 B", "", "", "ended"),
        ("-", "db.internal:5432", "", "", "", "", "reconnecting for 7 s"),
    ]


def test_rates_are_since_the_last_look() -> None:
    rates = Rates()
    assert rates.update([connection(1, 500, 500)], 10.0) == {1: 0.0}
    assert rates.update([connection(1, 1500, 1500), connection(2, 0, 100)], 10.5) == {1: 4000.0, 2: 200.0}


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_940, "99.9 kB"), (999_600, "1.0 MB"), (12.3e12, "12.3 TB")],
)
def test_sizes(size: float, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize("width", [39, 59, 79, 119])
@pytest.mark.parametrize("color", [False, True])
def test_lines_fit_the_terminal(width: int, color: bool) -> None:
    from rich.text import Text

    rows = rows_of([connection(1, 1200, 3_400_000)], [session(), session("two", LOST)], {1: 1_250_000.0})
    lines = render(rows, width, color=color, unicode=True)
    assert len(lines) == 3
    assert max(Text.from_ansi(line).cell_len for line in lines) <= width
    assert ("\x1b" in "".join(lines)) is color
    assert all("connected" in line or "reconnecting" in line for line in lines[1:])
    if width > 100:
        assert "127.0.0.1:50001  db.internal:5432" in Text.from_ansi(lines[1]).plain


def test_nothing_but_ascii_where_there_is_nothing_else() -> None:
    rows = rows_of([connection(1)], [session()], {})
    assert all(line.isascii() for line in render(rows, 39, color=False, unicode=False))


async def test_messages_stand_above_the_table(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    environment = Environment(stderr=writing, variables={"LC_ALL": "C.UTF-8"}, color="never")
    table = ForwardTable(environment, cast(Any, FakeForward()), lambda: 1.0)
    table.start()
    first = os.read(reading, 4096).decode()
    assert first.startswith("From ")
    assert first.count("\n") == 2
    with table.aside():
        environment.write_error("smp: something\n")
    assert os.read(reading, 4096).decode() == f"\r\x1b[2A\x1b[Jsmp: something\n{first}"
    table.stop()
    assert os.read(reading, 4096).decode() == "\r\x1b[2A\x1b[J"


@pytest.mark.parametrize("width", [39, 59, 79])
@pytest.mark.parametrize("unicode", [True, False])
def test_a_row_that_is_cut_keeps_the_ports(width: int, unicode: bool) -> None:
    peer = "[2001:db8:1234:5678:9abc:def0:1234:5678]:50312"
    rows = rows_of([connection(1, 1200, 3_400_000, peer=peer)], [session(health=LOST)], {})
    lines = render(rows, width, color=False, unicode=unicode)
    assert max(map(len, lines)) <= width
    first, second = lines[1].split()[:2]
    assert first.endswith("50312")
    assert first.startswith("…" if unicode else "..")
    assert second.endswith("5432")
    assert "reconnecting" in lines[1]
