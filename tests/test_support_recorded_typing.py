"""Keys are read from a recording with input, and derived from one without, but only where a person types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.emulator import need_emulator
from tests.support.recorded_typing import UNKNOWN_KEY, Recorded, read_cast, recorded_typing

_HEADER = {"version": 2, "width": 60, "height": 8, "timestamp": 1700000000}
_PAUSES = (0.21, 0.113, 0.34, 0.087, 0.155, 0.42, 0.131, 0.098, 0.27)


def _typed(text: str, first: float, pauses: Sequence[float] = _PAUSES) -> list[tuple[float, str, str]]:
    """The echo of each key of ``text``, at the pace of a person."""
    return [(pauses[place % len(pauses)] if place else first, "o", key) for place, key in enumerate(text)]


def _recorded(tmp_path: Path, events: Sequence[tuple[float, str, str]]) -> Recorded:
    now, lines = 0.0, [json.dumps(_HEADER)]
    for delay, kind, data in events:
        now += delay + 0.000123
        lines.append(json.dumps([round(now, 6), kind, data]))
    path = tmp_path / "some.cast"
    path.write_text("\n".join(lines) + "\n")
    return recorded_typing(read_cast(path))[0]


def _keys(recorded: Recorded) -> list[bytes]:
    return [keystroke.key for _, keystroke in recorded.typed]


def _plain(text: str) -> list[bytes]:
    return [character.encode() for character in text]


@pytest.fixture(autouse=True)
def emulator() -> None:
    need_emulator()


def test_input_is_taken_as_it_is(tmp_path: Path) -> None:
    events = [(0.1, "o", "$ ")]
    for key, pause in zip("ls -la\r", _PAUSES, strict=False):
        events += [(pause, "i", key), (0.002, "o", "\r\n" if key == "\r" else key)]

    recorded = _recorded(tmp_path, events)

    assert _keys(recorded) == _plain("ls -la\r")
    assert recorded.typed[0][0] == pytest.approx(0.1 + 0.21 + 2 * 0.000123)
    assert (recorded.columns, recorded.rows) == (60, 8)


def test_keys_are_derived_from_their_echo(tmp_path: Path) -> None:
    events = [(0.1, "o", "$ "), *_typed("git statis", 1.0), (0.3, "o", "\b\x1b[K"), (0.2, "o", "\b\x1b[K")]
    events += [*_typed("us", 0.4), (0.5, "o", "\r\n"), (0.01, "o", "clean\r\n$ ")]

    recorded = _recorded(tmp_path, events)

    assert _keys(recorded) == [*_plain("git statis"), b"\x7f", b"\x7f", *_plain("us"), b"\r"]
    assert recorded.typed[0][0] < recorded.output[1].at


def test_what_is_no_echo_of_one_character_has_an_unknown_effect(tmp_path: Path) -> None:
    events = [(0.1, "o", "$ "), *_typed("cat no", 1.0), (0.5, "o", "tes.txt "), (0.3, "o", "\b\b\b\b")]
    events += [(0.4, "o", "\r\n"), (0.01, "o", "$ ")]

    assert _keys(_recorded(tmp_path, events)) == [*_plain("cat no"), UNKNOWN_KEY, UNKNOWN_KEY, b"\r"]


def test_a_suggestion_is_no_typed_text(tmp_path: Path) -> None:
    grey = "\x1b[38;5;8m{}\x1b[39m"
    events = [(0.1, "o", "\x1b[?2004h$ "), (1.0, "o", "l"), (0.001, "o", grey.format("s -l") + "\x1b[4D")]
    events += [(0.2, "o", "s"), (0.13, "o", " "), (0.31, "o", "-"), (0.12, "o", "l"), (0.1, "o", "a")]
    events += [(0.4, "o", "\x1b[?2004l\r\r\n"), (0.01, "o", "\x1b[?2004h$ ")]

    assert _keys(_recorded(tmp_path, events)) == _plain("ls -la\r")


def test_output_of_a_program_is_no_typing(tmp_path: Path) -> None:
    events = [(0.1, "o", "$ "), *_typed("make test", 1.0), (0.5, "o", "\r\n")]
    events += [(0.4, "o", "testing: "), *_typed("..F.s...", 0.3), (0.4, "o", " [100%]\r\n"), (0.4, "o", "$ ")]

    assert _keys(_recorded(tmp_path, events)) == _plain("make test\r")


def test_stars_for_a_password_are_no_characters(tmp_path: Path) -> None:
    events = [(0.1, "o", "$ "), *_typed("log in", 1.0), (0.5, "o", "\r\n"), (0.1, "o", "Password: ")]
    events += [*_typed("********", 1.0), (0.4, "o", "\r\n$ ")]

    assert _keys(_recorded(tmp_path, events)) == _plain("log in\r")


@pytest.mark.parametrize("pauses", [(0.05,), (0.1, 0.11, 0.1, 0.09), (0.011, 0.03, 0.02), (1.4, 0.7, 2.0)])
def test_a_script_is_excluded(tmp_path: Path, pauses: Sequence[float]) -> None:
    events = [(0.1, "o", "$ "), *_typed("systemctl status", 1.0, pauses), (0.5, "o", "\r\n$ ")]
    events += [*_typed("journalctl", 1.0, pauses), (0.5, "o", "\r\n$ ")]

    assert _keys(_recorded(tmp_path, events)) == []


def test_only_the_line_of_a_script_is_excluded(tmp_path: Path) -> None:
    events = [(0.1, "o", "$ "), *_typed("git status", 1.0), (0.5, "o", "\r\n$ "), *_typed("git log", 1.0)]
    events += [(0.5, "o", "\r\n$ "), *_typed("./automatic", 1.0, (0.05,)), (0.5, "o", "\r\n$ ")]

    assert _keys(_recorded(tmp_path, events)) == _plain("git status\rgit log\r")


def test_a_change_of_the_size_ends_the_recording(tmp_path: Path) -> None:
    events = [(0.1, "o", "$ "), *_typed("git status", 1.0), (0.5, "o", "\r\n$ "), (0.1, "r", "80x24")]
    events += [*_typed("git log", 1.0), (0.5, "o", "\r\n$ ")]

    assert _keys(_recorded(tmp_path, events)) == _plain("git status\r")


@pytest.mark.parametrize("version", [1, 3])
def test_other_versions_have_times_relative_to_the_event_before(tmp_path: Path, version: int) -> None:
    events = [(0.1, "o", "$ "), *_typed("git log", 1.0), (0.5, "o", "\r\n$ ")]
    path = tmp_path / "some.cast"
    if version == 1:
        stdout = [[delay, data] for delay, _, data in events]
        path.write_text(json.dumps({"version": 1, "width": 60, "height": 8, "stdout": stdout}))
    else:
        header = {"version": 3, "term": {"cols": 60, "rows": 8}}
        path.write_text("\n".join(json.dumps(each) for each in (header, *events)))

    recorded, _ = recorded_typing(read_cast(path))

    assert _keys(recorded) == _plain("git log\r")
    assert recorded.output[-1].at == pytest.approx(sum(delay for delay, _, _ in events))


@pytest.mark.parametrize("text", ["", "no JSON\n", "[]\n", '{"version": 2}\n'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.cast"
    path.write_text(text)

    with pytest.raises((ValueError, KeyError, TypeError)):
        read_cast(path)
