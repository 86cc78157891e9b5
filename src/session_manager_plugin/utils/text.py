"""Text of the far end, made safe to print: without control sequences, and of limited length."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

TEXT_LIMIT = 600
"""The most characters of a message on one line."""
LINES_LIMIT = 8192
"""The most characters of a text of several lines."""

_ESCAPE_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?")
_UNDECODED = re.compile("[\udc80-\udcff]")
"""Bytes that Python could not decode (PEP 383)."""
_SSL_CODES = re.compile(r"\[(?:SSL|X509|PEM)(?:: \w+)?\] ?| ?\(_ssl\.c:\d+\)")
# C0 but for tab, line feed and the carriage return before one; C1; what changes the direction of writing; halves of
# surrogate pairs.
_OBEYED = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)"
)


def printable(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return `text` on one line, without control sequences, cut to `limit` characters.

    A byte of a path that is not text in this locale reads `\\xNN`.
    """
    if len(text) <= limit and text.isprintable():  # nearly all
        return " ".join(text.split())
    text = _UNDECODED.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", text[: 4 * limit])
    text = _ESCAPE_SEQUENCE.sub("", text)
    text = "".join(character if character.isprintable() else " " * character.isspace() for character in text)
    return _cut(" ".join(text.split()), limit)


def printable_lines(text: str, limit: int = LINES_LIMIT) -> str:
    """Return `text` with its line breaks, tabs and spaces, but without control sequences, cut to `limit` characters."""
    return _cut(_OBEYED.sub("", _ESCAPE_SEQUENCE.sub("", text[: 4 * limit])), limit)


def ssl_text(error: ssl.SSLError) -> str:
    """Return the reason of a TLS error, without OpenSSL's codes and source line."""
    if message := getattr(error, "verify_message", ""):
        return str(message).rstrip(".")
    if reason := getattr(error, "reason", None):  # missing in errors that are not from OpenSSL
        return str(reason).replace("_", " ").lower()
    return without_ssl_codes(str(error)) or "TLS failed"


def without_ssl_codes(text: str) -> str:
    """Return `text` without the codes around OpenSSL's messages, as in `[SSL: BAD] bad (_ssl.c:1007)`."""
    return _SSL_CODES.sub("", text)


def shorten(text: str, width: int, measure: Callable[[str], int], mark: str) -> str:
    """Return ``text``, cut to ``width`` cells of a terminal, with ``mark`` at its end if it is wider.

    ``measure`` returns the number of cells of a text.
    """
    if measure(text) <= width:
        return text
    used = measure(mark)
    for index, character in enumerate(text):
        used += measure(character)
        if used > width:
            return text[:index] + mark
    return text


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
