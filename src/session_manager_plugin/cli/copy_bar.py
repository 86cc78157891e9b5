"""The line that shows the progress of a copy: as many columns as fit."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table

from session_manager_plugin.cli.live_lines import LiveLine

_INTERVAL = 0.1
"""Seconds between two drawings."""


class CopyBar(Progress):
    """The name, the bytes copied, the rate and the time left, and on a wide terminal a bar."""

    _name = TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="crop"))
    _percentage = TaskProgressColumn(table_column=Column(no_wrap=True))
    _sizes = DownloadColumn(table_column=Column(no_wrap=True))
    _rate = TransferSpeedColumn(table_column=Column(no_wrap=True))
    _left = TimeRemainingColumn(table_column=Column(no_wrap=True))
    _bar = BarColumn(20)

    def __init__(self, console: Console, fd: int) -> None:
        """``fd`` is the terminal of ``console``."""
        self._terminal = console
        self.line = LiveLine(fd, self._write)
        self._drawing = threading.RLock()
        self._is_shown = False
        self._stopped = threading.Event()
        super().__init__(console=console, auto_refresh=False, expand=True)

    def start(self) -> None:
        """Show the line, and draw it again and again."""
        with self._drawing:
            self._is_shown = True
            self._stopped = threading.Event()
            self.refresh()
        threading.Thread(target=self._draw_again, args=(self._stopped,), name="progress", daemon=True).start()

    def stop(self) -> None:
        """Erase the line. May be called twice."""
        with self._drawing:
            self._stopped.set()
            if self._is_shown:
                self._is_shown = False
                self.line.erase()

    def refresh(self) -> None:
        """Draw the line if it is shown."""
        with self._drawing:
            if self._is_shown:
                with self._terminal.capture() as captured:
                    self._terminal.print(self.get_renderable(), end="")
                self.line.draw(captured.get().rstrip())

    def _draw_again(self, stopped: threading.Event) -> None:
        while not stopped.wait(_INTERVAL):
            with self._drawing:
                if not stopped.is_set():
                    self.refresh()

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._terminal.file.write(text)
            self._terminal.file.flush()

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """See ``Progress``. Called at each drawing, since the width may have changed."""
        self.columns = self._fitting(self._terminal.width)
        return super().make_tasks_table(tasks)

    def _fitting(self, width: int) -> tuple[ProgressColumn, ...]:
        if width < 36:
            return (self._name, self._percentage)
        if width < 52:
            return (self._name, self._sizes, self._left)
        if width < 76:
            return (self._name, self._sizes, self._rate, self._left)
        return (self._name, self._bar, self._sizes, self._rate, self._left)
