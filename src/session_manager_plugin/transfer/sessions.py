"""What a copy needs of a session: where it gets one, and its bytes in the order they arrive."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from session_manager_plugin.errors import CopyFailed, SessionManagerError
from session_manager_plugin.protocol.events import MissingOutput
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.protocols import InputHandler
from session_manager_plugin.transfer.scripts import typed_line

READ_BUFFER_SIZE = 8 * 1024 * 1024
"""Bytes that wait to be read before reading from the network pauses."""
SHELL_TIMEOUT = 60.0
"""Seconds that a shell has to run the line that is typed; an agent may send its first output after seconds."""
_MAX_ERROR_SIZE = 2000
"""Bytes of the beginning of standard error that are kept."""


class CopyChannel(Protocol):
    """What a copy uses of an ``IDataChannel``."""

    async def ended(self) -> str:
        """See ``IDataChannel``."""

    async def send_input_data(self, data: bytes) -> None:
        """See ``IDataChannel``."""

    @property
    def missing_output(self) -> MissingOutput | None:
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
    """Where sessions with one target come from. A session is terminated when its context is left before its end."""

    def command(self, command: str) -> AbstractAsyncContextManager[CopyChannel]:
        """Start ``command`` without a terminal, its two outputs apart. Raises what prevents it."""

    def shell(self) -> AbstractAsyncContextManager[CopyChannel]:
        """Start a shell. Raises what prevents it."""


class OutputReader:
    """The output of a session's program. Create it as soon as the channel is ready; close it in the end."""

    def __init__(self, channel: CopyChannel) -> None:
        self._channel = channel
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._stopped = False
        self.errors = b""
        """The beginning of what the program wrote to standard error."""
        self._ended = asyncio.ensure_future(channel.ended())
        self._ended.add_done_callback(lambda _ended: self._arrived.set())
        channel.set_payload_handler(PayloadType.STDERR, self._error)
        channel.set_payload_handler(PayloadType.EXIT_CODE, lambda _data: None)
        channel.set_output_stopped_handler(self._stop)
        channel.set_input_handler(self._receive)

    async def close(self) -> None:
        """Release what is used; the channel stays open."""
        self._ended.cancel()
        await asyncio.gather(self._ended, return_exceptions=True)

    def read_now(self) -> bytes:
        """Return what has arrived, without waiting; empty if nothing has."""
        data = bytes(self._received)
        self._received.clear()
        self._channel.resume_reading()
        return data

    async def read(self) -> bytes:
        """Return what has arrived, as soon as there is something; empty at the end. See ``error`` for why."""
        while not self._received and not self._stopped and not self._ended.done():
            self._arrived.clear()
            await self._arrived.wait()
        return self.read_now()

    @property
    def is_incomplete(self) -> bool:
        """Whether output is missing: the agent has stopped it, because the websocket was away, or some was lost."""
        return self._stopped or self._channel.missing_output is not None

    @property
    def error(self) -> BaseException | None:
        """What ended the session, if it has ended and not by the far end."""
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

    def _error(self, data: bytes) -> None:
        self.errors = (self.errors + data)[:_MAX_ERROR_SIZE]

    def _stop(self) -> None:
        self._stopped = True
        self._arrived.set()


async def run_in_shell(channel: CopyChannel, reader: OutputReader, script: str) -> bytes:
    """Have a shell session run ``script`` in a raw terminal; return what it has printed so far.

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
                    raise failure(reader, "the shell on the target could not be used (it needs sh and stty)")
                received += data.replace(b"\r\n", b"\n")
    except TimeoutError:
        raise CopyFailed(f"the shell on the target did not run a line for {SHELL_TIMEOUT:.0f} s") from None
    await channel.send_input_data(text)
    return received.partition(expected)[2]


def failure(reader: OutputReader, sentence: str) -> SessionManagerError:
    """Return what ended the copy: the session's own error, or ``sentence`` with the words of the far end."""
    if isinstance(reader.error, SessionManagerError):
        return reader.error
    words = reader.closing_text or reader.errors.decode("utf-8", "replace").strip()
    return CopyFailed(f"{sentence}: {words}" if words else sentence)
