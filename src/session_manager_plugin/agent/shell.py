"""A program on a pseudo-terminal of its own: Standard_Stream and InteractiveCommands.

In the new process ``/bin/sh`` acquires the controlling terminal: as leader of a new session it opens the terminal, and
then executes the program. (See ``process.py`` for why no Python code can run there.)

Nothing here blocks. Output is read on request. Input that the terminal does not accept yet is kept; above
``MAX_INPUT_SIZE`` ``takes_input`` is false.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import struct
import termios
from collections.abc import Callable, Sequence

from session_manager_plugin.agent.process import ChildProcess
from session_manager_plugin.agent.program import (
    ERROR_HEADING,
    MESSAGE_DELAY,
    OutputMessage,
    ProgramError,
    to_messages,
)
from session_manager_plugin.errors import RemoteProtocolError
from session_manager_plugin.protocol.events import DataReceived
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, PayloadType
from session_manager_plugin.protocol.payloads import Size
from session_manager_plugin.utils.logging import get_logger

MAX_INPUT_SIZE = 256 * 1024
"""Bytes of input waiting for the terminal above which ``takes_input`` is false."""

_LOGGER = get_logger(__name__)
_TAKE_TERMINAL = ': <>"$0"; exec "$@"'
_WRITE_SIZE = 64 * 1024
_LAST_OUTPUT_SIZE = 2 * 1024 * 1024
"""Bytes: more than a terminal buffers (Linux: twice 640 KiB), so everything that a program wrote before it exited."""
_MAX_WINDOW_SIDE = 0xFFFF


class Shell:
    """One program with its terminal; see ``SessionProgram``."""

    start_delay = 1.0
    message_delay = MESSAGE_DELAY
    failure: str | None = None
    terminated = False

    def __init__(
        self, argv: Sequence[str], *, on_output: Callable[[], None], on_input_taken: Callable[[], None]
    ) -> None:
        self._argv = argv
        self._on_output = on_output
        self._on_input_taken = on_input_taken
        self._loop = asyncio.get_running_loop()
        self._process = ChildProcess(self._process_exited)
        self._master = -1
        self._input = bytearray()
        self._reading = False
        self._writing = False
        self._last_output_size = _LAST_OUTPUT_SIZE
        self.ended = False

    @property
    def input_size(self) -> int:
        """Bytes of input that wait for the terminal."""
        return len(self._input)

    @property
    def takes_input(self) -> bool:
        """Whether fewer than ``MAX_INPUT_SIZE`` bytes wait for the terminal."""
        return self.input_size < MAX_INPUT_SIZE

    @property
    def pid(self) -> int:
        """The program's process id, which is also the id of its session; 0 before ``start``."""
        return self._process.pid

    def start(self) -> None:
        """Start the program in the current directory. Raises ``ProgramError``.

        The size of the terminal is 0 × 0 until ``resize``, as the official agent leaves it.
        """
        try:
            self._start()
        except OSError as error:
            raise ProgramError(f"{ERROR_HEADING}Unable to start command: {error.filename}: {error.strerror}") from error
        except ValueError as error:  # a NUL, or a lone surrogate
            raise ProgramError(f"{ERROR_HEADING}Unable to start command: {error}") from error

    def _start(self) -> None:
        if shutil.which(self._argv[0]) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._argv[0])
        master, slave = os.openpty()
        try:
            os.set_blocking(master, False)
            self._process.start(
                ["/bin/sh", "-c", _TAKE_TERMINAL, os.ttyname(slave), *self._argv],
                [(os.POSIX_SPAWN_DUP2, slave, descriptor) for descriptor in range(3)],
            )
        except (OSError, ValueError):
            os.close(master)
            raise
        finally:
            os.close(slave)
        self._master = master

    def _process_exited(self) -> None:
        if self._reading:
            self._on_output()

    # Output.

    def set_reading(self, wanted: bool) -> None:
        """Enable or disable the calls of ``on_output``."""
        if wanted == self._reading or self._master < 0:
            return
        self._reading = wanted
        if not wanted:
            self._loop.remove_reader(self._master)
            return
        self._loop.add_reader(self._master, self._on_output)
        if self._process.exited:
            # A background process may keep the terminal open, so that no end of file arrives.
            self._loop.call_soon(self._on_output)

    def read(self, limit: int) -> list[OutputMessage]:
        """See ``SessionProgram``.

        The output ends when no process has the terminal open, or when the program has exited and its output is read:
        background processes do not keep the session open.
        """
        room = limit * MAX_PAYLOAD_SIZE
        chunks = []
        while room > 0 and (chunk := self._read(room)):
            chunks.append(chunk)
            room -= len(chunk)
        return to_messages(PayloadType.OUTPUT, b"".join(chunks))

    def _read(self, size: int) -> bytes:
        if self._master < 0:
            return b""
        try:
            data = os.read(self._master, size)
        except BlockingIOError:
            self.ended = self._process.exited
            return b""
        except OSError as error:
            if error.errno != errno.EIO:  # Linux reports EIO when no process has the terminal open
                raise
            data = b""
        if self._process.exited:
            self._last_output_size -= len(data)
        self.ended = not data or self._last_output_size <= 0
        return data

    # Input.

    def receive(self, data: DataReceived) -> None:
        """Write input to the terminal, and set sizes."""
        if data.payload_type == PayloadType.OUTPUT:
            self.write(data.data)
        elif data.payload_type == PayloadType.SIZE:
            for payload in data.payloads:
                try:
                    size = Size.from_json(payload)
                except RemoteProtocolError as error:
                    _LOGGER.debug("%s", error)
                else:
                    self.resize(size.columns, size.rows)

    def write(self, data: bytes | bytearray) -> None:
        """Write ``data`` to the terminal, after the input that is still waiting."""
        if self._master < 0:
            return
        self._input += data
        if not self._writing:
            self._write_input()

    def _write_input(self) -> None:
        try:
            while self._input:
                written = os.write(self._master, self._input[:_WRITE_SIZE])
                del self._input[:written]
        except BlockingIOError:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._master, self._write_input)
            return
        except OSError:
            self._input.clear()  # EIO: no process has the terminal open to read it
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._master)
            self._on_input_taken()

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size. Columns and rows are limited to 16 bits."""
        if self._master < 0:
            return
        sides = [min(max(side, 0), _MAX_WINDOW_SIDE) for side in (rows, columns)]
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", *sides, 0, 0))

    # The end.

    async def close(self) -> None:
        """Close the terminal and end every process of the session; see ``ChildProcess.end``."""
        if self._master < 0:
            return
        self.set_reading(False)
        if self._writing:
            self._loop.remove_writer(self._master)
            self._writing = False
        self._input.clear()
        os.close(self._master)
        self._master = -1
        await self._process.end()
