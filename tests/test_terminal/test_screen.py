"""Screen: which bytes of the remote's are changed and which are not, when the bar is drawn, what is put right."""

from __future__ import annotations

import re

import pytest

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.questions import Question
from session_manager_plugin.terminal.screen import Screen
from tests.support.screen_streams import StreamMaker

COLUMNS, ROWS = 40, 12
SIZE = TerminalSize(COLUMNS, ROWS)
BAR = b"\x1b[7m connected \x1b[0m 23 ms"

DRAWN = b"\x1b[?7l" + BAR + b"\x1b[?7h"
"""The bar does not wrap, should the terminal be narrower by now."""
BAR_ERASED = b"\x1b[9999;1H\x1b[m\x1b[2K\x1b8"


def with_bar(size: TerminalSize = SIZE) -> Screen:
    screen = Screen()
    screen.start(size, bar=True)
    screen.draw(BAR)
    screen.feed(b"\x1b[H")
    return screen


def without_bar() -> Screen:
    screen = Screen()
    screen.start(SIZE, bar=False)
    return screen


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        (b"\x1b[12;5H", b"\x1b[11;5H"),
        (b"\x1b[999;999H", b"\x1b[11;999H"),
        (b"\x1b[99f", b"\x1b[11;1H"),
        (b"\x1b[12d", b"\x1b[11d"),
        (b"\x1b[99e", b"\x1b[11d"),
        (b"\x1b[r", b"\x1b[1;11r"),
        (b"\x1b[;r", b"\x1b[1;11r"),
        (b"\x1b[3r", b"\x1b[3;11r"),
        (b"\x1b[2;12r", b"\x1b[2;11r"),
        (b"\x1b[11;12r", b""),  # not two rows of the eleven there are: ignored by a terminal of that size
        (b"\x1b[5;3r", b""),
        (b"\x1b[18t", b""),
        # Below the region, where the last row does not scroll.
        (b"\x1b[1;5r\x1b[11;1H\n", b"\x1b[1;5r\x1b[11;1H\x1b[11d"),
        (b"\x1b[1;5r\x1b[11;1H\x1bD", b"\x1b[1;5r\x1b[11;1H\x1b[11d"),
        (b"\x1b[1;5r\x1b[10;1H\x1b[3B", b"\x1b[1;5r\x1b[10;1H\x1b[11d"),
        (b"\x1b[1;5r\x1b[10;1H\x1b[3E", b"\x1b[1;5r\x1b[10;1H\x1b[11d\r"),
        (b"\x1b[1;5r\x1b[11;39Habcd", b"\x1b[1;5r\x1b[11;39Hab\rcd"),
    ],
)
def test_rows_below_the_last_become_the_last(sent: bytes, written: bytes) -> None:
    assert with_bar().feed(sent) == written


@pytest.mark.parametrize(
    "sent",
    [
        b"text\r\n" * 40,
        "h\u00e9llo \u20ac \U0001f600 \u6f22\u5b57".encode(),
        b"\x00\x07\x08\x0b\x0c\x7f",
        b"\x1b[11;5H",
        b"\x1b[2;11r",
        b"\x1b[1;31mred\x1b[m\x1b[K",
        b"\x1b[5B\x1b[9A\x1b[C\x1b[3D",
        b"\x1b[?25l\x1b[?2004h\x1b[?1h\x1b=",
        b"\x1b[4h\x1b[20l",
        b"\x1b]0;a title [99;99H\x07",
        b"\x1b]8;;http://a/[r\x1b\\link\x1b]8;;\x1b\\",
        b"\x1bP1$r99;99H\x1b\\",
        b"\x1b_c\x1b\\",
        b"\x1b^\x9b2J\x1b\\",
        b"\x1bXtext\x1b\\",
        "\u26c4 \u2713 \x1b]0;\u00db\u20ac[2J\x07".encode(),
        b"\x1b(0lqk\x1b(B",
        b"\x1b7\x1b[5;10Hx\x1b8",
        b"\x1b[s\x1b[u",
        b"\x1b[3L\x1b[2M\x1b[4P\x1b[5@\x1b[6X\x1b[S\x1b[T",
        b"\x1bM\x1bD\x1bE\x1bH\x1b[3g\t",
        b"\x1b[6n\x1b[c\x1b[14t\x1b[8;24;80t",
        b"\x1b[?1;2r\x1b[>c\x1b[=1u\x1b[1$}\x1b[2 q\x1b[!q",
        b"\xff\xfe\x80 \xe6\x97 \xc3(",
        b"\x1b[3\x18[99;99H",
        b"\x1b[1J\x1b[?1J",
    ],
)
def test_all_else_is_passed_as_it_is(sent: bytes) -> None:
    assert with_bar().feed(sent) == sent
    screen = with_bar()
    assert b"".join(screen.feed(sent[place : place + 1]) for place in range(len(sent))) == sent


def test_any_split_gives_the_same() -> None:
    sent = b"\x1b[H\x1b[99;3Hx\x1b[r\xe6\xbc\xa2\x1b]0;t\x1b\\"
    sent += b"\x1b[2;99r\x1b(0q\x1b(B\x1b[01;31mred\x1b[m\x1b[99d\xf0\x9f\x98\x80\x1b#6"
    whole = with_bar().feed(sent)
    for place in range(len(sent)):
        screen = with_bar()
        assert screen.feed(sent[:place]) + screen.feed(sent[place:]) == whole, place


@pytest.mark.parametrize(
    "sent", [b"\x1bc", b"\x1b[!p", b"\x1b[?1049h", b"\x1b[?47l", b"\x1b[?3h", b"\x1b#8", b"\xc2\x9b!p"]
)
def test_the_margins_are_set_again_at_once(sent: bytes) -> None:
    written = with_bar().feed(sent + b"text\r\n")
    assert written.startswith(sent)
    assert written.index(b"\x1b[1;11r") < written.index(b"text")
    assert written.endswith(DRAWN + b"\x1b8")


@pytest.mark.parametrize(
    "sent", [b"\x1b[J", b"\x1b[0J", b"\x1b[2J", b"\x1b[3J", b"\x1b[?J", b"\x1b[1;1;99;99$z", b"\x1b[88;1;1;9;9$x"]
)
def test_an_erased_bar_is_drawn_again(sent: bytes) -> None:
    screen = with_bar()
    written = screen.feed(sent + b"text")
    assert written.startswith(sent + b"text\x1b7")
    assert BAR in written
    assert not screen.damaged
    assert BAR not in screen.feed(b"more text")


def test_the_remote_keeps_what_it_had_when_the_bar_is_drawn() -> None:
    screen = with_bar()
    screen.feed(b"\x1b[2;6r\x1b[?6h\x1b(0\x1b[1;31;44m\x1b]8;;http://a/\x07q")
    drawn = screen.draw(BAR)
    before, after = drawn.split(DRAWN)
    assert before == b"\x1b7\x1b[?6l\x1b(B\x0f\x1b]8;;\x1b\\\x1b[9999;1H\x1b[m\x1b[2K"
    assert after == b"\x1b]8;;http://a/\x1b\\\x1b[?6h\x1b8\x1b(0\x1b)B\x1b*B\x1b+B\x0f\x1b[1;31;44m"


def test_a_saved_cursor_survives_the_bar() -> None:
    screen = with_bar()
    screen.feed(b"\x1b[3;5H\x1b[32m\x1b7")
    assert screen.feed(b"\x1b8") == b"\x1b8"  # nothing was drawn meanwhile
    screen.draw(BAR)
    assert screen.feed(b"\x1b[9;9H\x1b[m\x1b8") == b"\x1b[9;9H\x1b[m\x1b[3;5H\x1b[m\x1b[32m\x1b(B\x1b)B\x1b*B\x1b+B\x0f"


def test_no_bar_is_drawn_over_a_saved_cursor_whose_place_is_not_known() -> None:
    screen = Screen()
    screen.start(SIZE, bar=True)
    screen.feed(b"$ \x1b7")
    # Nobody has said in which row the session began; but what starting has put into the terminal's slot is ours.
    screen.feed(b"\r\n" * ROWS + b"\x1b7")
    assert screen.draw(BAR)
    screen = Screen()
    screen.start(SIZE, bar=True)
    screen.feed(b"$ \x1b7")
    assert screen.draw(BAR) == b""
    assert screen.damaged
    assert screen.feed(b"\x1b8").endswith(DRAWN + b"\x1b8")


@pytest.mark.parametrize("leave", [b"\x1b[?1049l", b"\x1b[?47l\x1b8", b"\x1b8"])
def test_no_address_is_written_where_the_row_is_not_known(leave: bytes) -> None:
    """The terminal restores the cursor itself."""
    screen = Screen()
    screen.start(SIZE, bar=True)
    screen.draw(BAR)
    screen.feed(b"$ less\r\n\x1b7" + b"\x1b[?1049h" * (b"?" in leave))
    screen.draw(BAR)
    assert not re.search(rb"\x1b\[[0-9;]*[Hd]", screen.feed(leave).replace(b"\x1b[9999;1H", b""))


def test_a_relative_row_stays_above_the_bar_from_any_row() -> None:
    screen = Screen()
    screen.start(SIZE, bar=True)
    assert screen.feed(b"\x1b[3e") == b"\x1b[3B"  # which the bottom margin stops


def test_margins_that_end_higher_wait_for_a_known_row() -> None:
    """Below them nothing scrolls: text would go on to the bar."""
    screen = Screen()
    screen.start(SIZE, bar=True)
    written = screen.feed(b"\x1b7\x1b[1;5r\x1b8text\r\n")
    assert re.findall(rb"\x1b\[[0-9;]*r", written) == [b"\x1b[1;5r", b"\x1b[1;11r"]
    assert b"\x1b[1;5r" in screen.feed(b"\x1b[3;1H")


def test_the_bar_returns_when_the_row_is_known() -> None:
    screen = Screen()
    screen.start(SIZE, bar=True)
    screen.draw(BAR)
    screen.feed(b"\x1b7")
    assert screen.feed(b"\x1b[2J") == b"\x1b[2J"  # DECSC would overwrite what the remote has saved
    assert screen.damaged
    written = screen.feed(b"\x1b[H\x1b[2J")
    assert written.endswith(DRAWN + b"\x1b[1;1H")
    assert screen.feed(b"\x1b8") == b"\x1b8"


def test_the_position_is_asked_for_and_taken() -> None:
    screen = Screen()
    assert not screen.wants_position
    screen.start(SIZE, bar=True)
    assert screen.wants_position
    question, number = screen.ask_position()
    assert question == b"\x1b[6n"
    assert not screen.wants_position  # nothing is asked twice
    screen.feed(b"$ ")
    assert screen.wants_position
    assert screen.locate(number, 4, 1) == b""  # of before
    assert screen.wants_position
    _, number = screen.ask_position()
    screen.locate(number, 4, 3)
    screen.feed(b"\x1b7")
    screen.draw(BAR)
    assert screen.feed(b"\x1b8").startswith(b"\x1b[4;3H")
    assert not screen.wants_position
    screen.resize(TerminalSize(60, 20))
    assert screen.wants_position


def test_without_a_bar_nothing_is_asked() -> None:
    assert not without_bar().wants_position


def test_a_wrap_that_is_due_stays_due() -> None:
    screen = with_bar()
    screen.feed(b"\x1b[1m" + b"x" * COLUMNS + b"\x1b[m")
    assert screen.draw(BAR).endswith(b"\x1b8\x1b[m\x1b[1m\x1b[40Gx\x1b[m")


def test_a_combining_character_joins_what_was_written_before_the_bar() -> None:
    screen = with_bar()
    screen.feed(b"cafe")
    screen.draw(BAR)
    assert screen.feed("\u0301".encode()) == "\x1b[1De\u0301".encode()


def test_inside_a_string_nothing_is_drawn() -> None:
    screen = with_bar()
    assert screen.feed(b"\x1b[2J\x1b]0;a title that") == b"\x1b[2J\x1b]0;a title that"
    assert not screen.at_boundary
    assert screen.damaged
    assert screen.draw(BAR) == b""
    assert screen.draw_notice(b"trouble") == b""
    assert screen.resize(TerminalSize(80, 24)) == b""
    assert screen.draw(BAR) == b""
    written = screen.feed(b" ends\x07")
    assert written.startswith(b" ends\x07\x1b7\x1b[r")
    assert written.endswith(b"\x1b[9999;1H\x1b[m\x1b[2K" + DRAWN + b"\x1b8")


def test_an_unfinished_sequence_is_held_back() -> None:
    screen = with_bar()
    assert screen.feed(b"text\x1b[3") == b"text"
    assert screen.at_boundary
    assert screen.draw(BAR) != b""
    assert screen.feed(b"1m") == b"\x1b[31m"


def test_a_sequence_without_end_is_not_collected_for_ever() -> None:
    screen = with_bar()
    screen.feed(b"\x1b[")
    given = [screen.feed(b"1;" * 512) for _ in range(100)]
    assert given[:60] == [b""] * 60
    assert b"".join(given).startswith(b"\x1b[1;1;")
    assert screen.feed(b"text\r\n") == b"text\r\n"


def test_the_question_for_the_size_is_answered_here() -> None:
    screen = with_bar()
    screen.feed(b"\x1b[18t\x1b[19t")
    assert screen.take_answers() == [b"\x1b[8;11;40t"]
    assert screen.take_answers() == []
    screen = without_bar()
    assert screen.feed(b"\x1b[18t") == b"\x1b[18t"
    assert screen.take_answers() == []


@pytest.mark.parametrize("seed", range(50))
def test_without_a_bar_nothing_is_changed(seed: int) -> None:
    maker = StreamMaker(seed, COLUMNS, ROWS)
    screen = without_bar()
    for chunk in maker.chunks(maker.stream(30)):
        assert screen.feed(chunk) == chunk


def test_leaving_undoes_what_the_remote_has_left() -> None:
    for screen in (with_bar(), without_bar()):
        screen.feed(b"\x1b[?1049h\x1b[?1h\x1b=\x1b[?25l\x1b[?1002;1006h\x1b[?2004h")
        screen.feed(b"\x1b[31m\x1b(0\x1b[5 q\x1b[>4;2m\x1b[>1u\x1b[?7l\x1b[4h")
        left = screen.leave()
        for undone in (
            b"\x1b[?1049l",
            b"\x1b[?1l",
            b"\x1b>",
            b"\x1b[?25h",
            b"\x1b[?1002l",
            b"\x1b[?1006l",
            b"\x1b[?2004l",
            b"\x1b[m",
            b"\x1b(B\x0f",
            b"\x1b[0 q",
            b"\x1b[>4m",
            b"\x1b[<1u",
            b"\x1b[?7h",
            b"\x1b[4l",
        ):
            assert undone in left


@pytest.mark.parametrize(
    ("sent", "undone"),
    [
        (b"\x1b[=5u", b"\x1b[=0u"),
        (b"\x1b[>1u\x1b[=5u\x1b[>3u", b"\x1b[<2u"),
        (b"\x1b[>1u\x1b[<u", b""),
        (b"\x1b[?9001h", b"\x1b[?9001l"),
        (b"\x1b]4;1;red;7;#fff\x07\x1b]11;blue\x1b\\", b"\x1b]104;1;7\x07\x1b]111\x07"),
        (b"\x1b]10;red;blue\x07\x1b]110\x07", b"\x1b]111\x07"),
        (b"\x1b]4;1;?\x07\x1b]11;?\x07", b""),
        (b"\x1b]4;1;red;2;blue\x07\x1b]104;1\x07", b"\x1b]104;2\x07"),
        (b"\x1b]9;4;1;50\x07", b"\x1b]9;4;0\x07"),
        (b"\x1b]9;4;1;50\x07\x1b]9;4;0\x07", b""),
        (b"\x1b[?2l", b"\x18\x1b\\\x1b<"),
        (b"\x1b[?2l\x1b<", b""),
    ],
)
def test_leaving_undoes(sent: bytes, undone: bytes) -> None:
    screen = without_bar()
    screen.feed(sent)
    assert screen.leave() == undone


def test_the_keyboards_flags_belong_to_a_screen() -> None:
    """What was pushed on the alternate one must not be popped from the main one: that level is the user's own."""
    screen = without_bar()
    screen.feed(b"\x1b[>1u\x1b[?1049h\x1b[>5u\x1b[>7u")
    assert screen.leave() == b"\x1b[<2u\x1b[?1049l\x1b[<1u"
    screen = without_bar()
    screen.feed(b"\x1b[?1049h\x1b[>5u\x1b[?1049l\x1b[<u")
    assert screen.leave() == b"\x1b[?1049h\x1b[<1u\x1b[?1049l"


def test_what_was_undone_comes_back() -> None:
    """While the client is stopped the local shell has its own."""
    sent = (
        b"\x1b[?2004h\x1b[4h\x1b=\x1b[5 q\x1b[>4;2m"
        b"\x1b]4;1;red\x07\x1b]11;blue\x07\x1b]9;4;1;50\x07"
        b"\x1b[=1u\x1b[>2u\x1b[?1049h\x1b[>3u"
        b"\x1b7\x1b[3;5r\x1b8\x1b[1;31m\x1b(0\x1b)B\x1b*B\x1b+B\x0f"
    )
    screen = without_bar()
    screen.feed(sent)
    assert screen.again() == sent


def test_an_old_bar_in_the_main_screen_is_erased_on_return() -> None:
    screen = with_bar()
    screen.feed(b"\x1b[?1049h")
    screen.resize(TerminalSize(60, 20))
    erases = b"\r\x1b[B\x1b[J"
    assert erases in screen.feed(b"\x1b[?1049l")
    assert erases not in screen.feed(b"\x1b[?1049h\x1b[?1049l")
    screen.feed(b"\x1b[?1049h")
    screen.resize(TerminalSize(60, 18))
    left = screen.leave()
    assert erases in left[left.index(b"\x1b[?1049l") :]


@pytest.mark.parametrize(
    ("before", "sent", "written"),
    [
        (b"ab", b"\x1b[3b", b"bbb"),
        ("漢".encode(), b"\x1b[2b", "漢漢".encode()),
        (b"a\x1b[m", b"\x1b[3b", b""),  # what terminals repeat then differs, but ours would be it
        (b"a\r", b"\x1b[3b", b""),
    ],
)
def test_a_repeated_character_is_not_one_of_the_bar(before: bytes, sent: bytes, written: bytes) -> None:
    for cut in range(len(sent)):
        screen = with_bar()
        screen.feed(before)
        screen.draw(BAR)
        assert screen.feed(sent[:cut]) + screen.feed(sent[cut:]) == written
    assert with_bar().feed(b"x" + sent) == b"x" + sent


def test_no_character_is_written_again_behind_uncertain_widths() -> None:
    """Forty cells or ten: a wrap may be due or not."""
    screen = with_bar()
    screen.feed("👩‍👩‍👧‍👦".encode() * 5)
    assert screen.wants_position
    assert screen.feed(b"\x1b[J") == b"\x1b[J"
    _, number = screen.ask_position()
    assert screen.locate(number, 1, 11).endswith(DRAWN + b"\x1b8")
    assert screen.feed(b"\r\n\x1b7") + screen.draw(BAR)
    assert screen.feed(b"\x1b8").startswith(b"\x1b[2;1H")


def test_text_wraps_in_the_bar_at_no_side_margins() -> None:
    screen = with_bar()
    screen.feed(b"\x1b[?69h\x1b[5;20s\x1b[3;6H")
    assert screen.draw(BAR) == b"\x1b[?69l\x1b[9999;1H\x1b[m\x1b[2K" + DRAWN + b"\x1b[?69h\x1b[5;20s\x1b[3;6H"
    screen.feed(b"x" * 30)
    assert screen.draw(BAR) == b""  # no DECSC here: DECSLRM is SCOSC in terminals without side margins
    assert screen.wants_position
    assert BAR in screen.feed(b"\x1b[?69l")


@pytest.mark.parametrize("saved", [b"\x1b[?6l", b"\x1b[?6h"])
def test_origin_mode_is_set_before_a_cursor_is_restored(saved: bytes) -> None:
    other = b"\x1b[?6h" if saved.endswith(b"l") else b"\x1b[?6l"
    screen = with_bar()
    screen.feed(saved + b"\x1b7" + other)
    assert screen.feed(b"\x1b8") == saved + b"\x1b8"


def test_leaving_a_clean_screen() -> None:
    screen = without_bar()
    screen.feed(b"\x1b[?1049h\x1b[?2004h\x1b[?25lx\x1b[?25h\x1b[?2004l\x1b[?1049l\x1b[1mbold\x1b[0m\r\n")
    assert screen.leave() == b""
    screen = with_bar()
    assert screen.leave() == b"\x1b7\x1b[r\x1b[9999;1H\x1b[m\x1b[2K\x1b8"


UNFINISHED = [
    b"\x1b]0;a title that never en",
    b"\x1b]0;a title\x1b",
    b"\x1bP1$r",
    b"\x1b_Ga=T;AAAA",
    b"\x1bXtext",
    b"\x1b^text",
    b"\x1bktitle of screen",
    b"\x1b[",
    b"\x1b[12;3",
    b"\x1b[1\n2",
    b"\x1b",
    b"\x1b(",
    b"\xc2\x9b3",
]
CANCELLED = b"\x18\x1b\\"


@pytest.mark.parametrize("unfinished", UNFINISHED)
def test_leaving_in_the_middle_of_a_sequence(unfinished: bytes) -> None:
    screen = without_bar()
    assert screen.feed(b"text" + unfinished) == b"text" + unfinished
    assert screen.leave() == CANCELLED
    screen = without_bar()
    assert b"".join(screen.feed(unfinished[place : place + 1]) for place in range(len(unfinished))) == unfinished
    screen.feed(b"\x1b\\")
    assert screen.leave() == (CANCELLED if unfinished.endswith(b"e\x1b") else b"")  # tmux takes ESC ESC \ for no ST


CUT_OFF = [
    b"\x1bPabc\x1b[0m",
    b"\x1bP\x18",
    b"\x1b_text\x1b[K",
    b"\x1b]0;a title\x1b=",
    b"\x1bktitle\x1a",
    b"\x1bXa\xc2\x9c",
]


@pytest.mark.parametrize("cut_off", CUT_OFF)
def test_a_string_that_ended_otherwise_than_by_st_is_ended_on_leaving(cut_off: bytes) -> None:
    """tmux and screen are still in it, and would take the shell's prompt for its text."""
    screen = without_bar()
    assert screen.feed(cut_off) == cut_off
    assert screen.feed(b"text\r\n") == b"text\r\n"
    assert screen.leave().startswith(CANCELLED)


@pytest.mark.parametrize("cut_off", CUT_OFF)
def test_with_a_bar_such_a_string_is_ended_at_once(cut_off: bytes) -> None:
    """Otherwise tmux takes the margins and the bar for text of the string."""
    screen = with_bar()
    assert screen.feed(cut_off).replace(CANCELLED, b"", 1) == cut_off
    assert CANCELLED not in screen.leave()
    screen = with_bar()
    given = b"".join(screen.feed(cut_off[place : place + 1]) for place in range(len(cut_off)))
    assert given.replace(CANCELLED, b"", 1) == cut_off


@pytest.mark.parametrize("cut_off", CUT_OFF)
def test_such_a_string_is_ended_before_a_bar_is_drawn(cut_off: bytes) -> None:
    screen = without_bar()
    screen.feed(cut_off)
    shown = screen.take_row(may_ask=False)
    assert shown is not None
    assert shown.startswith(CANCELLED)
    screen = without_bar()
    screen.feed(cut_off)
    assert screen.draw_notice(b"lost").startswith(CANCELLED)


@pytest.mark.parametrize("unfinished", UNFINISHED[:7])
def test_leaving_in_the_middle_of_a_string_with_a_bar(unfinished: bytes) -> None:
    screen = with_bar()
    screen.feed(unfinished)
    assert screen.leave().startswith(CANCELLED + b"\x1b7")


@pytest.mark.parametrize("unfinished", [*UNFINISHED, b"Oubli\xe9", b"packet\xc3", b"\xf0\x9f\x91", b"\xc2"])
def test_without_a_bar_nothing_is_held(unfinished: bytes) -> None:
    screen = without_bar()
    for data in (unfinished, b"\x1b\\", b"end\r\n"):
        assert screen.feed(data) == data


@pytest.mark.parametrize(
    ("first", "rest", "written"),
    [
        (b"\x1b[3", b"1m", b"1m"),
        (b"\x1b[12", b";5Hx", b"\x18\x1b[11;5Hx"),
        (b"\x1b", b"[12H", b"[11;1H"),
        (b"\x1b]0;ti", b"tle\x07x", b"tle\x07x"),
        (b"\x1b]0;title\x1b", b"\\x", b"\\x"),
        (b"caf\xc3", b"\xa9", b"\xa9"),
    ],
)
def test_a_bar_that_begins_inside_a_sequence(first: bytes, rest: bytes, written: bytes) -> None:
    """What the terminal has got of the sequence already cannot be changed any more."""
    for cut in range(len(rest) - 1):
        screen = without_bar()
        assert screen.feed(first) == first
        begun = screen.start(SIZE, bar=True)
        shown = screen.draw(BAR)
        if first != b"caf\xc3":
            assert begun == shown == b""
        fed = screen.feed(rest[:cut]) + screen.feed(rest[cut:])
        assert fed.startswith(written), cut
        assert BAR in begun + shown + fed


def test_a_character_is_held_for_a_while_under_a_bar() -> None:
    screen = with_bar()
    assert screen.feed(b"Oubli\xe9") == b"Oubli"
    assert screen.holds_character
    assert screen.flush() == b"\xe9"
    assert not screen.holds_character
    assert screen.flush() == b""
    assert BAR in screen.draw(BAR)
    assert screen.feed(b"\r\n") == b"\r\n"
    assert screen.feed(b"caf\xc3") == b"caf"
    assert screen.feed(b"\xa9") == b"\xc3\xa9"
    assert screen.feed(b"\x1b[") == b""
    assert not screen.holds_character
    assert screen.flush() == b""


@pytest.mark.parametrize("held", [b"\x1b[3", b"\xc3", b"\x1b"])
def test_what_was_held_is_written_when_the_bar_goes(held: bytes) -> None:
    screen = with_bar()
    assert screen.feed(held) == b""
    assert screen.release().endswith(BAR_ERASED + held)
    assert screen.feed(b"x") == b"x"


def test_a_bar_that_comes_and_goes() -> None:
    screen = without_bar()
    assert screen.remote_size == SIZE
    assert screen.start(SIZE, bar=True) != b""
    assert screen.remote_size == TerminalSize(COLUMNS, ROWS - 1)
    assert screen.feed(b"\x1b[99H") == b"\x1b[11;1H"
    assert b"\x1b[r" in screen.release()
    assert screen.remote_size == SIZE
    assert screen.feed(b"\x1b[99H") == b"\x1b[99H"
    assert not screen.has_bar


def test_a_terminal_without_room_for_a_bar() -> None:
    screen = Screen()
    tiny = TerminalSize(80, 2)
    assert screen.start(tiny, bar=True) == b""
    assert screen.draw(BAR) == b""
    assert not screen.has_bar
    assert screen.remote_size == tiny
    assert screen.feed(b"\x1b[99;99H\x1b[r") == b"\x1b[99;99H\x1b[r"
    assert screen.resize(TerminalSize(80, 24)) != b""
    assert screen.draw(BAR) != b""
    assert screen.resize(TerminalSize(80, 1)).endswith(ERASED_BEHIND)
    assert screen.leave() == b""


ERASED_BEHIND = b"\x1b7\x1b[m\x1b[K\r\x1b[B\x1b[J\x1b8"


def test_the_bar_goes_where_it_has_no_room_and_comes_back() -> None:
    screen = Screen(10)
    screen.start(SIZE, bar=True)
    screen.draw(BAR)
    assert screen.resize(TerminalSize(COLUMNS, 9)) == b"\x1b7\x1b[r\x1b8\x1bD\x1b[A" + ERASED_BEHIND
    assert not screen.has_bar
    assert screen.remote_size == TerminalSize(COLUMNS, 9)
    assert screen.resize(TerminalSize(COLUMNS, 8)) == b""
    assert screen.feed(b"\x1b[99H") == b"\x1b[99H"
    screen.resize(TerminalSize(COLUMNS, 10))
    assert BAR in screen.draw(BAR)
    assert screen.remote_size == TerminalSize(COLUMNS, 9)


def test_a_bar_that_went_during_the_alternate_screen_is_erased_on_return() -> None:
    screen = Screen(10)
    screen.start(SIZE, bar=True)
    screen.draw(BAR)
    screen.feed(b"\x1b[?1049h")
    screen.resize(TerminalSize(COLUMNS, 9))
    assert screen.feed(b"x\x1b[?1049ly") == b"x\x1b[?1049l\x1b7\x1b[r\x1b8\x1bD\x1b[A" + ERASED_BEHIND + b"y"
    assert screen.feed(b"\x1b[?1049h\x1b[?1049l") == b"\x1b[?1049h\x1b[?1049l"


def test_after_a_resize_the_old_text_is_not_drawn() -> None:
    """It may be too long now, and wrap."""
    screen = with_bar()
    resized = screen.resize(TerminalSize(20, ROWS))
    assert ERASED_BEHIND in resized
    assert BAR not in resized
    assert screen.damaged
    assert BAR in screen.draw(BAR)


def test_a_full_row_keeps_its_last_character() -> None:
    screen = with_bar()
    screen.feed(b"x" * COLUMNS)
    assert b"\x1b7\x1b[m\r\x1b[B\x1b[J\x1b8" in screen.resize(TerminalSize(COLUMNS, ROWS + 1))


@pytest.mark.parametrize(("columns", "rows"), [(21, 0), (20, 1), (11, 1), (10, 2), (7, 2), (6, 3)])
def test_the_cursor_goes_back_over_the_rows_that_xterm_js_adds(columns: int, rows: int) -> None:
    screen = Screen(reflow_moves_cursor=True)
    screen.start(SIZE, bar=True)
    screen.draw(b"\x1b[7m connected \x1b[0m %b\x1b[K" % "▁ 漢字 ms".encode())  # 21 cells
    assert screen.resize(TerminalSize(columns, ROWS)).partition(b"\x1b7")[0] == b"\x1b[A" * rows


def test_a_notice_over_the_last_row() -> None:
    screen = without_bar()
    assert screen.draw_notice(b"trouble") == b"\x1b7\x1b[9999;1H\x1b[m\x1b[2K\x1b[?7ltrouble\x1b[?7h\x1b8"
    assert screen.draw_notice(b"") == b"\x1b7\x1b[9999;1H\x1b[m\x1b[2K\x1b8"


def test_many_colours_are_kept_in_short() -> None:
    screen = with_bar()
    screen.feed(
        b"".join(b"\x1b[1;2;4;38;2;%d;0;0;48;5;%dm" % (number, number) for number in range(100)) + b"\x1b[22;39;7m"
    )
    drawn = screen.draw(BAR)
    assert len(drawn) < 4000
    attributes = drawn.rpartition(b"\x1b8")[2]
    assert attributes.endswith(b"\x1b[22;39;7m")
    assert b"48;5;99" in attributes


def test_questions_of_the_remote() -> None:
    for screen in (with_bar(), without_bar()):
        screen.feed(b"\x1b[c\x1b[31m\x1b[?4m\x1bZtext\x1b]11;")
        screen.feed(b"?\x1b")
        screen.feed(b"\\\x1bP+")
        screen.feed(b"q544e\x1b\\\x1b]0;what?\x07\x1bcafter")
        questions = screen.take_questions()
        assert questions == [Question.ATTRIBUTES, Question.OTHER, Question.ATTRIBUTES, Question.OTHER, Question.OTHER]
        assert screen.take_questions() == []
    screen = with_bar()
    screen.feed(b"\x1b[18t")  # is not passed on
    assert screen.take_questions() == []


def test_a_terminal_that_answers_nothing_gets_a_bar_behind_text_too() -> None:
    """Where the text began is not known, so neither is whether a wrap is due."""
    screen = Screen()
    screen.start(TerminalSize(80, 24), bar=True)
    screen.feed(b"$ ")
    assert b"connected" not in screen.draw(b"connected")
    screen.set_located(False)
    assert b"connected" in screen.draw(b"connected")
