"""Characters of which the second part is written after bytes of ours. Pure."""

from __future__ import annotations

import re

from session_manager_plugin.terminal.character_width import width_range

_PLAIN_ENDS = re.compile(rb"\x1b\[[0-9;:]*[mK]\Z")
_LAST_WORD = re.compile(r"[^\x00-\x20\x7f-\x9f]+\Z")


def joined_character(before: bytes, data: bytes) -> str:
    """Return the last character of the text ``before``, with its combining characters, if a combining character at the
    start of ``data`` joins it; otherwise an empty string.

    Terminals combine with the last character written. If bytes of ours were written in between, the returned character
    has to be written again before ``data``.
    """
    character = data[:4].decode("utf-8", "ignore")[:1]
    if not character or width_range(character)[0] > 0 or _PLAIN_ENDS.search(before):
        return ""
    found = _LAST_WORD.search(before.decode("utf-8", "ignore"))
    if found is None:
        return ""
    word = found[0]
    last = max((place for place, each in enumerate(word) if width_range(each)[0] > 0), default=len(word) - 1)
    last_character = word[last:]
    return last_character if width_range(last_character[0]) in ((1, 1), (2, 2)) else ""
