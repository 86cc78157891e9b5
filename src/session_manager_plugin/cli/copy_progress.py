"""The progress of a copy at a terminal: one line, drawn with rich."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.utils.text import printable

if TYPE_CHECKING:
    from session_manager_plugin.transfer.report import Progress as CopyProgress


@contextlib.contextmanager
def copy_progress(environment: Environment) -> Iterator[Callable[[CopyProgress], None]]:
    """Show bytes, rate and time left on standard error, if that is a terminal and ``-q`` was not given. Yields a
    function to call with the progress. The line is removed at the end."""
    if environment.quiet or not environment.is_terminal(environment.stderr) or environment.is_dumb:
        yield lambda _progress: None
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

    with os.fdopen(environment.stderr, "w", closefd=False) as stream:
        console = Console(file=stream, no_color=not environment.uses_color(environment.stderr))
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=None)

            def show(progress: CopyProgress) -> None:
                bar.update(
                    task,
                    description=printable(os.path.basename(progress.name))[:40],
                    completed=progress.done,
                    total=progress.total or None,
                )

            yield show
