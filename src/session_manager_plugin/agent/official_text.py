"""The official agent's handling of UTF-8 in output: the quirk ``MANGLED_REPLACEMENT_CHARACTER``."""

from __future__ import annotations

_REPLACEMENT_CHARACTER = "\ufffd"
_FIRST_BYTE = "\udcef"
"""0xEF, the first byte of U+FFFD in UTF-8, as ``surrogateescape`` decodes it."""
_HELD_SIZE = 3
"""Bytes at the end of a piece that may be an unfinished character."""


class OfficialText:
    """Processes one output stream like ``processStdoutData`` (``agent/session/shell/shell.go``).

    That function decodes UTF-8 and mistakes a U+FFFD in the output for an invalid byte: it sends only its first byte.
    An invalid sequence in the last 3 bytes of a piece is kept for the next piece, and lost if there is none.
    """

    def __init__(self) -> None:
        self._held = b""

    def process(self, data: bytes) -> bytes:
        """Return the bytes to send for one piece of output: up to 3 more than ``data``, or none."""
        text = (self._held + data).decode(errors="surrogateescape")
        end = _end_of_the_finished(text)
        self._held = text[end:].encode(errors="surrogateescape")
        return text[:end].replace(_REPLACEMENT_CHARACTER, _FIRST_BYTE).encode(errors="surrogateescape")


def _end_of_the_finished(text: str) -> int:
    """Return the index of the first invalid character in the last 3 bytes; the length of ``text`` if there is none."""
    size, end = 0, len(text)
    for index in range(len(text) - 1, -1, -1):
        invalid = "\udc80" <= text[index] <= "\udcff"
        size += 1 if invalid else len(text[index].encode())
        if size > _HELD_SIZE:
            break
        if invalid or text[index] == _REPLACEMENT_CHARACTER:
            end = index
    return end
