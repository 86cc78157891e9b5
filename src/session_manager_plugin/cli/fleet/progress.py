"""How far a command on many targets is: one line at a terminal, drawn with rich."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.fleet.output import SharedOutput

REFRESH_INTERVAL = 0.2
"""Seconds between two drawings."""


class Counts(NamedTuple):
    """What the line shows."""

    total: int
    running: int
    done: int
    failed: int
    """Of those that are done."""
    pace: str
    """What slows it down, as the end of a sentence."""


@contextlib.contextmanager
def fleet_progress(environment: Environment, output: SharedOutput, counts: Callable[[], Counts]) -> Iterator[None]:
    """Show the counts on standard error for the length of the block, if that is a terminal and quiet was
    not asked for; the line is removed at the end, and before other output."""
    if environment.quiet or not environment.is_terminal(environment.stderr) or environment.is_dumb:
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    loop = asyncio.get_running_loop()
    with os.fdopen(environment.stderr, "w", closefd=False) as stream:
        console = Console(file=stream, no_color=not environment.uses_color(environment.stderr))
        columns = (BarColumn(20), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        progress = Progress(
            *columns, console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        task = progress.add_task("", total=counts().total)
        shown = False
        timer: asyncio.TimerHandle | None = None

        def show() -> None:
            nonlocal shown, timer
            total, running, done, failed, pace = counts()
            text = f"{done} of {total} done, {failed} failed, {running} running{pace}"
            progress.update(task, completed=done, description=text)
            with contextlib.suppress(OSError):
                progress.refresh()
            shown = True
            timer = loop.call_later(REFRESH_INTERVAL, show)

        def erase() -> None:
            nonlocal shown
            if shown:
                shown = False
                with contextlib.suppress(OSError):
                    stream.write("\r\x1b[2K")
                    stream.flush()

        with progress:
            show()
            output.before_write = erase
            try:
                yield
            finally:
                if timer is not None:
                    timer.cancel()
                output.before_write = lambda: None
                erase()
