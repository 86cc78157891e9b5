"""Running a command in a shell session, for targets where command sessions are not possible."""

from __future__ import annotations

import asyncio
import contextlib

from session_manager_plugin.errors import NotConnected, TimedOut
from session_manager_plugin.session.command import KEYS
from session_manager_plugin.session.ending import describe_missing, wait_for_end
from session_manager_plugin.session.first_of import first_of
from session_manager_plugin.session.marked_command import (
    END_OF_INPUT,
    INPUT_WINDOW,
    MarkedCommand,
    MarkedState,
    encode_input,
)
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.session.protocols import IDataChannel, Interruptible, Notices, Streams

SHELL_TIMEOUT = 60.0
"""Seconds within which the shell must run the first line. An agent may take seconds to send its first output."""


class MarkedCommandHandler(Interruptible):
    """Writes the command's output as it arrives, stdout and stderr as one, and returns its exit status.

    The session is still open at the end; the caller has to terminate it.
    """

    def __init__(
        self,
        streams: Streams,
        command: bytes,
        notices: Notices,
        *,
        has_input: bool = False,
        shell_timeout: float = SHELL_TIMEOUT,
    ) -> None:
        """``command`` is one or more lines for ``sh``. ``has_input``: the input of ``streams`` is sent to the
        command."""
        self._streams = streams
        self._notices = notices
        self._marked = MarkedCommand(command, has_input=has_input)
        self._has_input = has_input
        self._shell_timeout = shell_timeout
        self._to_send: asyncio.Queue[bytes] | None = None
        self._running = asyncio.Event()
        """Set when the command has begun."""
        self._ended = asyncio.Event()
        """Set when the command has ended."""
        self._sent: set[int] = set()
        """The signals that were passed on."""
        self._input_room = asyncio.Semaphore(INPUT_WINDOW)
        """Lines of input that may be sent."""

    @property
    def interrupted(self) -> bool:
        """Always false: the command handles signals itself."""
        return False

    def interrupt(self, number: int) -> bool:
        """Pass SIGINT and SIGQUIT on to the command, each once. A second Ctrl-C leaves the session."""
        if self._to_send is None or number not in KEYS or number in self._sent:
            return False
        if self._marked.state is not MarkedState.RUNNING:
            return False
        self._sent.add(number)
        self._to_send.put_nowait(self._marked.interrupt(KEYS[number]))
        return True

    async def run(self, channel: IDataChannel) -> Outcome:
        """Run the command. The outcome has its exit status, unless the session ended before.

        Raises the error that ended the session otherwise, ``TimedOut`` if the shell does not begin the
        command, and ``BrokenPipeError`` if the reader of standard output has closed it.
        """
        streams = self._streams
        output_failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        streams.set_output_failed_handler(output_failed.set_exception)
        streams.set_flow_handlers(channel.pause_reading, channel.resume_reading)
        self._to_send = asyncio.Queue()
        self._to_send.put_nowait(self._marked.first_line)
        finished = asyncio.ensure_future(self._ended.wait())
        over = asyncio.ensure_future(channel.ended())
        begun = asyncio.ensure_future(self._begin())
        sending = asyncio.ensure_future(self._send(channel, self._to_send))
        tasks = [finished, over, begun, sending]
        if self._has_input:
            tasks.append(asyncio.ensure_future(self._send_input(self._to_send)))
        channel.set_input_handler(self._received)
        try:
            async with first_of(finished, over, begun, output_failed, cancel=tasks):
                if over.done() and not finished.done():
                    streams.write(self._marked.finish())
                if not output_failed.done() and not begun.done():
                    await streams.drain()
        finally:
            self._to_send = None
        if output_failed.done():
            await output_failed
        if self._marked.exit is None:
            if begun.done() and not begun.cancelled():
                begun.result()
            return await wait_for_end(channel)
        status, trouble, is_killed = self._marked.exit
        if trouble:
            self._notices.trouble(trouble)
        missing = "" if channel.missing_output is None else describe_missing(channel.missing_output)
        return Outcome(status, incomplete=missing, is_killed=is_killed)

    def _received(self, data: bytes) -> None:
        if self._to_send is None:  # the command has ended, and the session is being closed
            return
        if output := self._marked.receive_data(data):
            self._streams.write(output)
        for _ in range(self._marked.take_lines_taken()):
            self._input_room.release()
        if to_send := self._marked.data_to_send():
            self._to_send.put_nowait(to_send)
        if self._marked.state is not MarkedState.STARTING:
            self._running.set()
        if self._marked.state is MarkedState.ENDED:
            self._ended.set()

    async def _begin(self) -> None:
        """Raise ``TimedOut`` if the command does not begin in time, otherwise wait until cancelled."""
        try:
            async with asyncio.timeout(self._shell_timeout):
                await self._running.wait()
        except TimeoutError:
            raise TimedOut(
                f"the shell on the target did not run the command within {self._shell_timeout:g} s (it needs sh and "
                "stty)",
                seconds=self._shell_timeout,
            ) from None
        await asyncio.get_running_loop().create_future()

    async def _send(self, channel: IDataChannel, to_send: asyncio.Queue[bytes]) -> None:
        with contextlib.suppress(NotConnected):  # the session has ended; ``ended`` raises the reason
            while True:
                await channel.send_input_data(await to_send.get())

    async def _send_input(self, to_send: asyncio.Queue[bytes]) -> None:
        await self._running.wait()
        while data := await self._streams.read():
            for line in encode_input(data):
                await self._input_room.acquire()
                to_send.put_nowait(line)
        to_send.put_nowait(END_OF_INPUT)
