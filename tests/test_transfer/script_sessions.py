"""Sessions with a target that is this machine: real shells, no protocol. Fulfils ``transfer.sessions.Sessions``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from session_manager_plugin.errors import AccessDenied, NotConnected, SessionManagerError
from session_manager_plugin.protocol.events import MissingOutput
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.protocols import InputHandler
from session_manager_plugin.transfer.sessions import CopyChannel

_READ_SIZE = 65536


class ScriptChannel(CopyChannel):
    """A session whose program is a process of this machine, at pipes or at a terminal.

    After ``stop_after`` bytes of output nothing more of it arrives: the session ends with ``loss``, or goes on without
    output if that is None, as the official agent does it.
    """

    def __init__(self, stop_after: int | None = None, loss: SessionManagerError | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._handlers: dict[int, InputHandler] = {}
        self._stop_after = stop_after
        self._loss = loss
        self._on_stop: Callable[[], None] = lambda: None
        self._outputs: dict[int, int] = {}
        """Payload types, by the descriptors that are read."""
        self._input = -1
        self._paused = False
        self.process: asyncio.subprocess.Process | None = None
        self.stopped = False
        self.killed = False
        """Whether the session was terminated from the other side."""
        self.printed = 0
        """Bytes of standard output that have arrived."""

    async def start(self, words: list[str], variables: Mapping[str, str], terminal: bool) -> None:
        """Start the process."""
        if terminal:
            self._input, inner = os.openpty()
            self._outputs = {self._input: PayloadType.OUTPUT}
            streams = (inner, inner, inner)
        else:
            (output, inner_output), (errors, inner_errors) = os.pipe(), os.pipe()
            self._outputs = {output: PayloadType.OUTPUT, errors: PayloadType.STDERR}
            streams = (os.open(os.devnull, os.O_RDONLY), inner_output, inner_errors)
        self.process = await asyncio.create_subprocess_exec(
            *words, stdin=streams[0], stdout=streams[1], stderr=streams[2], env=variables, start_new_session=True
        )
        for descriptor in {*streams}:
            os.close(descriptor)
        for descriptor in self._outputs:
            os.set_blocking(descriptor, False)

    def terminate(self) -> None:
        """End the session from the other side: the program ends, and its exit code is not reported."""
        assert self.process is not None
        self.killed = True
        os.killpg(self.process.pid, signal.SIGKILL)

    async def finish(self) -> None:
        """End every process of the session, as a terminal that is closed does."""
        assert self.process is not None
        self._set_reading(False)
        for descriptor in self._outputs:
            os.close(descriptor)
        self._outputs.clear()
        self._end(NotConnected("closed"))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGHUP)
        await self.process.wait()

    @property
    def missing_output(self) -> MissingOutput | None:
        return MissingOutput(stopped=True) if self.stopped else None

    @property
    def output_gap(self) -> int:
        return 0

    @property
    def lossy(self) -> bool:
        return False

    def set_input_handler(self, handler: InputHandler) -> None:
        self._handlers[PayloadType.OUTPUT] = handler
        self._set_reading(True)

    def set_payload_handler(self, payload_type: int, handler: InputHandler) -> None:
        self._handlers[payload_type] = handler

    def set_output_stopped_handler(self, handler: Callable[[], None]) -> None:
        self._on_stop = handler

    def pause_reading(self) -> None:
        self._set_reading(False)

    def resume_reading(self) -> None:
        if self._paused:
            self._set_reading(True)

    async def ended(self) -> str:
        return await asyncio.shield(self._ended)

    async def send_input_data(self, data: bytes) -> None:
        while data:
            if self._ended.done():
                raise NotConnected("the session is over")
            try:
                data = data[os.write(self._input, data) :]
            except BlockingIOError:
                await self._writable()
            except OSError:
                await asyncio.sleep(0)  # EIO: the program has left the terminal; its end is noticed next

    async def _writable(self) -> None:
        writable = asyncio.Event()
        self._loop.add_writer(self._input, writable.set)
        self._ended.add_done_callback(lambda _ended: writable.set())
        try:
            await writable.wait()
        finally:
            self._loop.remove_writer(self._input)

    def _set_reading(self, wanted: bool) -> None:
        self._paused = not wanted
        for descriptor, payload_type in self._outputs.items():
            if wanted:
                self._loop.add_reader(descriptor, self._read, descriptor, payload_type)
            else:
                self._loop.remove_reader(descriptor)

    def _read(self, descriptor: int, payload_type: int) -> None:
        try:
            data = os.read(descriptor, _READ_SIZE)
        except OSError:
            data = b""  # EIO: nothing has the terminal open
        if not data:
            self._loop.remove_reader(descriptor)
            if descriptor != self._input:
                os.close(descriptor)
                del self._outputs[descriptor]
            if descriptor == self._input or not self._outputs:
                if descriptor != self._input and not self.killed:
                    self._handlers[PayloadType.EXIT_CODE](b"EXIT_CODE: 0")
                self._end("")
            return
        if payload_type == PayloadType.OUTPUT:
            if self._stop_after is not None:
                data = data[: self._stop_after - self.printed]
            self.printed += len(data)
        if data:
            self._handlers[payload_type](data)
        if self._stop_after is not None and self.printed >= self._stop_after:
            self._set_reading(False)
            self.stopped = self._loss is None
            self._on_stop() if self._loss is None else self._end(self._loss)

    def _end(self, outcome: str | SessionManagerError) -> None:
        if self._ended.done():
            return
        if isinstance(outcome, str):
            self._ended.set_result(outcome)
        else:
            self._ended.set_exception(outcome)
            self._ended.exception()


@dataclass
class ScriptSessions:
    """Starts the programs of sessions with the tools of ``tools`` and the home directory ``home``."""

    tools: Path
    home: Path
    stops: list[tuple[int, SessionManagerError | None]] = field(default_factory=list)
    """For each command, in order: after how many bytes its output stops, and with which error."""
    commands_denied: bool = False
    channels: list[ScriptChannel] = field(default_factory=list)

    def command(self, command: str) -> contextlib.AbstractAsyncContextManager[CopyChannel]:
        """See ``Sessions``."""
        if self.commands_denied:
            raise AccessDenied("no permission for AWS-StartNonInteractiveCommand")
        stop_after, loss = self.stops.pop(0) if self.stops else (None, None)
        return self._session(shlex.split(command), ScriptChannel(stop_after, loss), False)

    def shell(self) -> contextlib.AbstractAsyncContextManager[CopyChannel]:
        """See ``Sessions``."""
        return self._session(["sh"], ScriptChannel(), True)

    @contextlib.asynccontextmanager
    async def _session(self, words: list[str], channel: ScriptChannel, terminal: bool) -> AsyncIterator[CopyChannel]:
        self.channels.append(channel)
        variables = {"PATH": str(self.tools), "HOME": str(self.home), "PS1": "$ "}
        await channel.start([str(self.tools / words[0]), *words[1:]], variables, terminal)
        try:
            yield channel
        finally:
            await channel.finish()
