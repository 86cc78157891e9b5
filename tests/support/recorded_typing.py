"""The typing of people in their recordings of a terminal (asciicast v1, v2, v3).

A recording with input has each key and its time. In one without, the keys are derived from the output: at a prompt
the echo of each key is an output of its own, at the pace of a person. What is no such echo is a key with an unknown
effect, or none. Lines that a script seems to have typed have no keys, and a recording with mostly such lines has none.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from session_manager_plugin.terminal.character_width import character_width
from tests.support.echo_judge import COLUMNS, ROWS, Written
from tests.support.emulator import Life, Look, live_one
from tests.support.typist import Keystroke

UNKNOWN_KEY = b"\t"
"""Stands for every key whose effect is more than a character: completion, history, a movement, a paste."""
BACKSPACE, LEFT, RIGHT, ENTER, INTERRUPT, END = b"\x7f", b"\x1b[D", b"\x1b[C", b"\r", b"\x03", b"\x04"
BEFORE_ECHO = 0.001
"""Seconds between a key and its echo, where the recording has no input."""
_TOGETHER = 0.005
"""Seconds between two outputs up to which both may answer the same key."""
_AT_REST, _EDITOR_AT_REST = 0.1, 0.03
"""Seconds without output after which a prompt waits for its first key; and after the prompt of a line editor."""
TESTABLE = 5
"""The fewest characters of a line whose times show whether a person has typed it."""
PACE = (0.05, 0.6)
"""The median of the seconds between two characters that a person types, at least and at most."""
SPREAD = 0.3
"""The least distance of the quartiles of these seconds, divided by the median."""
FAULTLESS = 150
"""The fewest characters among which a person has corrected one."""
_ACTIVE = 5.0
"""Seconds without input or output that count as a part of an active session."""

_SECOND_CELL = "\0"
"""Stands for the second cell of a wide character."""
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78M])")
_FIRST_NEWLINE = re.compile(r"[\r\x08 ]*\n")
_ENDED = re.compile(r"[\r ]*\n(?:exit|logout)\b")
_ERASES = re.compile(r" |\x1b\[[0-9]*[JKPX]")
_QUESTION = re.compile(r"[:?>$#%\])] ?$")


class Recorded(NamedTuple):
    """A session at its program, without a link: times are in seconds since its beginning."""

    typed: list[tuple[float, Keystroke]]
    output: list[Written]
    columns: int = COLUMNS
    rows: int = ROWS

    @property
    def active(self) -> float:
        """Seconds of the session, of each pause at most a few."""
        moments = sorted([at for at, _ in self.typed] + [written.at for written in self.output])
        return sum(min(second - first, _ACTIVE) for first, second in itertools.pairwise(moments))

    @property
    def characters(self) -> int:
        """How many characters were typed."""
        return sum(keystroke.is_printable for _, keystroke in self.typed)


class Cast(NamedTuple):
    """What an asciicast contains, up to the first change of the terminal's size."""

    columns: int
    rows: int
    output: list[Written]
    input: list[tuple[float, bytes]]
    is_generated: bool
    """Whether the times are rounded as no recorder does it."""


def read_cast(path: Path) -> Cast:
    """Read an asciicast. Raises ValueError, KeyError or TypeError if it is none."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise ValueError("an empty file")
    header: dict[str, Any] = json.loads(text if lines[0].strip() == "{" or len(lines) == 1 else lines[0])
    version = header["version"]
    terminal = header["term"] if version == 3 else header
    columns, rows = (terminal["cols"], terminal["rows"]) if version == 3 else (terminal["width"], terminal["height"])
    if version == 1:
        events = [(delay, "o", data) for delay, data in header["stdout"]]
    else:
        events = [json.loads(line) for line in lines[1:] if line.startswith("[")]
    cast = Cast(columns, rows, [], [], version == 2 and _is_rounded([event[0] for event in events]))
    now = 0.0
    for at, kind, data in events:
        now = at if version == 2 else now + at
        if kind == "o":
            cast.output.append(Written(now, data.encode(errors="replace")))
        elif kind == "i":
            cast.input.append((now, data.encode(errors="replace")))
        elif kind == "r":
            break
    return cast


def _is_rounded(times: Sequence[float]) -> bool:
    """Whether most times have no more than three decimal places. asciinema writes six in this version."""
    return sum(round(at, 3) == at for at in times) > len(times) / 2


@dataclass
class _Line:
    """A line that is typed."""

    prompt: str
    is_edited: bool
    """Whether a line editor has shown the prompt."""
    keys: list[tuple[float, bytes]] = field(default_factory=list)

    @property
    def characters(self) -> str:
        return "".join(key.decode() for _, key in self.keys if _is_character(key))

    @property
    def intervals(self) -> list[float]:
        """The seconds between two characters in succession."""
        pairs = itertools.pairwise(self.keys)
        return [second[0] - first[0] for first, second in pairs if _is_character(first[1]) and _is_character(second[1])]


class Typing(NamedTuple):
    """What was typed in a recording."""

    lines: list[_Line]
    scripted: int
    """How many lines have no keys because a script seems to have typed them."""

    @property
    def is_by_a_person(self) -> bool:
        """Whether most lines, and all of them together, have the times and the corrections of a person."""
        keys = [key for line in self.lines for _, key in line.keys]
        characters = sum(map(_is_character, keys))
        testable = sum(len(line.characters) >= TESTABLE for line in self.lines)
        is_corrected = BACKSPACE in keys or b"\x08" in keys or characters < FAULTLESS
        return (
            testable > self.scripted
            and is_corrected
            and _is_human([each for line in self.lines for each in line.intervals])
        )


def recorded_typing(cast: Cast) -> tuple[Recorded, Typing]:
    """Return a session with the keys that a person has typed, none if there are none; and what was typed."""
    lines = list(_split(cast.input)) if cast.input else list(_derived(cast))
    kept = [line for line in lines if not _is_scripted(line)]
    typing = Typing(kept, len(lines) - len(kept))
    is_counted = typing.is_by_a_person and not cast.is_generated
    keys = [key for line in kept for key in line.keys] if is_counted else []
    typed = [(at, Keystroke(0.0, key)) for at, key in keys]
    return Recorded(typed, cast.output, cast.columns, cast.rows), typing


def _split(keys: list[tuple[float, bytes]]) -> Iterator[_Line]:
    line = _Line("", is_edited=False)
    for at, key in keys:
        line.keys.append((at, key))
        if key in (ENTER, b"\n"):
            yield line
            line = _Line("", is_edited=False)
    if line.keys:
        yield line


def _is_character(key: bytes) -> bool:
    return len(key) == 1 and 0x20 <= key[0] < 0x7F


def _is_human(intervals: Sequence[float]) -> bool:
    """Whether these seconds between two keys vary as a person's do."""
    if len(intervals) < TESTABLE - 1:
        return False
    first, median, third = statistics.quantiles(intervals, n=4)
    return PACE[0] <= median <= PACE[1] and third - first >= SPREAD * median


def _is_scripted(line: _Line) -> bool:
    intervals = line.intervals
    return len(intervals) >= TESTABLE - 1 and not _is_human(intervals)


# --- keys from output


def _derived(cast: Cast) -> Iterator[_Line]:
    """Derive the lines that were typed, from the output alone."""
    output = [written for written in cast.output if written.data]
    life = Life(cast.columns, cast.rows).look_at_row()
    for written in output:
        life.write(written.data).look_at_row()
    looks = live_one(life)
    line: _Line | None = None
    prompts: set[str] = set()
    start = 0
    while start < len(output):
        end = start + 1
        while end < len(output) and output[end].at - output[end - 1].at <= _TOGETHER:
            end += 1
        before = looks[start]
        pause = output[start].at - output[start - 1].at if start else 0.0
        if line is None and _is_at_prompt(before, pause):
            line = _Line(_before_cursor(before), before.modes["bracketedPasteMode"])
        if line is not None:
            is_over = _follow(line, output[start:end], looks[start : end + 1])
            if is_over:
                if _is_line(line, pause, prompts):
                    prompts.add(line.prompt)
                    yield line
                line = None
            elif not line.keys:
                line = None
        start = end


def _is_at_prompt(look: Look, pause: float) -> bool:
    if look.alternate:
        return False
    if look.modes["bracketedPasteMode"]:
        return pause >= _EDITOR_AT_REST
    return pause >= _AT_REST and bool(_before_cursor(look).strip())


def _is_line(line: _Line, pause: float, prompts: set[str]) -> bool:
    """Whether ``line``, which is over, was certainly typed by somebody."""
    last = line.keys[-1][1] if line.keys else b""
    if last not in (ENTER, INTERRUPT, END):
        return False
    if line.is_edited:
        return True
    characters = line.characters
    if not characters:  # Enter alone, or after a password
        return len(line.keys) == 1 and (
            line.prompt in prompts or (pause >= 0.3 and bool(_QUESTION.search(line.prompt)))
        )
    if len(characters) > 2 and not any(map(str.isalnum, characters)):
        return False  # dots that show progress, or stars
    return 2 * len(characters) >= len(line.keys) - 1


def _follow(line: _Line, output: Sequence[Written], looks: Sequence[Look]) -> bool:
    """Derive the keys that this output, all of it at once, answers. Returns whether the line is over.

    ``looks``: one before the first, and one after each.
    """
    first = 0
    while first < len(output):
        place = next(
            (
                place
                for place in range(first, len(output))
                if b"\n" not in output[place].data and _character(looks[first], looks[place + 1])
            ),
            None,
        )
        if place is None or any(b"\n" in written.data for written in output[first:place]):
            break
        line.keys.append((output[first].at - BEFORE_ECHO, _character(looks[first], looks[place + 1]).encode()))
        first = place + 1
    if first == len(output):
        return False
    data = b"".join(written.data for written in output[first:]).decode(errors="replace")
    key, is_over = _effect(line, looks[first], looks[-1], data)
    if key:
        line.keys.append((output[first].at - BEFORE_ECHO, key))
    return is_over


def _effect(line: _Line, before: Look, after: Look, data: str) -> tuple[bytes, bool]:
    """Return the key that the output ``data`` answers, and whether the line is over after it."""
    visible = _SEQUENCE.sub("", data).replace("\x07", "")
    if "^C" in visible:
        return INTERRUPT, True
    if line.is_edited and "\x1b[?2004l" in data:
        return (END if not line.keys and _ENDED.match(visible) else ENTER), True
    if before.alternate or after.alternate:
        return b"", True
    if "\n" in visible:
        if line.is_edited or (line.keys and _before_cursor(before) == _before_cursor(after)):
            return UNKNOWN_KEY, False
        return (ENTER if _FIRST_NEWLINE.match(visible) else b""), True
    if _before_cursor(before) == _before_cursor(after) and before.cursor == after.cursor:
        return (UNKNOWN_KEY if data == "\x07" else b""), False
    if not line.keys and not (line.is_edited and line.prompt.strip() and _before_cursor(after).startswith(line.prompt)):
        return b"", True  # a program writes, or a prompt is drawn
    return _moved(before, after, data), False


def _character(before: Look, after: Look) -> str:
    """Return the character by which the text before the cursor has grown; an empty text if there is none."""
    if before.alternate or after.alternate or "i-search)" in after.rows[after.cursor[1]]:
        return ""
    (column, row), (to_column, to_row) = before.cursor, after.cursor
    columns = len(_cells(before))
    line = _row(before)
    if to_row == row and column < columns:
        grown = _row(after)
        if grown[:column] != line[:column] or to_column <= column or to_column - column > 2:
            return ""
        character = grown[column:to_column].removesuffix(_SECOND_CELL)
        if len(character) != 1 or character_width(character) != to_column - column or not character.isprintable():
            return ""
        is_inserted = grown.rstrip() == (line[:column] + character + line[column:]).rstrip()
        if is_inserted and line.rstrip() != grown.rstrip():
            return character
        if character == " " and not line[column : column + 2].strip():
            return character
        return "" if _same_cell(before, after, column) else character
    if (
        column >= columns - 1
        and to_column <= 1
        and to_row - row in (0, 1)
        and (to_row > row or row + 1 == _height(before))
    ):
        above = after.rows[to_row - 1] if to_row else ""
        text = above.ljust(columns)[column:] + _row(after)[:to_column] if column < columns else _row(after)[:to_column]
        return (
            text if len(text) == 1 and text.isprintable() and above[:column].rstrip() == line[:column].rstrip() else ""
        )
    return ""


def _moved(before: Look, after: Look, data: str) -> bytes:
    """Return the key after which the cursor is elsewhere, or the text before it is another."""
    (column, row), line, moved = before.cursor, _row(before), _row(after)
    if "i-search)" in moved:
        return UNKNOWN_KEY
    if after.cursor == (column - 1, row) and moved[: column - 1] == line[: column - 1]:
        if moved == line and _same_cell(before, after, column - 1):
            is_erased = not line[column - 1 : column + 1].strip() and _ERASES.search(data)
            return BACKSPACE if is_erased else LEFT
        if moved.rstrip() == (line[: column - 1] + line[column:]).rstrip():
            return BACKSPACE
        return LEFT if _same_cell(before, after, column - 1) else BACKSPACE
    if after.cursor == (column + 1, row) and moved[: column + 1] == line[: column + 1]:
        return RIGHT
    return UNKNOWN_KEY


def _height(look: Look) -> int:
    return len(look.rows)


def _cells(look: Look) -> list[str]:
    return look.cells[look.cursor[1]].split(" ")


def _row(look: Look) -> str:
    """Return the text of the cursor's row, one character for each cell."""
    text = look.rows[look.cursor[1]]
    if not text.isascii():
        text = "".join(
            character + _SECOND_CELL * (character_width(character) - 1)
            for character in text
            if character_width(character)
        )
    return text.ljust(len(_cells(look)))


def _before_cursor(look: Look) -> str:
    return _row(look)[: look.cursor[0]]


def _same_cell(before: Look, after: Look, column: int) -> bool:
    same_text = _row(before)[column] == _row(after)[column]
    return same_text and _cells(before)[column] == _cells(after)[column]
