"""A command in a terminal, with its exit status.

An interactive command (the document AWS-StartInteractiveCommand) is run by ``sh -c``. Its session reports no exit
status, and the agent sets the terminal to 0×0 until it receives a size. So ``sh`` sets the size first, and prints a
marker with random hexadecimal digits at the end, which is kept out of the output::

    RS marker SPACE status LF
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from collections.abc import Callable

from session_manager_plugin.session.handler_options import HandlerOptions
from session_manager_plugin.session.marked_command import marker_start
from session_manager_plugin.session.outcome import EndReason, Outcome, without_status
from session_manager_plugin.session.protocols import IDataChannel, Streams, TerminalSize
from session_manager_plugin.session.shell import ShellHandler

_MARKER_SIZE = 24
"""Hexadecimal digits in a marker: 96 random bits."""
_LINE = (
    "trap : INT QUIT; stty cols {columns} rows {rows} 2>/dev/null; ( exec {words} ); printf '\\036{marker} %s\\n' $?"
)
_NOTE = re.compile(rb" ([0-9]{1,3})\r?\n")
_MAX_NOTE_SIZE = 6
"""Bytes between the marker and the end of its line, at most."""


class TerminalCommand:
    """One command in a terminal. Send ``line``, and pass all received bytes to ``receive_data``."""

    def __init__(self, words: str, size: TerminalSize, token_hex: Callable[[int], str] = secrets.token_hex) -> None:
        """``words`` are those of the command, quoted for ``sh``; ``token_hex`` returns random hexadecimal digits."""
        marker = token_hex(_MARKER_SIZE // 2)
        self.line = _LINE.format(columns=size.columns, rows=size.rows, words=words, marker=marker)
        """The command for ``sh -c``."""
        self._marker = b"\x1e" + marker.encode()
        self._received = b""
        """Bytes that may be the beginning of the marker."""
        self.status: int | None = None
        """The exit status; None before it was received."""

    def receive_data(self, data: bytes) -> bytes:
        """Return the command's output in ``data``, preceded by kept bytes that turned out to be no marker."""
        data, self._received = self._received + data, b""
        start = data.find(self._marker)
        if start < 0:
            start = marker_start(data, 0, self._marker)
        elif note := _NOTE.match(data, start + len(self._marker)):
            self.status = int(note[1])
            return data[:start] + data[note.end() :]
        elif len(data) - start - len(self._marker) >= _MAX_NOTE_SIZE:
            start = len(data)
        self._received = data[start:]
        return data[:start]


class TerminalCommandHandler(ShellHandler):
    """Handles the session of a ``TerminalCommand``. The outcome has the command's exit status."""

    def __init__(self, streams: Streams, command: TerminalCommand, options: HandlerOptions) -> None:
        super().__init__(
            streams,
            options.terminal,
            stdin_eof=options.stdin_eof,
            open_recording=options.open_recording,
            notices=options.notices,
        )
        self._command = command

    async def run(self, channel: IDataChannel) -> Outcome:
        """See ``ShellHandler``. The outcome has an error if the far end has closed the session before the status."""
        outcome = await super().run(channel)
        if self._command.status is not None:
            return dataclasses.replace(outcome, status=self._command.status)
        return without_status(outcome) if outcome.reason is EndReason.CLOSED and outcome.is_normal else outcome

    def _show(self, data: bytes) -> None:
        if output := self._command.receive_data(data):
            super()._show(output)
