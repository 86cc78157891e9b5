"""Writing rows: as a table at a terminal, as lines with tabs in a pipe, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.utils.text import printable

Row = Mapping[str, str | bool | datetime | None]


class Column(NamedTuple):
    """A column of a table."""

    key: str
    heading: str
    least_width: int = 0
    """Least width of the terminal, in columns, at which this column is shown."""


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

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from session_manager_plugin.terminal.size import terminal_size

    size = terminal_size(environment.stdout)
    width = 80 if size is None else size.columns
    text = io.StringIO()
    color = environment.uses_color(environment.stdout)
    console = Console(file=text, width=width, force_terminal=color, no_color=not color, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [column for column in columns if width >= column.least_width]
    for column in shown:
        table.add_column(column.heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(_shown(row[column.key]))) for column in shown))
    console.print(table)
    environment.write(text.getvalue())


def _shown(value: str | bool | datetime | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value.astimezone():%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else value or ""
