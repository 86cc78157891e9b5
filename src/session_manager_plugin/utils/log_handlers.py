"""Handlers that write log records to files and standard error, as text or JSON. ``utils.logging`` installs them."""

import contextlib
import errno
import json
import logging
import os
import select
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from session_manager_plugin.utils.writable import is_writable

ROOT = "session_manager_plugin"
"""The name of the parent of all loggers of this package."""

HELD_LIMIT = 1000
"""Lines for standard error that are kept while held. Further ones are counted."""

_STUCK_AFTER = 0.5
"""Seconds to wait for a standard error that accepts no bytes, such as a stopped terminal. Then the line is dropped."""


def _timestamp(record: logging.LogRecord) -> str:
    """UTC, ISO 8601, with milliseconds."""
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Log messages may contain texts of the far end, which must not be control sequences on a terminal.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


class TextFormatter(logging.Formatter):
    """``TIME LEVEL LOGGER: MESSAGE``, the traceback on lines below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return _timestamp(record)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(_CONTROLS)


class JsonFormatter(logging.Formatter):
    """One object on one line: ``time``, ``level``, ``logger``, ``message``; ``exception`` if there is a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _timestamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line)


class OwnHandler(logging.Handler):
    """A handler that ``configure`` installs and removes."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Do nothing: a full disk or a closed stderr must not put a traceback into a running session."""


class FileHandler(OwnHandler):
    """Appends lines to a file. Calls ``failed`` with the first error of writing.

    A pipe or a device is written to without waiting. The number of lines dropped is written before the next line that
    is accepted.
    """

    def __init__(self, path: Path, failed: Callable[[Path, OSError], None]) -> None:
        """Raises ``OSError`` if the file cannot be opened."""
        # Before the base class is initialised: at exit ``logging`` also closes handlers without a file.
        self._fd = _open_private(os.path.abspath(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        super().__init__()
        self._path = path
        self._failed = failed
        self._has_failed = False
        self._takes_all = stat.S_ISREG(os.fstat(self._fd).st_mode)
        self._dropped = 0
        self._cut = False
        """Whether the last line was written only in part."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
            if self._dropped:
                message = f"lines dropped because nothing read this log: {self._dropped}"
                warning = {"name": ROOT, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
                line = f"{self.format(logging.makeLogRecord(warning))}\n{line}"
            if self._append(line):
                self._dropped = 0
            else:
                self._dropped += 1
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                self._failed(self._path, error)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        super().close()
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # a network file system may report a failed write only now
                os.close(fd)

    def _append(self, line: str) -> bool:
        """Write a line. Returns whether it was written, at least in part."""
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        if self._cut:
            data = b"\n" + data
        written = 0
        try:
            while written < len(data) and (self._takes_all or is_writable(self._fd)):
                piece = data[written:] if self._takes_all else data[written : written + select.PIPE_BUF]
                written += os.write(self._fd, piece)
        finally:
            if written:
                self._cut = written < len(data)
        return written > 0


def _open_private(path: str, flags: int) -> int:
    """Open a file, created with mode 0600. Raises ``OSError``.

    In a directory that others can write to, another user may have created a file or a symbolic link of that name, to
    read the log or to make it overwrite another file: these are refused.
    """
    shared = bool(os.stat(os.path.dirname(path)).st_mode & (stat.S_IWGRP | stat.S_IWOTH))
    try:
        fd = os.open(path, flags | (getattr(os, "O_NOFOLLOW", 0) if shared else 0), 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(errno.ELOOP, "it is a symbolic link in a directory that others can write to") from error
    status = os.fstat(fd)
    if shared and stat.S_ISREG(status.st_mode) and status.st_uid != os.geteuid():
        os.close(fd)
        raise PermissionError(errno.EPERM, "it belongs to another user, in a directory that others can write to")
    return fd


class StderrFormatter(logging.Formatter):
    """``smp: [SECONDS] MESSAGE``, the seconds since the start; with the level, unless that is INFO."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        text = f"smp: [{record.relativeCreated / 1000:.3f}] {level}{record.getMessage()}"
        if record.exc_text:
            text += f"\n{record.exc_text}"
        return text.translate(_CONTROLS)


class StderrHandler(OwnHandler, logging.StreamHandler[TextIO]):
    """Writes to standard error, or keeps lines while a session uses the terminal."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._held: list[str] | None = None
        self._left_out = 0
        self.write_line: Callable[[str], None] | None = None
        """Writes text to standard error in place of ``stream``, from any thread and without waiting."""

    def hold_lines(self) -> None:
        """Keep lines from now on, if standard error is a terminal."""
        if self._held is None and self.stream.isatty():
            self._held = []

    def release_lines(self) -> None:
        """Write the kept lines, and all later ones at once."""
        with self.lock or contextlib.nullcontext():
            held, left_out = self._held or [], self._left_out
            self._held, self._left_out = None, 0
            if left_out:
                held.append(f"smp: {left_out} more lines were left out; --log-file keeps all")
            with contextlib.suppress(OSError, ValueError):
                for line in held:
                    self._write(line)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.put(self.format(record))
        except Exception:
            self.handleError(record)

    def put(self, line: str) -> None:
        """Write a line, or keep it."""
        if self._held is None:
            self._write(line)
        elif len(self._held) < HELD_LIMIT:
            self._held.append(line)
        else:
            self._left_out += 1

    def _write(self, line: str) -> None:
        text = f"{line}\n"
        if self.stream.isatty():
            # While a connection is being opened the terminal may be in raw mode already, where a line feed alone
            # leaves the column as it is.
            text = text.replace("\n", "\r\n")
        if self.write_line is not None:
            self.write_line(text)
        elif not self.stream.isatty() or self._takes_more():
            self.stream.write(text)
            self.flush()

    def _takes_more(self) -> bool:
        try:
            fd = self.stream.fileno()
        except (OSError, ValueError):
            return True  # not a descriptor
        return is_writable(fd, _STUCK_AFTER)


class Silence(OwnHandler, logging.NullHandler):
    """Installed when there is no other handler: Python would write warnings of every library to standard error."""
