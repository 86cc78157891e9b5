"""The title of the terminal's window, borrowed and given back. Sans-I/O: bytes out."""

from __future__ import annotations

_PUSH = b"\x1b[22;2t"
# Set to nothing first: VTE, xterm.js, Konsole and GNU screen have no stack of titles, and show their own name then (or
# the program's that runs) until the local shell sets a title.
_RESTORE = b"\x1b]2;\x07\x1b[23;2t"


class WindowTitle:
    """Sets the title (OSC 2) and restores the previous one from the terminal's stack of titles (xterm's ctlseqs).

    A terminal that has no such stack is left without a title.
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
        """Return what restores the previous title. Idempotent."""
        if self.text is None:
            return b""
        self.text = None
        return _RESTORE
