"""The animated picture: what it shows, when, and that README.md's is small."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from tools.animation import MAX_PAUSE, frames, svg

PICTURE = Path(__file__).parents[1] / "docs" / "session.svg"


def cast(*events: tuple[float, str]) -> str:
    """A recording of a terminal of 20 columns and 3 rows."""
    lines = [{"version": 2, "width": 20, "height": 3}, *([at, "o", text] for at, text in events)]
    return "".join(f"{json.dumps(line)}\n" for line in lines)


def test_changes_that_are_close_together_are_one_picture_and_pauses_are_shortened() -> None:
    found = frames(cast((0.0, "$ "), (0.01, "l"), (0.5, "s"), (100.5, "\r\nfile")), lambda rows: rows[1].strip())
    assert [frame.at for frame in found] == [0.0, 0.5, 0.5 + MAX_PAUSE]
    assert [frame.caption for frame in found] == ["", "", "file"]
    assert found[0].rows[0][0][1].startswith("$ l")


def test_the_animation_holds_each_row_once() -> None:
    found = frames(cast((0.0, "\x1b[1;7;32m up \x1b[m  a<b\r\n"), (1.0, "x"), (2.0, "y")), lambda _rows: "")
    drawing = svg(found, 20, 3, "A & B")
    root = ElementTree.fromstring(drawing)
    assert drawing.count(">a&lt;b</text>") == 1
    assert "A &amp; B" in drawing
    assert len(root.findall(".//{*}g[@id='s']/{*}g")) == 3
    assert 'fill="#8fd694"' in drawing


def test_the_picture_of_the_readme_is_small_and_shows_the_outage() -> None:
    drawing = PICTURE.read_text()
    ElementTree.fromstring(drawing)
    assert len(drawing) < 400_000
    assert "reconnecting" in drawing
    assert "restored" in drawing
