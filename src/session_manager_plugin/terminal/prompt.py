"""Asking a person at a terminal for one value."""

from __future__ import annotations

import os
import sys


def ask(question: str, *, hidden: bool = False) -> str:
    """The answer to `question`, without the blanks around it; `hidden` shows a star for each character typed.

    Question and echo go to stderr: standard output is the session's. Raises `KeyboardInterrupt` on Ctrl-C and
    `EOFError` on Ctrl-D.
    """
    # Half the start-up time of a session that asks nothing, so only here.
    from prompt_toolkit import PromptSession
    from prompt_toolkit.output.vt100 import Vt100_Output

    # No cursor position request: an answer that comes late would be typed into the session.
    output = Vt100_Output.from_pty(sys.stderr, term=os.environ.get("TERM"), enable_cpr=False)
    session: PromptSession[str] = PromptSession(output=output, is_password=hidden)
    return session.prompt(f"{question}: ").strip()
