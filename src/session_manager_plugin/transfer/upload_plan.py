"""The lines and frames sent to a target during an upload, and its answers: bytes in, bytes out.

No file, no session, no clock.

Lines to the target, and bytes after ``r`` and ``z``; a name is escaped as in ``names.escape_name``::

    f NAME MODE TIME PARTIAL    a file, written as PARTIAL beside it; with TIME - no time is set
    t NAME MODE TIME PARTIAL    a tar archive, unpacked in a directory PARTIAL beside NAME
    p NAME BLOCK - PARTIAL      a part of the file PARTIAL, from this block on; another session has begun it with f
    r SIZE, z SIZE              SIZE bytes of f, t or p follow, plain (r) or compressed by gzip (z)
    e                           the end of f, t or p
    c DIGEST                    after the ``e`` of f and t: the digest of all bytes; then NAME replaces PARTIAL.
                                With DIGEST - it is not checked; with ! PARTIAL is removed
    d NAME                      a directory is made, for the files that follow
    m NAME MODE TIME            the mode and time of a directory, after its files
    q                           the end

Lines of the target::

    :h ALGORITHM PIPED MASK GZIP TAR EXACT KIND   first; PIPED is the digest's algorithm for archives, MASK the umask,
                                    EXACT 1 if it reads a frame and no byte more, KIND what the destination is
    :k                              one frame was written
    :o                              one ``c``, ``d`` or ``m``, or the ``e`` of a part, was carried out
    :n NAME: REASON                 a file or directory that could not be written; the rest is read and dropped
    :f                              instead of ``:o``: that failed, and each ``:n`` about it was printed before
    :x TEXT                         the copy failed; nothing more is read
    :q                              the end
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from session_manager_plugin.errors import CopyFailed, RemoteProtocolError
from session_manager_plugin.transfer.names import escape_name

FRAME_SIZE = 1024 * 1024
"""Bytes of a file in a frame, before it is compressed."""
WINDOW_SIZE = 4 * FRAME_SIZE
"""Bytes of files that are on the way at most: sent, and not acknowledged by the target."""
_GAIN = 0.75
"""A frame is sent compressed if that makes it shorter than this fraction of its size."""
_RETRY_AFTER = 8
"""Frames that are sent uncompressed after one that compression did not shorten enough."""
_KINDS = ("none", "file", "directory", "missing")


@dataclass(frozen=True)
class Receiver:
    """The tools that the target has, and what the destination is there: ``none`` (it can be made), ``file``,
    ``directory`` or ``missing`` (the directory it would be in does not exist)."""

    algorithm: str
    archive_algorithm: str
    umask: int
    gzip: bool
    tar: bool
    exact: bool
    kind: str


class UploadPlan:
    """Serializes the lines and frames, and counts what the target has acknowledged.

    ``receive_data`` raises ``CopyFailed`` with the target's reason, and ``RemoteProtocolError`` for a line that
    the script cannot have printed.
    """

    def __init__(self) -> None:
        self.receiver: Receiver | None = None
        self.finished = False
        self.refused: list[tuple[str, str]] = []
        """Names of files that the target could not write, each with the reason. The caller removes them."""
        self.succeeded = True
        """Whether the order acknowledged last was carried out."""
        self._line = b""
        self._sizes: list[int] = []
        """Bytes before compression of each frame on the way."""
        self._orders = 0
        self._uncompressed_frames = 0

    # Sending.

    @property
    def may_send(self) -> bool:
        """Whether another frame, or a line, may be sent now. If the target may read beyond the end of a frame,
        everything sent before must be acknowledged."""
        if self.receiver is None:
            return False
        if not self.receiver.exact:
            return self.settled
        return sum(self._sizes) <= WINDOW_SIZE - FRAME_SIZE

    @property
    def settled(self) -> bool:
        """Whether the target has acknowledged all that was sent."""
        return not self._sizes and not self._orders

    def start_file(self, name: bytes, mode: int, time: int | None, partial: str, *, archive: bool = False) -> bytes:
        """Return the line that begins a file, or a tar archive to be unpacked. ``partial`` is a plain name."""
        kind = "t" if archive else "f"
        time_text = "-" if time is None else str(time)
        return f"{kind} {escape_name(name)} {mode:o} {time_text} {partial}\n".encode()

    def start_part(self, name: bytes, block: int, partial: str) -> bytes:
        """Return the line that begins a part of a file that another session has begun."""
        return f"p {escape_name(name)} {block} - {partial}\n".encode()

    def end_part(self) -> bytes:
        """Return the line that ends a part."""
        self._orders += 1
        return b"e\n"

    def end_first_part(self) -> bytes:
        """Return the line that ends the part of the session that has begun the file; ``check_file`` follows."""
        return b"e\n"

    def check_file(self, digest: str) -> bytes:
        """Return the line after which the target checks the digest of the file and gives the file its name."""
        self._orders += 1
        return f"c {digest or '-'}\n".encode()

    def frame(self, data: bytes) -> bytes:
        """Return the frame of at most ``FRAME_SIZE`` bytes of a file, compressed if that helps."""
        receiver = self.receiver
        self._sizes.append(len(data))
        if receiver is not None and receiver.gzip and self._uncompressed_frames == 0:
            compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
            compressed = compressor.compress(data) + compressor.flush()
            if len(compressed) < len(data) * _GAIN:
                return b"z %d\n%b" % (len(compressed), compressed)
            self._uncompressed_frames = _RETRY_AFTER
        elif self._uncompressed_frames:
            self._uncompressed_frames -= 1
        return b"r %d\n%b" % (len(data), data)

    def end_file(self, digest: str) -> bytes:
        """Return the lines that end a file; ``digest`` is empty if the target has no tool for it."""
        return self.end_first_part() + self.check_file(digest)

    def drop_file(self) -> bytes:
        """Return the lines that end a file that could not be read: the target removes it."""
        return self.end_first_part() + self.check_file("!")

    def make_directory(self, name: bytes) -> bytes:
        """Return the line that makes a directory."""
        self._orders += 1
        return f"d {escape_name(name)}\n".encode()

    def settle_directory(self, name: bytes, mode: int, time: int | None) -> bytes:
        """Return the line that sets a directory's mode, and its time if there is one."""
        self._orders += 1
        return f"m {escape_name(name)} {mode:o} {'-' if time is None else time}\n".encode()

    def finish(self) -> bytes:
        """Return the last line."""
        return b"q\n"

    # Receiving.

    def receive_data(self, data: bytes) -> int:
        """Return how many bytes of files ``data`` acknowledges."""
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > FRAME_SIZE:
            raise RemoteProtocolError("the target printed a line that is too long")
        return sum(self._answer(line) for line in lines)

    def _answer(self, line: bytes) -> int:
        kind, _, rest = line.decode("utf-8", "replace").strip("\r").partition(" ")
        if kind == ":x":
            raise CopyFailed(rest.strip() or "the target could not write it")
        if kind == ":h" and self.receiver is None:
            self.receiver = _parse_receiver(rest)
        elif kind == ":k" and self._sizes:
            return self._sizes.pop(0)
        elif kind in (":o", ":f") and self._orders:
            self._orders -= 1
            self.succeeded = kind == ":o"
        elif kind == ":n":
            name, _, reason = rest.rpartition(": ")
            self.refused.append((name, reason.strip()))
        elif kind == ":q" and self.settled:
            self.finished = True
        else:
            raise RemoteProtocolError(f"the target printed an unexpected line: {line[:60]!r}")
        return 0


def _parse_receiver(text: str) -> Receiver:
    try:
        algorithm, piped, mask, gzip, tar, exact, kind = text.split(" ")
        if kind not in _KINDS:
            raise ValueError
        return Receiver(algorithm, piped, int(mask, 8), gzip == "1", tar == "1", exact == "1", kind)
    except ValueError:
        raise RemoteProtocolError(f"the target printed an unexpected line: {text[:60]!r}") from None
