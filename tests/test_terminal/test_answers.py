"""Discarding the answers of a terminal: until the last one, and not for ever."""

from __future__ import annotations

import os
import time
import tty

from session_manager_plugin.terminal.answers import DISCARD_TIME, discard_answers
from tests.support.waiting import DEADLINE
from tests.test_terminal.conftest import Pty


def test_everything_up_to_the_last_answer_is_dropped(terminal: Pty) -> None:
    tty.setraw(terminal.slave)
    os.write(terminal.master, b"\x1b]11;rgb:0000/0000/0000\x1b\\\x1b[?62;22c\x1b[>1;2;3c\x1b[?62;22c")
    discard_answers(terminal.slave, 2, timeout=DEADLINE)
    os.write(terminal.master, b"ls")
    assert os.read(terminal.slave, 100) == b"ls"


def test_a_terminal_that_does_not_answer(terminal: Pty) -> None:
    tty.setraw(terminal.slave)
    os.write(terminal.master, b"\x1b[>1;2;3c")
    began = time.monotonic()
    discard_answers(terminal.slave, 1, timeout=0.01)
    assert time.monotonic() - began >= 0.01
    assert DISCARD_TIME <= 0.25


def test_a_terminal_that_is_gone(terminal: Pty) -> None:
    os.close(terminal.master)
    discard_answers(terminal.slave, 1, timeout=DEADLINE)
