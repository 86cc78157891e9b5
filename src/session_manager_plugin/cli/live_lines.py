"""Lines that are drawn in place at a terminal, while this job is in its foreground.

In the background the rows and the cursor belong to the shell: nothing is drawn or erased there, and what was drawn is
left as it is. In the foreground again the lines are drawn anew, below what is there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from session_manager_plugin.terminal.foreground import in_background
from session_manager_plugin.terminal.size import terminal_size

ERASE = "\r\x1b[J"
"""Erases a line, however many rows it has, if the cursor is in its first row."""
_HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class LiveLine:
    """One line. The cursor stays at its beginning, hidden, and the screen is erased from there on.

    So the line is erased completely even after a narrower terminal has wrapped it, and an echoed ``^C`` does not begin
    another row.
    """

    def __init__(self, fd: int, write: Callable[[str], None]) -> None:
        """``write`` writes to the terminal ``fd``."""
        self._fd = fd
        self._write = write
        self._is_drawn = False

    @property
    def is_drawn(self) -> bool:
        """Whether the line is on the screen, and may be erased."""
        return self._is_drawn and not in_background(self._fd)

    def draw(self, text: str) -> None:
        """Show ``text`` in place of what is shown."""
        if in_background(self._fd):
            self._is_drawn = False
            return
        before = ERASE if self._is_drawn else _HIDE_CURSOR
        self._is_drawn = True
        self._write(f"{before}{text}\r")

    def erase(self) -> None:
        """Erase the line and show the cursor."""
        if self.is_drawn:
            self._write(ERASE + SHOW_CURSOR)
        self._is_drawn = False

    def forget(self) -> None:
        """Draw the next line anew: another program had the terminal."""
        self._is_drawn = False

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Erase the line; the caller draws it again after the block."""
        self.erase()
        yield


class LiveLines:
    """Lines above the cursor, which are replaced together."""

    def __init__(self, fd: int, write: Callable[[str], None]) -> None:
        """``write`` writes to the terminal ``fd``."""
        self._fd = fd
        self._write = write
        self.shown: Sequence[str] = ()
        """The lines that are drawn."""

    def show(self, lines: Sequence[str]) -> None:
        """Draw ``lines`` in place of those that are shown."""
        if in_background(self._fd):
            self.shown = ()
            return
        before = ""
        if self.shown:
            size = terminal_size(self._fd)
            columns = 80 if size is None else size.columns
            rows = sum(max(1, -(-_width(line) // columns)) for line in self.shown)  # a narrower window breaks lines
            before = f"\r\x1b[{rows}A\x1b[J"
        self.shown = lines
        if before or lines:
            self._write(before + "".join(f"{line}\n" for line in lines))

    def forget(self) -> None:
        """Draw the next lines anew: another program had the terminal."""
        self.shown = ()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Erase the lines for the length of the block."""
        shown = self.shown
        self.show(())
        yield
        self.show(shown)


def _width(line: str) -> int:
    """Return the columns of a line without its colours."""
    from rich.text import Text

    return Text.from_ansi(line).cell_len
