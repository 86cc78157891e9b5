"""What is written of output that a terminal has not accepted."""

from __future__ import annotations

import pytest

from session_manager_plugin.terminal.backlog import switches


@pytest.mark.parametrize(
    ("unwritten", "kept"),
    [
        (b"31mtext\r\n\x1b[31mred", b""),
        (b"\x1b[?25l\x1b[?25h\x1b[?25ltext", b"\x1b[?25h\x1b[?25l"),
        (b"\x1b[?1049h\x1b[2;5r\x1b[>1u\x1b[4h\x1b=", b"\x1b[?1049h\x1b[2;5r\x1b[>1u\x1b[4h\x1b="),
        (b"\x1b[>4;2m\x1b[5 q\x1bc\x1b[!p", b"\x1b[>4;2m\x1b[5 q\x1bc\x1b[!p"),
        (b"\x1b[c\x1b[6n\x1b[18t\x1b[>q\x1b[?2026$p\x1b[2J\x1b[5;5H", b""),
    ],
)
def test_modes_are_kept_and_no_text_and_no_question(unwritten: bytes, kept: bytes) -> None:
    assert switches(unwritten) == b"\x18\x1b\\" + kept + b"\x1b[m\x1b(B\x0f\x1b]8;;\x1b\\"


def test_nothing_unwritten_changes_nothing() -> None:
    assert switches(b"") == b""
