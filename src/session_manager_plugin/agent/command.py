"""NonInteractiveCommands: a command without a terminal and without input.

Its words are executed without a shell. As in the official agent, there are two output modes:

- together: both outputs go to one file, which is sent after the command has ended, without an exit code;
- separate (agents since ``SEPARATE_STREAMS_FROM``): each output is sent as it is written, by its own payload type, and
  then the exit code.

Ctrl-C and Ctrl-\\ at the beginning of a message become signals for the command; all other input is ignored.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shlex
import shutil
import signal
import tempfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from session_manager_plugin.agent.process import ChildProcess
from session_manager_plugin.agent.program import (
    ERROR_HEADING,
    MESSAGE_DELAY,
    OutputMessage,
    OutputSignal,
    ProgramError,
    to_messages,
)
from session_manager_plugin.agent.quirks import Quirk
from session_manager_plugin.protocol.events import DataReceived
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, PayloadType

SEPARATE_STREAMS_FROM: Final = "3.1.1511.0"
"""The first version of the agent with separate output streams."""
OUTDATED_CLIENT_MESSAGE: Final = (
    "Please update session manager plugin version (minimum required version 1.2.312.0) "
    "for fully support of separate StdOut/StdErr output.\r\n"
)
"""The message for an old client of a command with separate streams."""
ERROR_DELAY: Final = 1.0
"""Seconds that the official agent sleeps before it sends an error text."""

_PREFIX: Final = re.compile(r"[0-9a-zA-Z\r\n_:-]{0,30}")
_SIGNALS: Final = {0x03: signal.SIGINT, 0x1C: signal.SIGQUIT}
_ERROR_EXIT_CODE: Final = 1
"""The official agent's exit code for a command that could not be started, or whose exit status is unknown."""
_KILLED_EXIT_CODE: Final = -1


class _Command(ABC):
    """The part that both modes share; see ``SessionProgram``."""

    start_delay = 0.0
    message_delay = 0.0
    terminated = False

    def __init__(
        self,
        commands: str,
        *,
        quirks: frozenset[Quirk],
        on_output: Callable[[], None],
        on_input_taken: Callable[[], None],
    ) -> None:
        self._commands = commands
        self._quirks = quirks
        self._on_input_taken = on_input_taken
        self._signalled = False
        self._process = ChildProcess(self._process_exited)
        self._signal = OutputSignal(on_output, self._has_output)
        self._last_messages: deque[OutputMessage] | None = None
        """The last messages to send; None while further output may follow."""
        self.ended = False
        self.failure: str | None = None

    @property
    def pid(self) -> int:
        """The command's process id; 0 if it was not started."""
        return self._process.pid

    def start(self) -> None:
        """Start the command in the current directory. If that fails, the error becomes the command's output."""
        try:
            words = shlex.split(self._commands)
        except ValueError as error:
            text = f"Unable to start command: Failed to parse commands input: {error}\n\n"
            self.start_delay = ERROR_DELAY
            self._could_not_start([], text, f"{ERROR_HEADING}{text}")
            return
        try:
            self._execute(words)
        except (OSError, ValueError) as error:  # ValueError: a NUL, or a lone surrogate
            text = f"Error occurred starting the command: {_reason(words[0], error)}\n"
            exit_code = self._exit_code_messages(_ERROR_EXIT_CODE)
            self.start_delay = 0.0 if exit_code else ERROR_DELAY
            self._could_not_start(exit_code, text, "")

    def _could_not_start(self, messages: list[OutputMessage], text: str, failure: str) -> None:
        self.message_delay = ERROR_DELAY
        self.failure = failure
        self._last_messages = deque(messages + to_messages(PayloadType.STDERR, text.encode(errors="replace")))

    @abstractmethod
    def _execute(self, words: list[str]) -> None:
        """Start the command with its outputs redirected. Raises ``OSError`` and ``ValueError``."""

    @abstractmethod
    def _exit_code_messages(self, code: int) -> list[OutputMessage]:
        """Return the messages that report the exit code; none if this mode does not report it."""

    def _spawn(self, words: Sequence[str], output: int, error_output: int) -> None:
        if "/" not in words[0] and shutil.which(words[0]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), words[0])
        self._process.start(
            words,
            [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, error_output, 2),
            ],
        )

    def _process_exited(self) -> None:
        self._signal.notify()
        if self._waited_for:
            self._on_input_taken()

    def receive(self, data: DataReceived) -> None:
        """Send the signal for a Ctrl-C or Ctrl-\\ at the beginning of a message."""
        if data.payload_type == PayloadType.OUTPUT:
            for payload in data.payloads:
                for key in payload if Quirk.SIGNAL_SCAN in self._quirks else payload[:1]:
                    if key in _SIGNALS and not self.blocks_reader:
                        self._process.send_signal(_SIGNALS[key])
                        self._signalled = True

    # The quirk ``SIGNAL_BLOCKS_READER``: after a signal the official agent's reader waits for the process to exit, as
    # another goroutine does already.

    @property
    def _waited_for(self) -> bool:
        return self._signalled and Quirk.SIGNAL_BLOCKS_READER in self._quirks

    @property
    def blocks_reader(self) -> bool:
        """Whether the agent does not read from the websocket."""
        return self._waited_for and not self._process.exited

    @property
    def takes_input(self) -> bool:
        """Always true, except with that quirk."""
        return not self.blocks_reader

    @abstractmethod
    def _has_output(self) -> bool:
        """Whether ``read`` has something to return, apart from readable file descriptors."""

    def set_reading(self, wanted: bool) -> None:
        """See ``SessionProgram``."""
        self._signal.set_reading(wanted)

    def _take_last_messages(self, limit: int) -> list[OutputMessage]:
        if self._last_messages is None:
            return []
        taken = [self._last_messages.popleft() for _ in range(min(limit, len(self._last_messages)))]
        self.ended = not self._last_messages
        return taken

    async def close(self) -> None:
        """End the command and the processes it has started; see ``ChildProcess.end``."""
        self._signal.set_reading(False)
        await self._process.end()


class CommandOutputTogether(_Command):
    """A command whose outputs are sent together."""

    message_delay = MESSAGE_DELAY

    def __init__(
        self,
        commands: str,
        *,
        quirks: frozenset[Quirk],
        on_output: Callable[[], None],
        on_input_taken: Callable[[], None],
    ) -> None:
        super().__init__(commands, quirks=quirks, on_output=on_output, on_input_taken=on_input_taken)
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by ``close``
        self._offset = 0

    def _execute(self, words: list[str]) -> None:
        self._spawn(words, self._file.fileno(), self._file.fileno())

    def _exit_code_messages(self, code: int) -> list[OutputMessage]:
        return []

    def _has_output(self) -> bool:
        return self._process.exited or self._last_messages is not None

    def read(self, limit: int) -> list[OutputMessage]:
        """See ``SessionProgram``. Does not wait for output of processes that the command left in the background."""
        if self._last_messages is not None:
            return self._take_last_messages(limit)
        size = limit * MAX_PAYLOAD_SIZE
        # ``pread``, because the file position is shared with the command's descriptors.
        data = os.pread(self._file.fileno(), size, self._offset)
        self._offset += len(data)
        self.ended = len(data) < size
        return to_messages(PayloadType.OUTPUT, data)

    async def close(self) -> None:
        """See ``SessionProgram``."""
        await super().close()
        self._file.close()


class CommandOutputSeparate(_Command):
    """A command whose outputs are sent separately. Each piece read that begins a line is preceded by the prefix."""

    def __init__(
        self,
        commands: str,
        *,
        output_prefix: str,
        error_prefix: str,
        quirks: frozenset[Quirk],
        on_output: Callable[[], None],
        on_input_taken: Callable[[], None],
    ) -> None:
        """Raises ``ProgramError`` if a prefix is too long or has a forbidden character."""
        super().__init__(commands, quirks=quirks, on_output=on_output, on_input_taken=on_input_taken)
        for name, prefix in (("stdout", output_prefix), ("stderr", error_prefix)):
            if not _PREFIX.fullmatch(prefix):
                raise ProgramError(f"invalid {name}SeparatorPrefix {prefix}")
        self._on_output = on_output
        self._output_prefix = output_prefix
        self._error_prefix = error_prefix
        self._pipes: list[_Pipe] = []
        self._stopped: list[_Pipe] = []
        self._last_pieces: deque[OutputMessage] = deque()
        self._exit_code_lost = False

    def _execute(self, words: list[str]) -> None:
        pipes = [
            _Pipe(PayloadType.OUTPUT, self._output_prefix.encode(), self._on_output),
            _Pipe(PayloadType.STDERR, self._error_prefix.encode(), self._on_output),
        ]
        try:
            self._spawn(words, *(pipe.write_end for pipe in pipes))
        except (OSError, ValueError):
            for pipe in pipes:
                pipe.close()
            raise
        finally:
            for pipe in pipes:
                pipe.close_write_end()
        self._pipes = pipes

    def _exit_code_messages(self, code: int) -> list[OutputMessage]:
        return [OutputMessage(PayloadType.EXIT_CODE, f"EXIT_CODE: {code}".encode())]

    def _process_exited(self) -> None:
        if self._waited_for:  # the waiting goroutine closes the pipes, whether they were read to the end or not
            for pipe in self._pipes:
                pipe.close()
            self._pipes.clear()
        super()._process_exited()

    def _has_output(self) -> bool:
        return self._last_messages is not None or bool(self._last_pieces) or (self._process.exited and not self._pipes)

    def set_reading(self, wanted: bool) -> None:
        """See ``SessionProgram``."""
        super().set_reading(wanted)
        for pipe in self._pipes:
            pipe.set_reading(wanted)

    def read(self, limit: int) -> list[OutputMessage]:
        """See ``SessionProgram``. The exit code follows the end of both outputs, so this waits for background processes
        that have them open."""
        messages = [self._last_pieces.popleft() for _ in range(min(limit, len(self._last_pieces)))]
        turns = deque(self._pipes)
        while turns and len(messages) < limit:
            pipe = turns.popleft()
            payload = pipe.read()
            if payload:
                messages.append(OutputMessage(pipe.payload_type, payload))
                turns.append(pipe)
            elif payload is not None:
                pipe.close()
                self._pipes.remove(pipe)
        if self._last_messages is None and not self._pipes and self._process.exited:
            code = self._process.exit_code
            code = _ERROR_EXIT_CODE if code is None or self._waited_for else max(code, _KILLED_EXIT_CODE)
            self._last_messages = deque([] if self._exit_code_lost else self._exit_code_messages(code))
        return messages + self._take_last_messages(limit - len(messages))

    def client_returned(self) -> None:
        """Apply the quirk ``PAUSE_STOPS_OUTPUT`` when the client is back.

        The official agent reads each output in a loop. If the client is away when a piece is read, the loop ends. That
        output is then never read again, so that a command with more output blocks for ever.
        """
        if Quirk.PAUSE_STOPS_OUTPUT not in self._quirks:
            return
        self._exit_code_lost = self._process.exited and self._last_messages is None
        for pipe in list(self._pipes):
            if payload := pipe.read():
                self._last_pieces.append(OutputMessage(pipe.payload_type, payload))
                self._pipes.remove(pipe)
                self._stopped.append(pipe)
                pipe.set_reading(False)
                self.failure = ""
        self._signal.notify()

    async def close(self) -> None:
        """See ``SessionProgram``."""
        for pipe in self._pipes + self._stopped:
            pipe.close()
        self._pipes.clear()
        self._stopped.clear()
        await super().close()


class _Pipe:
    """One output of a command. Calls ``on_readable`` while reading is enabled and there is data or the end."""

    def __init__(self, payload_type: PayloadType, prefix: bytes, on_readable: Callable[[], None]) -> None:
        self.payload_type = payload_type
        self._prefix = prefix
        self._begins_line = True
        self._on_readable = on_readable
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)

    def set_reading(self, wanted: bool) -> None:
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self._read_end, self._on_readable)
            else:
                self._loop.remove_reader(self._read_end)

    def read(self) -> bytes | None:
        """Return the next payload with its prefix; empty at the end, None if there is no data now."""
        try:
            data = os.read(self._read_end, MAX_PAYLOAD_SIZE - len(self._prefix))
        except BlockingIOError:
            return None
        prefix = self._prefix if data and self._begins_line else b""
        self._begins_line = data.endswith(b"\n")
        return prefix + data

    def close_write_end(self) -> None:
        """Close our copy of the write end. Idempotent."""
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1

    def close(self) -> None:
        self.set_reading(False)
        os.close(self._read_end)
        self.close_write_end()


def _reason(program: str, error: OSError | ValueError) -> str:
    """Return why a program could not be started, in Go's words."""
    if isinstance(error, FileNotFoundError) and "/" not in program:
        return f'exec: "{program}": executable file not found in $PATH'
    reason = str(error) if isinstance(error, ValueError) or error.strerror is None else error.strerror.lower()
    return f"fork/exec {program}: {reason}"
