"""How far a command on many targets is: one line at a terminal, drawn with rich."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from session_manager_plugin.cli.fleet.output import SharedOutput
from session_manager_plugin.cli.live_lines import LiveLine
from session_manager_plugin.cli.process import Process

REFRESH_INTERVAL = 0.2
"""Seconds between two drawings."""


BAR_WIDTH = 20
"""Columns of the bar."""


class Counts(NamedTuple):
    """What the line shows."""

    total: int
    running: int
    done: int
    failed: int
    """Of those that are done."""
    pace: str
    """What slows it down, as the end of a sentence."""

    def describe(self, width: int, seconds: float) -> str:
        """Return the longest text that fits in ``width`` columns; ``seconds`` have passed."""
        minutes, seconds = divmod(int(seconds), 60)
        done, time = f"{self.done} of {self.total} done", f"{minutes}:{seconds:02}"
        parts = [f", {self.failed} failed", f", {self.running} running", self.pace]
        texts = [f"{done}{''.join(parts[:count])} {time}" for count in (3, 2, 1, 0)]
        return next((text for text in texts if len(text) <= width), f"{self.done}/{self.total}"[:width])


@contextlib.contextmanager
def fleet_progress(process: Process, output: SharedOutput, counts: Callable[[], Counts]) -> Iterator[None]:
    """Show the counts on standard error for the length of the block, if that is a terminal and quiet was
    not asked for; the line is removed at the end, and before other output."""
    environment, interruption = process
    if environment.quiet or not environment.is_terminal(environment.stderr) or environment.is_dumb:
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    loop = asyncio.get_running_loop()
    with os.fdopen(environment.stderr, "w", closefd=False) as stream:
        console = Console(file=stream, no_color=not environment.uses_color(environment.stderr))
        bar, column = BarColumn(BAR_WIDTH), TextColumn("{task.description}", markup=False)
        progress = Progress(bar, column, console=console, auto_refresh=False)
        task = progress.add_task("", total=counts().total)
        line = LiveLine(environment.stderr, environment.write_error)
        began_at = loop.time()
        timer: asyncio.TimerHandle | None = None

        def show() -> None:
            nonlocal timer
            timer = loop.call_later(REFRESH_INTERVAL, show)
            writer = environment.error_messages.writer
            if writer is not None and writer.buffered:
                return  # the terminal is stopped
            now = counts()
            text = now.describe(console.width - 1, loop.time() - began_at)
            progress.columns = (bar, column) if len(text) + BAR_WIDTH + 2 <= console.width else (column,)
            progress.update(task, completed=now.done, description=text)
            with console.capture() as captured:
                console.print(progress.get_renderable(), end="")
            line.draw(captured.get().rstrip())

        def restore(restore_others: Callable[[], None] = interruption.restore) -> None:
            line.erase()
            restore_others()

        interruption.restore = restore
        show()
        output.before_write = line.erase
        try:
            with interruption.drawing(line):
                yield
        finally:
            if timer is not None:
                timer.cancel()
            output.before_write = lambda: None
            line.erase()
