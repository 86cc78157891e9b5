"""Output that a slow terminal has not accepted when the session leaves it. Pure."""

from __future__ import annotations

import re

from session_manager_plugin.terminal.pen import PLAIN

_SWITCH = re.compile(
    rb"\x1b\[[?>=<]?[0-9;:]*[hlru]|\x1b\[>[0-9;]*m|\x1b\[[0-9]* q|\x1b\[!p|\x1b[c=>]",
)
"""Modes, margins, keyboard flags, the cursor's style, and resets."""
_CUT_OFF = b"\x18\x1b\\"
"""CAN and ST: end a sequence or a string that was written in part."""
_NO_COLOURS = PLAIN + b"\x1b(B\x0f\x1b]8;;\x1b\\"


def switches(unwritten: bytes) -> bytes:
    """Return the bytes that give the terminal the modes that it has after ``unwritten``, without the text.

    Colours, character sets and hyperlinks are those of a reset terminal. Of each sequence only the last occurrence
    counts.
    """
    if not unwritten:
        return b""
    last: dict[bytes, None] = {}
    for sequence in _SWITCH.findall(unwritten):
        last.pop(sequence, None)
        last[sequence] = None
    return b"".join((_CUT_OFF, *last, _NO_COLOURS))
