"""The line that shows the progress of a copy: as many columns as fit, since a line that wraps cannot be erased."""

from __future__ import annotations

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


class CopyBar(Progress):
    """The name, the bytes copied, the rate and the time left, and on a wide terminal a bar."""

    _name = TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="crop"))
    _percentage = TaskProgressColumn(table_column=Column(no_wrap=True))
    _sizes = DownloadColumn(table_column=Column(no_wrap=True))
    _rate = TransferSpeedColumn(table_column=Column(no_wrap=True))
    _left = TimeRemainingColumn(table_column=Column(no_wrap=True))
    _bar = BarColumn(20)

    def __init__(self, console: Console) -> None:
        self._terminal = console
        super().__init__(console=console, transient=True, redirect_stdout=False, redirect_stderr=False, expand=True)

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
