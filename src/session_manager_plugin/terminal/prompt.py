"""Asking a person at a terminal for one value."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable

_SIGNALS = ("SIGTERM", "SIGHUP", "SIGQUIT")


def ask(question: str, *, signalled: Callable[[int], Exception], hidden: bool = False) -> str:
    """Ask ``question`` and return the answer without surrounding blanks.

    With ``hidden`` a star is shown for each character typed. Question and echo go to stderr, since standard output is
    the session's.

    Raises ``KeyboardInterrupt`` on Ctrl-C, ``EOFError`` on Ctrl-D, and ``signalled(number)`` on SIGTERM, SIGHUP and
    SIGQUIT, unless those are ignored: their default action would leave the terminal without echo.
    """
    # Imported only when needed: it takes longer to import than the rest of the program.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.data_structures import Size
    from prompt_toolkit.output.vt100 import Vt100_Output

    def size() -> Size:
        columns, rows = os.get_terminal_size(sys.stderr.fileno())
        return Size(rows=rows, columns=columns)

    # No cursor position request: a late answer would be sent to the session as input.
    output = Vt100_Output(sys.stderr, size, term=os.environ.get("TERM"), enable_cpr=False)
    session: PromptSession[str] = PromptSession(output=output, is_password=hidden)

    def end(number: int) -> None:
        if session.app.future is not None and not session.app.future.done():
            session.app.exit(exception=signalled(number))

    def handle_signals() -> None:
        # By the event loop, which removes them when it is closed: it catches what a Python handler raises.
        for number in [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]:
            if signal.getsignal(number) is signal.SIG_DFL:
                asyncio.get_running_loop().add_signal_handler(number, end, number)

    return session.prompt(f"{question}: ", pre_run=handle_signals, enable_suspend=True).strip()
