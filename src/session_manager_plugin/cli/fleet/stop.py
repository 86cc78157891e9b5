"""What a signal means for a command on many targets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self

from session_manager_plugin.cli.signals import INTERRUPT_PATIENCE, Interruption, RunningSession
from session_manager_plugin.session.command import KEYS


class StopOnSignal:
    """For the length of the block the first SIGINT ends the fleet gently: no target begins any more, and sessions get
    the signal as well. Any other signal, and a second one, end all sessions; the fleet then waits for their ends.

    ``tell`` is called with a sentence for the user if the commands do not end within ``INTERRUPT_PATIENCE`` seconds of
    the first signal.
    """

    def __init__(self, interruption: Interruption, tell: Callable[[str], None]) -> None:
        self._interruption = interruption
        self._tell = tell
        self._block = contextlib.ExitStack()
        self._running: RunningSession | None = None
        self._leaves = False
        self.number: int | None = None
        """The first signal; None before it."""
        self.on_stop: Callable[[], None] = lambda: None
        """Called at the first signal."""
        self.on_leave: Callable[[], None] = lambda: None
        """Called when a signal ends the program: ``signals.LEAVE_LIMIT`` is left."""
        self.on_die: Callable[[], None] = lambda: None
        """Called when the program ends at once, at a further signal or at that limit."""

    @property
    def is_stopped(self) -> bool:
        """Whether a signal was received, so that no target is to begin any more."""
        return self.number is not None

    def __enter__(self) -> Self:
        self._running = self._block.enter_context(self._interruption.session(self._offer))
        self._interruption.restore = self._leave
        return self

    def __exit__(self, *_exception: object) -> None:
        self._block.close()

    def _offer(self, number: int) -> bool:
        assert self._running is not None
        self.number, self._running.leaving = number, True  # it is neither asked nor cancelled from here on
        self.on_stop()
        if number not in KEYS:
            return False
        waiting = asyncio.get_running_loop().call_later(
            INTERRUPT_PATIENCE, self._tell, "waiting for the commands to end; Ctrl-C again leaves"
        )
        self._block.callback(waiting.cancel)
        return True

    def _leave(self) -> None:
        if self._leaves:
            self.on_die()
        else:
            self._leaves = True
            self.on_leave()
