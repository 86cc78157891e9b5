"""A program on a pseudo-terminal of its own: Standard_Stream and InteractiveCommands.

What is left to do in the new process before it becomes the program, taking the terminal as controlling terminal, is
done by ``/bin/sh``: as leader of a new session it opens the terminal, which acquires it, and then becomes the program.
(See ``process.py`` for why no Python can run there.)

Nothing here blocks. Output is read when the owner asks; input that the terminal does not take yet is kept, and above
``MAX_INPUT_SIZE`` no more is wanted.
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
"""Bytes of input that wait for the terminal before no more is wanted."""

_LOGGER = get_logger(__name__)
_TAKE_TERMINAL = ': <>"$0"; exec "$@"'
_WRITE_SIZE = 64 * 1024
_LAST_OUTPUT_SIZE = 2 * 1024 * 1024
"""Bytes: more than a terminal's buffer holds (Linux: 640 KiB twice), so all that a program wrote before it exited."""
_MAX_WINDOW_SIDE = 0xFFFF


class Shell:
    """One program, its terminal and everything it starts there; see ``SessionProgram``."""

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
    def takes_input(self) -> bool:
        """Whether less than ``MAX_INPUT_SIZE`` waits for the terminal."""
        return len(self._input) < MAX_INPUT_SIZE

    @property
    def pid(self) -> int:
        """The program's process id, which is also its session's; 0 before ``start``."""
        return self._process.pid

    def start(self) -> None:
        """Start the program, in the current directory. Raises ``ProgramError``.

        The size of the terminal is 0 × 0 until ``resize``, as the official agent leaves it.
        """
        try:
            self._start()
        except OSError as error:
            raise ProgramError(f"{ERROR_HEADING}Unable to start command: {error.filename}: {error.strerror}") from error
        except ValueError as error:  # a NUL in it, or what is no Unicode text
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
        """Whether ``on_output`` is to be called."""
        if wanted == self._reading or self._master < 0:
            return
        self._reading = wanted
        if not wanted:
            self._loop.remove_reader(self._master)
            return
        self._loop.add_reader(self._master, self._on_output)
        if self._process.exited:
            # With the terminal kept open by a process in the background, no end of file would ever show.
            self._loop.call_soon(self._on_output)

    def read(self, limit: int) -> list[OutputMessage]:
        """See ``SessionProgram``.

        The end is when nobody has the terminal open any more, or when the program has exited and what it had
        written is read: a process it left in the background does not keep the session open, silent or not.
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
            if error.errno != errno.EIO:  # what Linux says when the last user of the terminal is gone
                raise
            data = b""
        if self._process.exited:
            self._last_output_size -= len(data)
        self.ended = not data or self._last_output_size <= 0
        return data

    # Input.

    def receive(self, data: DataReceived) -> None:
        """Type what was typed, take each size."""
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
        """Type ``data`` on the terminal, behind what it has not taken yet."""
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
            self._input.clear()  # EIO: nobody has the terminal open, so nobody can read it
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._master)
            self._on_input_taken()

    def resize(self, columns: int, rows: int) -> None:
        """Set the terminal's size; each side is limited to what 16 bits hold."""
        if self._master < 0:
            return
        sides = [min(max(side, 0), _MAX_WINDOW_SIDE) for side in (rows, columns)]
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", *sides, 0, 0))

    # The end.

    async def close(self) -> None:
        """Hang up: the terminal is closed and every process of the session ended; see ``ChildProcess.end``."""
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
