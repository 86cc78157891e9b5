"""Names of many targets, written short."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby

_NUMBERED = re.compile(r"(.*?)([0-9]{1,9})")


def fold_names(names: Iterable[str]) -> str:
    """Return names sorted, those that differ in the number at their end in one: ``db,web-[1-3,7]``."""
    numbers: dict[tuple[str, int], list[int]] = defaultdict(list)
    plain = []
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is None:
            plain.append(name)
        else:
            padded = match[2].startswith("0") and match[2] != "0"
            numbers[match[1], len(match[2]) if padded else 0].append(int(match[2]))
    folded = [_numbered(prefix, width, sorted(values)) for (prefix, width), values in numbers.items()]
    return ",".join(sorted(plain + folded))


def _numbered(prefix: str, width: int, numbers: list[int]) -> str:
    ranges = []
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        values = [f"{number:0{width}}" for _, number in run]
        ranges.append(values[0] if len(values) == 1 else f"{values[0]}-{values[-1]}")
    return f"{prefix}[{','.join(ranges)}]" if len(numbers) > 1 else f"{prefix}{ranges[0]}"
