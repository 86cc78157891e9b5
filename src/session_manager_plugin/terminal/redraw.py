"""Redraws of a screen, recognised as a whole: runs of absolute positions with the output between them. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Protocol

# A redraw is a CUP and everything after it that is harmless. The cursor's position after its last CUP depends on that
# CUP alone, and nothing in it reaches below the last row, if the scroll region is the whole screen. Full-screen
# programs write little else, so two searches, for what is not harmless, replace following each sequence.
#
# Harmless are text without shifts of the character set; SGR and EL; cursor movements that stop at the margins;
# sequences that insert, delete or erase within a row or scroll within the region; and the modes `MODES`.

MODES = (25, 2026)
"""The private modes that a redraw may switch: the cursor is shown, output is synchronized."""
_SHIFTS = (b"\x0e", b"\x0f")
_POSITION = re.compile(rb"\x1b\[([0-9]*);?([0-9]*)[Hf]")
_C1 = re.compile(rb"\xc2[\x80-\x9f]").search


class Search(Protocol):
    """The method ``search`` of a compiled expression."""

    def __call__(self, data: bytes, start: int, end: int, /) -> re.Match[bytes] | None: ...


def redraw_end(data: bytes, start: int, rows: int | None, *, in_ascii: bool, has_c2: bool) -> int:
    """Return the end of the redraw that begins at ``start``; ``start`` if there is none.

    ``rows`` is the last row that an address may name; None if any row is permitted. ``in_ascii``: G0 is ASCII, so
    that designating it again changes nothing. ``has_c2``: the data contains a byte C2, the first byte of every C1
    control.
    """
    if _POSITION.match(data, start) is None:
        return start
    end = len(data)
    searches = [_harmful(in_ascii, has_c2)] if rows is None else [_harmful(in_ascii, has_c2), _beyond(rows)]
    for search in searches:
        if (found := search(data, start, end)) is not None:
            end = found.start()
    for shift in _SHIFTS:
        if (place := data.find(shift, start, end)) >= 0:
            end = place
    return end


def deferrable_end(data: bytes, *, in_ascii: bool) -> int:
    """Return where the first sequence begins that affects more than the screen, the cursor, its attributes and `MODES`,
    or is unfinished; the length of ``data`` if there is none. ``in_ascii``: as for ``redraw_end``."""
    found = _not_deferrable(in_ascii)(data, 0, len(data))
    end = len(data) if found is None else found.start()
    if b"\xc2" in data and (c1 := _C1(data, 0, end)) is not None:
        return c1.start()
    return end


def switched_modes(drawn: bytes) -> Iterator[tuple[int, bool]]:
    """Yield the modes of `MODES` that a redraw switches, and whether they are set after it."""
    if b"?" not in drawn:
        return
    for number in MODES:
        switch = b"\x1b[?%d" % number
        if (place := drawn.rfind(switch)) >= 0:
            yield number, drawn[place + len(switch)] == ord("h")


def last_position(data: bytes, start: int, end: int) -> re.Match[bytes]:
    """Return the last CUP of the redraw ``data[start:end]``; its groups are row and column, from 1 on, or empty."""
    while True:
        end = data.rfind(b"\x1b", start, end)
        found = _POSITION.match(data, end)
        if found is not None:
            return found


@functools.lru_cache
def _harmful(in_ascii: bool, has_c2: bool) -> Search:
    """Return the search for a sequence that is unfinished, or not harmless at any address."""
    harmless = (
        rb"\[[0-9;:]*+[@-IK-MPSTXZ`adfm]|\[\?(?:12|25|2026)[hl]"  # 12, whether the cursor blinks, is not followed
    )
    ascii_set = rb"|\(B" if in_ascii else b""
    c1 = rb"|\xc2[\x80-\x9f]" if has_c2 else b""
    return re.compile(rb"\x1b(?!%b%b)%b" % (harmless, ascii_set, c1)).search


@functools.lru_cache
def _not_deferrable(in_ascii: bool) -> Search:
    """Return the search for ``deferrable_end``. Unlike in a redraw, ED and REP are harmless: no bar is erased."""
    ascii_set = rb"|\(B" if in_ascii else b""
    return re.compile(rb"\x1b(?!\[[0-;]*+[@-MPSTXZ`abdfm]|\[\?(?:12|25|2026)[hl]%b)" % ascii_set).search


@functools.lru_cache(maxsize=8)
def _beyond(rows: int) -> Search:
    """Return the search for an address below row ``rows``."""
    return re.compile(rb"\x1b\[(?=[0-9;]*+[Hdf])(?!0*(?:%b)?[;Hdf])" % _number_up_to(rows)).search


def _number_up_to(most: int) -> bytes:
    """Return an expression for the decimal numbers from 1 to ``most``, without leading zeros."""
    digits = str(most)
    ways = [rb"[1-9][0-9]{%d}" % (length - 1) for length in range(1, len(digits))]
    for place, digit in enumerate(digits):
        least = 1 if place == 0 else 0
        if int(digit) > least:
            others = len(digits) - place - 1
            ways.append(rb"%b[%d-%d][0-9]{%d}" % (digits[:place].encode(), least, int(digit) - 1, others))
    return rb"|".join([*ways, digits.encode()])
