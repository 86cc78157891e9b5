"""The size of the terminal, and word of its changes. Importable on Windows."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from weakref import WeakKeyDictionary

from session_manager_plugin.session.protocols import TerminalSize

_SETTLE_TIME = 0.02
"""Seconds from a SIGWINCH to the look at the size: dragging a window's edge sends one per step."""


def terminal_size(*fds: int) -> TerminalSize | None:
    """The size of the first of `fds` that is a terminal and knows its size; None if there is none.

    A terminal may say 0×0 (a serial line, a pty nobody has told), which is no size.
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
    """Calls back with the new size when the terminal's size has changed, once for a burst of SIGWINCH.

    Instead of looking every 500 ms (reference defect A7). All watchers of an event loop share its handler of SIGWINCH.
    """

    def __init__(
        self,
        callback: Callable[[TerminalSize], None],
        *fds: int,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """`fds` are asked in order, as by `terminal_size`; `loop` is the running one unless given."""
        self._callback = callback
        self._fds = fds
        self._loop = loop or asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._watching = False
        self.size: TerminalSize | None = None
        """The size last seen; None before `start` and as long as there is no terminal."""

    def start(self) -> None:
        """Takes the present size as known, without calling back, and watches from now on.

        Where there is no SIGWINCH (Windows) nothing is watched. Raises RuntimeError outside the main thread.
        """
        self.size = terminal_size(*self._fds)
        window_changed = getattr(signal, "SIGWINCH", None)
        if window_changed is None:
            return
        watchers = _WATCHERS.setdefault(self._loop, set())
        if not watchers:
            try:
                self._loop.add_signal_handler(window_changed, _signal_all, watchers)
            except NotImplementedError:
                return
        watchers.add(self)
        self._watching = True

    def stop(self) -> None:
        """Stops watching; a change not yet reported is not reported any more. Idempotent."""
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
        """Looks at once, and calls back if the size has changed.

        For the moment after a SIGCONT: a stopped job is not told that the window has changed.
        """
        size = terminal_size(*self._fds)
        if size is not None and size != self.size:
            self.size = size
            self._callback(size)

    def _signalled(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(_SETTLE_TIME, self._settled)

    def _settled(self) -> None:
        self._timer = None
        self.check()


_WATCHERS: WeakKeyDictionary[asyncio.AbstractEventLoop, set[SizeWatcher]] = WeakKeyDictionary()
"""Those that watch, by event loop."""


def _signal_all(watchers: set[SizeWatcher]) -> None:
    for watcher in watchers:
        watcher._signalled()
