"""Tar archives: a parser for one that is received, and the headers of one that is sent. Pure.

An archive is a sequence of 512-byte blocks: a header, then the file's bytes, filled up with zeros. Supported are the
formats that tar programs write by default: ustar, GNU (long names in members of type L and K) and pax (records in
members of type x). Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

import struct
import zlib
from enum import Enum
from typing import NamedTuple

from session_manager_plugin.errors import RemoteProtocolError

BLOCK_SIZE = 512
_HEADER = struct.Struct("100s8s16x12s12s8sc100s6s82x155s12x")
"""Name, mode, size, time, checksum, type, link, magic, and the beginning of a long name; not the owner."""
_ZEROS = bytes(BLOCK_SIZE)
END = bytes(20 * BLOCK_SIZE)
"""The end of an archive: at least two blocks of zeros; tar programs write 20 blocks at a time."""
_MAX_NAME_SIZE = 100
_MAX_EXTENSION_SIZE = 1024 * 1024
"""Bytes of a member that holds a long name or pax records."""
_SUM_MODULUS = 65521
_MAX_OCTAL = 0o77777777777


class MemberKind(Enum):
    """The kind of a member."""

    FILE = "file"
    DIRECTORY = "directory"
    HARD_LINK = "hard link"
    """The same file as the earlier member ``link``."""
    OTHER = "other"
    """A device, a fifo, a symbolic link."""


class Member(NamedTuple):
    """The header of a member of any kind; ``size`` bytes of data follow. ``time`` is in seconds since 1970."""

    kind: MemberKind
    name: bytes
    mode: int
    time: int
    size: int
    link: bytes


_KINDS = {
    b"0": MemberKind.FILE,
    b"\0": MemberKind.FILE,
    b"7": MemberKind.FILE,
    b"1": MemberKind.HARD_LINK,
    b"5": MemberKind.DIRECTORY,
}
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
"""Links, devices, directories and fifos; their size field is ignored."""
_EXTENSIONS = (b"L", b"K", b"x", b"g")
"""GNU long name and long link, pax records for the next member and for all."""


class ArchiveParser:
    """Bytes in, members and their data out.

    ``receive_data`` returns each ``Member`` followed by the pieces of its data. Any split of the bytes results in the
    same members; only the pieces differ. Raises ``RemoteProtocolError`` for bytes that are no archive; the
    parser cannot be used after that.
    """

    def __init__(self) -> None:
        self._rest = b""
        """The beginning of a header."""
        self._left = 0
        """Bytes of the member's data that have not arrived."""
        self._padding = 0
        self._extension: tuple[bytes, bytearray] | None = None
        """The type and the data of an extension that is being received."""
        self._overrides: dict[bytes, bytes] = {}
        """Values of extensions for the next member, by the keywords of pax."""
        self._ended = False

    def receive_data(self, data: bytes) -> list[Member | bytes]:
        """Return the members and pieces of data that ``data`` completes."""
        if self._ended:
            return []
        data = self._rest + data
        events: list[Member | bytes] = []
        position, size = 0, len(data)
        while position < size:
            if self._left:
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                if self._extension is None:
                    events.append(piece)
                else:
                    self._extension[1].extend(piece)
                if self._left:
                    break
            if self._padding:
                skipped = min(self._padding, size - position)
                position += skipped
                self._padding -= skipped
            if size - position < BLOCK_SIZE:
                break
            if self._extension is not None:
                self._end_extension(*self._extension)
            header = data[position : position + BLOCK_SIZE]
            position += BLOCK_SIZE
            if header == _ZEROS:
                self._ended = True
                return events
            member = self._header(header)
            if member is not None:
                events.append(member)
        self._rest = data[position:]
        return events

    def _header(self, block: bytes) -> Member | None:
        """Parse a header; return None for the header of an extension."""
        name, mode, size_field, time_field, checksum, kind, link, magic, prefix = _HEADER.unpack(block)
        try:
            if (_sum(block) - _sum(checksum) + 8 * 0x20 - _number(checksum)) % _SUM_MODULUS:
                raise ValueError
            size = _number(size_field)
            if kind in _EXTENSIONS:
                if size > _MAX_EXTENSION_SIZE:
                    raise ValueError
                self._extension = (kind, bytearray())
                member = None
            else:
                name, link, time = _text(name), _text(link), _number(time_field)
                if magic == b"ustar\0" and prefix[0] != 0:
                    name = b"%b/%b" % (_text(prefix), name)
                if self._overrides:
                    overrides, self._overrides = self._overrides, {}
                    name = overrides.get(b"path", name)
                    link = overrides.get(b"linkpath", link)
                    size = int(overrides.get(b"size", size))
                    time = int(float(overrides.get(b"mtime", time)))
                member_kind = _KINDS.get(kind, MemberKind.OTHER)
                if member_kind is MemberKind.FILE and name.endswith(b"/"):
                    member_kind = MemberKind.DIRECTORY
                if kind in _WITHOUT_DATA:
                    size = 0
                member = Member(member_kind, name, _number(mode) & 0o7777, time, size, link)
            if size < 0:
                raise ValueError
        except (ValueError, OverflowError):
            raise RemoteProtocolError("the tar program on the target wrote an archive that cannot be read") from None
        self._left, self._padding = size, -size % BLOCK_SIZE
        return member

    def _end_extension(self, kind: bytes, data: bytearray) -> None:
        self._extension = None
        if kind == b"L":
            self._overrides[b"path"] = _text(bytes(data))
        elif kind == b"K":
            self._overrides[b"linkpath"] = _text(bytes(data))
        elif kind == b"x":
            while data:
                length, _, record = bytes(data).partition(b" ")
                if not length.isdigit() or not 0 < int(length) <= len(data):
                    raise RemoteProtocolError("the tar program on the target wrote an archive that cannot be read")
                key, _, value = record[: int(length) - len(length) - 1].removesuffix(b"\n").partition(b"=")
                self._overrides[key] = _text(value)
                del data[: int(length)]


def member_header(name: bytes, mode: int, time: int, size: int, *, is_directory: bool) -> bytes:
    """Return the header of a file or a directory, in the GNU format."""
    extension = b""
    if len(name) > _MAX_NAME_SIZE:
        filled = name + bytes(-len(name) % BLOCK_SIZE or BLOCK_SIZE)  # at least one zero
        extension = _block(b"././@LongLink", 0, 0, len(name) + 1, b"L") + filled
    return extension + _block(name[:_MAX_NAME_SIZE], mode, time, size, b"5" if is_directory else b"0")


def _block(name: bytes, mode: int, time: int, size: int, kind: bytes) -> bytes:
    owner = b"%07o\0%07o\0" % (0, 0)
    before = b"%b%07o\0%b%b%b" % (name.ljust(100, b"\0"), mode, owner, _field(size), _field(time))
    after = b"%b%bustar  \0" % (kind, bytes(100))
    checksum = _sum(before) + _sum(after) + 8 * 0x20  # less than the modulus: most bytes are zeros or digits
    return (b"%b%06o\0 %b" % (before, checksum, after)).ljust(BLOCK_SIZE, b"\0")


def _field(number: int) -> bytes:
    """Return the 12 bytes of a size or a time: octal digits, or big-endian with the first bit set."""
    if 0 <= number <= _MAX_OCTAL:
        return b"%011o\0" % number
    return (number & (1 << 96) - 1 | 1 << 95).to_bytes(12, "big")


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _sum(data: bytes) -> int:
    """Return the sum of the bytes modulo ``_SUM_MODULUS``: the low half of Adler-32 is one more (RFC 1950, 8.2)."""
    return ((zlib.adler32(data) & 0xFFFF) - 1) % _SUM_MODULUS


def _number(field: bytes) -> int:
    """Parse a number: octal digits, or big-endian with the first bit set. Raises ``ValueError``."""
    if field[0] & 0x80:
        number = int.from_bytes(field, "big")
        return number - (1 << 8 * len(field)) if field[0] & 0x40 else number & (1 << 8 * len(field) - 1) - 1
    return int(field.strip(b" \0") or b"0", 8)
