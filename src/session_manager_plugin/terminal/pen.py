"""The attributes of the text that the remote writes: colours, character sets, a hyperlink. Pure."""

from __future__ import annotations

import re

_SGR = re.compile(rb"\x1b\[([0-9;:]*)m")
_COLOUR_ALONE = re.compile(rb"[34]8;(?:5;[0-9]+|2;[0-9]+;[0-9]+;[0-9]+)")
_RESETS = re.compile(rb"0*(?:;|\Z)")
_KEPT = 64
"""SGR sequences that are kept unparsed; beyond that number they are reduced to those still in force."""
_LONGEST_LINK = 2048

_COLOURS = {38: "foreground", 48: "background", 58: "underline colour"}
_KINDS: dict[int, str] = {
    1: "bold",
    2: "faint",
    22: "weight",
    **dict.fromkeys((3, 23), "italic"),
    **dict.fromkeys((4, 21, 24), "underline"),
    **dict.fromkeys((5, 6, 25), "blink"),
    **dict.fromkeys((7, 27), "reverse"),
    **dict.fromkeys((8, 28), "hidden"),
    **dict.fromkeys((9, 29), "struck"),
    **dict.fromkeys((53, 55), "overline"),
    **dict.fromkeys((59,), "underline colour"),
    **dict.fromkeys((*range(30, 38), 39, *range(90, 98)), "foreground"),
    **dict.fromkeys((*range(40, 48), 49, *range(100, 108)), "background"),
}

PLAIN = b"\x1b[m"
_SHIFTS = (b"\x0f", b"\x0e", b"\x1bn", b"\x1bo")
_SETS = b"()*+"
_DESIGNATORS = {**{byte: number for number, byte in enumerate(_SETS)}, ord("-"): 1, ord("."): 2, ord("/"): 3}
_ASCII = b"B"


class Pen:
    """The attributes in force, as the sequences that set them again.

    The SGR sequences since the last reset are kept as sent, and parsed only when there are many.
    """

    def __init__(self) -> None:
        self._attributes: tuple[bytes, ...] = ()
        self._sets: tuple[bytes, ...] = (_ASCII,) * 4
        self._shift = 0
        self.link = b""
        """The hyperlink that is open: parameters and address as sent; empty if none is."""

    def copy(self) -> Pen:
        """Return a copy without the hyperlink, which DECSC does not save."""
        other = Pen()
        other._attributes, other._sets, other._shift = self._attributes, self._sets, self._shift
        return other

    def restore(self, saved: Pen) -> None:
        """Take over the attributes of ``saved``."""
        self._attributes, self._sets, self._shift = saved._attributes, saved._sets, saved._shift

    def reset(self) -> None:
        """RIS, DECSTR."""
        self.restore(Pen())

    @property
    def attributes(self) -> bytes:
        """The bytes that set colours and attributes after a reset."""
        return b"".join([b"\x1b[%bm" % parameters for parameters in self._attributes])

    @property
    def character_sets(self) -> tuple[tuple[bytes, ...], int]:
        """The names of G0 to G3, and the number of the one in use."""
        return self._sets, self._shift

    @property
    def is_ascii(self) -> bool:
        """Whether G0 is ASCII."""
        return self._sets[0] == _ASCII

    @property
    def sets_plain(self) -> bytes:
        """The bytes that select ASCII; empty if it is selected."""
        return b"\x1b(B\x0f" if self._sets[0] != _ASCII or self._shift else b""

    @property
    def sets(self) -> bytes:
        """The bytes that select the character sets in use."""
        designated = [b"\x1b%c%b" % (_SETS[number], name) for number, name in enumerate(self._sets)]
        return b"".join(designated) + _SHIFTS[self._shift]

    def follow(self, text: bytes) -> None:
        """Follow text with SGR sequences."""
        start = text.rfind(PLAIN)
        start = max(start, text.rfind(b"\x1b[0m", max(0, start)))
        if start >= 0:
            self._attributes = ()
            if text.find(b"\x1b", start + 3) < 0:
                return
        sequences = _SGR.findall(text, max(0, start))
        if len(sequences) > _KEPT:
            sequences = _without_replaced_colours(sequences)
        for parameters in sequences:
            self.set_attributes(parameters)

    def set_attributes(self, parameters: bytes) -> None:
        """SGR."""
        reset = _RESETS.match(parameters)
        if reset is not None:
            self._attributes = ()
            parameters = parameters[reset.end() :]
            if not parameters:
                return
        if not self._attributes or self._attributes[-1] != parameters:
            self._attributes = (*self._attributes, parameters)
        if len(self._attributes) > _KEPT:
            self._attributes = in_force(self._attributes)

    def designate(self, which: int, name: bytes) -> None:
        """SCS: ``which`` is the intermediate byte, ``name`` the rest of the sequence."""
        number = _DESIGNATORS.get(which)
        if number is not None:
            self._sets = (*self._sets[:number], name, *self._sets[number + 1 :])

    def shift(self, number: int) -> None:
        """SI, SO, LS2, LS3: which of G0 to G3 is in use."""
        self._shift = number

    def follow_shifts(self, text: bytes) -> None:
        """Follow text with SI or SO."""
        self.shift(1 if text.rfind(b"\x0e") > text.rfind(b"\x0f") else 0)

    def follow_link(self, osc: bytes) -> None:
        """Follow the content of an OSC 8, after ``8;``."""
        self.link = osc if osc.partition(b";")[2] and len(osc) <= _LONGEST_LINK else b""


def _without_replaced_colours(sequences: list[bytes]) -> list[bytes]:
    """Return the SGR sequences without those that only set a colour which a later sequence sets again."""
    kept, seen = [], set()
    for parameters in reversed(sequences):
        if _COLOUR_ALONE.fullmatch(parameters):
            if parameters[:2] in seen:
                continue
            seen.add(parameters[:2])
        kept.append(parameters)
    return kept[::-1]


def in_force(sequences: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the parameters of SGR in force, one for each kind of attribute. Those that only reset it are kept."""
    found: dict[str, bytes] = {}
    for parameters in sequences:
        fields = parameters.split(b";")
        while fields:
            field = fields.pop(0)
            code = int(field.partition(b":")[0] or 0)
            if code == 0:
                found.clear()
                continue
            if code in _COLOURS and b":" not in field and fields:
                count = 4 if fields[0] == b"2" else 2  # 38;2;RED;GREEN;BLUE or 38;5;NUMBER
                field = b";".join([field, *fields[:count]])
                del fields[:count]
            kind = _COLOURS.get(code) or _KINDS.get(code)
            if code == 22:
                found.pop("bold", None)
                found.pop("faint", None)
            if kind is not None:
                found[kind] = field
    return tuple(found.values())
