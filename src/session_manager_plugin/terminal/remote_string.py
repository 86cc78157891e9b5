"""The string (OSC, DCS, SOS, PM, APC, title of screen) that the remote's output is in. Pure."""

from __future__ import annotations

from session_manager_plugin.terminal import sequences
from session_manager_plugin.terminal.questions import STRING_BEGINNING, Question, question_in_string

END_STRING = b"\x18\x1b\\"
"""Ends a sequence or string in every terminal: by CAN in those that obey it inside strings, by ST in the others. Has no
effect outside of both."""
_OSC = b"]"
_ENDS_EVERYWHERE = (b"\x1b\\", b"\x07")
"""ST, and BEL, which ends an OSC only. After CAN, SUB, or ESC and another byte than \\ a DCS goes on in tmux, and every
string in screen; xterm and VTE have ended it."""
_STRING_ENDS = b"\x07\x18\x1a\x1b\\"
_LONGEST_OSC = 4096
"""Bytes kept of an OSC, which may be a hyperlink or a request. For other strings the beginning is enough."""


class RemoteString:
    """Follows one string at a time, from ``begin`` to the end that ``follow`` finds."""

    def __init__(self) -> None:
        self.is_open = False
        """Whether the output is inside a string."""
        self.may_go_on = False
        """Whether a string has ended that some terminals are still in."""
        self._introducer = b""
        self._text = b""

    def begin(self, introducer: bytes) -> None:
        """Begin a string; ``introducer`` is the byte after ESC."""
        self.is_open, self._introducer, self._text = True, introducer, b""

    def follow(self, data: bytes, position: int) -> int:
        """Follow ``data`` from ``position`` on. Returns the end of the string's part; see ``sequences.string_end``."""
        stop, is_over = sequences.string_end(data, position, self._introducer == _OSC)
        text = data[position:stop]
        if self._introducer == _OSC:
            self._text = (self._text + text)[:_LONGEST_OSC]
        elif len(self._text) < STRING_BEGINNING:
            self._text += text[:STRING_BEGINNING]
        if is_over:
            self.is_open = False
            self.may_go_on = self.may_go_on or not text.endswith(_ENDS_EVERYWHERE)
        return stop

    @property
    def command(self) -> bytes | None:
        """The text of an OSC that has ended; None for another string."""
        if self._introducer != _OSC:
            return None
        return self._text.removesuffix(b"\xc2\x9c").rstrip(_STRING_ENDS)

    @property
    def question(self) -> Question | None:
        """The kind of request that the string is, or None."""
        return question_in_string(self._introducer, self._text)

    def end(self) -> bytes:
        """Return the bytes that end the string in the terminals that are still in it."""
        ended = END_STRING if self.may_go_on else b""
        self.may_go_on = False
        return ended
