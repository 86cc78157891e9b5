"""The number of cells that a character occupies in a terminal's row. Pure."""

from __future__ import annotations

import functools
import unicodedata

JOINER = "\u200d"
"""ZWJ: some terminals draw the next character into the cells of the previous one, others beside it."""
_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff"
_SOFT_HYPHEN = "\u00ad"
_TEXT_STYLE, _EMOJI_STYLE = "\ufe0e", "\ufe0f"


@functools.lru_cache(maxsize=4096)
def character_width(character: str) -> int:
    """Return the cells that a character occupies: 0, 1 or 2 (wcwidth, with Python's Unicode tables)."""
    if character in _ZERO_WIDTH or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0 if character != _SOFT_HYPHEN else 1
    if "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


@functools.lru_cache(maxsize=4096)
def width_range(character: str) -> tuple[int, int]:
    """Return the fewest and the most cells by which a character moves the cursor, across the terminals in use.

    Terminals agree about most characters. They differ in the parts of emoji, which some terminals combine into one
    cluster and others draw one by one, in characters newer than their tables, and in bytes that are not UTF-8 (here
    lone surrogates, as from ``surrogateescape``). The fewest is -1 where a cluster becomes narrower.
    """
    if character == _EMOJI_STYLE:
        return 0, 1
    if character == _TEXT_STYLE:
        return -1, 0
    if "\U0001f3fb" <= character <= "\U0001f3ff" or "\U0001f1e6" <= character <= "\U0001f1ff":
        return 0, 2  # skin tones; letters of flags
    if character == _SOFT_HYPHEN or "\udc80" <= character <= "\udcff" or "\u1160" <= character <= "\u11ff":
        return 0, 1
    category = unicodedata.category(character)
    if category == "Mc":
        return 0, 1
    if category == "Cn" or "\U0001fa70" <= character <= "\U0001faff":
        return 1, 2
    width = character_width(character)
    return width, width
