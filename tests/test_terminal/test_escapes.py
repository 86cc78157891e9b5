"""The recogniser of escapes: what it takes out of the input, and that everything else stays as it is."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_manager_plugin.errors import UsageError
from session_manager_plugin.terminal.escapes import (
    CHUNK_INTERVAL,
    CHUNK_SIZE,
    MOST_KEYS,
    PASTE_PAUSE,
    Escape,
    EscapeScanner,
    parse_escape_character,
    show_escape_character,
)

Parts = list[bytes | Escape]
HUMAN = 0.2
"""Seconds between two keys."""


def scan(*reads: bytes, scanner: EscapeScanner | None = None, interval: float = HUMAN) -> Parts:
    """All parts of `reads`, neighbouring bytes joined."""
    scanner = scanner or EscapeScanner()
    parts = [part for number, read in enumerate(reads) for part in scanner.feed(read, number * interval)]
    return join(parts)


def join(parts: Iterable[bytes | Escape]) -> Parts:
    joined: Parts = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, bytes) and isinstance(last, bytes):
            joined[-1] = last + part
        else:
            joined.append(part)
    return joined


@pytest.mark.parametrize(
    ("key", "escape"),
    [
        (b".", Escape.LEAVE),
        (b"\x1a", Escape.SUSPEND),
        (b"#", Escape.CONNECTIONS),
        (b"?", Escape.HELP),
        (b"i", Escape.DETAILS),
        (b"r", Escape.RECONNECT),
        (b"B", Escape.TOGGLE_BAR),
    ],
)
@pytest.mark.parametrize("before", [b"", b"\r", b"\n"])
def test_an_escape_at_the_start_of_a_line(before: bytes, key: bytes, escape: Escape) -> None:
    found = ([before] if before else []) + [escape]
    assert scan(before + b"~" + key) == found
    assert scan(before + b"~", key) == found
    if before:
        assert scan(before, b"~" + key) == scan(before, b"~", key) == found
        assert scan(b"ls" + before, b"~", key) == [b"ls" + before, escape]


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        (b"a~.", b"a~."),
        (b"~~.", b"~."),
        (b"~~~.", b"~~."),
        (b"\r~x\r", b"\r~x\r"),
        (b"~b", b"~b"),
        (b"~\r", b"~\r"),
        (b"\x1b~.", b"\x1b~."),
        (b"\x7f~.", b"\x7f~."),
        (b"\t~.", b"\t~."),
        ("\xe9~.".encode(), "\xe9~.".encode()),
    ],
)
def test_what_is_no_escape(typed: bytes, sent: bytes) -> None:
    if len(typed) <= MOST_KEYS:
        assert scan(typed) == [sent]
    assert scan(*(typed[position : position + 1] for position in range(len(typed)))) == [sent]


def test_after_an_escape_the_line_still_starts() -> None:
    assert scan(b"~?", b"~i", b"~.") == [Escape.HELP, Escape.DETAILS, Escape.LEAVE]


def test_an_unknown_escape_may_end_the_line() -> None:
    assert scan(b"~\r", b"~.") == [b"~\r", Escape.LEAVE]


def test_the_character_is_withheld_until_it_is_known_what_it_is() -> None:
    scanner = EscapeScanner()
    assert scanner.feed(b"a\r~", 0) == [b"a\r"]
    assert scanner.feed(b"a", 1) == [b"~a"]
    assert scanner.feed(b"\r~", 2) == [b"\r"]
    assert scanner.release() == b"~"
    assert scanner.release() == b""
    assert scanner.feed(b"~.", 3) == [b"~."]


def test_a_line_may_be_started_from_outside() -> None:
    scanner = EscapeScanner()
    assert scanner.feed(b"word", 0) == [b"word"]
    scanner.start_line()
    assert scanner.feed(b"~.", 1) == [Escape.LEAVE]


@pytest.mark.parametrize("character", [b"^", b"\x1d", b".", b"%"])
def test_another_character(character: bytes) -> None:
    scanner = EscapeScanner(character)
    assert scan(b"~?\r", character + b"?", scanner=scanner) == [b"~?\r", Escape.HELP]
    assert scan(character, character, b"\r", scanner=scanner) == [character + b"\r"]


@pytest.mark.parametrize(
    "paste", [b"\n~.\n", b"ls\r~.", b"~.\n", b"~.x", b"~?~.", b"\r\r~.", b"123456789~.", b"\r~.\r~."]
)
def test_what_nobody_types_between_two_reads_is_a_paste(paste: bytes) -> None:
    assert scan(paste) == [paste]
    assert scan(b"~", paste[1:]) == [b"~" + paste[1:]] or not paste.startswith(b"~")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (b"~.~.", [Escape.LEAVE, Escape.LEAVE]),
        (b"~?~?~.", [Escape.HELP, Escape.HELP, Escape.LEAVE]),
        (b"\r\r~?\n~.", [b"\r", b"\r", Escape.HELP, b"\n", Escape.LEAVE]),
        (b"~.~.~.~.~.", [b"~.~.~.~.~."]),  # too long to be typed
        (b"ls\r~.", [b"ls\r~."]),
        (b"~.~.x", [b"~.~.x"]),
        (b"\x1b[200~~.~.", [b"\x1b[200~~.~."]),
    ],
)
def test_escapes_typed_ahead(typed: bytes, expected: list[bytes | Escape]) -> None:
    assert EscapeScanner().typed_ahead(typed, 0.0) == expected


def test_a_long_read_tells_where_the_line_starts() -> None:
    assert scan(b"echo pasted\r", b"~.") == [b"echo pasted\r", Escape.LEAVE]
    assert scan(b"\r", b"echo pasted", b"~.") == [b"\recho pasted~."]


def test_a_character_withheld_before_a_paste_is_sent() -> None:
    assert scan(b"~", b".123456789") == [b"~.123456789"]


def test_the_tail_of_a_paste_that_was_cut() -> None:
    piece = b"echo\r".rjust(CHUNK_SIZE, b"x")
    for interval in (0.0, CHUNK_INTERVAL * 0.9):
        assert scan(piece, b"~.", b"\r~.", interval=interval) == [piece + b"~.\r~."]
    assert scan(piece, b"~.", interval=CHUNK_INTERVAL) == [piece, Escape.LEAVE]
    assert scan(piece[1:], b"~.", interval=0.0) == [piece[1:], Escape.LEAVE]


PASTE = b"\x1b[200~\r~.\r~?\r\x1b[201~"


@pytest.mark.parametrize("size", range(1, len(PASTE) + 1))
def test_a_bracketed_paste_is_not_scanned_however_it_is_cut(size: int) -> None:
    reads = [PASTE[position : position + size] for position in range(0, len(PASTE), size)]
    assert scan(*reads, b"\r", b"~.") == [PASTE + b"\r", Escape.LEAVE]


def test_a_paste_may_hold_what_looks_like_its_brackets() -> None:
    paste = b"\x1b[200~\x1b[200~\x1b\x1b[201\x1b[20\r~.\x1b\x1b[201~"
    for size in (1, 3, 8):
        reads = [paste[position : position + size] for position in range(0, len(paste), size)]
        assert scan(*reads, b"\r", b"~.") == [paste + b"\r", Escape.LEAVE]


def test_a_paste_without_an_end_does_not_last() -> None:
    scanner = EscapeScanner()
    assert scanner.feed(b"\x1b[200~\r", 0) == [b"\x1b[200~\r"]
    assert scanner.feed(b"~.\r", PASTE_PAUSE) == [b"~.\r"]
    assert scanner.feed(b"~.", 2 * PASTE_PAUSE + 0.1) == [Escape.LEAVE]


@pytest.mark.parametrize(
    "report",
    [
        b"\x1b[?65;1;9c",
        b"\x1b[>1;4000;42c",
        b"\x1b[0n",
        b"\x1b[24;80R",
        b"\x1b[8;24;80t",
        b"\x1b[?2026;2$y",
        b"\x1b[?31u",
        b"\x1b[<35;10;20M",
        b"\x1b[<0;10;20M\x1b[<0;10;20m",
        b"\x1b[32;10;20M",
        b"\x1b[M ~.",
        b"\x1b_Gi=1;OK\x1b\\",
        b"\x1b[I",
        b"\x1b[O\x1b[I",
        b"\x1b]11;rgb:0000/0000/0000\x1b\\",
        b"\x1b]10;rgb:ffff/ffff/ffff\x07",
        b"\x1bP>|XTerm(390)\x1b\\",
    ],
)
def test_what_a_terminal_answers_is_not_typed(report: bytes) -> None:
    assert scan(b"\r", report, b"~.") == [b"\r" + report, Escape.LEAVE]
    assert scan(b"\r" + report + b"~" + report, b".") == [b"\r" + report + report, Escape.LEAVE]
    assert scan(b"x", report, b"~.") == [b"x" + report + b"~."]
    assert scan(b"~", report, b".") == [report, Escape.LEAVE]
    assert scan(b"~", report, b"x") == [report + b"~x"]
    for cut in range(1, len(report)):
        parts = scan(b"\r", report[:cut], report[cut:], interval=0.0)
        assert scan(b"\r", report[:cut], report[cut:], b"~.", interval=0.0) == [*parts, Escape.LEAVE]
    assert scan(b"\x1b[200~\r", report, b"~.") == [b"\x1b[200~\r" + report + b"~."]


@pytest.mark.parametrize(
    "key", [b"\x1b[A", b"\x1bOA", b"\x1b[c", b"\x1b[3~", b"\x1b[1;5C", b"\x1bx", b"\x1b", b"\x1b]"]
)
def test_a_key_is_no_answer(key: bytes) -> None:
    assert scan(b"\r" + key, b"~.") == [b"\r" + key + b"~."]
    assert scan(b"\r", key, b"~", b".") == [b"\r" + key + b"~."]
    assert scan(b"\r", b"~", key, b".") == [b"\r~" + key + b"."]


def test_a_sequence_typed_by_hand_is_none() -> None:
    """In vim: Esc, O and M."""
    assert scan(b"\x1b", b"O", b"M", b"~.") == [b"\x1bOM~."]
    assert scan(b"\x1b", b"\r", b"~.") == [b"\x1b\r", Escape.LEAVE]


def test_other_sequences_are_no_paste() -> None:
    assert scan(b"\x1b[20~\r", b"~.") == [b"\x1b[20~\r", Escape.LEAVE]
    assert scan(b"\x1b[A", b"\r~.") == [b"\x1b[A\r", Escape.LEAVE]


def reference(text: bytes) -> Parts:
    """What is to come of keys typed one by one, without pastes: line by line, with a regular expression."""
    parts: Parts = []
    for line in re.findall(rb"[^\r\n]*[\r\n]|[^\r\n]+$", text):
        while match := re.match(rb"~([.\x1a#?irB])", line):
            parts.append(Escape(match[1]))
            line = line[2:]
        if line == b"~":
            continue  # still withheld
        parts.append(line[1:] if line.startswith(b"~~") else line)
    return join(part for part in parts if part)


TYPED = st.lists(st.sampled_from([bytes([code]) for code in b"~~~~\r\r\n.?#irBx\x1a\x00\xff"]), max_size=60)


@st.composite
def cut(draw: st.DrawFn, longest: int) -> list[bytes]:
    """Typed bytes as reads of up to `longest` bytes."""
    data = b"".join(draw(TYPED))
    reads = []
    while data:
        size = draw(st.integers(1, longest))
        reads.append(data[:size])
        data = data[size:]
    return reads


@given(TYPED)
@example([b"~", b"\r", b"~", b"?", b"~", b"~"])
def test_escapes_are_found_and_the_rest_arrives_byte_for_byte(keys: list[bytes]) -> None:
    assert scan(*keys) == reference(b"".join(keys))


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=30), st.sampled_from([0.0, HUMAN]))
def test_without_the_character_every_byte_arrives_at_once(reads: list[bytes], interval: float) -> None:
    scanner = EscapeScanner(b"\x1d")
    for number, read in enumerate(reads):
        read = read.replace(b"\x1d", b"~")
        assert scanner.feed(read, number * interval) == [read]


@given(cut(longest=20), st.lists(st.binary(max_size=4), max_size=30), st.sampled_from([0.0, HUMAN]))
def test_nothing_but_escapes_is_taken_from_any_input(reads: list[bytes], between: list[bytes], interval: float) -> None:
    """Put back what was taken, and it is the input: with pastes of any kind between the keys."""
    mixed = [read for pair in itertools.zip_longest(reads, between, fillvalue=b"") for read in pair if read]
    scanner = EscapeScanner()
    told = b""
    for number, read in enumerate(mixed):
        for part in scanner.feed(read, number * interval):
            told += b"~" + part.value if isinstance(part, Escape) else part
    told += scanner.release()
    assert without_doubled(told) == without_doubled(b"".join(mixed))


def without_doubled(text: bytes) -> bytes:
    """`text` with one escape character where there are several in a row: a doubled one is sent once."""
    return re.sub(rb"~+", b"~", text)


@pytest.mark.parametrize(
    ("text", "character"),
    [("~", b"~"), ("^", b"^"), ("%", b"%"), ("^]", b"\x1d"), ("^a", b"\x01"), ("^@", b"\x00"), ("none", None)],
)
def test_parse_escape_character(text: str, character: bytes | None) -> None:
    assert parse_escape_character(text) == character
    if character is not None:
        assert parse_escape_character(show_escape_character(character)) == character


@pytest.mark.parametrize(
    "text", ["", "~~", "None", "^M", "^J", "^[", "\r", "\n", "\x1b", "\x7f", "ä", "^ä", "^1", "off"]
)
def test_what_is_no_escape_character(text: str) -> None:
    with pytest.raises(UsageError, match="one ASCII character"):
        parse_escape_character(text)


def test_show_escape_character() -> None:
    assert [show_escape_character(character) for character in (b"~", b"\x1d", b" ")] == ["~", "^]", " "]
