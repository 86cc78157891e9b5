"""Changes that the remote has made by operating system commands (OSC): colours, the progress indicator. Pure."""

from __future__ import annotations

# Codes as in xterm's ctlseqs: OSC 4 and 5 set colours by number; 10 to 19 set the dynamic colours (text, background,
# cursor, …), where a list of values sets the following ones as well; 104, 105 and 110 to 119 reset them. OSC 9;4 is
# ConEmu's progress indicator.

_BY_NUMBER = (b"4", b"5")
_DYNAMIC = range(10, 20)
_RESET = 100
_MOST_COLOURS = 1024


class OperatingCommands:
    """Follows complete OSC strings, and returns the bytes that reset what they changed."""

    def __init__(self) -> None:
        self._colours: dict[tuple[bytes, bytes], bytes] = {}
        """The value set for each colour, by code and number; the number of a dynamic colour is empty."""
        self._progress = b""

    def follow(self, osc: bytes) -> None:
        """Follow the content of an OSC."""
        code, _, rest = osc.partition(b";")
        if not code.isdigit() or len(code) > 3:
            return
        if code == b"9":
            if rest.startswith(b"4;"):
                self._progress = b"" if rest[2:3] == b"0" else rest
        elif code in _BY_NUMBER:
            fields = rest.split(b";")
            for number, colour in zip(fields[::2], fields[1::2], strict=False):
                if number.isdigit():
                    self._set(code, number, colour)
        elif int(code) in _DYNAMIC:
            for place, colour in enumerate(rest.split(b";"), int(code)):
                if place in _DYNAMIC:
                    self._set(b"%d" % place, b"", colour)
        elif int(code) - _RESET in (4, 5, *_DYNAMIC):
            self._reset(b"%d" % (int(code) - _RESET), rest)

    def undo(self) -> bytes:
        """Return the bytes that reset every changed colour and the progress indicator."""
        numbers: dict[bytes, list[bytes]] = {}
        for code, number in self._colours:
            numbers.setdefault(code, []).append(number)
        pieces = [
            b"\x1b]%d%b\x07" % (int(code) + _RESET, b"".join(b";" + number for number in found if number))
            for code, found in numbers.items()
        ]
        if self._progress:
            pieces.append(b"\x1b]9;4;0\x07")
        return b"".join(pieces)

    def redo(self) -> bytes:
        """Return the bytes that set them again after ``undo``."""
        pieces = [
            b"\x1b]%b%b;%b\x07" % (code, b";" + number if number else b"", colour)
            for (code, number), colour in self._colours.items()
        ]
        if self._progress:
            pieces.append(b"\x1b]9;%b\x07" % self._progress)
        return b"".join(pieces)

    def _set(self, code: bytes, number: bytes, colour: bytes) -> None:
        if colour and colour != b"?" and len(self._colours) < _MOST_COLOURS:
            self._colours[code, number] = colour

    def _reset(self, code: bytes, rest: bytes) -> None:
        numbers = rest.split(b";") if rest and code in _BY_NUMBER else []
        for key in list(self._colours):
            if key[0] == code and (not numbers or key[1] in numbers):
                del self._colours[key]
