"""Whether output has left the cursor inside a line. Pure."""

from __future__ import annotations

import re

UNFINISHED = b"?"
"""Stands for output that has left the cursor inside a line."""
_TAIL = 256
"""Bytes at the end of an output that are examined."""
_SEQUENCES_AT_END = re.compile(rb"(?:\x1b\[[0-?]*[ -/]*[@-~])+\Z")


def ends_inside_line(output: bytes) -> bool:
    """Return whether ``output``, the last bytes written to a terminal, has left the cursor inside a line.

    CSI sequences at its end are taken for ones that do not move the cursor. Output of nothing else counts as
    unfinished: an empty line too many is better than two texts in one line.
    """
    if not output:
        return False
    text = _SEQUENCES_AT_END.sub(b"", output[-_TAIL:])
    return text[-1:] not in (b"\r", b"\n")
