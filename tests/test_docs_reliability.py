"""docs/reliability.md: every defect of the reference is in its table, and every test it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(
    r"^\| ([DHARU]\d+) \|.*\| `([^`]+)::(\w+)` \|$", (ROOT / "docs" / "reliability.md").read_text(), re.MULTILINE
)
DEFECTS = {"D": 15, "H": 16, "A": 8, "R": 7, "U": 24}
"""How many there are of each kind (protocol reference 10)."""


def test_every_defect_is_there() -> None:
    assert [number for number, _, _ in ROWS] == [
        f"{kind}{number}" for kind, count in DEFECTS.items() for number in range(1, count + 1)
    ]


@pytest.mark.parametrize(("number", "path", "name"), ROWS, ids=[row[0] for row in ROWS])
def test_the_test_exists(number: str, path: str, name: str) -> None:
    source = (ROOT / path).read_text()
    assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), number
