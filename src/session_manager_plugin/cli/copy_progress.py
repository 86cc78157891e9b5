"""The progress of a copy at a terminal: one line, drawn with rich."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.utils.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from session_manager_plugin.transfer.report import Progress as CopyProgress


class CopyProgressLine:
    """One line at the terminal with bytes, rate and time left; nothing where it is not shown."""

    def __init__(self, bar: Progress | None = None) -> None:
        self._bar = bar
        self._task = None if bar is None else bar.add_task("connecting", total=None)

    def show(self, progress: CopyProgress) -> None:
        """Show how far the copy is."""
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=printable(os.path.basename(progress.name))[:40],
                completed=progress.done,
                total=progress.total or None,
            )

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
    if environment.quiet or not environment.is_terminal(environment.stderr) or environment.is_dumb:
        yield CopyProgressLine()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with open(environment.stderr, "w", closefd=False, errors="replace") as stream:
        console = Console(file=stream, no_color=not environment.uses_color(environment.stderr))
        # Messages are written between two drawings of the line, see `hidden`.
        with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
            yield CopyProgressLine(bar)
