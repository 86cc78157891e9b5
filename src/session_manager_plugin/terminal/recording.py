"""Recordings of sessions as asciicast v2 files, for ``asciinema play`` and other players.

The format (docs.asciinema.org/manual/asciicast/v2): a header, then one event per line, ``[seconds, code, data]`` with
the codes ``o`` (output), ``i`` (input) and ``r`` (resize, ``COLUMNSxROWS``). Everything is JSON in UTF-8.
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
from session_manager_plugin.session.protocols import SessionRecording, TerminalSize

LONGEST_NAME = 100
"""Characters of a session id in a file's name."""
_VARIABLES = ("SHELL", "TERM")
"""Environment variables in the header: those that players and converters use; none is secret."""


class Recording(SessionRecording):
    """Records the far end's output and the size of its terminal in a file that only its owner may read.

    Each event is one write to the file, so that the file is valid even if the process is killed. If writing fails, for
    instance because the disk is full, the recording ends and the session continues.
    """

    def __init__(self, path: Path, *, keeps_input: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        """Create the file. Raises ``ConfigurationError`` if it exists or cannot be created.

        With ``keeps_input`` typed input is recorded too, passwords included. ``clock`` returns seconds.
        """
        self.path = path
        self.failed: Callable[[str], None] = lambda _sentence: None
        """Called once, with a sentence for the user, if the recording ends before the session."""
        self._keeps_input = keeps_input
        self._clock = clock
        self._began_at: float | None = None
        self._size: TerminalSize | None = None
        self._decoders = {code: codecs.getincrementaldecoder("utf-8")("replace") for code in "oi"}
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._fd: int | None = os.open(path, flags, 0o600)
        except FileExistsError:
            raise ConfigurationError(f"{path} exists; choose another file for the recording") from None
        except OSError as error:
            raise ConfigurationError(f"cannot create the recording {path}: {error.strerror}") from error

    def begin(self, size: TerminalSize, title: str, variables: Mapping[str, str]) -> None:
        """Write the header: the far end's ``size``, the time, the title, and some of the environment ``variables``.
        Times of events are relative to this call."""
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
        """Record output of the far end. An incomplete character at its end is kept for the next call."""
        self._data("o", data)

    def input(self, data: bytes) -> None:
        """Record input sent to the far end, if ``keeps_input`` was given."""
        if self._keeps_input:
            self._data("i", data)

    def resize(self, size: TerminalSize) -> None:
        """Record a new size of the far end's terminal, if it has changed."""
        if size != self._size:
            self._size = size
            self._event("r", f"{size.columns}x{size.rows}")

    def close(self) -> None:
        """End the recording. A file without a header, of a session that has not begun, is removed. Idempotent."""
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
            if written < len(line):  # a partial event is removed, so that the file stays valid
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
                raise OSError(None, "the disk is full")
        except OSError as error:
            self._stop()
            self.failed(f"the recording {self.path} has ended: {error.strerror}; the session continues")

    def _stop(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):  # a network file system may report earlier writes only here
                os.close(fd)


def recording_path(directory: Path, session_id: str) -> Path:
    """Return the path for the recording of a session that begins now: ``TIME-SESSION.cast``, the time in UTC.

    Creates the directory, accessible to its owner only, if it is missing. Raises ``ConfigurationError`` if that fails.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot create the directory {directory} for recordings: {error.strerror}") from error
    # The far end chooses the session id.
    name = re.sub(r"[^A-Za-z0-9._-]", "_", session_id)[:LONGEST_NAME] or "session"
    return directory / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{name}.cast"
