"""The presentation of a report: a live table, plain lines, or JSON."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol, TextIO

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.probe.checks import Check, Report, Running, Verdict
from session_manager_plugin.session.protocols import DEFAULT_SIZE
from session_manager_plugin.terminal.capabilities import is_utf8
from session_manager_plugin.terminal.size import terminal_size

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_STYLES = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red", Verdict.SKIPPED: "dim"}
_MARKS = {Verdict.PASS: "✓", Verdict.WARN: "!", Verdict.FAIL: "✗", Verdict.SKIPPED: "-"}
_ASCII_MARKS = {Verdict.PASS: "+", Verdict.WARN: "!", Verdict.FAIL: "x", Verdict.SKIPPED: "-"}
_PIECE = 256
"""Characters written at once without blocking: in any encoding fewer bytes than a writable pipe accepts."""
DRAW_INTERVAL = 0.1
"""Seconds; drawing the table takes about a tenth of that."""


class View(Protocol):
    """Shows a report while it grows."""

    def changed(self) -> None:
        """The report has changed."""

    def finish(self) -> None:
        """Write the rest, blocking, when the report is complete or the probe was interrupted."""


def view_of(report: Report, environment: Environment, *, as_json: bool) -> View:
    """Return the view: JSON if requested, a live table at a capable terminal, lines elsewhere."""
    if as_json:
        return JsonView(report, environment)
    # Log lines would disturb a live table.
    is_screen = environment.is_terminal(environment.stdout) and not environment.is_dumb
    if is_screen and not environment.quiet and not environment.verbosity:
        return TableView(report, environment)
    return PlainView(report, environment)


def summary(report: Report) -> str:
    """Return text such as ``11 passed, 1 warning, 1 failed, 2 skipped``."""
    counts = Counter(check.verdict for check in report.checks)
    warnings = counts[Verdict.WARN]
    parts = [f"{counts[Verdict.PASS]} passed"]
    if warnings:
        parts.append(f"{warnings} warning{'' if warnings == 1 else 's'}")
    if counts[Verdict.FAIL]:
        parts.append(f"{counts[Verdict.FAIL]} failed")
    if counts[Verdict.SKIPPED]:
        parts.append(f"{counts[Verdict.SKIPPED]} skipped")
    return ", ".join(parts)


def milliseconds(check: Check) -> str:
    """Return text such as ``12 ms``, with one decimal below 10; empty for a skipped check."""
    if check.ms is None:
        return ""
    return f"{check.ms:.1f} ms" if check.ms < 10 else f"{check.ms:.0f} ms"


class JsonView:
    """Prints one JSON object at the end."""

    def __init__(self, report: Report, environment: Environment) -> None:
        self._report = report
        self._environment = environment

    def changed(self) -> None:
        """Do nothing yet."""

    def finish(self) -> None:
        """Print the report."""
        self._environment.write(f"{json.dumps(self._report.as_json(), indent=2)}\n")


class PlainView:
    """Prints a line for each check, and another for its advice, groups in order. With ``-q`` only failures."""

    def __init__(self, report: Report, environment: Environment) -> None:
        self._report = report
        self._environment = environment
        self._shown = 0
        self._unwritten = ""

    def changed(self) -> None:
        """Print the checks of all complete groups, and those so far of the next group.

        Text that standard output does not accept at once is kept, so that the event loop is not blocked.
        """
        ready: list[Check] = []
        for group in self._report.groups:
            ready += group.checks
            if not group.done:
                break
        new, self._shown = ready[self._shown :], len(ready)
        lines = [line for check in new if self._is_wanted(check) for line in _plain_lines(check)]
        self._unwritten += "".join(f"{line}\n" for line in lines)
        while self._unwritten and self._environment.is_output_writable:
            piece, self._unwritten = self._unwritten[:_PIECE], self._unwritten[_PIECE:]
            self._environment.write(piece)

    def finish(self) -> None:
        """Print the rest, and the summary."""
        self.changed()
        rest, self._unwritten = self._unwritten, ""
        if not self._environment.quiet:
            rest += f"{summary(self._report)}\n"
        self._environment.write(rest)

    def _is_wanted(self, check: Check) -> bool:
        return not self._environment.quiet or check.verdict is Verdict.FAIL


def _plain_lines(check: Check) -> list[str]:
    head = f"{check.verdict.value:<8} {check.stage.value:<10} {milliseconds(check):>9}  "
    lines = [f"{head}{check.name}: {check.detail}"]
    if check.advice:
        lines.append(f"{'':{len(head)}}-> {check.advice}")
    return lines


class TableView:
    """Draws a table that grows in place and stays at the end."""

    def __init__(self, report: Report, environment: Environment) -> None:
        from rich.console import Console
        from rich.live import Live

        self._report = report
        self._environment = environment
        self._is_ascii = not is_utf8(environment.variables)
        encoding = "ascii" if self._is_ascii else "utf-8"
        self._file: TextIO = open(os.dup(environment.stdout), "w", encoding=encoding, errors="replace")  # noqa: SIM115
        size = terminal_size(environment.stdout) or DEFAULT_SIZE
        colored = environment.uses_color(environment.stdout)
        self._console = Console(
            file=self._file,
            width=size.columns,
            height=size.rows,
            force_terminal=True,
            no_color=not colored,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._live.start()
        self._drawn_at = 0.0

    def changed(self) -> None:
        """Draw the table, at a limited rate while several checks run, so that drawing does not distort their times."""
        running = sum(len(group.running) for group in self._report.groups)
        now = time.monotonic()
        is_due = running <= 1 or now >= self._drawn_at + DRAW_INTERVAL
        if is_due and self._environment.is_output_writable:  # a terminal may be stopped (Ctrl-S)
            self._drawn_at = now
            self._live.update(self._table(), refresh=True)

    def finish(self) -> None:
        """Draw the whole table, and print the summary below it."""
        self._live.update(self._table())
        self._live.stop()
        self._console.print(summary(self._report))
        self._file.close()

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True, header_style="bold")
        table.add_column("Verdict", no_wrap=True)
        table.add_column("Stage", no_wrap=True)
        table.add_column("Time", no_wrap=True, justify="right")
        table.add_column("What", overflow="fold", ratio=1)
        for group in self._report.groups:
            for check in group.checks:
                table.add_row(self._verdict(check), check.stage.value, milliseconds(check), self._text(check))
            for running in group.running:
                table.add_row(*self._running(running))
        return table

    def _verdict(self, check: Check) -> Text:
        from rich.text import Text

        marks = _ASCII_MARKS if self._is_ascii else _MARKS
        return Text(f"{marks[check.verdict]} {check.verdict.value}", style=_STYLES[check.verdict])

    def _text(self, check: Check) -> Text:
        from rich.text import Text

        text = Text()
        dim = check.verdict is Verdict.SKIPPED
        text.append(check.name, style="dim" if dim else "bold")
        text.append(f"  {check.detail}", style="dim" if dim else "")
        if check.advice:
            arrow = "->" if self._is_ascii else "→"
            text.append(f"\n{arrow} {check.advice}", style=_STYLES[check.verdict])
        return text

    def _running(self, running: Running) -> tuple[Text, Text, Text, Text]:
        from rich.text import Text

        dots = "..." if self._is_ascii else "…"
        return Text(dots, style="cyan"), Text(running.stage.value), Text(), Text(running.name, style="bold")
