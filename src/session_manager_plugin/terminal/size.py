"""The size of the terminal, and notification of its changes. Importable on Windows."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from weakref import WeakKeyDictionary

from session_manager_plugin.session.protocols import TerminalSize

_INTERVAL = 0.05
"""Least seconds between two readings of the size: dragging a window's edge sends a SIGWINCH at each step."""


def terminal_size(*fds: int) -> TerminalSize | None:
    """Return the size of the first of ``fds`` that is a terminal with a size; None if there is none.

    A terminal may report 0×0 (a serial line, a pty whose size was not set), which does not count.
    """
    for fd in fds:
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        if columns > 0 and rows > 0:
            return TerminalSize(columns, rows)
    return None


class SizeWatcher:
    """Calls back with the terminal's size after it was resized: at the first SIGWINCH at once, and after that once for
    all SIGWINCH of an interval. The size may be the same as before, if the terminal was resized to and fro.

    The official client polls every 500 ms instead (reference defect A7). All watchers of an event loop share one
    handler for SIGWINCH.
    """

    def __init__(
        self,
        callback: Callable[[TerminalSize], None],
        *fds: int,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """``fds`` are tried in order, as by ``terminal_size``. ``loop`` is the running event loop by default."""
        self._callback = callback
        self._fds = fds
        self._loop = loop or asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False  # a SIGWINCH has arrived since the size was read
        self._watching = False
        self.size: TerminalSize | None = None
        """The size last read; None before ``start``, and without a terminal."""

    def start(self) -> None:
        """Read the current size without calling back, and watch from now on.

        Raises ``RuntimeError`` outside the main thread.
        """
        self.size = terminal_size(*self._fds)
        watchers = _WATCHERS.setdefault(self._loop, set())
        if not watchers:
            self._loop.add_signal_handler(signal.SIGWINCH, _signal_all, watchers)
        watchers.add(self)
        self._watching = True

    def stop(self) -> None:
        """Stop watching. A pending change is not reported. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watching:
            self._watching = False
            watchers = _WATCHERS[self._loop]
            watchers.discard(self)
            if not watchers:
                self._loop.remove_signal_handler(signal.SIGWINCH)

    def check(self) -> None:
        """Read the size now, and call back if it has changed.

        Call this after SIGCONT: a stopped job gets no SIGWINCH.
        """
        if terminal_size(*self._fds) != self.size:
            self._report()

    def _report(self) -> None:
        size = terminal_size(*self._fds)
        if size is not None:
            self.size = size
            self._callback(size)

    def _signalled(self) -> None:
        self._is_due = True
        if self._timer is None:
            self._read()

    def _read(self) -> None:
        self._timer = None
        if self._is_due:
            self._is_due = False
            self._timer = self._loop.call_later(_INTERVAL, self._read)
            self._report()


_WATCHERS: WeakKeyDictionary[asyncio.AbstractEventLoop, set[SizeWatcher]] = WeakKeyDictionary()
"""The active watchers, by event loop."""


def _signal_all(watchers: set[SizeWatcher]) -> None:
    for watcher in watchers:
        watcher._signalled()


def are_one_terminal(first: int, second: int) -> bool:
    """Return whether both descriptors are the same terminal, so that answers to requests on ``second`` arrive at
    ``first``."""
    try:
        return os.isatty(first) and os.isatty(second) and os.fstat(first).st_rdev == os.fstat(second).st_rdev
    except OSError:
        return False
