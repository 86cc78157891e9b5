"""The live table of `smp forward` at a terminal: each connection, what passes through it, and its session's link."""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, NamedTuple

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.live_lines import LiveLines
from session_manager_plugin.terminal.capabilities import is_utf8
from session_manager_plugin.terminal.size import terminal_size
from session_manager_plugin.utils.text import printable

if TYPE_CHECKING:
    from session_manager_plugin.forwarding.events import ForwardedConnection, ForwardedSession
    from session_manager_plugin.forwarding.forward import Forward

REFRESH_INTERVAL = 0.5
"""Seconds between two looks at the connections."""
_COLUMNS = {"From": 0, "To": 0, "Sent": 75, "Received": 60, "Rate": 50, "Latency": 85, "Link": 0}
"""The headings, each with the least columns of the terminal at which it is shown."""
_LEFT = ("From", "To", "Link")
_SHORTENED = ("From", "To")
"""Columns that are cut where there is not enough room: at the beginning, because the port is at the end."""
_GAP = 2
"""Blanks between two columns."""
_UNITS = ("kB", "MB", "GB", "TB")


class Row(NamedTuple):
    """The cells of one row; see ``_COLUMNS``."""

    peer: str
    remote: str
    sent: str = ""
    received: str = ""
    rate: str = ""
    latency: str = ""
    link: str = ""


class ForwardTable:
    """Shows the connections of ``forwarding`` on standard error, below what else is written there by ``aside``."""

    def __init__(self, environment: Environment, forwarding: Forward, clock: Callable[[], float] | None = None) -> None:
        """``clock`` is that of the event loop unless given."""
        self._environment = environment
        self._forwarding = forwarding
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop.time
        self.lines = LiveLines(environment.stderr, environment.write_error)
        self._rates = Rates()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Show the table, and renew it from now on."""
        self._refresh()

    def stop(self) -> None:
        """Remove the table."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.lines.show(())

    def aside(self) -> AbstractContextManager[None]:
        """Remove the table for the length of the block, which writes to standard error."""
        return self.lines.hidden()

    def _refresh(self) -> None:
        self._timer = self._loop.call_later(REFRESH_INTERVAL, self._refresh)
        writer = self._environment.error_messages.writer
        if writer is not None and writer.buffered:
            return  # the terminal is stopped
        connections, sessions = self._forwarding.connections(), self._forwarding.sessions()
        size = terminal_size(self._environment.stderr)
        columns, height = (80, 24) if size is None else size
        rows = rows_of(connections, sessions, self._rates.update(connections, self._clock()))
        most = max(1, height - 4)  # the headings, the rest, the cursor's line, and one of what stood above
        lines = render(
            rows[:most],
            columns - 1,
            color=self._environment.uses_color(self._environment.stderr),
            unicode=is_utf8(self._environment.variables),
        )
        if len(rows) > most:
            lines.append(f"and {len(rows) - most} more")
        if lines != self.lines.shown:
            self.lines.show(lines)


class Rates:
    """Bytes a second of each connection, both directions together, between two updates."""

    def __init__(self) -> None:
        self._updated_at = 0.0
        self._totals: dict[int, int] = {}

    def update(self, connections: Sequence[ForwardedConnection], now: float) -> dict[int, float]:
        """Return the rate of each connection since the last update, by its number."""
        elapsed = now - self._updated_at
        totals = {each.number: each.sent + each.received for each in connections}
        rates = {
            number: (total - self._totals.get(number, 0)) / elapsed if self._totals and elapsed > 0 else 0.0
            for number, total in totals.items()
        }
        self._updated_at, self._totals = now, totals
        return rates


def rows_of(
    connections: Sequence[ForwardedConnection], sessions: Sequence[ForwardedSession], rates: dict[int, float]
) -> list[Row]:
    """Return a row for each connection, and one for each session without a connection."""
    by_id = {session.session_id: session for session in sessions}
    rows = []
    for each in connections:
        session = by_id.get(each.session_id)
        rate = rates.get(each.number, 0.0)
        rows.append(
            Row(
                each.peer or each.local,
                each.remote,
                format_size(each.sent),
                format_size(each.received),
                f"{format_size(rate)}/s" if rate >= 1 else "",
                *_link_cells(session),
            )
        )
    used = {each.session_id for each in connections}
    rows += [
        Row("-", session.remote, "", "", "", *_link_cells(session))
        for session in sessions
        if session.session_id not in used
    ]
    return rows


def _link_cells(session: ForwardedSession | None) -> tuple[str, str]:
    if session is None:
        return "", "ended"
    health = session.health
    word = f"{health.state.value} {health.clauses[-1] if health.troubled and health.clauses else ''}".rstrip()
    return f"{health.latency * 1000:.0f} ms" if health.latency is not None else "", word


def render(rows: Sequence[Row], width: int, *, color: bool, unicode: bool) -> list[str]:
    """Return the lines of the table, each at most ``width`` columns wide."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    text = io.StringIO()
    console = Console(
        file=text,
        width=width,
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [least <= width + 1 for least in _COLUMNS.values()]
    for heading in itertools.compress(_COLUMNS, shown):
        justify: Literal["left", "right"] = "left" if heading in _LEFT else "right"
        table.add_column(heading, justify=justify, no_wrap=heading not in _SHORTENED)
    cut = "…" if unicode else ".."
    for cells in _shortened([list(itertools.compress(row, shown)) for row in rows], shown, width, cut):
        table.add_row(*(Text(cell, no_wrap=True, overflow="crop") for cell in cells))
    console.print(table)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def _shortened(rows: list[list[str]], shown: Sequence[bool], width: int, cut: str) -> list[list[str]]:
    """Return the cells of ``rows``, those of ``_SHORTENED`` with at most their share of ``width`` columns; ``cut``
    stands for what is missing."""
    from rich.cells import cell_len

    rows = [[printable(cell) for cell in row] for row in rows]
    headings = list(itertools.compress(_COLUMNS, shown))
    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    first, second = (headings.index(heading) for heading in _SHORTENED)
    room = width - _GAP * (len(widths) - 1) - sum(widths) + widths[first] + widths[second]
    half = room // 2
    widths[first], widths[second] = (
        min(widths[first], max(half, room - widths[second])),
        min(widths[second], max(room - half, room - widths[first])),
    )
    for row in rows:
        for index in (first, second):
            text, most = row[index], max(widths[index], len(cut))
            if cell_len(text) > most:
                while cell_len(text) > most - len(cut):
                    text = text[1:]
                row[index] = cut + text
    return rows


def format_size(size: float) -> str:
    """Return a number of bytes as a person reads it: ``980 B``, ``1.2 MB``."""
    if size < 999.5:
        return f"{size:.0f} B"
    power = 1
    while size >= 999.5 * 1000**power and power < len(_UNITS):
        power += 1
    scaled = size / 1000**power
    return f"{scaled:.1f} {_UNITS[power - 1]}" if scaled < 99.95 else f"{scaled:.0f} {_UNITS[power - 1]}"
