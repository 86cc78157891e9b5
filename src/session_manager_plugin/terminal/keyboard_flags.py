"""The flags of kitty's keyboard protocol that the remote has set on one screen. Pure."""

from __future__ import annotations

# Terminals keep a stack of flags for the main screen and another one for the alternate screen
# (https://sw.kovidgoyal.net/kitty/keyboard-protocol/).

_REPLACE, _ADD = 1, 2


class KeyboardFlags:
    """The levels that the remote has pushed on the stack of one screen, and its change to the level it found."""

    def __init__(self) -> None:
        self._found: int | None = None
        """The flags that the remote has set on the level it found; None if unchanged."""
        self._pushed: list[int] = []

    def push(self, flags: int) -> None:
        """``CSI > flags u``."""
        self._pushed.append(flags)

    def pop(self, count: int) -> None:
        """``CSI < count u``. Levels popped below the one found are lost."""
        del self._pushed[max(0, len(self._pushed) - count) :]

    def set(self, flags: int, how: int) -> None:
        """``CSI = flags ; how u``, where ``how`` is 1 to replace, 2 to add, 3 to remove."""
        before = self._pushed[-1] if self._pushed else self._found or 0
        after = flags if how == _REPLACE else before | flags if how == _ADD else before & ~flags
        if self._pushed:
            self._pushed[-1] = after
        else:
            self._found = after

    def undo(self) -> bytes:
        """Return the bytes that restore the level found. Flags that the remote has set on it become 0."""
        popped = b"\x1b[<%du" % len(self._pushed) if self._pushed else b""
        return popped + (b"\x1b[=0u" if self._found else b"")

    def redo(self) -> bytes:
        """Return the bytes that set the flags again after ``undo``."""
        found = b"\x1b[=%du" % self._found if self._found else b""
        return found + b"".join(b"\x1b[>%du" % flags for flags in self._pushed)
