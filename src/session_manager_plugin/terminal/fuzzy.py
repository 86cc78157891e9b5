"""Fuzzy search in lines of text: fast enough for thousands of lines at each key."""

from __future__ import annotations

import re
from collections.abc import Sequence


def find_fuzzy(lines: Sequence[str], query: str) -> list[int]:
    """Return the indices of the lines that match ``query``, the best first; ``lines`` are in lower case.

    A line matches if it contains every word of the query, or the word's characters in order. Lines that contain every
    word literally come first; the others are sorted by how close together the characters are.
    """
    words = query.lower().split()
    if not words:
        return list(range(len(lines)))
    patterns = [_pattern(word) for word in words]
    exact: list[tuple[int, int]] = []
    loose: list[tuple[int, int]] = []
    for index, line in enumerate(lines):
        if all(word in line for word in words):
            exact.append((sum([line.find(word) for word in words]), index))
        elif all(matches := [pattern.search(line) for pattern in patterns]):
            loose.append((sum(match.end() - match.start() for match in matches if match), index))
    return [index for _, index in [*sorted(exact), *sorted(loose)]]


def _pattern(word: str) -> re.Pattern[str]:
    """Return the pattern for the characters of ``word`` in order. The gap between two characters cannot contain the
    second one, so that a search takes linear time."""
    first, *others = map(re.escape, word)
    return re.compile(first + "".join(f"[^{each}]*{each}" for each in others))
