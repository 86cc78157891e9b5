"""Splitting a terminal's input into key events and reports, for every encoding of keys in use. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

# The encodings, and where each is specified:
#
#   plain        the characters themselves, and ESC O x for the keypad in application mode (xterm's ctlseqs)
#   kitty        CSI code:shifted:base ; modifiers:event ; text u   (https://sw.kovidgoyal.net/kitty/keyboard-protocol)
#   xterm        CSI 27 ; modifiers ; code ~  and  CSI code ; modifiers u   (modifyOtherKeys, formatOtherKeys)
#   win32        CSI Vk ; Sc ; Uc ; Kd ; Cs ; Rc _   (Windows Terminal, "win32-input-mode")
#
# All encodings are recognised at all times: they cannot be confused with each other, and the remote program may change
# the encoding between a key and its reading.


class EventKind(Enum):
    """The kind of an ``InputEvent``."""

    KEY = auto()
    """A key was pressed or repeated, or text was pasted."""
    RELEASE = auto()
    """A key was released."""
    MODIFIER = auto()
    """A key was pressed that types no character: Shift, Caps Lock, a dead key."""
    REPORT = auto()
    """A report of the terminal: an answer, the mouse, the focus."""
    UNFINISHED = auto()
    """The data ends inside a sequence."""


class InputEvent(NamedTuple):
    """One event of a terminal's input, with its bytes."""

    raw: bytes
    kind: EventKind
    character: str = ""
    """The character that a ``KEY`` types (with Ctrl, a control character). Empty for keys such as the arrows, and for
    keys with Alt or Super."""


_EVENT = re.compile(
    rb"""(?P<mouse> \x1b\[M (?: [\x20-\x7f] | [\xc2-\xdf][\x80-\xbf] | [\x80-\xff] ){3} )
    | (?P<unfinished> \x1b (?:
          \[ [0-?]* [ -/]* | \[M [\x20-\xff]{0,3} | O [0-9;]* | \] [^\x07\x1b]* \x1b? | [PX^_] [^\x1b]* \x1b?
      )? \Z )
    | (?P<string> \x1b(?: \] [^\x07\x1b]* (?: \x07 | \x1b\\ ) | [PX^_] [^\x1b]* \x1b\\ ) )
    | \x1b\[ (?P<parameters> [0-?]* ) [ -/]* (?P<final> [@-~] )
    | \x1bO [0-9;]* (?P<keypad> [@-~] )
    | [\xc2-\xf4][\x80-\xbf]{1,3}
    | .""",
    re.VERBOSE | re.DOTALL,
)
_SHIFT, _CTRL, _OTHER_MODIFIERS = 1, 4, 2 | 8 | 16 | 32
_CAPS_LOCK = 64
_SHIFTED = str.maketrans("`1234567890-=[]\\;',./", '~!@#$%^&*()_+{}|:"<>?')
"""The US layout: the shifted character of a key, for events that contain neither the text nor that character."""
_CONTROLS = str.maketrans("2345678/ ?", "\x00\x1b\x1c\x1d\x1e\x1f\x7f\x1f\x00\x7f")
_KITTY_KEYPAD = {57409: ".", 57410: "/", 57411: "*", 57412: "-", 57413: "+", 57414: "\r", 57415: "="}
_KITTY_MODIFIERS = {57358, 57359, 57360, *range(57441, 57455)}
"""Caps Lock, Scroll Lock, Num Lock, and every Shift, Ctrl, Alt, Super, Hyper, Meta and level shift."""
_WIN32_MODIFIERS = {0x10, 0x11, 0x12, 0x14, 0x5B, 0x5C, 0x90, 0x91, *range(0xA0, 0xA6)}
_WIN32_OEM_KEYS = 0xBA
"""Virtual keys from here on are character keys and input methods. Those without a character are dead keys."""
_WIN32_ALT, _WIN32_CTRL = 0x01 | 0x02, 0x04 | 0x08


def input_events(data: bytes) -> Iterator[InputEvent]:
    """Yield the events in ``data`` in order. Their ``raw`` bytes joined are ``data``."""
    for found in _EVENT.finditer(data):
        raw = found[0]
        if found["final"] is not None:
            yield _csi(raw, found["parameters"], found["final"])
        elif found["keypad"] is not None:
            code = found["keypad"][0]
            typed = code in b"MI" or ord("j") <= code <= ord("y")
            yield InputEvent(raw, EventKind.KEY, chr(code - 0x40) if typed else "")
        elif found["mouse"] is not None or found["string"] is not None:
            yield InputEvent(raw, EventKind.REPORT)
        elif found["unfinished"] is not None:
            yield InputEvent(raw, EventKind.UNFINISHED)
        else:
            yield InputEvent(raw, EventKind.KEY, raw.decode("utf-8", "replace"))


def _csi(raw: bytes, parameters: bytes, final: bytes) -> InputEvent:
    if parameters[:1] in (b"<", b"=", b">", b"?") or (final in b"IO" and not parameters):
        return InputEvent(raw, EventKind.REPORT)
    if parameters and (final in b"cnRtxy" or (final == b"M" and parameters.count(b";") == 2)):
        return InputEvent(raw, EventKind.REPORT)
    fields = [[_number(part) for part in field.split(b":")] for field in parameters.split(b";")]
    if final == b"_":
        return _win32(raw, [field[0] for field in fields])
    modifiers, event = ([*fields[1], 0] if len(fields) > 1 else [0, 0])[:2]
    if event == 3:
        return InputEvent(raw, EventKind.RELEASE)
    if final == b"u":
        if fields[0][0] in _KITTY_MODIFIERS:
            return InputEvent(raw, EventKind.MODIFIER)
        text = "".join(map(_character, fields[2])) if len(fields) > 2 else ""
        return InputEvent(raw, EventKind.KEY, text or _typed(fields[0], modifiers))
    if final == b"~" and len(fields) == 3 and fields[0][0] == 27:
        return InputEvent(raw, EventKind.KEY, _typed(fields[2], modifiers))
    return InputEvent(raw, EventKind.KEY)


def _typed(codes: list[int], parameter: int) -> str:
    """Return the character of a key. ``codes`` are its code and, if sent, its shifted code; ``parameter`` is 1 + the
    modifiers."""
    modifiers = max(parameter - 1, 0)
    if modifiers & _OTHER_MODIFIERS:
        return ""
    character = _KITTY_KEYPAD.get(codes[0]) or _character(codes[0])
    if modifiers & _SHIFT:
        character = _character(codes[1]) if len(codes) > 1 and codes[1] else character.translate(_SHIFTED)
    if not character.isascii():
        return character
    if bool(modifiers & _SHIFT) is not bool(modifiers & _CAPS_LOCK):
        character = character.upper()
    if modifiers & _CTRL:
        character = character.upper()
        return chr(ord(character) & 0x1F) if "@" <= character <= "_" else character.translate(_CONTROLS)
    return character


def _win32(raw: bytes, fields: list[int]) -> InputEvent:
    key, _, code, pressed, state = (fields + [0] * 5)[:5]
    if not pressed:
        return InputEvent(raw, EventKind.RELEASE)
    if key in _WIN32_MODIFIERS or (code == 0 and key >= _WIN32_OEM_KEYS):
        return InputEvent(raw, EventKind.MODIFIER)
    is_alt = state & _WIN32_ALT and not state & _WIN32_CTRL  # both together are AltGr
    return InputEvent(raw, EventKind.KEY, "" if is_alt else _character(code))


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) < 8 else 0


def _character(code: int) -> str:
    return chr(code) if 0 < code < 0x110000 else ""
