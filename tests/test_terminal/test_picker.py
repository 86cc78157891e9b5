"""The list to choose a target from: what is found, and what is drawn in a terminal."""

from __future__ import annotations

import re
import sys

import pytest

from session_manager_plugin.terminal.fuzzy import find_fuzzy
from tests.support.pty_process import PtyProcess

ROWS = 5000
PROGRAM = """
import asyncio, sys
from session_manager_plugin.terminal.picker import Picker
picker = Picker(("Name", "Id", "Platform"), color={color})
picker.note = ""
ids = [f"i-{{n:08x}}" for n in range({rows})]
picker.add({{each: (f"web-{{n}}", each, "Amazon Linux 2023") for n, each in enumerate(ids)}})
print("before", flush=True)
print("chosen", asyncio.run(picker.choose()))
"""


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["web-1 i-0a", "db-1 i-0b", "web-2 i-0c"]),
        ("web", ["web-1 i-0a", "web-2 i-0c"]),
        ("WEB 0c", ["web-2 i-0c"]),
        ("1", ["db-1 i-0b", "web-1 i-0a"]),
        ("w2", ["web-2 i-0c"]),
        ("d1i", ["db-1 i-0b"]),
        ("xyz", []),
        ("*[", []),
    ],
)
def test_fuzzy(query: str, found: list[str]) -> None:
    lines = ["web-1 i-0a", "db-1 i-0b", "web-2 i-0c"]
    assert [lines[index] for index in find_fuzzy(lines, query)] == found


def picker(*, color: bool = True, columns: int = 80) -> PtyProcess:
    return PtyProcess([sys.executable, "-c", PROGRAM.format(color=color, rows=ROWS)], rows=12, columns=columns)


async def test_a_list_may_begin_without_rows() -> None:
    async with PtyProcess([sys.executable, "-c", PROGRAM.format(color=True, rows=0)], rows=12, columns=80) as terminal:
        await terminal.expect("0/0")


async def test_a_row_is_chosen_by_typing() -> None:
    async with picker() as terminal:
        await terminal.expect("5000/5000")
        terminal.type("web-4321\r")
        await terminal.expect("chosen i-000010e1")
        assert await terminal.wait() == 0


@pytest.mark.parametrize("key", ["\x1b", "\x03"])
async def test_the_screen_is_left_as_it_was(key: str) -> None:
    async with picker() as terminal:
        before = terminal.attributes
        await terminal.expect("before")
        await terminal.expect(r"\x1b\[\?1049h")
        await terminal.expect("5000/5000")
        terminal.type(key)
        await terminal.expect(r"\x1b\[\?1049l")
        await terminal.expect("chosen None")
        assert await terminal.wait() == 0
        assert terminal.attributes == before


async def test_ctrl_z_is_no_text() -> None:
    """No shell can continue this program: it goes on at once."""
    async with picker() as terminal:
        await terminal.expect("5000/5000")
        terminal.type("\x1a")
        await terminal.expect(r"\x1b\[\?1049l.*\x1b\[\?1049h")
        terminal.type("web-4321\r")
        await terminal.expect("chosen i-000010e1")


@pytest.mark.parametrize(("columns", "shown"), [(32, ["Name", "Id"]), (50, ["Name", "Id", "Platform"])])
async def test_a_column_that_does_not_fit_is_left_out(columns: int, shown: list[str]) -> None:
    async with picker(color=False, columns=columns) as terminal:
        await terminal.expect("5000/5000")
        heading = re.search(r"  Name[A-Za-z ]*", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.text))
        assert heading is not None
        assert heading[0].split() == shown


@pytest.mark.parametrize(("columns", "shown"), [(40, 1), (70, 2), (200, 2)])
async def test_a_long_name_leaves_room_for_the_other_columns(columns: int, shown: int) -> None:
    rows = {
        "i-1": ("web-1" * 40, "i-0123456789abcdef0", "Debian"),
        "i-2": ("東京" * 40, "mi-0123456789abcdef", "macOS"),
    }
    program = PROGRAM.format(color=False, rows=1).replace('print("before"', f'picker.add({rows}); print("before"')
    async with PtyProcess([sys.executable, "-c", program], rows=12, columns=columns) as terminal:
        await terminal.expect("3/3")
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", terminal.text)
        assert all(cells[1] in text for cells in rows.values())
        assert [cells[2] in text for cells in rows.values()] == [shown > 1] * 2
        assert len(re.findall(r"(?:web-1)+(?:web|we|w|web-)?(?:…|\.\.)", text)) == 1
        terminal.type("\r")


async def test_a_narrow_terminal_without_colours() -> None:
    async with picker(color=False, columns=40) as terminal:
        await terminal.expect("5000/5000")
        terminal.type("\x1b[B\r")
        await terminal.expect("chosen i-00000001")
        assert re.search(rb"\x1b\[(?:\d+;)*[39]\d(?:;\d+)*m", terminal.output) is None
        assert await terminal.wait() == 0
