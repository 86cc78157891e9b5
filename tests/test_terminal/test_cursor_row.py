"""The cells of the cursor's row: known only where they certainly are."""

from __future__ import annotations

import pytest

from session_manager_plugin.terminal.cursor_row import BLANK, CursorRow


def row_of(*pieces: bytes, columns: int = 20, rows: int = 5) -> CursorRow:
    row = CursorRow()
    row.resize(columns, rows)
    for piece in pieces:
        row.feed(piece)
    return row


def test_a_prompt_after_text_at_an_unknown_column_is_known() -> None:
    row = row_of(b"login: done", b"\r\n$ ")
    assert (row.column, row.text(0, 3)) == (2, "$  ")


@pytest.mark.parametrize("edited", [b"\b\x1b[K", b"\x1b[2D\x1b[P", b"\x1b[C\x1b[@x", b"\x1b[X", b"\x1b[J", b"\x1b[2K"])
def test_a_change_within_an_unknown_row_leaves_the_rows_below_as_they_are(edited: bytes) -> None:
    """A shell's first prompt stands at an unknown column, and keys may edit its line."""
    row = row_of(b"$ lx", edited, b"s", b"\r\n$ ")
    assert (row.column, row.text(0, 3)) == (2, "$  ")


def test_text_that_wraps_leaves_the_rows_below_as_they_are() -> None:
    row = row_of(b"\r\n" + b"x" * 50 + b"\r\n$ ")
    assert row.text(0, 3) == "$  "


def test_a_row_below_a_cursor_that_moved_up_is_unknown() -> None:
    assert row_of(b"\r\n1\r\n2\x1b[2A\r\n$ ").text(0, 3) is None


def test_after_as_many_newlines_as_rows_each_newline_scrolls() -> None:
    row = row_of(b"\r\n1\r\n2\x1b[2A\r\n$ ", b"\r\n" * 3, b"$ ")
    assert row.text(0, 3) is None
    row.feed(b"\r\n$ ")
    assert row.text(0, 3) == "$  "


def test_written_blanks_are_not_erased_ones() -> None:
    row = row_of(b"\r\na ")
    cells = row.cells(1, 3)
    assert cells is not None
    assert [cell == BLANK for cell in cells] == [False, True]


def test_colours_that_were_missed_make_cells_unknown() -> None:
    row = row_of(b"\r\n\x1b[4", b"1m\r\n$ ")
    assert row.text(0, 3) is None
    row.feed(b"\r\n\x1b[J$ ")
    assert row.text(0, 3) is None
    row.feed(b"\r\n\x1b[m\x1b[J$ ")
    assert row.text(0, 3) == "$  "


def test_output_that_was_not_fed_may_have_set_colours() -> None:
    row = row_of(b"\r\n$ ")
    row.miss()
    row.feed(b"\r\n\x1b[J$ ")
    assert row.text(0, 3) is None


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x1b[22;0;0t",
        b"\x1b[14t",
        b"\x1b[>4;2m",
        b"\x1b[>c",
        b"\x1b[=5u",
        b"\x1b[?u",
        b"\x1b[?2026$p",
        b"\x1bP+q544e\x1b\\",
    ],
)
def test_what_an_editor_sends_at_its_start_and_end_leaves_the_row_known(sequence: bytes) -> None:
    row = row_of(b"\r\n$ ", sequence, b"x")
    assert row.text(0, 4) == "$ x "
    row.feed(b"y" + sequence + b"\r\n$ ")
    assert row.text(0, 3) == "$  "


def test_a_prompt_without_colours_is_known_after_output_that_may_have_set_some() -> None:
    """After a program on another screen, for example: the shell's prompt resets nothing."""
    row = row_of(b"\r\n$ ")
    row.leave()
    row.come_back()
    row.feed(b"\r\n$ ", is_plain=True)
    assert row.text(0, 3) == "$  "
    row.miss()
    row.feed(b"\r\n\x1b[41m$ \x1b[m\x1b[J", is_plain=True)
    assert row.text(0, 3) is None


@pytest.mark.parametrize("colours", [b"", b"\x1b[41m"])
def test_much_output_at_once_is_skipped_to_its_last_row(colours: bytes) -> None:
    row = row_of(b"\r\n")
    row.feed(b"line\r\n" * 2000 + colours + b"$ ", scrolls=True, is_plain=not colours)
    assert (row.text(0, 3) == "$  ") is not bool(colours)


def test_the_row_is_known_again_after_another_screen() -> None:
    row = row_of(b"\r\n$ ")
    row.leave()
    assert row.text(0, 1) is None
    row.come_back()
    row.feed(b"\x1b[mls")
    assert row.text(0, 4) == "$ ls"


@pytest.mark.parametrize(
    ("rest", "ends"),
    [
        (b"", True),
        (b"\x1b[8C12:34\x1b[13D", True),
        (b"\x1b[90m -la /etc\x1b[m\x1b[9D", True),
        (b"\x1b[90m -la\x1b[m       12:34\x1b[16D", True),
        (b" -la\x1b[4D", False),
        (b"\x1b[32m -la\x1b[m\x1b[4D", False),
        (b"\x1b[90m -\x1b[36mla\x1b[m\x1b[4D", False),
    ],
)
def test_what_was_typed_ends_at_blanks_or_a_suggestion(rest: bytes, ends: bool) -> None:
    row = row_of(b"\r\n$ \x1b[32mls\x1b[m" + rest, columns=30)
    assert row.column == 4
    assert row.ends_at(4) is ends
