"""Writing rows: as a table at a terminal, as lines with tabs in a pipe, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.render import tell_note
from session_manager_plugin.terminal.capabilities import is_utf8
from session_manager_plugin.utils.text import printable, shorten

Row = Mapping[str, str | bool | datetime | None]


class Column(NamedTuple):
    """A column of a table."""

    key: str
    heading: str
    rank: int = 0
    """In a terminal that is too narrow the columns of the highest ranks are left out; those of rank 0 never."""
    folds_at: int = 0
    """The width in cells from which on long values may be folded; 0 if they are not."""
    cut_at: int = 0
    """The width in cells from which on long values are cut with an ellipsis if there is no room; 0 if they are not."""


_GAP = 2
"""Cells between two columns of a table."""


def write_rows(environment: Environment, rows: Sequence[Row], columns: Sequence[Column], *, as_json: bool) -> None:
    """Write ``rows`` to standard output: with ``as_json`` one object per line, otherwise at a terminal a table,
    elsewhere lines of fields separated by tabs. Times are UTC; except in the table they are in ISO 8601."""
    if as_json:
        environment.write(
            "".join(f"{json.dumps({key: _plain(value) for key, value in row.items()})}\n" for row in rows)
        )
    elif environment.is_terminal(environment.stdout):
        _write_table(environment, rows, columns)
    else:
        lines = ("\t".join(printable(_field(value)) for value in row.values()) for row in rows)
        environment.write("".join(f"{line}\n" for line in lines))


def _plain(value: str | bool | datetime | None) -> str | bool | None:
    return value.astimezone(UTC).isoformat(timespec="seconds") if isinstance(value, datetime) else value


def _field(value: str | bool | datetime | None) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else "" if plain is None else json.dumps(plain)


def _write_table(environment: Environment, rows: Sequence[Row], columns: Sequence[Column]) -> None:
    import io

    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from session_manager_plugin.terminal.size import terminal_size

    size = terminal_size(environment.stdout)
    width = 80 if size is None else size.columns
    cells = {column: [printable(_shown(row[column.key])) for row in rows] for column in columns}
    widths = {column: max(map(cell_len, (column.heading, *cells[column]))) for column in columns}
    needed = {column: min(widths[column], column.folds_at or column.cut_at or widths[column]) for column in columns}
    shown = _fitting(columns, needed, width)
    is_stacked = _total(shown, needed) > width
    ellipsis = "…" if is_utf8(environment.variables) else ".."
    for column in filter(lambda column: column.cut_at, shown):
        left = width - _total(shown, {**widths, column: 0})
        needed[column] = min(widths[column], max(needed[column], width if is_stacked else left))
        cells[column] = [shorten(text, needed[column], cell_len, ellipsis) for text in cells[column]]
    values = list(zip(*(cells[column] for column in shown), strict=True))
    if is_stacked:
        indent = " " * min(2, max(0, width - max((widths[column] for column in shown[1:]), default=0)))
        environment.write("".join(f"{_stacked(row, indent)}\n" for row in values))
    else:
        text = io.StringIO()
        color = environment.uses_color(environment.stdout)
        console = Console(file=text, width=width, force_terminal=color, no_color=not color, highlight=False)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in shown:
            table.add_column(column.heading, overflow="fold", no_wrap=not column.folds_at, min_width=needed[column])
        for row in values:
            table.add_row(*map(Text, row))
        console.print(table)
        environment.write(text.getvalue())
    if absent := [column.heading for column in columns if column not in shown]:
        tell_note(environment, f"{width} columns are too few for {', '.join(absent)}; --json shows all")


def _stacked(values: Sequence[str], indent: str) -> str:
    """Return one line for each value that is not empty, those after the first indented."""
    first, *rest = filter(None, values)
    return "\n".join((first, *(f"{indent}{value}" for value in rest)))


def _fitting(columns: Sequence[Column], needed: Mapping[Column, int], width: int) -> list[Column]:
    """Return the columns that fit into ``width`` cells, those of rank 0 in any case."""
    shown = list(columns)
    while _total(shown, needed) > width and (least := max(shown, key=lambda column: column.rank)).rank:
        shown.remove(least)
    return shown


def _total(columns: Sequence[Column], needed: Mapping[Column, int]) -> int:
    return sum(needed[column] for column in columns) + _GAP * (len(columns) - 1)


def _shown(value: str | bool | datetime | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else value or ""
