"""Keys in every encoding that a remote program may have enabled: what each types, and escapes typed in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.terminal.escapes import Escape, EscapeScanner
from session_manager_plugin.terminal.keys import EventKind, input_events

HUMAN = 0.2
"""Seconds between two keys."""


def kinds(data: bytes) -> list[EventKind]:
    return [event.kind for event in input_events(data)]


@pytest.mark.parametrize(
    ("raw", "character"),
    [
        (b"~", "~"),
        ("é".encode(), "é"),
        (b"\xe9", "\N{REPLACEMENT CHARACTER}"),
        (b"\x1bOM", "\r"),
        (b"\x1bOn", "."),
        (b"\x1bOA", ""),
        (b"\x1b[A", ""),
        (b"\x1b[3~", ""),
        # kitty
        (b"\x1b[97u", "a"),
        (b"\x1b[126u", "~"),
        (b"\x1b[96;2u", "~"),
        (b"\x1b[96:126;2u", "~"),
        (b"\x1b[43:126;2:1u", "~"),
        (b"\x1b[96;2:2u", "~"),
        (b"\x1b[43;1;126u", "~"),
        (b"\x1b[96;130u", "~"),
        (b"\x1b[0;;126u", "~"),
        (b"\x1b[46u", "."),
        (b"\x1b[46;1:1;46u", "."),
        (b"\x1b[57409u", "."),
        (b"\x1b[13u", "\r"),
        (b"\x1b[57414;129u", "\r"),
        (b"\x1b[109;5u", "\r"),
        (b"\x1b[122;5u", "\x1a"),
        (b"\x1b[93;5u", "\x1d"),
        (b"\x1b[54;6u", "\x1e"),
        (b"\x1b[98;2u", "B"),
        (b"\x1b[98;65u", "B"),
        (b"\x1b[98;66u", "b"),
        (b"\x1b[126;3u", ""),
        (b"\x1b[99999999;2u", ""),
        (b"\x1b[223;5u", "ß"),
        (b"\x1b[1;2:1A", ""),
        # modifyOtherKeys, in both formats
        (b"\x1b[27;2;126~", "~"),
        (b"\x1b[27;5;122~", "\x1a"),
        (b"\x1b[27;2;66~", "B"),
        (b"\x1b[126;2u", "~"),
        # win32
        (b"\x1b[192;41;126;1;16;1_", "~"),
        (b"\x1b[187;27;126;1;9;1_", "~"),
        (b"\x1b[190;52;46;1;0;1_", "."),
        (b"\x1b[13;28;13;1;0;1_", "\r"),
        (b"\x1b[90;44;26;1;8;1_", "\x1a"),
        (b"\x1b[190;52;46;1;2;1_", ""),
        (b"\x1b[38;72;0;1;256;1_", ""),
    ],
)
def test_what_a_key_types(raw: bytes, character: str) -> None:
    ((event),) = input_events(raw)
    assert (event.kind, event.character) == (EventKind.KEY, character)


@pytest.mark.parametrize(
    "raw",
    [b"\x1b[96;2:3u", b"\x1b[46;1:3u", b"\x1b[1;1:3A", b"\x1b[3;1:3~", b"\x1b[57441;1:3u", b"\x1b[192;41;126;0;16;1_"],
)
def test_a_release(raw: bytes) -> None:
    assert kinds(raw) == [EventKind.RELEASE]


@pytest.mark.parametrize(
    "raw", [b"\x1b[57441;2u", b"\x1b[57453u", b"\x1b[57358;65u", b"\x1b[16;42;0;1;16;1_", b"\x1b[221;13;0;1;0;1_"]
)
def test_a_key_that_types_nothing_by_itself(raw: bytes) -> None:
    assert kinds(raw) == [EventKind.MODIFIER]


@pytest.mark.parametrize(
    "raw", [b"\x1b", b"\x1b[", b"\x1b[1;", b"\x1b[M x", b"\x1bO", b"\x1b]11;rgb:", b"\x1bP1$r0m\x1b"]
)
def test_an_unfinished_sequence(raw: bytes) -> None:
    assert kinds(raw) == [EventKind.UNFINISHED]


@given(
    st.lists(
        st.sampled_from(
            [b"\x1b", b"[", b"]", b"O", b"M", b"P", b";", b"\x1b\\", b"\x07", b"1", b"~", b"\xc3", b"\xa9", b"\r"]
        )
    ).map(b"".join)
)
def test_events_are_all_of_the_input(data: bytes) -> None:
    assert b"".join(event.raw for event in input_events(data)) == data


@pytest.mark.parametrize(
    "raw", [b"\x1b[M ~.", b"\x1b[M .\xc4\x81", b"\x1b[M\xc4\x81\xc4\x82\xc4\x83", b"\x1b[M \xff\xfe"]
)
def test_the_mouse_in_bytes_and_in_characters(raw: bytes) -> None:
    assert kinds(raw) == [EventKind.REPORT]


ENTER_TILDE_DOT = {
    "keypad": ([b"\x1bOM"], [b"~"], [b"."]),
    "kitty 1": ([b"\r"], [b"~"], [b"."]),
    "kitty 1, keypad": ([b"\x1b[57414u"], [b"~"], [b"."]),
    "kitty 3": ([b"\r"], [b"~", b"\x1b[96;2:3u"], [b".", b"\x1b[46;1:3u"]),
    "kitty 8": ([b"\x1b[13u"], [b"\x1b[57441;2u", b"\x1b[96;2u"], [b"\x1b[46u"]),
    "kitty 10": (
        [b"\x1b[13u", b"\x1b[13;1:3u"],
        [b"\x1b[57441;2u", b"\x1b[96;2u", b"\x1b[96;2:3u", b"\x1b[57441;1:3u"],
        [b"\x1b[46u", b"\x1b[46;1:3u"],
    ),
    "kitty 31": (
        [b"\x1b[13;1;13u", b"\x1b[13;1:3u"],
        [b"\x1b[57441;2u", b"\x1b[96:126;2;126u", b"\x1b[57441;1:3u", b"\x1b[96;1:3u"],
        [b"\x1b[46;;46u", b"\x1b[46;1:3u"],
    ),
    "modifyOtherKeys": ([b"\r"], [b"\x1b[27;2;126~"], [b"."]),
    "formatOtherKeys": ([b"\r"], [b"\x1b[126;2u"], [b"."]),
    "win32": (
        [b"\x1b[13;28;13;1;0;1_", b"\x1b[13;28;13;0;0;1_"],
        [
            b"\x1b[16;42;0;1;16;1_",
            b"\x1b[192;41;126;1;16;1_",
            b"\x1b[192;41;126;0;16;1_",
            b"\x1b[16;42;0;0;0;1_",
        ],
        [b"\x1b[190;52;46;1;0;1_", b"\x1b[190;52;46;0;0;1_"],
    ),
}
Typed = tuple[list[bytes], list[bytes], list[bytes]]
encodings = pytest.mark.parametrize("typed", ENTER_TILDE_DOT.values(), ids=ENTER_TILDE_DOT)


def scan(reads: list[bytes]) -> tuple[bytes, list[Escape]]:
    """What is sent, and the escapes."""
    scanner = EscapeScanner()
    parts = [part for number, read in enumerate(reads) for part in scanner.feed(read, number * HUMAN)]
    return (
        b"".join(part for part in parts if isinstance(part, bytes)),
        [part for part in parts if isinstance(part, Escape)],
    )


def presses(keys: list[bytes]) -> bytes:
    """The key of `keys` that is taken by an escape."""
    (pressed,) = (raw for raw in keys if kinds(raw) == [EventKind.KEY])
    return pressed


@encodings
def test_leaving_in_every_encoding(typed: Typed) -> None:
    enter, tilde, dot = typed
    rest = [raw for raw in tilde + dot if raw not in (presses(tilde), presses(dot))]
    for reads in (
        [b"x", *enter, *tilde, *dot],
        [b"x", b"".join(enter), b"".join(tilde), b"".join(dot)],
        [b"x", b"".join(enter + tilde + dot)],
        [b"x", *enter, b"\x1b[<35;1;1M", *tilde, b"\x1b[I", *dot],
    ):
        sent, escapes = scan(reads)
        assert escapes == [Escape.LEAVE]
        assert sent.replace(b"\x1b[<35;1;1M", b"").replace(b"\x1b[I", b"") == b"x" + b"".join(enter + rest)


@encodings
def test_what_is_no_escape_arrives_as_it_was_typed(typed: Typed) -> None:
    enter, tilde, dot = typed
    for keys in (
        [b"x", *tilde, *dot, *enter],
        [b"\x1b[A", *tilde, *dot],
        [*tilde, b"x", *dot],
        [*tilde, b"\x1b[1;2:1A", b"\x1b[1;2:3A", *dot],
    ):
        assert scan(keys) == (b"".join(keys), [])
    many = b"".join(enter + tilde + dot + enter)
    assert scan([many, many]) == (many * 2, [])


@encodings
def test_the_character_itself_in_every_encoding(typed: Typed) -> None:
    enter, tilde, dot = typed
    position = tilde.index(presses(tilde))
    second = tilde[:position] + tilde[position + 1 :]
    assert scan([*enter, *tilde, *tilde, *dot]) == (b"".join(enter + tilde + second + dot), [])


@pytest.mark.parametrize(
    ("keys", "escape"),
    [
        (b"\x1b[122;5u", Escape.SUSPEND),
        (b"\x1b[27;5;122~", Escape.SUSPEND),
        (b"\x1b[51;2u", Escape.CONNECTIONS),
        (b"\x1b[47;2u", Escape.HELP),
        (b"\x1b[105u", Escape.DETAILS),
        (b"\x1b[114;1:2u", Escape.RECONNECT),
        (b"\x1b[98;2u", Escape.TOGGLE_BAR),
        (b"\x1b[66;48;66;1;16;1_", Escape.TOGGLE_BAR),
    ],
)
def test_every_escape(keys: bytes, escape: Escape) -> None:
    assert scan([b"\x1b[96;2u", keys]) == (b"", [escape])


@pytest.mark.parametrize("typed", [b"\x1b[93;5u", b"\x1b[53;5u", b"\x1b[27;5;93~", b"\x1b[221;27;29;1;8;1_"])
def test_another_character(typed: bytes) -> None:
    scanner = EscapeScanner(b"\x1d")
    assert scanner.feed(typed, 0.0) == []
    assert scanner.feed(b"\x1b[46u", HUMAN) == [Escape.LEAVE]


def test_a_key_that_was_cut_is_sent_as_it_was_typed() -> None:
    """Its beginning has gone by before it was known what it is."""
    scanner = EscapeScanner()
    assert scanner.feed(b"\x1b[96", 0.0) == [b"\x1b[96"]
    assert scanner.feed(b";2u", 0.0) == [b";2u"]
    assert scanner.feed(b".", HUMAN) == [b"."]
    assert scanner.feed(b"\x1b[13", 1.0) == [b"\x1b[13"]
    assert scanner.feed(b"u", 1.0) == [b"u"]
    assert scanner.feed(b"~.", 1.2) == [Escape.LEAVE]


def test_a_long_read_of_key_events_tells_where_the_line_starts() -> None:
    scanner = EscapeScanner()
    line = b"\x1b[108u\x1b[108;1:3u\x1b[115u\x1b[115;1:3u\x1b[97u\x1b[97;1:3u\x1b[13u\x1b[13;1:3u"
    assert scanner.feed(line, 0.0) == [line]
    assert scanner.feed(b"\x1b[126u\x1b[46u", HUMAN) == [Escape.LEAVE]


def test_the_mouse_does_not_make_a_paste() -> None:
    scanner = EscapeScanner()
    motion = b"\x1b[<35;10;20M" * 40
    assert scanner.feed(motion + b"\r", 0.0) == [motion + b"\r"]
    assert scanner.feed(motion, 0.01) == [motion]
    assert scanner.feed(b"~" + motion + b".", 0.02) == [motion, Escape.LEAVE]
