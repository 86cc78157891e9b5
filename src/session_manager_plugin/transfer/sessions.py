"""The sessions of a copy: how they are started, and how their output is read."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from session_manager_plugin.errors import CopyFailed, SessionManagerError
from session_manager_plugin.protocol.events import MissingOutput
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.protocols import InputHandler
from session_manager_plugin.transfer.scripts import typed_line

READ_BUFFER_SIZE = 8 * 1024 * 1024
"""Bytes received and not read yet. With more, reading from the network pauses."""
SHELL_TIMEOUT = 60.0
"""Seconds within which a shell must run the typed line. An agent may take seconds to send its first output."""
MAX_GAP = 16
"""Missing messages for which a command's output is waited for after a reconnect. For more than that, another session is
faster: the official agent retransmits ten messages a second."""
GAP_TIMEOUT = 3.0
"""Seconds to wait for the next of them."""
CUT_SHORT = "the session was ended before the copy was complete: somebody terminated it, or its agent failed"
_MAX_ERROR_SIZE = 2000
"""Bytes of the beginning of standard error that are kept."""


class CopyChannel(Protocol):
    """The part of ``IDataChannel`` that a copy uses."""

    async def ended(self) -> str:
        """See ``IDataChannel``."""

    async def send_input_data(self, data: bytes) -> None:
        """See ``IDataChannel``."""

    @property
    def missing_output(self) -> MissingOutput | None:
        """See ``IDataChannel``."""

    @property
    def output_gap(self) -> int:
        """See ``IDataChannel``."""

    @property
    def lossy(self) -> bool:
        """See ``IDataChannel``."""

    def set_output_stopped_handler(self, handler: Callable[[], None]) -> None:
        """See ``IDataChannel``."""

    def set_input_handler(self, handler: InputHandler) -> None:
        """See ``IDataChannel``."""

    def set_payload_handler(self, payload_type: int, handler: InputHandler) -> None:
        """See ``IDataChannel``."""

    def pause_reading(self) -> None:
        """See ``IDataChannel``."""

    def resume_reading(self) -> None:
        """See ``IDataChannel``."""


class Sessions(Protocol):
    """Starts sessions with one target. Leaving the context of a session that has not ended terminates it."""

    def command(self, command: str) -> AbstractAsyncContextManager[CopyChannel]:
        """Start ``command`` without a terminal, with separate outputs. Raises the error that prevents it."""

    def shell(self) -> AbstractAsyncContextManager[CopyChannel]:
        """Start a shell. Raises the error that prevents it."""


class OutputReader:
    """The output of a session's program. Create it as soon as the channel is ready; close it in the end."""

    def __init__(self, channel: CopyChannel) -> None:
        self._channel = channel
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._stopped = False
        self._exited = False
        self.errors = b""
        """The beginning of what the program wrote to standard error."""
        self._ended = asyncio.ensure_future(channel.ended())
        self._ended.add_done_callback(lambda _ended: self._arrived.set())
        channel.set_payload_handler(PayloadType.STDERR, self._error)
        channel.set_payload_handler(PayloadType.EXIT_CODE, self._exit)
        channel.set_output_stopped_handler(self._stop)
        channel.set_input_handler(self._receive)

    async def close(self) -> None:
        """Stop waiting for the end of the session; the channel stays open."""
        self._ended.cancel()
        await asyncio.gather(self._ended, return_exceptions=True)

    def read_now(self) -> bytes:
        """Return the output received so far, without waiting; empty if there is none."""
        data = bytes(self._received)
        self._received.clear()
        self._channel.resume_reading()
        return data

    async def read(self) -> bytes:
        """Wait for output and return it; empty at the end, whose reason is ``error``.

        After a reconnect the agent sends no more output of a command, but it retransmits what was lost. Output that is
        held only until a few lost messages arrive is waited for.
        """
        while not self._received and not self._ended.done():
            self._arrived.clear()
            if not self._stopped:
                await self._arrived.wait()
            elif not 0 < self._channel.output_gap <= MAX_GAP or not await self._gap_shrinks():
                break
        return self.read_now()

    async def _gap_shrinks(self) -> bool:
        """Wait until output arrives or the session ends; return False if no missing message arrives in time."""
        gap = self._channel.output_gap
        try:
            async with asyncio.timeout(GAP_TIMEOUT):
                await self._arrived.wait()
        except TimeoutError:
            return self._channel.output_gap < gap
        return True

    @property
    def is_incomplete(self) -> bool:
        """Whether output is missing: the agent has stopped it after a reconnect, or messages were lost. After the end
        of the session these may be the last ones, with the exit code."""
        lost_end = self.was_cut_short and self._channel.lossy
        return self._stopped or self._channel.missing_output is not None or lost_end

    @property
    def was_cut_short(self) -> bool:
        """Whether the far end has closed the session of a command without a reason, and without the exit code."""
        return self._ended.done() and not self.error and not self.closing_text and not self._exited

    @property
    def error(self) -> BaseException | None:
        """The error that ended the session; None while it is open, or if the far end closed it."""
        return self._ended.exception() if self._ended.done() and not self._ended.cancelled() else None

    @property
    def closing_text(self) -> str:
        """The text with which the far end closed the session; empty while it is open, and at a normal end."""
        return self._ended.result().strip() if self._ended.done() and self.error is None else ""

    def _receive(self, data: bytes) -> None:
        self._received += data
        self._arrived.set()
        if len(self._received) > READ_BUFFER_SIZE:
            self._channel.pause_reading()

    def _exit(self, _data: bytes) -> None:
        self._exited = True

    def _error(self, data: bytes) -> None:
        self.errors = (self.errors + data)[:_MAX_ERROR_SIZE]

    def _stop(self) -> None:
        self._stopped = True
        self._arrived.set()


async def run_in_shell(channel: CopyChannel, reader: OutputReader, script: str) -> bytes:
    """Run ``script`` in a shell session with a raw terminal; return the output received so far.

    Raises ``CopyFailed`` if the shell does not run it.
    """
    marker = secrets.token_hex(12)
    text = script.encode()
    expected = f"\n{marker}\n".encode()
    await channel.send_input_data(typed_line(len(text), marker))
    received = b""
    try:
        async with asyncio.timeout(SHELL_TIMEOUT):
            while expected not in received:
                data = await reader.read()
                if not data:
                    raise failure(reader, "the shell on the target could not be used (it needs sh, stty and dd)")
                received += data.replace(b"\r\n", b"\n")
    except TimeoutError:
        raise CopyFailed(f"the shell on the target did not run a line for {SHELL_TIMEOUT:.0f} s") from None
    await channel.send_input_data(text)
    return received.partition(expected)[2]


def cancel_once(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks that are not being cancelled already: a second time would interrupt their clean-up, and leave
    a session open that was just being started."""
    for task in tasks:
        if not task.cancelling():
            task.cancel()


def failure(reader: OutputReader, sentence: str) -> SessionManagerError:
    """Return the error that ended the copy: the session's, or ``sentence`` with the text of the far end."""
    if isinstance(reader.error, SessionManagerError):
        return reader.error
    words = reader.closing_text or reader.errors.decode("utf-8", "replace").strip()
    return CopyFailed(f"{sentence}: {words}" if words else sentence)
