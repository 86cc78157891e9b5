"""StatusDisplay: what each mode shows, when, how often, and what it leaves behind."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.protocol.reliable import StreamProgress
from session_manager_plugin.session.link_health import LinkHealth, LinkState, LinkStatus
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.display import StatusDisplay, first_remote_size
from session_manager_plugin.terminal.link_status import StatusMode
from session_manager_plugin.terminal.output import OutputWriter
from session_manager_plugin.terminal.status_line import MIN_INTERVAL, StatusLine
from session_manager_plugin.terminal.terminal_reports import TerminalReports
from session_manager_plugin.terminal.title import WindowTitle
from tests.support.waiting import wait_until

SIZE = TerminalSize(80, 24)
ASKED = b"\x1b[6n"
WELL = LinkHealth(LinkState.CONNECTED, latency=0.023)
CALM = LinkStatus(WELL, "alice-0123")
TROUBLE = LinkStatus(LinkHealth(LinkState.RECONNECTING, True, 3.0, "attempt 2", "cut"), "alice-0123")
DELAYED = LinkStatus(LinkHealth(LinkState.DELAYED, True, 3.0), "alice-0123")
RESTORED = LinkStatus(WELL._replace(restored_after=14.0), "alice-0123")
WORDS = b"for 3 s, attempt 2: cut"
PUSH, RESTORE = b"\x1b[22;2t", b"\x1b]2;\x07\x1b[23;2t"
CALM_TITLE = b"\x1b]2;connected, 23 ms (alice-0123)\x07"
TROUBLE_TITLE = b"\x1b]2;reconnecting for 3 s, attempt 2: cut, Enter ~. leaves (alice-0123)\x07"
RESTORED_TITLE = b"\x1b]2;connected, restored after 14 s (alice-0123)\x07"


def calm(latency: float) -> LinkStatus:
    """All is well, at this latency."""
    return CALM._replace(health=WELL._replace(latency=latency))


class Shown:
    """A display on a pipe, a link whose state the test sets, and a clock that is a number."""

    def __init__(self, mode: StatusMode, reading: int, output: OutputWriter) -> None:
        self._reading = reading
        self.output = output
        self.status = CALM
        self.progress = StreamProgress(0, 0, 0.0)
        self.now = 100.0
        self.sizes: list[TerminalSize] = []
        self.answers: list[bytes] = []
        self.reports = TerminalReports()
        self.discarded: list[int] = []
        line = StatusLine(hint="exit leaves", escape="~", color=True, unicode=True)
        self.display = StatusDisplay(
            mode,
            line,
            output,
            lambda: self.status,
            input_progress=lambda: self.progress,
            size_changed=lambda: self.sizes.append(self.display.remote_size),
            answer=self.answers.append,
            reports=self.reports,
            discard_answers=self.discarded.append,
            clock=lambda: self.now,
        )

    def look(self, after: float, status: LinkStatus) -> bytes:
        """What a look `after` so many seconds writes when the link is as `status` says."""
        self.now += after
        self.status = status
        self.display.look()
        return self.written()

    def type(self, data: bytes) -> bytes:
        """What the remote gets of what the terminal types."""
        passed, positions = self.reports.feed(data, self.now)
        for position in positions:
            self.display.located(position)
        return passed

    def written(self) -> bytes:
        try:
            return os.read(self._reading, 65536)
        except BlockingIOError:
            return b""


@pytest.fixture
async def shown(request: pytest.FixtureRequest) -> AsyncIterator[Shown]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    output = OutputWriter(writing)
    running = Shown(request.param, reading, output)
    try:
        yield running
    finally:
        running.display.stop()
        output.close()
        os.close(reading)
        os.close(writing)


def modes(*chosen: StatusMode) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("shown", chosen, indirect=True, ids=lambda mode: mode.value)


@pytest.mark.parametrize(
    ("mode", "rows", "expected"),
    [
        (StatusMode.AUTO, 24, 23),
        (StatusMode.AUTO, 9, 9),
        (StatusMode.BAR, 9, 8),
        (StatusMode.BAR, 2, 2),
        (StatusMode.NOTICE, 24, 24),
    ],
)
def test_the_first_size_of_the_remote(mode: StatusMode, rows: int, expected: int) -> None:
    assert first_remote_size(mode, TerminalSize(80, rows)) == TerminalSize(80, expected)


@modes(StatusMode.BAR)
async def test_bar(shown: Shown) -> None:
    shown.display.start(SIZE)
    assert b" connected " in shown.written()
    assert shown.display.remote_size == TerminalSize(80, 23)
    written = shown.look(1, TROUBLE)
    assert WORDS in written
    assert b"\x1b]2;" not in written
    again = shown.look(1, CALM)
    assert WORDS not in again
    assert b" connected " in again
    shown.display.stop()
    assert b"\x1b[r" in shown.written()
    shown.display.stop()
    assert shown.written() == b""


@modes(StatusMode.BAR)
async def test_bar_is_drawn_at_most_four_times_a_second_and_never_when_nothing_has_changed(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.written()
    drawn_at = [shown.now for step in range(1000) if shown.look(0.01, calm(0.1 + step / 1000))]
    assert len(drawn_at) == 10 / MIN_INTERVAL
    shown.look(1, CALM)
    assert not any(shown.look(0.01, CALM) for _ in range(1000))


@modes(StatusMode.TITLE)
async def test_title(shown: Shown) -> None:
    shown.display.start(SIZE)
    assert shown.written() == PUSH + CALM_TITLE
    assert shown.display.remote_size == SIZE
    assert shown.look(10, CALM) == b""
    assert shown.look(1, TROUBLE) == TROUBLE_TITLE
    assert shown.look(0.1, CALM) == b""  # too soon
    assert shown.look(MIN_INTERVAL, CALM) == CALM_TITLE
    changes = [shown.look(0.01, calm(0.1 + step / 1000)) for step in range(1000)]
    assert len([change for change in changes if change]) == 10 / MIN_INTERVAL
    shown.display.stop()
    assert shown.written() == RESTORE


@modes(StatusMode.OFF)
async def test_off_shows_trouble_in_the_title_only(shown: Shown) -> None:
    shown.display.start(SIZE)
    assert shown.written() == b""
    assert shown.look(1, calm(0.5)) == b""
    assert shown.look(1, TROUBLE) == PUSH + TROUBLE_TITLE
    assert shown.look(1, TROUBLE) == b""
    assert shown.look(1, CALM) == RESTORE
    assert shown.sizes == []
    shown.display.stop()
    assert shown.written() == b""


@modes(StatusMode.NOTICE)
async def test_notice_over_the_last_row(shown: Shown) -> None:
    shown.display.start(SIZE)
    assert shown.written() == b""
    written = shown.look(1, TROUBLE)
    assert written.startswith(b"\x1b7\x1b[9999;1H\x1b[m\x1b[2K")
    assert WORDS in written
    assert written.endswith(b"\x1b8" + PUSH + TROUBLE_TITLE)
    assert shown.look(10, TROUBLE) == b""
    assert shown.look(1, CALM) == b"\x1b7\x1b[9999;1H\x1b[m\x1b[2K\x1b8" + RESTORE
    assert shown.sizes == [TerminalSize(80, 23)]
    await wait_until(lambda: len(shown.sizes) == 2)
    assert shown.sizes == [TerminalSize(80, 23), SIZE]
    again = shown.look(1, TROUBLE)
    assert WORDS in again
    shown.display.stop()
    assert shown.written() == b"\x1b7\x1b[9999;1H\x1b[m\x1b[2K\x1b8" + RESTORE


@modes(StatusMode.NOTICE)
async def test_no_notice_stands_where_output_goes_on(shown: Shown) -> None:
    """It would be scrolled up into the output; the title says it."""
    shown.display.start(SIZE)
    written = shown.look(1, DELAYED)
    assert written.startswith(PUSH + b"\x1b]2;input delayed, not acknowledged for 3 s")
    shown.look(1, TROUBLE)
    assert b"\x1b7\x1b[9999;1H\x1b[m\x1b[2K\x1b8" in shown.look(1, DELAYED)


@modes(StatusMode.NOTICE, StatusMode.OFF, StatusMode.TITLE)
async def test_the_title_says_that_the_link_is_back(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.look(1, TROUBLE)
    assert shown.look(1, RESTORED).endswith(RESTORED_TITLE)
    end = CALM_TITLE if shown.display.mode is StatusMode.TITLE else RESTORE
    assert shown.look(5, CALM) == end


@modes(StatusMode.BAR)
async def test_the_bar_says_that_the_link_is_back(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.look(1, TROUBLE)
    assert b"restored after 14 s" in shown.look(1, RESTORED)
    assert b"restored" not in shown.look(5, CALM)


@modes(StatusMode.NOTICE)
async def test_notice_that_was_redrawn_after_a_resize(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.look(1, TROUBLE)
    shown.now += 1
    shown.display.resize(TerminalSize(100, 30))
    assert b"\x1b[9999;1H" in shown.written()
    assert shown.look(1, CALM).startswith(b"\x1b7\x1b[9999;1H\x1b[m\x1b[2K\x1b8")


@modes(StatusMode.NOTICE, StatusMode.TITLE, StatusMode.OFF)
async def test_without_a_bar_no_byte_is_changed(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.written()
    data = b"\x1b[99;99H\x1b[r\x1bc\x1b[2J\x1b[18t\xff\x1b]0;t\x07"
    for place in range(len(data)):
        shown.display.write(data[place : place + 1])
    assert shown.written() == data
    assert shown.answers == []


@modes(StatusMode.NOTICE, StatusMode.TITLE, StatusMode.OFF, StatusMode.BAR)
async def test_nothing_is_put_into_a_string_of_the_remotes(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.write(b"\x1b]0;half a ti")
    shown.written()
    assert shown.look(1, TROUBLE) == b""
    shown.display.write(b"tle\x07")
    written = shown.written() + shown.look(1, TROUBLE)
    assert written.startswith(b"tle\x07")
    assert WORDS in written


@modes(StatusMode.BAR)
async def test_terminal_too_small_for_a_bar_gets_the_notice(shown: Shown) -> None:
    shown.display.start(TerminalSize(80, 2))
    assert shown.written() == b""
    assert shown.display.remote_size == TerminalSize(80, 2)
    written = shown.look(1, TROUBLE)
    assert b"\x1b[9999;1H" in written
    assert TROUBLE_TITLE in written
    shown.display.resize(SIZE)
    assert shown.display.remote_size == TerminalSize(80, 23)
    assert shown.written().endswith(RESTORE)


@modes(StatusMode.AUTO)
async def test_a_bar_that_was_not_asked_for_needs_ten_rows(shown: Shown) -> None:
    shown.display.start(TerminalSize(80, 10))
    assert b" connected " in shown.written()
    shown.display.resize(TerminalSize(80, 9))
    assert b" connected " not in shown.written()
    assert shown.display.remote_size == TerminalSize(80, 9)
    assert WORDS in shown.look(1, TROUBLE)  # a notice over the last row
    shown.status = CALM
    shown.now += 1
    shown.display.resize(TerminalSize(80, 12))
    assert b" connected " in shown.written()
    assert shown.display.remote_size == TerminalSize(80, 11)
    shown.display.resize(TerminalSize(80, 5))
    shown.written()
    shown.display.toggle_bar()
    assert b" connected " in shown.written()
    assert shown.display.remote_size == TerminalSize(80, 4)
    shown.display.toggle_bar()
    assert shown.display.remote_size == TerminalSize(80, 5)


@modes(StatusMode.BAR)
async def test_the_same_size_again_draws_the_bar_and_makes_the_remote_repaint(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.written()
    shown.display.resize(SIZE)
    written = shown.written()
    assert b"\x1b[1;23r" in written
    assert b" connected " in written
    await wait_until(lambda: shown.sizes == [TerminalSize(80, 22), TerminalSize(80, 23)])


@modes(StatusMode.BAR)
async def test_shortly_after_a_resize_only_a_resize_draws(shown: Shown) -> None:
    """While a window's edge is dragged, the size that was read is soon wrong."""
    shown.display.start(SIZE)
    shown.display.resize(TerminalSize(70, 24))
    shown.written()
    assert shown.look(0.2, TROUBLE) == b""
    shown.display.resize(TerminalSize(60, 24))
    assert WORDS in shown.written()
    assert shown.look(0.2, CALM) == b""
    assert b" connected " in shown.look(0.2, CALM)


@modes(StatusMode.OFF)
async def test_the_bar_can_be_had_and_taken_away(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.toggle_bar()
    assert b" connected " in shown.written()
    assert shown.display.mode is StatusMode.BAR
    shown.display.write(b"\x1b[18t")
    assert shown.answers == [b"\x1b[8;23;80t"]
    shown.display.toggle_bar()
    assert b"\x1b[r" in shown.written()
    assert shown.display.mode.value == "off"
    assert shown.sizes == [TerminalSize(80, 23), SIZE]


@modes(StatusMode.BAR)
async def test_a_bar_taken_away_leaves_the_notice(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.toggle_bar()
    assert shown.display.mode is StatusMode.NOTICE
    shown.written()
    assert WORDS in shown.look(1, TROUBLE)


@modes(StatusMode.BAR)
async def test_it_looks_by_itself(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.written()
    shown.status = TROUBLE
    shown.now += 1
    await wait_until(lambda: WORDS in shown.written())


FLOOD = b"line\r\n" * 100_000


def read_all(shown: Shown) -> bytes:
    pieces = []
    while piece := shown.written():
        pieces.append(piece)
        shown.output.finish(0)
    return b"".join(pieces)


@modes(StatusMode.BAR)
async def test_a_terminal_that_is_slow_is_restored_all_the_same(shown: Shown) -> None:
    """What it has not accepted is not written at the end, but for the modes that are to be undone."""
    shown.display.start(SIZE)
    shown.display.write(FLOOD + b"\x1b[?1049h\x1b[?1000h" + FLOOD + b"\x1b[?1000l")
    shown.display.stop()
    assert shown.output.buffered < 1000
    written = read_all(shown)
    assert len(written) < len(FLOOD)
    assert written.index(b"\x1b[?1049h") < written.index(b"\x1b[?1000l") < written.index(b"\x1b[?1049l")
    assert b"\x1b[9999;1H\x1b[m\x1b[2K" in written[written.index(b"\x1b[?1049l") :]


@modes(StatusMode.BAR)
async def test_what_a_slow_terminal_has_not_accepted_before_a_stop_is_written_after_it(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.write(FLOOD)
    again = shown.display.pause()
    before = read_all(shown)
    assert before.count(b"line") < 100_000
    assert b"\x1b[r\x1b[9999;1H" in before
    shown.display.resume(SIZE, again)
    assert (before + read_all(shown)).count(b"line") == 100_000


def test_a_title_is_borrowed_once() -> None:
    title = WindowTitle()
    assert title.restore() == b""
    assert title.show(b"one") == PUSH + b"\x1b]2;one\x07"
    assert title.show(b"one") == b""
    assert title.show(b"two") == b"\x1b]2;two\x07"
    assert title.restore() == RESTORE
    assert title.restore() == b""


@modes(StatusMode.BAR)
async def test_a_byte_of_another_encoding_does_not_wait_for_the_next(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.written()
    shown.display.write(b"Oubli\xe9")
    written = b""

    def is_complete() -> bool:
        nonlocal written
        written += shown.written()
        return written == b"Oubli\xe9"

    await wait_until(is_complete)


@modes(StatusMode.NOTICE, StatusMode.TITLE, StatusMode.OFF)
async def test_without_a_bar_nothing_is_altered_or_delayed(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.written()
    for data in (b"Oubli\xe9", b"packet\xc3", b"\x1b", b"[", b"2J", b"\x1b]0;unfinished"):
        shown.display.write(data)
        assert shown.written() == data
    shown.display.stop()
    assert shown.written().startswith(b"\x18\x1b\\")


@modes(StatusMode.OFF)
async def test_answers_that_may_still_arrive_are_discarded(shown: Shown) -> None:
    """As many answers to DA1 as the remote has asked for, and one more."""
    shown.display.start(SIZE)
    shown.display.write(b"\x1b]11;?\x07\x1b[c\x1b[c")
    shown.display.stop()
    assert shown.discarded == [3]
    shown.display.stop()
    assert shown.discarded == [3]


@modes(StatusMode.OFF)
async def test_nothing_is_awaited_when_all_was_answered(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.write(b"\x1b]11;?\x07\x1b[c")
    shown.reports.feed(b"\x1b]11;rgb:0000/0000/0000\x07\x1b[?62;22c", shown.now)
    shown.display.stop()
    shown.display.start(SIZE)
    shown.display.write(b"\x1b[>c")
    shown.now += 60
    shown.display.stop()
    assert shown.discarded == []


@modes(StatusMode.OFF)
async def test_reports_of_the_mouse_are_discarded(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.write(b"\x1b[?1003h")
    shown.display.pause()
    assert shown.discarded == [1]


@modes(StatusMode.BAR)
async def test_the_answer_to_a_question_of_ours_is_discarded(shown: Shown) -> None:
    shown.display.start(SIZE)
    assert b"\x1b[6n" in shown.written()
    shown.display.stop()
    assert shown.discarded == [1]


@modes(StatusMode.BAR)
async def test_a_terminal_that_does_not_answer_is_not_waited_for(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.write(b"\x1b[c")
    shown.now += 1
    shown.display.stop()
    assert shown.discarded == []


@modes(StatusMode.BAR)
async def test_the_terminal_is_asked_where_the_cursor_is(shown: Shown) -> None:
    shown.display.start(SIZE)
    assert shown.written().count(ASKED) == 1
    shown.display.write(b"$ ")
    assert ASKED not in shown.written()  # one question at a time
    shown.type(b"\x1b[5;1R")  # of before the prompt
    assert ASKED in shown.written()
    shown.type(b"\x1b[5;3R")
    shown.display.write(b"ls\r\n")
    assert ASKED not in shown.written()
    shown.display.resize(TerminalSize(80, 30))
    assert ASKED in shown.written()


@modes(StatusMode.BAR)
async def test_a_terminal_without_answers_is_not_asked_for_ever(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.written()
    shown.now += 1
    for _ in range(10):
        shown.display.write(b"$ ")
    assert ASKED not in shown.written()
    shown.display.resize(TerminalSize(80, 30))
    assert ASKED in shown.written()


@modes(StatusMode.BAR)
async def test_the_remotes_questions_are_answered_to_the_remote(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.write(b"\x1b[6n")
    assert shown.type(b"\x1b[5;1R\x1b[6;1R") == b"\x1b[6;1R"


@modes(StatusMode.OFF, StatusMode.NOTICE, StatusMode.TITLE)
async def test_without_a_bar_nothing_is_asked(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.write(b"$ ")
    assert ASKED not in shown.written()
    assert shown.type(b"\x1b[48;24;80;480;800t") == b"\x1b[48;24;80;480;800t"
    shown.display.toggle_bar()
    assert ASKED in shown.written()
    assert shown.type(b"\x1b[48;24;80;480;800t") == b"\x1b[48;23;80;460;800t"


@modes(StatusMode.BAR)
async def test_what_is_typed_is_drawn_until_anything_else_is_written(shown: Shown) -> None:
    shown.display.start(SIZE)
    shown.display.toggle_prediction()
    assert shown.display.predicts
    shown.display.write(b"\x1b[H\x1b[2J\r\n\x1b[?2004h$ ")
    shown.progress = StreamProgress(1, 0, 0.0)
    shown.display.typed(b"l")
    shown.progress = StreamProgress(1, 1, 0.0)
    shown.display.write(b"l")
    shown.written()
    shown.progress = StreamProgress(2, 1, 0.0)
    shown.display.typed(b"s")
    assert shown.written() == b"\x1b[4Gs\x1b[5G"
    written = shown.look(1, TROUBLE)
    erased = b"\x1b[4G\x1b[m\x1b[1X\x1b[1C\x1b[4G"
    assert written.startswith(erased)
    assert WORDS in written
    assert written.endswith(b"\x1b[4Gs\x1b[5G")
    shown.display.toggle_prediction()
    assert shown.written() == erased
    shown.display.typed(b"x")
    assert shown.written() == b""


@modes(StatusMode.BAR)
async def test_the_bar_is_back_after_another_job_had_the_terminal(shown: Shown) -> None:
    """The output had stopped inside a string, in which nothing is drawn: its rest belongs to no string any more."""
    shown.display.start(SIZE)
    shown.display.write(b"text\x1b]0;half a title")
    shown.written()
    again = shown.display.lose()
    assert shown.written() == b""
    shown.display.start(SIZE)
    shown.display.write(again)
    assert b" connected " in shown.written()
