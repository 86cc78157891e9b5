"""Whether a program waits for a line: what line editors show, and prompts that are learned."""

from __future__ import annotations

import pytest

from session_manager_plugin.terminal.cursor_row import CursorRow
from session_manager_plugin.terminal.line_prompt import SETTLE_TIME, LinePrompt


class Prompted:
    """A prompt and its row, fed together."""

    def __init__(self) -> None:
        self.row = CursorRow()
        self.row.resize(40, 10)
        self.row.feed(b"\x1b[2J")
        self.prompt = LinePrompt(self.row)

    @property
    def waits(self) -> bool:
        return self.prompt.waits_since is not None

    def output(self, data: bytes) -> bool:
        """Whether a program waits after that."""
        self.row.feed(data)
        self.prompt.output(data, 0.0)
        return self.waits

    def enter(self, *, is_ahead: bool = False, echoed: str = "") -> bool:
        self.prompt.entered(9.0, is_ahead=is_ahead)
        self.prompt.echoed(echoed)
        return self.waits


def test_a_line_editor_waits_from_its_prompt_to_enter() -> None:
    it = Prompted()
    assert not it.output(b"\r\n")
    assert it.output(b"\x1b[?2004h$ ")
    assert it.output(b"ls")
    assert not it.enter()
    assert not it.output(b"\r\n\x1b[?2004l\r")
    assert not it.output(b"file\r\n")
    assert it.output(b"\x1b[?2004h$ ")


def test_a_learned_prompt_waits_in_its_row_once_it_stands() -> None:
    it = Prompted()
    assert not it.output(b"\r\n$ ")
    it.enter(echoed="$ ")
    assert it.output(b"\r\nfile\r\n$ ")
    assert it.prompt.waits_since == SETTLE_TIME
    assert not it.enter()
    assert not it.output(b"\r\nPassword: ")
    it.enter()
    for _ in range(2):
        assert not it.output(b"\r\n$ ")  # two lines were entered; this prompt may be the first one's
        assert not it.enter()
    assert it.output(b"\r\n$ ")
    assert not it.output(b"\r\nDone ")


def test_a_question_that_is_not_asked_again_at_once_is_no_prompt() -> None:
    it = Prompted()
    it.output(b"\r\nPassword: ")
    it.enter(echoed="Password: ")
    it.output(b"\r\n$ ")
    it.enter()
    assert not it.output(b"\r\nPassword: ")


def test_the_prompt_after_a_line_typed_ahead_does_not_wait() -> None:
    it = Prompted()
    it.output(b"\r\n\x1b[?2004h$ ")
    it.enter()
    it.enter(is_ahead=True)
    it.output(b"\r\n\x1b[?2004l\r\x1b[?2004h$ ")
    assert it.prompt.waits_since == SETTLE_TIME  # it leaves the prompt at once if it reads the second line
    assert it.prompt.may_read_ahead
    assert not it.output(b"ask\r\n\x1b[?2004l\r")
    assert it.output(b"\x1b[?2004h$ ")
    assert it.prompt.waits_since == 0.0
    assert not it.prompt.may_read_ahead


def test_no_blank_text_is_a_prompt() -> None:
    it = Prompted()
    it.enter(echoed="  ")
    assert not it.output(b"\r\n  ")


def test_on_another_screen_nothing_waits() -> None:
    it = Prompted()
    it.output(b"\r\n\x1b[?2004h$ ")
    it.prompt.reset()
    assert not it.waits


@pytest.mark.parametrize(
    ("shown", "waits"),
    [
        ("me@host:/tmp$ ", True),
        ("me@host:~/a b# ", False),
        ("me@host's password: ", False),
        ("me2@host:~$ ", False),
        ("Password for me@host:~$ ", False),
    ],
)
def test_a_learned_prompt_may_change_in_its_middle(shown: str, waits: bool) -> None:
    it = Prompted()
    it.output(b"\r\nme@host:~$ ")
    it.enter(echoed="me@host:~$ ")
    assert it.output(b"\r\nfile\r\nme@host:~$ ")
    it.enter()
    assert it.output(b"\r\n" + shown.encode()) == waits


def test_a_prompt_that_never_stays_the_same_is_learned() -> None:
    it = Prompted()
    it.output(b"\r\n[12:01:07] ~ $ ")
    it.enter(echoed="[12:01:07] ~ $ ")
    assert it.output(b"\r\nfile\r\n[12:01:09] ~ $ ")
    it.enter(echoed="[12:01:09] ~ $ ")
    assert it.output(b"\r\n[12:01:12] /tmp $ ")
    it.enter()
    assert not it.output(b"\r\n[sudo] password for me: ")


def test_a_line_entered_before_the_first_prompt_is_not_answered_by_it() -> None:
    """The shell starts, shows its first prompt, and reads that line at once."""
    it = Prompted()
    it.enter()
    it.output(b"make\r\n$ ")
    it.enter(echoed="$ ")
    assert not it.output(b"\r\n$ ")  # after `make`: now it reads the second line
    assert it.output(b"\r\n$ ")
