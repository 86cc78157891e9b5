"""Escapes typed at the start of a line, as in ssh (``~.`` and others), taken out of the input before it is sent."""

from __future__ import annotations

import math
import re
from enum import Enum

from session_manager_plugin.errors import UsageError
from session_manager_plugin.terminal.keys import EventKind, InputEvent, input_events

DEFAULT_CHARACTER = "~"
NONE = "none"
MOST_KEYS = 3
"""A read of more keys is a paste. Three, because Enter, ``~`` and ``.`` arrive together if the program was busy."""
LONGEST_TYPED_AHEAD = 8
"""Bytes of a read of more keys that may still be escapes, if they were typed before the terminal was read: ``~.~.``."""
CHUNK_SIZE = 256
"""A read of this many bytes or more is a piece of a paste that terminal and kernel have split."""
CHUNK_INTERVAL = 0.05
"""Seconds within which a short read after such a piece still belongs to the paste, and within which the rest of a
split sequence arrives. Nobody types that fast."""
PASTE_PAUSE = 5.0
"""Seconds without input that end a paste whose closing bracket is missing, so that ``~.`` works again."""

_PASTE_BEGINS, _PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"
_LINE_ENDS = ("\r", "\n")
_LONGEST_TYPED = 4096
"""A read of more bytes is a paste and is not parsed; a longer unfinished sequence is given up."""
_TAIL = 256
"""Bytes at the end of a paste that are searched for its last key."""


class Escape(Enum):
    """The action of an escape. The value is the key after the escape character."""

    LEAVE = b"."
    SUSPEND = b"\x1a"
    CONNECTIONS = b"#"
    HELP = b"?"
    DETAILS = b"i"
    RECONNECT = b"r"
    TOGGLE_BAR = b"B"
    TOGGLE_PREDICTION = b"p"


_ESCAPES = {escape.value.decode("ascii"): escape for escape in Escape}


def parse_escape_character(text: str) -> bytes | None:
    """Return the escape character that ``text`` names: itself, or a control character as ``^X``; None for ``none``.

    Raises ``UsageError`` for anything else, and for characters that end a line, erase, or begin a key's sequence.
    """
    if text == NONE:
        return None
    character = text
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        character = chr(ord(text[1].upper()) - ord("@"))
    if len(character) != 1 or not character.isascii() or character in "\r\n\x1b\x7f":
        raise UsageError(
            f"{text!r} is no escape character; expected one ASCII character, a control character as ^X, or {NONE}"
        )
    return character.encode()


def show_escape_character(character: bytes) -> str:
    """Return the notation of an escape character: ``~``, or ``^X`` for a control character."""
    code = character[0]
    return f"^{chr(code + ord('@'))}" if code < ord(" ") else chr(code)


class EscapeScanner:
    """Separates escapes from the input for the remote.

    Call ``feed`` with each read of the terminal, in order. A key that types the escape character at the start of a
    line (after CR or LF, or as the first key) is withheld until the next key. If the two are an escape, neither is
    sent; if the character is typed twice, it is sent once; otherwise both keys are sent. The position after an escape
    is a start of line again. All other bytes are returned at once and unchanged. Keys are recognised in every encoding
    that ``keys`` describes.

    A paste contains no escape, although its end may be a start of line. A read is a paste if it is inside the brackets
    that terminals send around a paste on request of the remote program, if it has more than ``MOST_KEYS`` keys, or if
    it follows within ``CHUNK_INTERVAL`` of a pasted read of at least ``CHUNK_SIZE`` bytes. An escape also has to be the
    last key of its read, so that a pasted line ``~.`` is not an escape.

    Reports of the terminal, key releases and modifier keys do not end the start of a line. While a key is withheld,
    reports are returned ahead of it; releases and modifier keys are withheld with it and are always sent.
    """

    def __init__(self, character: bytes = DEFAULT_CHARACTER.encode()) -> None:
        """``character`` is one byte."""
        self._character = character.decode("ascii")
        keys = re.escape(b"".join(escape.value for escape in Escape))
        self._pieces = re.compile(rb"[\r\n]|" + re.escape(character) + rb"[" + keys + rb"]")
        self._at_line_start = True
        self._withheld = b""
        """The withheld key, in the encoding in which it was typed."""
        self._behind = b""
        """The key releases and modifier keys after the withheld key."""
        self._unfinished = b""
        """The unfinished sequence at the end of the last read, which has been returned already."""
        self._in_paste = False
        self._matched = 0
        """Number of bytes of the expected bracket that match the latest bytes."""
        self._chunk_at = self._read_at = -math.inf

    def typed_ahead(self, data: bytes, now: float) -> list[bytes | Escape]:
        """Do the same as ``feed`` for the first read, of what was typed before anything read the terminal.

        A short read of nothing but escapes and line ends is no paste, but impatience.
        """
        pieces = self._pieces.findall(data) if len(data) <= LONGEST_TYPED_AHEAD else []
        if b"".join(pieces) != data:
            return self.feed(data, now)
        return [part for piece in pieces for part in self.feed(piece, now)]

    def feed(self, data: bytes, now: float) -> list[bytes | Escape]:
        """Return the bytes to send and the escapes in one read, in order. ``now`` is in seconds, monotonic."""
        self._forget_by(now)
        begun, self._unfinished = self._unfinished, b""
        events = list(input_events(begun + data)) if len(begun + data) <= _LONGEST_TYPED else None
        keys = MOST_KEYS + 1 if events is None else sum(event.kind is EventKind.KEY for event in events)
        follows_chunk = now < self._chunk_at + CHUNK_INTERVAL
        is_paste = keys > MOST_KEYS or follows_chunk
        if is_paste and (follows_chunk or len(data) >= CHUNK_SIZE):
            self._chunk_at = now
        if events is None or is_paste:
            released = self.release()
            self._follow_paste(data)
            return [released + data]
        return self._scan(events, keys, len(begun))

    def release(self) -> bytes:
        """Return the withheld bytes, to be sent, and withhold them no longer; b"" if nothing is withheld."""
        if not self._withheld:
            return b""
        released = self._withheld + self._behind
        self._withheld = self._behind = b""
        self._at_line_start = False
        return released

    def start_line(self) -> None:
        """Begin a line: the next key is at its start. Withheld bytes are dropped."""
        self._withheld = self._behind = self._unfinished = b""
        self._at_line_start = True

    def _forget_by(self, now: float) -> None:
        """End a paste or an unfinished sequence that has timed out at ``now``."""
        if now > self._read_at + PASTE_PAUSE:
            self._in_paste, self._matched = False, 0
        if self._unfinished and now >= self._read_at + CHUNK_INTERVAL:
            self._unfinished = b""  # the bytes were a key: Esc, or Alt with a bracket
            self._at_line_start = False
        self._read_at = now

    def _scan(self, events: list[InputEvent], keys: int, sent: int) -> list[bytes | Escape]:
        """Scan a read that is not a paste, with ``keys`` keys. ``sent`` bytes of it were returned before."""
        found: list[bytes | Escape] = []
        kept = b""
        for event in events:
            raw, is_whole = event.raw[sent:], not sent
            sent = max(0, sent - len(event.raw))
            if event.kind is EventKind.KEY:
                keys -= 1
                escape = self._escape(event.character) if not keys else None
                if escape is not None:
                    found += [part for part in (kept + self._behind, escape) if part]
                    kept = self._withheld = self._behind = b""
                else:
                    kept += self._key(event.character, raw, is_whole=is_whole)
            elif event.kind is EventKind.UNFINISHED:
                kept += self.release() + raw
                self._unfinished = event.raw
            elif self._withheld and event.kind is not EventKind.REPORT:
                self._behind += raw
            else:
                kept += raw
            self._follow_brackets(raw)
        return [*found, kept] if kept else found

    def _escape(self, character: str) -> Escape | None:
        """Return the escape that a key completes."""
        return _ESCAPES.get(character) if self._withheld and character != self._character else None

    def _key(self, character: str, raw: bytes, *, is_whole: bool) -> bytes:
        """Return the bytes to send for a key that completes no escape.

        ``is_whole`` is false for a key whose beginning was sent before; it cannot be withheld.
        """
        if self._withheld:
            released = self.release()
            return released if character == self._character else released + self._plain_key(character, raw)
        if character == self._character and self._at_line_start and is_whole and not self._in_paste:
            self._withheld = raw
            return b""
        return self._plain_key(character, raw)

    def _plain_key(self, character: str, raw: bytes) -> bytes:
        self._at_line_start = character in _LINE_ENDS
        return raw

    def _follow_paste(self, data: bytes) -> None:
        """Note whether a line starts after a pasted read, and the brackets in it."""
        keys = [event for event in input_events(data[-_TAIL:]) if event.kind is EventKind.KEY]
        if keys:
            self._at_line_start = keys[-1].character in _LINE_ENDS
        self._follow_brackets(data)

    def _follow_brackets(self, data: bytes) -> None:
        if not self._matched and 0x1B not in data:
            return
        for code in data:
            bracket = _PASTE_ENDS if self._in_paste else _PASTE_BEGINS
            if code != bracket[self._matched]:
                self._matched = 0  # a bracket contains no second ESC, so no earlier match needs to be resumed
            if code == bracket[self._matched]:
                self._matched += 1
                if self._matched == len(bracket):
                    self._matched = 0
                    self._in_paste = not self._in_paste
