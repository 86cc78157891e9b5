"""The output of a target during a download, parsed: bytes in, events out. No file, no session, no clock.

The lines of control, each beginning with a colon (names are ``=`` and their bytes in the encoding of ``:h``)::

    :h ENCODING ALGORITHM GZIP TAR         first: base64 or hex; the digest's algorithm; 1 where the tool exists
    :f INDEX OFFSET GZIPPED MODE TIME SIZE NAME    a file from OFFSET on; MODE octal, TIME in seconds, or - for both
    :t INDEX OFFSET GZIPPED MODE TIME SIZE NAME    a directory as a tar archive; MODE and TIME are the directory's
    :d INDEX 0 0 MODE TIME SIZE NAME       a directory, its files follow
    :e ALGORITHM DIGEST                    the end of a file or an archive, with the digest of all its bytes
    :b TEXT                                the file cannot be read to its end, and why
    :x NAME TEXT                           a file that is not sent, and why
    :w TEXT                                a warning
    :q COUNT                               the end

Every other line is data of the file or archive that began last.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import zlib
from dataclasses import dataclass
from enum import Enum

from session_manager_plugin.errors import RemoteProtocolError

MAX_LINE_SIZE = 128 * 1024
"""Bytes of a line, at most: a path has up to 4,096 bytes, each of which is encoded as several."""
_DIGEST = re.compile(r"\\?([0-9a-f]{32,128})")
_HASHES = ("sha256", "sha512", "sha1", "md5")


class Kind(Enum):
    """The kind of an entry."""

    FILE = "f"
    ARCHIVE = "t"
    DIRECTORY = "d"


@dataclass(frozen=True)
class Hello:
    """The tools that the target has."""

    encoding: str
    algorithm: str
    gzip: bool
    tar: bool


@dataclass(frozen=True)
class EntryStarted:
    """A file, an archive or a directory; data follows for a file or an archive. ``name`` is relative, and empty
    for the top of the tree. ``mode`` and ``time`` (seconds since 1970) are None if the target cannot determine them."""

    kind: Kind
    index: int
    offset: int
    size: int
    mode: int | None
    time: int | None
    name: bytes


@dataclass(frozen=True)
class Data:
    """Bytes of the entry that began last."""

    data: bytes


@dataclass(frozen=True)
class EntryEnded:
    """All of the entry was received. ``digest`` is the digest of all its bytes, in hexadecimal; empty without one."""

    algorithm: str
    digest: str


@dataclass(frozen=True)
class EntryFailed:
    """The target cannot read the file to its end; ``text`` is the reason. What arrived of it is of no use."""

    text: str


@dataclass(frozen=True)
class Problem:
    """A file that is not sent; ``name`` is empty if the problem concerns all files."""

    name: bytes
    text: str


@dataclass(frozen=True)
class Warned:
    """A message that a tool printed about something that it could not do."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The end, after ``count`` entries."""

    count: int


Event = Hello | EntryStarted | Data | EntryEnded | EntryFailed | Problem | Warned | Finished


class DownloadParser:
    """Parses the output of the script.

    Any split of the bytes results in the same events, except that ``Data`` is split differently. Every method raises
    ``RemoteProtocolError`` for output that the script cannot have printed; the parser cannot be used after that.
    """

    def __init__(self) -> None:
        self._line = b""
        """The beginning of a line."""
        self._hex = False
        self._greeted = False
        self._open = False
        self._inflate: zlib._Decompress | None = None
        self._inflated = True
        """Whether a compressed entry has reached its end."""
        self.finished = False

    def receive_data(self, data: bytes) -> list[Event]:
        """Return the events of ``data`` and of the incomplete line kept before."""
        data = self._line + data
        end = data.rfind(b"\n") + 1
        self._line = data[end:]
        if len(self._line) > MAX_LINE_SIZE:
            raise RemoteProtocolError("the target printed a line that is too long")
        if b":" not in data[:end]:
            return self._decoded(data[:end]) if end else []
        events: list[Event] = []
        lines: list[bytes] = []
        for line in data[:end].splitlines(keepends=True):
            if line.startswith(b":"):
                events += self._decoded(b"".join(lines))
                lines.clear()
                events += self._control(line)
            else:
                lines.append(line)
        return events + self._decoded(b"".join(lines))

    def _decoded(self, text: bytes) -> list[Event]:
        if not text:
            return []
        if not self._open:
            raise RemoteProtocolError(f"the target printed {text[:60]!r} where no data belongs")
        data = self._decode(text)
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data)
            except zlib.error as error:
                raise RemoteProtocolError("the compressed data was damaged on the way") from error
            if self._inflate.unused_data:
                raise RemoteProtocolError("the compressed data was damaged on the way")
        return [Data(data)] if data else []

    def _decode(self, text: bytes) -> bytes:
        try:
            if self._hex:
                return bytes.fromhex(text.decode("ascii"))
            return binascii.a2b_base64(text.replace(b"\n", b""), strict_mode=True)
        except ValueError as error:
            raise RemoteProtocolError("the encoded data was damaged on the way") from error

    def _control(self, line: bytes) -> list[Event]:
        kind, _, rest = line[1:].rstrip(b"\n").decode("utf-8", "replace").partition(" ")
        try:
            if self.finished:
                raise ValueError
            if kind == "h":
                return [self._hello(rest)]
            if kind == "x":
                name, _, text = rest.partition(" ")
                return [Problem(self._name(name), text.strip())]
            if not self._greeted:
                raise ValueError
            if kind in ("f", "t", "d"):
                return [self._start(Kind(kind), rest)]
            if kind == "e":
                return [self._end(rest)]
            if kind == "b" and self._open:
                self._open, self._inflate = False, None
                return [EntryFailed(rest.strip())]
            if kind == "w":
                return [Warned(rest.strip())]
            if kind == "q" and not self._open:
                self.finished = True
                return [Finished(int(rest))]
        except ValueError:
            pass
        raise RemoteProtocolError(f"the target printed an unexpected line: {line[:60]!r}")

    def _hello(self, rest: str) -> Hello:
        encoding, algorithm, gzip, tar = rest.split(" ")
        if self._greeted or encoding not in ("base64", "hex") or algorithm not in (*_HASHES, "none"):
            raise ValueError
        self._greeted, self._hex = True, encoding == "hex"
        return Hello(encoding, algorithm, gzip == "1", tar == "1")

    def _start(self, kind: Kind, rest: str) -> EntryStarted:
        index, offset, gzipped, mode, time, size, name = rest.split(" ")
        if self._open:
            raise ValueError
        if kind is not Kind.DIRECTORY:
            self._open = True
            self._inflate = zlib.decompressobj(31) if gzipped == "1" else None
        return EntryStarted(
            kind,
            int(index),
            int(offset),
            int(size),
            None if mode == "-" else int(mode, 8) & 0o7777,
            None if time == "-" else int(time),
            self._name(name),
        )

    def _end(self, rest: str) -> EntryEnded:
        algorithm, digest = rest.split(" ")
        match = _DIGEST.fullmatch(digest)
        if not self._open or (match is None and algorithm != "none"):
            raise ValueError
        if self._inflate is not None and not self._inflate.eof:
            raise RemoteProtocolError("the compressed data ended too early: the target could not read the file")
        self._open, self._inflate = False, None
        return EntryEnded(algorithm, "" if match is None else match[1])

    def _name(self, text: str) -> bytes:
        if not text.startswith("="):
            raise ValueError
        return self._decode(text[1:].encode()) if text[1:] else b""


def new_digest(algorithm: str) -> hashlib._Hash | None:
    """Return a new digest object, or None if the target has no tool for digests."""
    return None if algorithm == "none" else hashlib.new(algorithm, usedforsecurity=False)
