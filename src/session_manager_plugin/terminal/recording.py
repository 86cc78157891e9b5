"""Recordings of sessions as asciicast v2 files, for `asciinema play` and other players.

The format (docs.asciinema.org/manual/asciicast/v2): a header, then one event per line, `[seconds, code, data]` with
the codes `o` (output), `i` (input) and `r` (resize, `COLUMNSxROWS`). Everything is JSON in UTF-8.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.session.protocols import TerminalSize

LONGEST_NAME = 100
"""Characters of a session id in a file's name."""
_VARIABLES = ("SHELL", "TERM")
"""What the header tells of the environment: what players and converters know, and nothing secret."""


class Recording:
    """What the far end writes and how large its terminal is, in a file that only its owner may read.

    Each event is one write to the file, so what has been written is whole whatever happens to the process. When the
    disk is full or the file cannot be written for another reason, the recording ends and the session goes on.
    """

    def __init__(self, path: Path, *, keeps_input: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the file; `clock` is in seconds. Raises `ConfigurationError` if it exists or cannot be created.

        Also what is typed is recorded if `keeps_input`, passwords included.
        """
        self.path = path
        self.failed: Callable[[str], None] = lambda _sentence: None
        """Called once with a sentence, when the recording has ended before the session."""
        self._keeps_input = keeps_input
        self._clock = clock
        self._began_at: float | None = None
        self._size: TerminalSize | None = None
        self._decoders = {code: codecs.getincrementaldecoder("utf-8")("replace") for code in "oi"}
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._fd: int | None = os.open(path, flags, 0o600)
        except FileExistsError:
            raise ConfigurationError(f"{path} exists; a recording overwrites nothing: give another name") from None
        except OSError as error:
            raise ConfigurationError(f"the recording {path} cannot be created: {error.strerror}") from error

    def begin(self, size: TerminalSize, title: str, variables: Mapping[str, str]) -> None:
        """Write the header: the far end's `size`, the time, a title, and of the environment `variables` what is of use
        for playing. The time of the events counts from here."""
        self._began_at, self._size = self._clock(), size
        header = {
            "version": 2,
            "width": size.columns,
            "height": size.rows,
            "timestamp": int(time.time()),
            "title": title,
            "env": {name: variables[name] for name in _VARIABLES if name in variables},
        }
        self._write({name: value for name, value in header.items() if value})

    def output(self, data: bytes) -> None:
        """What the far end has written. A character that is not complete waits for its rest."""
        self._data("o", data)

    def input(self, data: bytes) -> None:
        """What is sent to the far end; left out unless input is to be recorded."""
        if self._keeps_input:
            self._data("i", data)

    def resize(self, size: TerminalSize) -> None:
        """The far end's terminal has another size now; the same size is not recorded again."""
        if size != self._size:
            self._size = size
            self._event("r", f"{size.columns}x{size.rows}")

    def close(self) -> None:
        """End the recording; a file without a header, of a session that never began, is removed. Idempotent."""
        if self._fd is None:
            return
        for code in self._decoders:
            self._data(code, b"", final=True)
        self._stop()
        if self._began_at is None:
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _data(self, code: str, data: bytes, *, final: bool = False) -> None:
        text = self._decoders[code].decode(data, final)
        if text:
            self._event(code, text)

    def _event(self, code: str, text: str) -> None:
        if self._began_at is not None:
            self._write([round(self._clock() - self._began_at, 6), code, text])

    def _write(self, value: object) -> None:
        if self._fd is None:
            return
        line = json.dumps(value, ensure_ascii=False).encode() + b"\n"
        try:
            written = os.write(self._fd, line)
            if written < len(line):  # no room for all of it: what is there stays whole
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
                raise OSError(None, "the disk is full")
        except OSError as error:
            self._stop()
            self.failed(f"the recording {self.path} has ended: {error.strerror}; the session goes on")

    def _stop(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):  # of a network file system, for what it had promised to write
                os.close(fd)


def recording_path(directory: Path, session_id: str) -> Path:
    """Where the recording of a session that begins now belongs: `TIME-SESSION.cast`, the time in UTC.

    The directory is made for its owner alone if there is none. Raises `ConfigurationError` when that fails.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the directory {directory} for recordings cannot be made: {error.strerror}"
        ) from error
    # A session id is the far end's to choose.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", session_id)[:LONGEST_NAME] or "session"
    return directory / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}.cast"
