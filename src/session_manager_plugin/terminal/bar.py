"""The status bar on a live terminal: the reserved row, the line in it, and when to draw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from session_manager_plugin.terminal.output import OutputWriter
from session_manager_plugin.terminal.screen import ReservedRow
from session_manager_plugin.terminal.size import TerminalSize
from session_manager_plugin.terminal.status_line import LinkStatus, StatusLine

_LOOK_INTERVAL = 1.0
"""Seconds between two looks at the link; a look draws nothing unless something has changed."""
_BUSY = 64 * 1024
"""Bytes waiting for the terminal above which the bar waits too, rather than being queued behind them."""


class StatusBar:
    """Draws what `status` tells into the last row of the terminal that `output` writes to."""

    def __init__(self, line: StatusLine, output: OutputWriter, status: Callable[[], LinkStatus]) -> None:
        self._line = line
        self._output = output
        self._status = status
        self._row = ReservedRow()
        self._columns = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def remote_size(self) -> TerminalSize | None:
        """The size to tell the remote; None when not started."""
        return self._row.remote_size

    def start(self, size: TerminalSize) -> None:
        """Reserve the row of a terminal of this size and show the bar."""
        self._columns = size.columns
        self._output.write(self._row.start(size))
        self.look()

    def resize(self, size: TerminalSize) -> None:
        """Follow the terminal to a new size."""
        self._columns = size.columns
        self._output.write(self._row.resize(size))
        self.look()

    def feed(self, data: bytes) -> None:
        """Follow what the remote draws; call it with everything that goes to the terminal, when it has been written."""
        self._row.feed(data)
        if self._row.damaged and self._row.at_boundary:
            self._output.write(self._row.draw(self._line.line))

    def look(self) -> None:
        """See whether the link's state has changed, and draw if it has."""
        now = time.monotonic()
        if self._output.buffered < _BUSY:
            text = self._line.update(self._status(), self._columns, now)
            if text is not None or self._row.damaged:
                self._output.write(self._row.draw(self._line.line))
        due = self._line.next_update_at
        self._arm(_LOOK_INTERVAL if due is None else max(0.0, due - now))

    def stop(self) -> None:
        """Give the row back. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._output.write(self._row.stop())

    def _arm(self, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay, self.look)
