"""What a session runs at the agent's end, as the agent drives it: a shell, a command, a forwarded port.

A program is made when the session is ready. The agent hands it what the client sends, in order, and reads its output
only while that can be sent: it calls ``set_reading``, is called back (``on_output``) while there is something to
``read``, and then takes as many messages as the channel does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from session_manager_plugin.protocol.events import DataReceived
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE

ERROR_HEADING = "\n----------ERROR-------\n"
"""What the official agent puts before a text that it reports as an error, in ``channel_closed``'s output."""
MESSAGE_DELAY = 0.001
"""Seconds that the official agent sleeps after each message of nearly every session type."""


class ProgramError(Exception):
    """The session cannot begin. The text is what ``channel_closed`` tells the client."""


class OutputMessage(NamedTuple):
    """One stream message to the client; the payload has at most ``MAX_PAYLOAD_SIZE`` bytes and is not empty."""

    payload_type: int
    payload: bytes


class SessionProgram(Protocol):
    """One session's program. It is handed two calls: ``on_output`` and ``on_input_taken``.

    ``on_output`` is called from the event loop while reading is wanted and there is something to ``read``, the end
    included; ``on_input_taken`` when ``takes_input`` has become true. Call order: ``start``, anything else, ``close``.
    """

    @property
    def start_delay(self) -> float:
        """Seconds that the official agent sleeps before the first output; looked at after ``start``."""
        ...

    @property
    def message_delay(self) -> float:
        """Seconds that the official agent sleeps after each message."""
        ...

    @property
    def ended(self) -> bool:
        """Whether all output has been read and there will be no more."""
        ...

    @property
    def failure(self) -> str | None:
        """None after a normal end, else what ``channel_closed`` tells, which may be nothing."""
        ...

    @property
    def terminated(self) -> bool:
        """Whether it has ended because the client said so: then nobody waits for what is still on its way."""
        ...

    @property
    def pid(self) -> int:
        """The process id of what it runs; 0 if that is no process, or was not started."""
        ...

    @property
    def takes_input(self) -> bool:
        """Whether it wants more input now; what is given all the same is kept."""
        ...

    def start(self) -> None:
        """Begin. Raises ``ProgramError``."""
        ...

    def receive(self, data: DataReceived) -> None:
        """Take what the client sent; payload types that mean nothing here are ignored."""
        ...

    def set_reading(self, wanted: bool) -> None:
        """Whether ``on_output`` is to be called."""
        ...

    def read(self, limit: int) -> list[OutputMessage]:
        """At most ``limit`` messages of output; none when there is nothing now. Look at ``ended`` afterwards."""
        ...

    async def close(self) -> None:
        """End it, whatever it does; returns when no process and no socket of it is left."""
        ...


def to_messages(payload_type: int, data: bytes) -> list[OutputMessage]:
    """``data`` cut into messages of the full size, the last one shorter."""
    return [
        OutputMessage(payload_type, data[start : start + MAX_PAYLOAD_SIZE])
        for start in range(0, len(data), MAX_PAYLOAD_SIZE)
    ]


class OutputSignal:
    """Calls ``on_output`` as an event loop calls the reader of a file: again and again while there is something.

    For programs whose output is in memory. The call comes from the event loop, never from within ``notify``, so what
    came in one go leaves in one go.
    """

    def __init__(self, on_output: Callable[[], None], has_output: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_output = on_output
        self._has_output = has_output
        self._wanted = False
        self._scheduled = False

    def set_reading(self, wanted: bool) -> None:
        """Whether ``on_output`` is to be called."""
        self._wanted = wanted
        self.notify()

    def notify(self) -> None:
        """There may be something to read."""
        if self._wanted and not self._scheduled and self._has_output():
            self._scheduled = True
            self._loop.call_soon(self._call)

    def _call(self) -> None:
        self._scheduled = False
        if self._wanted and self._has_output():
            self._on_output()
            self.notify()
