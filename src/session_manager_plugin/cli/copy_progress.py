"""The progress of a copy at a terminal: one line, drawn with rich."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Iterator
from typing import TYPE_CHECKING

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.live_lines import ERASE, SHOW_CURSOR
from session_manager_plugin.cli.render import tell_note
from session_manager_plugin.utils.text import printable

if TYPE_CHECKING:
    from session_manager_plugin.cli.copy_bar import CopyBar
    from session_manager_plugin.transfer.report import Progress as CopyProgress

LONG_CHECK_SIZE = 64 * 1024 * 1024
"""Bytes of a file whose check takes so long that a terminal without ANSI sequences shows it too."""


class CopyProgressLine:
    """One line at the terminal with bytes, rate and time left; nothing where it is not shown."""

    def __init__(self, environment: Environment, bar: CopyBar | None = None, *, plain: bool = False) -> None:
        """``plain``: the terminal supports no ANSI sequences. Only the check of a large file is shown there."""
        self._environment = environment
        self._bar = bar
        self._task = None if bar is None else bar.add_task("connecting", total=None)
        self._plain = plain

    def show(self, progress: CopyProgress) -> None:
        """Show how far the copy is."""
        if self._bar is not None and self._task is not None:
            name = printable(os.path.basename(progress.name))
            self._bar.update(
                self._task,
                description=f"checking {name}" if progress.checking else name,
                completed=progress.done,
                total=progress.total or None,
            )
        elif self._plain and progress.checking >= LONG_CHECK_SIZE:
            tell_note(self._environment, f"{printable(progress.name)}: checking")

    def erase(self) -> None:
        """Erase the line and show the cursor, without waiting for the terminal. Called when a signal ends the program,
        which may then leave no time for the end of ``copy_progress``."""
        if self._bar is not None and self._bar.line.is_drawn:
            with contextlib.suppress(OSError):
                if select.select([], [self._environment.stderr], [], 0)[1]:
                    os.write(self._environment.stderr, (ERASE + SHOW_CURSOR).encode())

    def forget(self) -> None:
        """Draw the line anew: another program had the terminal."""
        if self._bar is not None:
            self._bar.line.forget()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Erase the line for the length of the block, for a message in its place."""
        if self._bar is None:
            yield
            return
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()


@contextlib.contextmanager
def copy_progress(environment: Environment) -> Iterator[CopyProgressLine]:
    """Show the line on standard error, if that is a terminal and ``-q`` was not given; erase it at the end."""
    if environment.quiet or not environment.is_terminal(environment.stderr):
        yield CopyProgressLine(environment)
        return
    if environment.is_dumb:
        yield CopyProgressLine(environment, plain=True)
        return
    from rich.console import Console

    from session_manager_plugin.cli.copy_bar import CopyBar

    with open(environment.stderr, "w", closefd=False, errors="replace") as stream:
        console = Console(file=stream, no_color=not environment.uses_color(environment.stderr))
        # Messages are written between two drawings of the line, see `hidden`.
        with CopyBar(console, environment.stderr) as bar:
            yield CopyProgressLine(environment, bar)
