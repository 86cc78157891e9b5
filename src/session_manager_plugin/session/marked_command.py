"""A command run in a shell session, with its exit status: for targets where no command session can be started.

A shell session carries the bytes of one terminal. The protocol marks neither the start nor the end of a command's
output, and does not report its exit status. So the shell is asked to print a marker before the output and one after it.
Each marker contains random hexadecimal digits; the first is recognised only at the start of a line, the second only
behind RS. The first line sent holds each marker in two parts, so that the terminal's echo does not contain a marker::

    sent            exec /bin/sh -c '…'               one short line: a terminal accepts lines of 4,095 bytes at most
    received        prompt, echo, greeting of the shell
                    LF begin-marker LF
    sent            the command, of the size stated in the first line sent
    received        the output
                    RS end-marker SPACE status LF           the status may be followed by ``k``

The end-marker begins with RS (0x1E) rather than with LF, so that a newline at the end of the received bytes is returned
at once, and not kept as a possible beginning of the marker. It is one line, because bash and busybox write to a
terminal line by line, and output of another process may come between two lines. From the begin-marker on the terminal
is raw: no echo, no rewriting of newlines, no limit of a line's length. The command's standard input is /dev/null or, if
it has input, a pipe; its standard output and standard error are one pipe.

The command is a ``/bin/sh -c`` of its own, as it is in a command session. A shell reports the same number, 128 + n, for
a process that signal n has killed and for one that exits with that status. dash, bash and busybox ash print a word such
as "Killed" for the former, except for SIGINT and SIGPIPE; it is kept out of the output, and becomes ``k``. bash does
so for commands that it reads from a file or a pipe, but not for those of ``-c``.

Ctrl-C (and Ctrl-Backslash) reaches the command, but not the shell that runs it; the terminal discards no output then
(``noflsh``). The command's shell may be killed by it while a program that it runs continues. So after the status 130
the end-marker is sent when the last process has closed the output.

Input follows the command, in lines of printable ASCII: any other byte is sent as ``\\0ooo``, in octal, and decoded by
``printf %b`` of the shell, so no byte of the input acts as a key. An empty line ends the input. The end-marker follows
the end of the command whether or not its input has ended. When the command's pipe has taken a line::

    received        RS end-marker SPACE + LF

At most ``INPUT_WINDOW`` lines are on their way, which is less than a terminal holds unread. So the agent never waits
for the terminal, and acknowledges all messages at once, and Ctrl-C, which a full terminal does not act on, arrives.

States::

    STARTING   the begin-marker was not received yet
    RUNNING    received bytes are the command's output
    ENDED      the end-marker was received; further bytes are discarded
"""

from __future__ import annotations

import re
import secrets
import signal
from collections.abc import Callable
from enum import Enum, auto

from session_manager_plugin.errors import LocalProtocolError
from session_manager_plugin.session.outcome import SIGNAL_BASE, CommandExit, command_exit, killed_exit

_MARKER_SIZE = 24
"""Hexadecimal digits in a marker: 96 random bits."""
_NOTE = re.compile(rb" (?:([0-9]{1,3})(k?)|\+)\r?\n")
"""The rest of the line after an end-marker: an exit status, or ``+``."""
_MAX_NOTE_SIZE = 7
"""Bytes between the end-marker and the end of its line, at most."""
_BEGIN_SEARCHED = 64
"""Bytes kept while searching for the begin-marker: longer than the marker and its line ends."""
_INTERRUPTED = SIGNAL_BASE + signal.SIGINT
CTRL_C = b"\x03"
MAX_SIZE = 131_069
"""Bytes of a command at most: with ``c=`` the kernel's limit for one variable of a program (Linux, MAX_ARG_STRLEN)."""
_RUN = (
    r"exec 2>&1; trap : INT QUIT; d=\$c; unset c; "
    r"( trap - INT QUIT; exec /bin/sh -c \"\$d\" ) <&5 >&3 2>&3 3>&- 4>&- 5<&-; echo \$?"
)
_LINE = (
    ' exec /bin/sh -c \'stty raw -echo; printf "\\n%s%s\\n" {begin_head} {begin_tail}; '
    "c=$(dd bs=1 count={size} 2>/dev/null; echo .); c=${{c%.}}; stty isig noflsh; trap : INT QUIT; "
    'e() {{ printf "\\036%s%s %s\\n" {end_head} {end_tail} $1; }}; '
    "exec 4>&1; {feed}{{ trap : INT QUIT; {{ trap : INT QUIT; exec 5<{input}; "
    's=$(trap : INT QUIT; echo "{run}" | c=$c /bin/sh 2>/dev/null); '
    'n=${{s##*[!0-9]}}; [ "$s" = "$n" ] || n=${{n}}k; [ "$n" = 130 ] || e $n; }} 3>&1 '
    '| ( trap "" INT QUIT; exec cat ); e 130; }}\'\r'
)

_FEED = '( trap "" INT QUIT; while IFS= read -r l && [ -n "$l" ]; do printf %b "$l" && e + >&4; done ) | '
_ENCODED = [chr(byte) if 0x20 <= byte < 0x7F and byte != 0x5C else f"\\0{byte:03o}" for byte in range(256)]
_ESCAPE_SIZE = 5
INPUT_LINE = 960
"""Bytes in a line of input at most, without its end."""
INPUT_WINDOW = 4
"""Lines of input that may be sent before the first of them is taken: together less than the 4,095 bytes that a terminal
holds unread (Linux, N_TTY_BUF_SIZE)."""


class MarkedState(Enum):
    """See the module docstring."""

    STARTING = auto()
    RUNNING = auto()
    ENDED = auto()


END_OF_INPUT = b"\n"
"""Sent after the last line of ``encode_input``."""


def encode_input(data: bytes) -> list[bytes]:
    """Return the lines that carry ``data``, a part of the command's input."""
    text = "".join([_ENCODED[byte] for byte in data])
    lines, start = [], 0
    while start < len(text):
        end = start + INPUT_LINE
        if end < len(text) and (escape := text.rfind("\\", end - _ESCAPE_SIZE + 1, end)) >= 0:
            end = escape
        lines.append(f"{text[start:end]}\n".encode())
        start = end
    return lines


class MarkedCommand:
    """One command in one shell session.

    Send ``first_line`` when the session is ready, pass all received bytes to ``receive_data``, and send
    ``data_to_send`` after each call.
    """

    def __init__(
        self, command: bytes, token_hex: Callable[[int], str] = secrets.token_hex, *, has_input: bool = False
    ) -> None:
        """``command`` is one or more lines for ``sh``, at most ``MAX_SIZE`` bytes. ``token_hex`` returns random
        hexadecimal digits.

        ``has_input``: once the state is ``RUNNING``, the lines of ``encode_input`` and ``END_OF_INPUT`` may be sent.
        """
        self._command = command
        begin, end = (token_hex(_MARKER_SIZE // 2) for _ in range(2))
        half = _MARKER_SIZE // 2
        self.first_line = _LINE.format(
            begin_head=begin[:half],
            begin_tail=begin[half:],
            end_head=end[:half],
            end_tail=end[half:],
            size=len(command),
            run=_RUN,
            feed=_FEED if has_input else "",
            input="&0" if has_input else "/dev/null",
        ).encode()
        """The bytes to send first."""
        self._begin = re.compile(rb"\n" + begin.encode() + rb"\r?\n")
        self._end = b"\x1e" + end.encode()
        self._received = b""
        """Bytes that may be the beginning of a marker."""
        self._to_send = b""
        self.state = MarkedState.STARTING
        self.exit: CommandExit | None = None
        """How the command ended; None before that. The status 130 after ``interrupt`` counts as killed by SIGINT."""
        self._interrupted = False
        self._lines_taken = 0

    def receive_data(self, data: bytes) -> bytes:
        """Return the command's output in ``data``, preceded by kept bytes that turned out to be no marker."""
        if self.state is MarkedState.ENDED:
            return b""
        data = self._received + data
        if self.state is MarkedState.STARTING:
            begin = self._begin.search(data)
            if begin is None:
                self._received = data[-_BEGIN_SEARCHED:]
                return b""
            self.state, self._to_send = MarkedState.RUNNING, self._command
            data = data[begin.end() :]
        return self._output(data)

    def data_to_send(self) -> bytes:
        """Return the bytes to send now, and clear them."""
        data, self._to_send = self._to_send, b""
        return data

    def take_lines_taken(self) -> int:
        """Return how many lines of input the command has taken since the last call."""
        taken, self._lines_taken = self._lines_taken, 0
        return taken

    def interrupt(self, key: bytes = CTRL_C) -> bytes:
        """Return the bytes that send the signal of ``key`` to the command. Raises ``LocalProtocolError`` unless it is
        running."""
        if self.state is not MarkedState.RUNNING:
            raise LocalProtocolError(f"no command to interrupt in state {self.state.name}")
        self._interrupted = self._interrupted or key == CTRL_C
        return key

    def finish(self) -> bytes:
        """At the end of the session: return the kept bytes, since no end-marker followed."""
        kept, self._received = self._received, b""
        return kept if self.state is MarkedState.RUNNING else b""

    def _output(self, data: bytes) -> bytes:
        output, position = [], 0
        while (start := data.find(self._end, position)) >= 0:
            note = _NOTE.match(data, start + len(self._end))
            if note is None:
                if len(data) - start - len(self._end) < _MAX_NOTE_SIZE:
                    break
                output.append(data[position : start + 1])
                position = start + 1
                continue
            output.append(data[position:start])
            position = note.end()
            if note[1] is None:
                self._lines_taken += 1
                continue
            self.state, self.exit = MarkedState.ENDED, self._exit(int(note[1]), is_killed=bool(note[2]))
            self._received = b""
            return b"".join(output)
        else:
            start = marker_start(data, position, self._end)
        self._received = data[start:]
        return b"".join([*output, data[position:start]])

    def _exit(self, status: int, *, is_killed: bool) -> CommandExit:
        if is_killed and status > SIGNAL_BASE:
            return killed_exit(status - SIGNAL_BASE)
        return killed_exit(signal.SIGINT) if self._interrupted and status == _INTERRUPTED else command_exit(status)


def marker_start(data: bytes, position: int, marker: bytes) -> int:
    """Return the offset of a suffix of ``data[position:]`` that is a prefix of ``marker``; ``len(data)`` if there is
    none."""
    first = max(position, len(data) - len(marker))
    start = data.rfind(marker[:1], first)
    while start >= 0:
        if marker.startswith(data[start:]):
            return start
        start = data.rfind(marker[:1], first, start)
    return len(data)
