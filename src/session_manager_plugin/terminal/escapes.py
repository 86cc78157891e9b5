"""Escapes typed at the start of a line, as in ssh: `~.` and its kin, found in what is typed before it is sent."""

from __future__ import annotations

import math
import re
from enum import Enum

from session_manager_plugin.errors import UsageError

DEFAULT_CHARACTER = "~"
NONE = "none"
LONGEST_KEYSTROKE = 8
"""Bytes of one read that may have been typed. Keys send sequences of up to seven; a longer read is a paste."""
CHUNK_SIZE = 256
"""Bytes from which on a read is taken for a piece of a paste that terminal and kernel have cut."""
CHUNK_INTERVAL = 0.05
"""Seconds within which a short read behind such a piece is its tail. Nobody presses Enter, `~` and `.` as fast."""
PASTE_PAUSE = 5.0
"""Seconds without a byte after which a paste without its closing bracket is over: no accident may disable `~.`."""

_PASTE_BEGINS, _PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"
_LINE_ENDS = b"\r\n"
_REPORTS = re.compile(
    rb"(?:\x1b\[(?:[?>]?[0-9;]*(?:[cnRt]|\$y)|[IO])|\x1b\](?s:.*?)(?:\x07|\x1b\\)|\x1bP(?s:.*?)\x1b\\)+"
)
"""What a terminal types by itself: its attributes, status, size, modes, cursor position, focus, colours, names."""


class Escape(Enum):
    """What an escape asks for. The value is the key behind the escape character."""

    LEAVE = b"."
    SUSPEND = b"\x1a"
    CONNECTIONS = b"#"
    HELP = b"?"
    DETAILS = b"i"
    RECONNECT = b"r"
    TOGGLE_BAR = b"B"


_ESCAPES = {escape.value[0]: escape for escape in Escape}


def parse_escape_character(text: str) -> bytes | None:
    """The byte that `text` names: the character itself, or a control character as `^X`; None for `none`.

    Raises `UsageError` for anything else, and for those that end a line, erase, or begin a function key's sequence.
    """
    if text == NONE:
        return None
    character = text
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        character = chr(ord(text[1].upper()) - ord("@"))
    if len(character) != 1 or not character.isascii() or character in "\r\n\x1b\x7f":
        raise UsageError(
            f"an escape character is one ASCII character, a control character as ^X, or {NONE}; not {text!r}"
        )
    return character.encode()


def show_escape_character(character: bytes) -> str:
    """How to write it: `~`, or `^X` for a control character."""
    code = character[0]
    return f"^{chr(code + ord('@'))}" if code < ord(" ") else chr(code)


class EscapeScanner:
    """Tells escapes from what is for the far end.

    It sees the reads of a terminal in order. An escape character at the start of a line (after CR, LF, or nothing at
    all) is withheld until the next byte tells what it is: an escape, the character itself if it was typed twice, or
    nothing of ours, and then both are passed on. After an escape it is still the start of the line. Everything else
    comes out as it went in, at once, and each byte exactly once.

    A paste is never scanned, though it may end at the start of a line. There are three signs of one: the brackets
    that terminals put around it if the remote program asked for them, a read that is longer than a keystroke, and a
    read right behind a really long one. Reads are never empty.

    A read that holds nothing but what a terminal has been asked by the remote program does not end the start of a
    line: some ask at every prompt.
    """

    def __init__(self, character: bytes = DEFAULT_CHARACTER.encode()) -> None:
        """`character` is one byte."""
        self.character = character
        self._code = character[0]
        self._at_line_start = True
        self._withheld = False
        self._in_paste = False
        self._matched = 0
        """How many bytes of the bracket that is looked for have just gone by."""
        self._chunk_at = self._read_at = -math.inf

    def feed(self, data: bytes, now: float) -> list[bytes | Escape]:
        """What one read consists of: bytes to send, and escapes, in order. `now` is in seconds, monotonic."""
        if now > self._read_at + PASTE_PAUSE:
            self._in_paste, self._matched = False, 0
        self._read_at = now
        if not self._withheld and not self._in_paste and _REPORTS.fullmatch(data):
            return [data]
        follows_chunk = now < self._chunk_at + CHUNK_INTERVAL
        if len(data) >= CHUNK_SIZE or follows_chunk:
            self._chunk_at = now
        if follows_chunk or len(data) > LONGEST_KEYSTROKE:
            withheld = self.release()
            self._pass(data)
            return [withheld + data]
        found: list[bytes | Escape] = []
        kept = bytearray()
        for position, code in enumerate(data):
            escape = None if self._in_paste else self._scan(code, kept)
            if escape is not None:
                if kept:
                    found.append(bytes(kept))
                    kept.clear()
                found.append(escape)
            elif not self._withheld:
                kept.append(code)
                self._pass(data[position : position + 1])
        if kept:
            found.append(bytes(kept))
        return found

    def release(self) -> bytes:
        """An escape character that was withheld, which is to be sent after all; nothing if there is none."""
        if not self._withheld:
            return b""
        self._withheld = self._at_line_start = False
        return self.character

    def start_line(self) -> None:
        """What comes next is the start of a line, and what was withheld is forgotten."""
        self._withheld, self._at_line_start = False, True

    def _scan(self, code: int, kept: bytearray) -> Escape | None:
        """Take one byte that may have been typed; the escape that it completes."""
        if self._withheld:
            self._withheld = False
            if code == self._code:
                return None
            if code in _ESCAPES:
                return _ESCAPES[code]
            kept += self.character
        elif self._at_line_start and code == self._code:
            self._withheld = True
        return None

    def _pass(self, data: bytes) -> None:
        """Note what goes to the far end, which is not empty: where lines start, and the brackets of a paste."""
        self._at_line_start = data[-1] in _LINE_ENDS
        if self._matched or 0x1B in data:
            for code in data:
                self._follow_brackets(code)

    def _follow_brackets(self, code: int) -> None:
        bracket = _PASTE_ENDS if self._in_paste else _PASTE_BEGINS
        if code != bracket[self._matched]:
            self._matched = 0  # ESC, with which a bracket begins, occurs nowhere else in it
        if code == bracket[self._matched]:
            self._matched += 1
            if self._matched == len(bracket):
                self._matched = 0
                self._in_paste = not self._in_paste
