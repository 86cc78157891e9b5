"""The title of the terminal's window, borrowed and given back. Sans-I/O: bytes out."""

from __future__ import annotations

_PUSH = b"\x1b[22;2t"
_POP = b"\x1b[23;2t"


class WindowTitle:
    """Sets the title (OSC 2) and restores the one of before, by the terminal's stack of titles (xterm's ctlseqs).

    A terminal that has no such stack keeps the last title it was given: let that be one that stays true.
    """

    def __init__(self) -> None:
        self.text: bytes | None = None
        """What is shown; None while the title is not ours."""

    def show(self, text: bytes) -> bytes:
        """What shows `text`, which holds no control characters; b"" if it is shown already."""
        if text == self.text:
            return b""
        push = b"" if self.text is not None else _PUSH
        self.text = text
        return b"%b\x1b]2;%b\x07" % (push, text)

    def restore(self) -> bytes:
        """What brings the title of before back. Idempotent."""
        if self.text is None:
            return b""
        self.text = None
        return _POP
