"""Asking a person at a terminal for one value."""

from __future__ import annotations

import os
import sys


def ask(question: str, *, hidden: bool = False) -> str:
    """Ask ``question`` and return the answer without surrounding blanks.

    With ``hidden`` a star is shown for each character typed. Question and echo go to stderr, since standard output is
    the session's. Raises ``KeyboardInterrupt`` on Ctrl-C and ``EOFError`` on Ctrl-D.
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
    return session.prompt(f"{question}: ").strip()
