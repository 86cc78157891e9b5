"""The environment of a command: standard streams, facts about the terminal, environment variables."""

from __future__ import annotations

import codecs
import contextlib
import io
import locale
import math
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from session_manager_plugin.cli.messages import MessageStream
from session_manager_plugin.errors import UsageError
from session_manager_plugin.terminal.capabilities import is_utf8
from session_manager_plugin.utils.writable import is_writable


@dataclass
class Environment:
    """The environment of a command. Streams are descriptors. Tests replace any field."""

    program: str = "smp"
    """The name that begins every message."""
    stdin: int = 0
    stdout: int = 1
    stderr: int = 2
    is_input_closed: bool = False
    """Whether standard input was closed when the program began; see ``prepare_standard_streams``."""
    variables: MutableMapping[str, str] = field(default_factory=lambda: os.environ)
    is_terminal: Callable[[int], bool] = os.isatty
    """Returns whether a descriptor is a terminal; False for a closed one."""
    verbosity: int = 0
    """How often ``-v`` was given."""
    quiet: bool = False
    """Whether only errors are shown."""
    color: str = "auto"
    """``auto``, ``always`` or ``never``."""

    @property
    def is_interactive(self) -> bool:
        """Whether the user can be asked: standard input and standard error are terminals."""
        return self.is_terminal(self.stdin) and self.is_terminal(self.stderr)

    @property
    def has_screen(self) -> bool:
        """Whether standard input and output are a terminal."""
        return self.is_terminal(self.stdin) and self.is_terminal(self.stdout)

    @property
    def is_dumb(self) -> bool:
        """Whether the terminal is unknown, or does not support ANSI sequences."""
        return self.variables.get("TERM", "dumb") in ("", "dumb", "unknown", "vt52")

    @property
    def state_log(self) -> Path | None:
        """The log in the user's state directory; None without a home."""
        state = self.state_directory
        return None if state is None else state / "smp.log"

    @property
    def state_directory(self) -> Path | None:
        """Our directory in the user's state directory; None without a home."""
        return self._directory("XDG_STATE_HOME", ".local/state")

    @property
    def config_directory(self) -> Path | None:
        """Our directory in the user's configuration directory; None without a home."""
        return self._directory("XDG_CONFIG_HOME", ".config")

    def _directory(self, variable: str, default: str) -> Path | None:
        """Return our directory below an XDG base directory (version 0.8, which ignores relative values)."""
        base = self.variables.get(variable, "")
        if not os.path.isabs(base):
            home = self.variables.get("HOME", "")
            if not os.path.isabs(home):
                return None
            base = os.path.join(home, default)
        return Path(base, "smp")

    def uses_color(self, fd: int) -> bool:
        """Return whether output to ``fd`` may be coloured: ``--color``, else NO_COLOR, CLICOLOR_FORCE and the
        terminal."""
        if self.color != "auto":
            return self.color == "always"
        if self.variables.get("NO_COLOR"):
            return False
        if self.variables.get("CLICOLOR_FORCE", "0") not in ("", "0"):
            return True
        return self.is_terminal(fd) and not self.is_dumb

    def forget_empty_settings(self) -> None:
        """Remove empty variables of AWS: botocore treats an empty profile, region or CA bundle as an error.

        AWS_PAGER is kept: if it is empty, the AWS CLI uses no pager.
        """
        for name, value in list(self.variables.items()):
            if not value and name.startswith("AWS_") and name != "AWS_PAGER":
                del self.variables[name]

    def take(self, name: str) -> str | None:
        """Return and remove a variable with a secret, so that no child process inherits it."""
        return self.variables.pop(name, None)

    def flag(self, name: str) -> bool:
        """Return whether a variable is set to something other than 0."""
        return self.variables.get(name, "0") not in ("", "0")

    def seconds(self, name: str, default: float, *, zero: bool) -> float:
        """Return the value of a variable in seconds; ``zero``: 0 is allowed. Raises ``UsageError``."""
        text = self.variables.get(name)
        if not text:
            return default
        try:
            return parse_seconds(text, zero=zero)
        except ValueError as error:
            raise UsageError(f"{name}: {error}") from None

    @cached_property
    def output_messages(self) -> MessageStream:
        """Messages on standard output."""
        return MessageStream(self.stdout, self.program)

    @cached_property
    def error_messages(self) -> MessageStream:
        """Messages on standard error."""
        return MessageStream(self.stderr, self.program)

    @property
    def messages_on_terminal(self) -> list[MessageStream]:
        """The streams of messages that are a terminal."""
        streams = {self.stdout: self.output_messages, self.stderr: self.error_messages}
        return [stream for fd, stream in streams.items() if self.is_terminal(fd)]

    def interrupted(self) -> None:
        """Begin the next message at the beginning of the line: in the foreground the terminal has echoed ^C."""
        from session_manager_plugin.terminal.foreground import in_background

        self.error_messages.is_after_echo = self.is_terminal(self.stderr) and not in_background(self.stderr)

    @contextlib.contextmanager
    def queued_messages(self) -> Iterator[None]:
        """Queue messages and log lines during the block, so that they do not block the running event loop."""
        from session_manager_plugin.utils.logging import lines_written_by

        with self.output_messages.queued(), self.error_messages.queued(), lines_written_by(self._write_log_lines()):
            yield

    def write(self, text: str) -> None:
        """Write all output of a command. Blocks; not for use during a session.

        Raises ``OSError``, such as ``BrokenPipeError``, with the ``filename`` "standard output".
        """
        data = _encode(text, sys.stdout)
        with named_output_errors():
            while data:
                try:
                    data = data[os.write(self.stdout, data) :]
                except BlockingIOError:  # another process has set O_NONBLOCK
                    is_writable(self.stdout, None)

    @property
    def is_output_writable(self) -> bool:
        """Whether writing to standard output does not block (up to 4 KiB for a pipe)."""
        return is_writable(self.stdout)

    def write_message(self, text: str) -> None:
        """Write a message to standard output; see ``MessageStream``. Does not raise."""
        self.output_messages.write(_encode(text, sys.stderr))

    def write_error(self, text: str) -> None:
        """Write a message to standard error; see ``MessageStream``. Does not raise."""
        self.error_messages.write(_encode(text, sys.stderr))

    def _write_log_lines(self) -> Callable[[str], None]:
        """Return a ``write_error`` for any thread, valid while the running event loop is open."""
        import asyncio
        import threading

        loop, owner = asyncio.get_running_loop(), threading.get_ident()

        def write(text: str) -> None:
            if threading.get_ident() == owner:
                self.write_error(text)
            else:
                loop.call_soon_threadsafe(self.write_error, text)

        return write


@contextlib.contextmanager
def named_output_errors() -> Iterator[None]:
    """Set the ``filename`` of an ``OSError`` raised by writing to standard output to "standard output"."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or "standard output"
        raise


def prepare_standard_streams() -> bool:
    """Open the null device for closed standard streams, and choose the encoding of messages. Returns whether standard
    input was closed.

    Otherwise our files and sockets would get the numbers of the closed streams (ssh does the same). Reading a closed
    standard input and writing to a closed standard output still fail (EBADF): the one is not an empty input, and
    output of the other is lost. In the C locale Python writes UTF-8 (PEP 538, PEP 540), which a terminal of another
    encoding shows as garbage, so messages are ASCII there.
    """
    closed = []
    for fd, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDWR)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free number
            closed.append(fd)
    if sys.stdout is None:  # closed at the start; click prints to it
        unbuffered: Any = io.FileIO(1, "w", closefd=False)  # nothing is left to be flushed at exit
        sys.stdout = io.TextIOWrapper(unbuffered, write_through=True)
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper) and not is_utf8(os.environ):
        with contextlib.suppress(LookupError):
            if codecs.lookup(sys.stderr.encoding).name == "utf-8":
                sys.stderr.reconfigure(encoding="ascii", errors="backslashreplace")
    return 0 in closed


def parse_seconds(text: str, *, zero: bool) -> float:
    """Return a number of seconds; ``zero``: 0 is allowed. Raises ``ValueError``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        raise ValueError(f"{text!r} is not a number of seconds {'from 0 on' if zero else 'above 0'}")
    return seconds


def _encode(text: str, stream: TextIO | None) -> bytes:
    return text.encode(stream.encoding if stream else locale.getencoding(), "backslashreplace")
