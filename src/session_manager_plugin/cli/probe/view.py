"""The presentation of a report: a live table, plain lines, or JSON."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol, TextIO

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.live_lines import LiveLines
from session_manager_plugin.cli.probe.checks import Check, Report, Running, Verdict
from session_manager_plugin.cli.probe.sections import Section, section_at, sections
from session_manager_plugin.session.protocols import DEFAULT_SIZE
from session_manager_plugin.terminal.capabilities import is_utf8
from session_manager_plugin.terminal.size import terminal_size

if TYPE_CHECKING:
    from rich.console import Group as Lines
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_STYLES = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red", Verdict.SKIPPED: "dim"}
_MARKS = {Verdict.PASS: "✓", Verdict.WARN: "!", Verdict.FAIL: "✗", Verdict.SKIPPED: "-"}
_ASCII_MARKS = {Verdict.PASS: "+", Verdict.WARN: "!", Verdict.FAIL: "x", Verdict.SKIPPED: "-"}
_PIECE = 256
"""Characters written at once without blocking: in any encoding fewer bytes than a writable pipe accepts."""
_LABEL_WIDTH = 24
"""Columns; longer labels are broken."""
_TIME_WIDTH = 8
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


def summary(report: Report, *, everything: bool) -> str:
    """Return text such as ``11 passed, 1 warning, 1 failed, 2 skipped (-v shows them)``."""
    counts = Counter(check.verdict for check in report.checks)
    warnings = counts[Verdict.WARN]
    parts = [f"{counts[Verdict.PASS]} passed"]
    if warnings:
        parts.append(f"{warnings} warning{'' if warnings == 1 else 's'}")
    if counts[Verdict.FAIL]:
        parts.append(f"{counts[Verdict.FAIL]} failed")
    if counts[Verdict.SKIPPED]:
        parts.append(f"{counts[Verdict.SKIPPED]} skipped{'' if everything else ' (-v shows them)'}")
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
    """Prints a line for each check below the title of its group, and another for its advice, groups in order. With
    ``-v`` also the skipped checks, with ``-q`` only failures."""

    def __init__(self, report: Report, environment: Environment) -> None:
        self._report = report
        report.is_printed = True
        self._environment = environment
        self._everything = environment.verbosity > 0
        self._begun = 0
        """The groups that were printed as a whole."""
        self._printed = 0
        """The checks that were printed of the next group."""
        self._unwritten = ""

    def changed(self) -> None:
        """Print the checks of all complete groups, and those so far of the next group. Endpoints are printed when they
        are complete, because those that fail for the same reason are printed as one.

        Text that standard output does not accept at once is kept, so that the event loop is not blocked.
        """
        groups = self._report.groups
        while self._begun < len(groups):
            group = groups[self._begun]
            if group.is_endpoint and not group.done:
                break
            section = section_at(groups, self._begun, everything=self._everything)
            self._print(section)
            if not group.done:
                break
            self._begun += section.groups
            self._printed = 0
        self._write()

    def finish(self) -> None:
        """Print the rest, and the summary."""
        self.changed()
        for section in sections(self._report.groups[self._begun :], everything=self._everything):
            self._print(section)
            self._printed = 0
        rest, self._unwritten = self._unwritten, ""
        if not self._environment.quiet:
            rest += f"{summary(self._report, everything=self._everything)}\n"
        self._environment.write(rest)

    def _print(self, section: Section) -> None:
        checks = [check for check in section.checks if self._is_wanted(check)]
        lines = [line for check in checks[self._printed :] for line in _plain_lines(check)]
        if lines and not self._printed:
            lines.insert(0, section.title)
        self._printed = len(checks)
        self._unwritten += "".join(f"{line}\n" for line in lines)

    def _write(self) -> None:
        while self._unwritten and self._environment.is_output_writable:
            piece, self._unwritten = self._unwritten[:_PIECE], self._unwritten[_PIECE:]
            self._environment.write(piece)

    def _is_wanted(self, check: Check) -> bool:
        return not self._environment.quiet or check.verdict is Verdict.FAIL


def _plain_lines(check: Check) -> list[str]:
    head = f"  {check.verdict.value:<8} {check.stage.value:<10} {milliseconds(check):>9}  "
    lines = [f"{head}{check.name}: {check.detail}"]
    if check.advice:
        lines.append(f"{'':{len(head)}}-> {check.advice}")
    return lines


class TableView:
    """Draws the checks below the titles of their groups. The drawing grows in place and stays at the end."""

    def __init__(self, report: Report, environment: Environment) -> None:
        from rich.console import Console

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
        self.lines = LiveLines(environment.stdout, self._write)
        self._drawn_at = 0.0

    def changed(self) -> None:
        """Draw the table, at a limited rate while several checks run, so that drawing does not distort their times."""
        running = sum(len(group.running) for group in self._report.groups)
        now = time.monotonic()
        is_due = running <= 1 or now >= self._drawn_at + DRAW_INTERVAL
        if is_due and self._environment.is_output_writable:  # a terminal may be stopped (Ctrl-S)
            self._drawn_at = now
            lines = self._rows()
            most = max(1, self._console.height - 2)  # the line of what is left out, and that of the cursor
            if len(lines) > most:
                lines[most:] = ["..." if self._is_ascii else "…"]
            self.lines.show(lines)

    def finish(self) -> None:
        """Write the whole table, and the summary below it."""
        self.lines.show(())
        self._write("".join(f"{line}\n" for line in self._rows()))
        self._write(f"{summary(self._report, everything=False)}\n")
        self._file.close()

    def _rows(self) -> list[str]:
        with self._console.capture() as captured:
            self._console.print(self._drawing())
        return [line.rstrip() for line in captured.get().splitlines()]

    def _write(self, text: str) -> None:
        self._file.write(text)
        self._file.flush()

    def _drawing(self) -> Lines:
        from rich.console import Group as Lines
        from rich.text import Text

        shown = sections(self._report.groups, everything=False)
        width = max((len(check.label or check.name) for section in shown for check in section.checks), default=0)
        width = min(width, _LABEL_WIDTH)
        lines: list[RenderableType] = []
        for section in shown:
            lines.append(Text(section.title, style="bold"))
            for check in section.checks:
                lines += self._check(check, width)
            lines += [self._running(running, width) for running in section.running]
        return Lines(*lines)

    def _check(self, check: Check, width: int) -> list[RenderableType]:
        from rich.text import Text

        marks = _ASCII_MARKS if self._is_ascii else _MARKS
        style = _STYLES[check.verdict]
        row = _row(width)
        label = Text(check.label or check.name)
        row.add_row(Text(marks[check.verdict], style=style), label, milliseconds(check), Text(check.detail))
        if not check.advice:
            return [row]
        return [row, _advice(Text("->" if self._is_ascii else "→"), Text(check.advice), style)]

    def _running(self, running: Running, width: int) -> Table:
        from rich.text import Text

        row = _row(width)
        row.add_row(Text("." if self._is_ascii else "…", style="cyan"), Text(running.label or running.name), "", "")
        return row


def _row(width: int) -> Table:
    """Return a table for one check, with the label ``width`` columns wide."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=1, no_wrap=True)
    table.add_column(width=width, overflow="fold")
    table.add_column(width=_TIME_WIDTH, no_wrap=True, justify="right")
    table.add_column(overflow="fold", ratio=1)
    table.expand = True
    return table


def _advice(arrow: Text, advice: Text, style: str) -> Table:
    from rich.table import Table

    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=1)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    table.expand = True
    table.add_row("", arrow, advice, style=style)
    return table
