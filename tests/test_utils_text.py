"""Text of the far end that we print."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.utils.text import LINES_LIMIT, TEXT_LIMIT, printable, printable_lines

HOSTILE = st.text(st.characters() | st.sampled_from("\x1b[]\x9b\x9d\x07;m\\\r\n\t\u202e\ud800"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("  two\r\n lines\t ", "two lines"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07x", "red x"),
        ("\x1b]8;;http://evil\x1b\\link", "link"),
        ("\x9b31mC1\x85 \x00NUL \x7f", "C1 NUL"),
        ("right\u202eleft \u200bzero", "rightleft zero"),
        ("half \ud800 a pair", "half a pair"),
        ("Zürich 東京", "Zürich 東京"),
        ("x" * 20, "xxxxxxx..."),
    ],
)
def test_on_one_line(text: str, shown: str) -> None:
    assert printable(text, 10 if text.startswith("xxx") else 100) == shown


@given(HOSTILE, st.integers(10, 50))
def test_nothing_is_left_that_a_terminal_obeys(text: str, limit: int) -> None:
    shown = printable(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("  spaces stay \n\n", "  spaces stay \n\n"),
        ("----------ERROR-------\nSetting up failed:\tno\r\n", "----------ERROR-------\nSetting up failed:\tno\r\n"),
        ("honest\rforged", "honestforged"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07x\n", "red x\n"),
        ("\x1b", ""),
        ("\x9b2J\x85\x00\x08\x7f.", "."),
        ("right\u202eleft\u2066\u2028", "rightleft"),
        ("half \ud800 a pair", "half  a pair"),
        ("Zürich 東京 👩\u200d💻", "Zürich 東京 👩\u200d💻"),
        ("x" * 20, "xxxxxxx..."),
    ],
)
def test_on_several_lines(text: str, shown: str) -> None:
    assert printable_lines(text, 10 if text.startswith("xxx") else 100) == shown


@given(HOSTILE, st.integers(10, 50))
def test_on_several_lines_nothing_is_left_that_a_terminal_obeys(text: str, limit: int) -> None:
    shown = printable_lines(text, limit)
    assert not re.search("[^\x20-\x7e\xa0-\U0010ffff\t\r\n]", shown)
    assert "\r" not in shown.replace("\r\n", "")
    shown.encode()
    assert len(shown) <= limit


def test_a_book_is_cut() -> None:
    assert len(printable("word " * 1_000_000)) <= TEXT_LIMIT
    assert len(printable_lines("word\n" * 1_000_000)) == LINES_LIMIT


def test_a_path_that_is_no_text_here_can_be_told_from_others() -> None:
    path = b"Pr\xc3\xbcf/\x9b1m".decode("ascii", "surrogateescape")

    assert printable(f"{path} cannot be read") == "Pr\\xc3\\xbcf/\\x9b1m cannot be read"
