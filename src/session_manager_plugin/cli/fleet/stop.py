"""What a signal means for a command on many targets."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Self

from session_manager_plugin.cli.signals import Interruption, RunningSession
from session_manager_plugin.session.command import KEYS


class StopOnSignal:
    """For the length of the block the first SIGINT ends the fleet gently: no target begins any more, and sessions get
    the signal as well. Any other signal, and a second one, end all sessions; the fleet then waits for their ends."""

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption
        self._block = contextlib.ExitStack()
        self._running: RunningSession | None = None
        self._leaves = False
        self.stopped = False
        self.on_stop: Callable[[], None] = lambda: None
        """Called at the first signal."""
        self.on_leave: Callable[[], None] = lambda: None
        """Called when a signal ends the program: ``signals.LEAVE_LIMIT`` is left."""
        self.on_die: Callable[[], None] = lambda: None
        """Called when the program ends at once, at a further signal or at that limit."""

    def __enter__(self) -> Self:
        self._running = self._block.enter_context(self._interruption.session(self._offer))
        self._interruption.restore = self._leave
        return self

    def __exit__(self, *_exception: object) -> None:
        self._block.close()

    def _offer(self, number: int) -> bool:
        assert self._running is not None
        self.stopped = self._running.leaving = True  # it is neither asked nor cancelled from here on
        self.on_stop()
        return number in KEYS

    def _leave(self) -> None:
        if self._leaves:
            self.on_die()
        else:
            self._leaves = True
            self.on_leave()
