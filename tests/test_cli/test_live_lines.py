"""Lines that are drawn in place, in the foreground of the terminal only."""

from __future__ import annotations

import pytest

from session_manager_plugin.cli import live_lines
from session_manager_plugin.cli.live_lines import LiveLine, LiveLines


class Jobs:
    """A terminal, and whether our job is in its background."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.background = False
        self._written = ""
        monkeypatch.setattr(live_lines, "in_background", lambda _fd: self.background)

    def write(self, text: str) -> None:
        self._written += text

    def written(self) -> str:
        """What was written since."""
        text, self._written = self._written, ""
        return text


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    return Jobs(monkeypatch)


def test_a_line_in_the_background_is_neither_drawn_nor_erased(jobs: Jobs) -> None:
    line = LiveLine(-1, jobs.write)
    line.draw("one")
    line.draw("two")
    assert jobs.written() == "\x1b[?25lone\r\r\x1b[Jtwo\r"
    jobs.background = True
    line.draw("three")
    line.erase()
    assert jobs.written() == ""
    jobs.background = False
    line.erase()
    assert jobs.written() == ""
    line.draw("four")
    line.erase()
    assert jobs.written() == "\x1b[?25lfour\r\r\x1b[J\x1b[?25h"


def test_lines_in_the_background_are_neither_drawn_nor_erased(jobs: Jobs) -> None:
    lines = LiveLines(-1, jobs.write)
    lines.show(["a", "b"])
    lines.show(["c"])
    assert jobs.written() == "a\nb\n\r\x1b[2A\x1b[Jc\n"
    jobs.background = True
    lines.show(["d"])
    with lines.hidden():
        jobs.write("a message\n")
    lines.show(())
    assert jobs.written() == "a message\n"
    jobs.background = False
    lines.show(["d"])
    assert jobs.written() == "d\n"


@pytest.mark.parametrize("kind", [LiveLine, LiveLines])
def test_what_another_program_may_have_written_over_is_left_alone(jobs: Jobs, kind: type[LiveLine | LiveLines]) -> None:
    drawing = kind(-1, jobs.write)
    if isinstance(drawing, LiveLine):
        drawing.draw("text")
    else:
        drawing.show(["text"])
    jobs.written()
    drawing.forget()
    with drawing.hidden():
        pass
    assert jobs.written() == ""
