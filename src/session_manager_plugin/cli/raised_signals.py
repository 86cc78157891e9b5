"""Signals as exceptions, while the user is asked for something: a prompt restores the terminal's echo on an exception,
but not when the process ends by a signal's default action."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from session_manager_plugin.cli.exit_status import Signalled

_NAMES = ("SIGTERM", "SIGHUP", "SIGQUIT")


@contextlib.contextmanager
def raised_signals() -> Iterator[None]:
    """During the block raise ``KeyboardInterrupt`` on SIGINT, and ``Signalled`` on SIGTERM, SIGHUP and SIGQUIT.

    Ignored signals stay ignored, and those with a handler keep it. Call this in the main thread, and not around an
    event loop, which catches what is raised in a callback.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        raise Signalled(number)

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    handlers = {signal.SIGINT: signal.default_int_handler, **dict.fromkeys(numbers, end)}
    replaced = [number for number in handlers if signal.getsignal(number) is signal.SIG_DFL]
    for number in replaced:
        signal.signal(number, handlers[number])
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)
