"""Setting and restoring the title of the terminal's window. Sans-I/O: bytes out."""

from __future__ import annotations

_PUSH = b"\x1b[22;2t"
# The title is set to nothing first: VTE, xterm.js, Konsole and GNU screen have no stack of titles, and then show their
# own name, or that of the running program, until the local shell sets a title.
_RESTORE = b"\x1b]2;\x07\x1b[23;2t"


class WindowTitle:
    """Sets the title (OSC 2) and restores the previous title from the terminal's stack of titles (xterm's ctlseqs).

    On a terminal without such a stack the title is empty afterwards.
    """

    def __init__(self) -> None:
        self.text: bytes | None = None
        """The title that we have set; None if none is set."""

    def show(self, text: bytes) -> bytes:
        """Return the bytes that set ``text``, which has no control characters; b"" if it is set already."""
        if text == self.text:
            return b""
        push = b"" if self.text is not None else _PUSH
        self.text = text
        return b"%b\x1b]2;%b\x07" % (push, text)

    def restore(self) -> bytes:
        """Return the bytes that restore the previous title. Idempotent."""
        if self.text is None:
            return b""
        self.text = None
        return _RESTORE
