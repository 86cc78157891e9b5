"""Parsing control sequences in a stream of output. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

# The grammar is that of the VT500's parser (https://vt100.net/emu/dec_ansi_parser), on UTF-8: the C1 controls are the
# characters U+0080 to U+009F; a byte of that range inside another character is not a control.
#
# ``[controls]`` are the C0 controls that a terminal obeys in the middle of a sequence.

ESC = 0x1B
_C1_LEAD = 0xC2
_CONTROLS = rb"\x00-\x17\x19\x1c-\x1f\x7f"
_STRINGS = b"]PX^_k"
"""OSC, DCS, SOS, PM, APC, and the title of screen(1)."""

CONTROL = re.compile(rb"[%b]" % _CONTROLS)
_CSI_REST = re.compile(rb"[^@-~\x18\x1a\x1b\x80-\xff]*(?:([@-~])|[\x18\x1a]|(?=[\x1b\x80-\xff]))")
_ESC_REST = re.compile(rb"[ -/%b]*(?:([0-~])|[\x18\x1a]|(?=[\x1b\x80-\xff]))" % _CONTROLS)
_EARLY_CONTROLS = re.compile(rb"[%b]+" % _CONTROLS)
_OSC_END = re.compile(rb"[\x07\x18\x1a]|\x1b|\xc2\x9c")
_STRING_END = re.compile(rb"[\x18\x1a]|\x1b|\xc2\x9c")

_NOT_PLAIN = re.compile(rb"\x1b(?!\[[0-9;:]*[mK]|[\x80-\xff])")
"""The first sequence that is neither SGR nor EL, the two most frequent ones, in text without C2 bytes. An ESC before a
byte that cannot follow it, as in binary data, has no effect and is part of the text."""
_C1 = re.compile(rb"\xc2[\x80-\x9f]")

_SUBPARAMETERS = re.compile(rb":[0-9:]*")

_RARE_CONTROLS = bytes({*range(0x20)} - {*b"\x07\x08\t\n\r\x0e\x0f\x1b"})
_RARE_IN_TEXT = 32
"""Text has at most one of the rare controls in so many bytes."""

_LONGEST = 65536
"""Longest unfinished sequence in bytes; anything longer is not a sequence."""
_SHORT = 4096
"""Longest string in bytes whose end ``unfinished_at`` waits for."""
_UNFINISHED = re.compile(rb"\x1b(?:[ -/]{0,4}|\[[ -?]{0,64}|[%b][^\x07\x18\x1a\x1b]{0,%d}\x1b?)" % (_STRINGS, _SHORT))


def unfinished_at(data: bytes) -> int:
    """Return where a sequence or a character begins whose rest will follow ``data``; the length of ``data`` if none
    does."""
    escape_at = data.rfind(b"\x1b")
    if escape_at >= 0 and escape_at == len(data) - 1:  # perhaps of the end of a string
        string_at = data.rfind(b"\x1b", 0, escape_at)
        if string_at >= 0 and _UNFINISHED.fullmatch(data, string_at):
            return string_at
    if escape_at >= 0 and _UNFINISHED.fullmatch(data, escape_at):
        return escape_at
    return len(data) - unfinished_character(data)


class Sequence(NamedTuple):
    """A sequence, or the beginning of a string, at ``data[start:end]``."""

    end: int
    kind: str
    """``[`` for CSI, ``s`` for a string, ``e`` for any other; ``c`` for controls directly after ESC, without which the
    sequence has to be parsed again; empty for a cancelled sequence."""
    body: bytes
    """Parameters and intermediates; for a string, the byte that began it."""
    final: str


class SequenceFinder:
    """Finds the sequences in ``data``, apart from SGR and EL, which are part of the text."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._escape_at = -1
        self.has_c2 = b"\xc2" in data
        """Whether there may be C1 controls in ``data``."""

    def find(self, position: int) -> int:
        """Return the start of the first sequence at or after ``position``, the length of ``data`` if there is none.
        ``position`` is no less than in the last call."""
        if self._escape_at < position:
            found = _NOT_PLAIN.search(self._data, position)
            self._escape_at = len(self._data) if found is None else found.start()
        if self.has_c2 and (c1 := _C1.search(self._data, position, self._escape_at)) is not None:
            return c1.start()
        return self._escape_at


def sequence_at(data: bytes, start: int) -> Sequence | None:
    """Return the sequence that begins at ``start``; None if it is unfinished."""
    body_start = start + 1
    if data[start] == _C1_LEAD:
        introducer = data[start + 1] - 0x40
        body_start = start + 2
    elif body_start < len(data):
        introducer = data[body_start]
        body_start += 1
    else:
        return None
    if introducer == 0x5B:
        found = _CSI_REST.match(data, body_start)
        if found is None:
            return None
        final = found[1]
        if final is None:
            return Sequence(found.end(), "", b"", "")
        return Sequence(found.end(), "[", data[body_start : found.end() - 1], chr(final[0]))
    if introducer in _STRINGS:
        return Sequence(body_start, "s", bytes([introducer]), "")
    if data[start] == _C1_LEAD:
        return Sequence(body_start, "e", b"", chr(introducer))
    body_start -= 1
    early = _EARLY_CONTROLS.match(data, body_start)
    if early is not None and early.end() < len(data) and data[early.end()] in b"[" + _STRINGS:
        return Sequence(early.end(), "c", early[0], "")
    found = _ESC_REST.match(data, body_start)
    if found is None:
        return None
    final = found[1]
    if final is None:
        return Sequence(found.end(), "", b"", "")
    return Sequence(found.end(), "e", data[body_start : found.end() - 1], chr(final[0]))


def string_end(data: bytes, start: int, is_osc: bool) -> tuple[int, bool]:
    """Return the end of the string that continues at ``start``, and whether the string is complete.

    ST, CAN, SUB and a new ESC end a string, and BEL ends an OSC. An ESC at the very end of ``data`` may be half of an
    ST; then the returned end is before that ESC.
    """
    found = (_OSC_END if is_osc else _STRING_END).search(data, start)
    if found is None:
        end = len(data)
        return (end - 1 if data[end - 1] == _C1_LEAD else end), False
    if data[found.start()] != ESC:
        return found.end(), True
    following = data[found.end() : found.end() + 1]
    if not following:
        return found.start(), False
    return (found.end() + 1 if following == b"\\" else found.start()), True


def unfinished_character(data: bytes) -> int:
    """Return how many bytes at the end of ``data`` are the beginning of a UTF-8 character (RFC 3629)."""
    for length in range(1, min(3, len(data)) + 1):
        byte = data[-length]
        if byte & 0xC0 != 0x80:  # the last byte that is not a continuation
            return length if _character_length(byte) > length else 0
    return 0


def is_binary(data: bytes) -> bool:
    """Whether ``data`` is binary data rather than text with sequences, in whatever encoding."""
    if data.isascii() or _is_utf8_but_for_its_end(data):
        return False
    return (len(data) - len(data.translate(None, _RARE_CONTROLS))) * _RARE_IN_TEXT > len(data)


def is_hopeless(unfinished: bytes) -> bool:
    """Whether an unfinished sequence is too long to be one."""
    return len(unfinished) > _LONGEST


def numbers(body: bytes) -> list[int] | None:
    """Return the parameters of a CSI sequence without sub-parameters, 0 for a missing one; None if it has a prefix or
    an intermediate."""
    if not body:
        return []
    try:
        return [min(int(field), 32767) if field else 0 for field in body.split(b";")]
    except ValueError:
        pass
    if b":" in body:
        return numbers(_SUBPARAMETERS.sub(b"", body))
    return None


def _is_utf8_but_for_its_end(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start > len(data) - 4
    return True


def _character_length(lead: int) -> int:
    if 0xC2 <= lead <= 0xDF:
        return 2
    if 0xE0 <= lead <= 0xEF:
        return 3
    if 0xF0 <= lead <= 0xF4:
        return 4
    return 1
