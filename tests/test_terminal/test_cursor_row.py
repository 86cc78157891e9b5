"""The cells of the cursor's row: known only where they certainly are."""

from __future__ import annotations

import pytest

from session_manager_plugin.terminal.cursor_row import BLANK, CursorRow


def row_of(*pieces: bytes, columns: int = 20, rows: int = 5) -> CursorRow:
    row = CursorRow()
    row.resize(columns, rows)
    row.feed(b"\x1b[2J")
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


@pytest.mark.parametrize("moved", [b"\x1b[2A", b"\x1b[A\x1b[A", b"\x1b[2F", b"\x1b[3A\x1b[B", b"\x1b[9A\x1b[6E"])
def test_a_row_below_a_cursor_that_moved_up_is_known_once_it_is_below_the_lowest_one(moved: bytes) -> None:
    row = row_of(b"\r\n1\r\n2" + moved, rows=9)
    for _ in range(2):
        row.feed(b"\r\n$ ")
        assert row.text(0, 3) is None
    row.feed(b"\r\n$ ")
    assert row.text(0, 3) == "$  "


def test_a_line_that_is_drawn_again_after_its_end_has_wrapped_is_known() -> None:
    """A line editor goes up to the row of its prompt, and erases the rest."""
    row = row_of(b"\r\n$ " + b"x" * 30, b"\x1b[A\r$ ls\x1b[K\r\n\x1b[K\x1b[A\x1b[4C", b"\r\n", b"1\r\n$ ")
    assert row.text(0, 3) == "$  "


@pytest.mark.parametrize(
    "sequence", [b"\x1b[5;3r", b"\x1bM", b"\x1b[L", b"\x1b[T", b"\xc2\x8d", b"\xc2\x9bA", b"\x1b[41m\x1b[J\x1b[m"]
)
@pytest.mark.parametrize("length", [0, 10_000])
def test_rows_are_unknown_after_what_may_change_those_below(sequence: bytes, length: int) -> None:
    row = row_of(b"\r\n1", sequence + b"x" * length + b"\r\n$ ")
    row.feed(b"\x1b[m\r\n$ ")
    assert row.text(0, 3) is None
    row.feed(b"\r\n" * 4 + b"$ ")
    assert row.text(0, 3) == "$  "


@pytest.mark.parametrize(("to", "below"), [(b"\x1b[H", 4), (b"\x1b[4;2H", 1), (b"\x1b[4d", 1), (b"\x1b[3;9f", 2)])
def test_a_cursor_that_is_set_to_a_row_has_those_below_it(to: bytes, below: int) -> None:
    row = row_of(b"\r\n1" + to, b"\r\n" * below + b"$ ")
    assert row.text(0, 3) is None
    row.feed(b"\r\n$ ")
    assert row.text(0, 3) == "$  "


def test_a_prompt_on_a_cleared_screen_is_known() -> None:
    assert row_of(b"\r\n1", b"\x1b[H\x1b[2J$ ").text(0, 3) == "$  "


@pytest.mark.parametrize(
    "marked", [b"\x1b[7mls\x1b[27m", b"\x1b[1;34;4mls\x1b[22;24m\x1b[39m", b"\x1b[48;5;7mls\x1b[49m"]
)
def test_attributes_that_are_reset_one_by_one_are_none(marked: bytes) -> None:
    """A line editor marks pasted text, and what a search has found; the next prompt may reset nothing."""
    row = row_of(b"\r\n$ " + marked, b"\r\n$ ")
    assert row.text(0, 3) == "$  "


@pytest.mark.parametrize("marked", [b"\x1b[7;41mls\x1b[27m", b"\x1b[27;7mls", b"\x1b[7mls\x1b[39m"])
def test_an_attribute_that_is_not_reset_makes_new_rows_unknown(marked: bytes) -> None:
    assert row_of(b"\r\n$ " + marked, b"\r\n$ ").text(0, 3) is None


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


@pytest.mark.parametrize(
    "colour", [b"\x1b[94m", b"\x1b[0;37m", b"\x1b[1;3;38;5;28m", b"\x1b[38;2;1;2;3m", b"\x1b[2;39;49m"]
)
def test_a_row_that_scrolls_in_while_text_has_a_colour_is_blank(colour: bytes) -> None:
    row = row_of(b"\r\n" + colour + b"~\r\n\x1b[m$ ")
    assert row.text(0, 3) == "$  "


@pytest.mark.parametrize(
    "attribute", [b"\x1b[44m", b"\x1b[7m", b"\x1b[4m", b"\x1b[1;48;5;1m", b"\x1b[107m", b"\x1b[38;5m"]
)
def test_a_row_that_scrolls_in_with_a_background_or_another_attribute_is_unknown(attribute: bytes) -> None:
    row = row_of(b"\r\n" + attribute + b"~\r\n\x1b[m$ ")
    assert row.text(0, 3) is None


@pytest.mark.parametrize("reset", [b"\x1b[0;0m", b"\x1b[;m", b"\x1b[00m"])
def test_a_reset_of_several_zeros_resets(reset: bytes) -> None:
    assert row_of(b"\r\n\x1b[41m] " + reset + b"\r\n$ ").text(0, 3) == "$  "


@pytest.mark.parametrize("harmless", [b"\x1b[3J", b"\x1b[?7l", b"\x1b[?7h"])
def test_what_changes_nothing_on_the_screen_leaves_the_row_known(harmless: bytes) -> None:
    assert row_of(b"\r\n$ ", harmless).text(0, 3) == "$  "


def test_what_the_terminal_showed_before_the_session_is_erased_by_the_owner() -> None:
    row = CursorRow()
    row.resize(20, 3)
    row.column = 0
    row.feed(b"$ ")
    assert row.text(0, 3) is None
    assert (row.see_rest(), row.see_rest()) == (18, 0)
    assert row.text(0, 3) == "$  "
    row.feed(b"ls\r\n$ ")
    assert row.text(0, 3) is None
    assert row.see_rest() == 18
    row.feed(b"\r\n$ \r\n$ ")  # it has scrolled
    assert (row.see_rest(), row.text(0, 3)) == (0, "$  ")


@pytest.mark.parametrize("written", [b"\x1b[9C]\r", b"\x1b[9C\x1b[41m\x1b[K\x1b[m\r", b"\x1b[5;1H"])
def test_what_the_remote_has_written_is_not_erased(written: bytes) -> None:
    row = CursorRow()
    row.resize(20, 3)
    row.column = 0
    row.feed(written + b"$ ")
    assert row.see_rest() == 0


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
    row.feed(colours + b"line\r\n" * 2000 + b"$ ", rows_below=0, is_plain=not colours)
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


@pytest.mark.parametrize(
    ("edited", "text"),
    [
        (b"\b\x1b[K", None),
        (b"\bx", None),
        (b"\b\x1b[X", None),
        (b"\b\b\x1b[X", None),
        (b"\b\x1b[P", None),
        (b"\b\x1b[@", None),
        (b"\b\b\b\x1b[2P", None),
        (b"\x1b[1K", "     "),
        (b"\b\b\x1b[K", "a    "),
        (b"\b\bxy", "axy  "),
        (b"\b\b\b\x1b[@", " a\u6f22 "),
    ],
)
def test_a_wide_character_of_which_a_half_is_changed_is_unknown(edited: bytes, text: str | None) -> None:
    row = row_of("\r\na\u6f22".encode() + edited)
    assert row.text(0, 5) == text


def test_a_wide_character_that_is_pushed_over_the_edge_is_unknown() -> None:
    row = row_of("\r\n$ \x1b[14C\u6f22\x1b[3G\x1b[3@".encode(), columns=20)
    assert row.text(0, 16) is not None
    assert row.text(19, 20) is None


@pytest.mark.parametrize("restored", [b"\x1b[u", b"\x1b[?1048l", b"\x1b8"])
@pytest.mark.parametrize("erased", [b"\r\x1b[J$ ", b"\x1b[J\r\n$ "])
def test_a_restored_cursor_may_have_restored_a_colour(restored: bytes, erased: bytes) -> None:
    row = row_of(b"\r\n\x1b[41m\x1b[s\x1b[m", restored + erased)
    assert row.text(0, 3) is None
