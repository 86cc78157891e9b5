"""The interface of a session's program at the agent's end: a shell, a command, a forwarded port.

A program is created when the session is ready. The agent passes the client's input to it, in order, and reads its
output only while that can be sent: the agent calls ``set_reading``, is called back (``on_output``) while there is
output, and then calls ``read`` for as many messages as can be sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, Protocol

from session_manager_plugin.protocol.events import DataReceived
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE

ERROR_HEADING = "\n----------ERROR-------\n"
"""The official agent's heading for an error text in ``channel_closed``."""
MESSAGE_DELAY = 0.001
"""Seconds that the official agent sleeps after each message, for nearly every session type."""


class ProgramError(Exception):
    """The session cannot begin. The text is sent to the client in ``channel_closed``."""


class OutputMessage(NamedTuple):
    """One stream message to the client; the payload has at most ``MAX_PAYLOAD_SIZE`` bytes and is not empty."""

    payload_type: int
    payload: bytes


class SessionProgram(Protocol):
    """One session's program. It is created with two callbacks, ``on_output`` and ``on_input_taken``.

    ``on_output`` is called from the event loop while reading is enabled and ``read`` has output or the end to return;
    ``on_input_taken`` when ``takes_input`` has become true. Call order: ``start``, any other methods, ``close``.
    """

    @property
    def start_delay(self) -> float:
        """Seconds that the official agent sleeps before the first output; read after ``start``."""
        ...

    @property
    def message_delay(self) -> float:
        """Seconds that the official agent sleeps after each message."""
        ...

    @property
    def ended(self) -> bool:
        """Whether all output has been read and no further output follows."""
        ...

    @property
    def failure(self) -> str | None:
        """The text for ``channel_closed``, which may be empty; None after a normal end."""
        ...

    @property
    def terminated(self) -> bool:
        """Whether the client has ended the session: then no acknowledgements are waited for."""
        ...

    @property
    def pid(self) -> int:
        """The process id of the program; 0 if it is not a process, or was not started."""
        ...

    @property
    def takes_input(self) -> bool:
        """Whether the program accepts more input now. Input passed nevertheless is kept."""
        ...

    def start(self) -> None:
        """Start the program. Raises ``ProgramError``."""
        ...

    def receive(self, data: DataReceived) -> None:
        """Take input of the client. Payload types without a meaning for this program are ignored."""
        ...

    def set_reading(self, wanted: bool) -> None:
        """Enable or disable the calls of ``on_output``."""
        ...

    def read(self, limit: int) -> list[OutputMessage]:
        """Return at most ``limit`` messages of output; none if there is no output now. Check ``ended`` afterwards."""
        ...

    async def close(self) -> None:
        """End the program. Returns when none of its processes and sockets is left."""
        ...


def to_messages(payload_type: int, data: bytes) -> list[OutputMessage]:
    """Split ``data`` into messages of the largest size, the last one shorter."""
    return [
        OutputMessage(payload_type, data[start : start + MAX_PAYLOAD_SIZE])
        for start in range(0, len(data), MAX_PAYLOAD_SIZE)
    ]


class OutputSignal:
    """Calls ``on_output`` repeatedly while there is output, as an event loop does for a readable file.

    For programs whose output is in memory. The call is made by the event loop, never from within ``notify``, so that
    all output of one iteration is read at once.
    """

    def __init__(self, on_output: Callable[[], None], has_output: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_output = on_output
        self._has_output = has_output
        self._wanted = False
        self._scheduled = False

    def set_reading(self, wanted: bool) -> None:
        """Enable or disable the calls of ``on_output``."""
        self._wanted = wanted
        self.notify()

    def notify(self) -> None:
        """Note that there may be output."""
        if self._wanted and not self._scheduled and self._has_output():
            self._scheduled = True
            self._loop.call_soon(self._call)

    def _call(self) -> None:
        self._scheduled = False
        if self._wanted and self._has_output():
            self._on_output()
            self.notify()
