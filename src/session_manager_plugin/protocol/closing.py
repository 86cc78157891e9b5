"""The state machine of a session's end.

``channel_closed`` ends the session at once, unless messages are held because earlier ones are missing. Then the session
ends when the missing messages have arrived (the official client loses both: reference defect D15). It ends without them
after ``CLOSE_DELAY`` seconds in which no missing message arrived, ``CLOSE_LIMIT`` seconds after ``channel_closed``, and
when the websocket is lost.

States::

    RUNNING  ``channel_closed`` was not received
    CLOSING  ``channel_closed`` was received; missing messages may still arrive
    OVER     the event that ends the session was emitted

Invariant: an input without a row in ``TRANSITIONS`` raises ``LocalProtocolError`` and leaves the state unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from session_manager_plugin.errors import LocalProtocolError

CLOSE_DELAY = 2.0
"""Seconds to wait for the next missing message, after ``channel_closed`` and after each missing message that arrives.
The official agent retransmits for about as long."""
CLOSE_LIMIT = 30.0
"""Longest wait for missing messages, in seconds after ``channel_closed``."""


class Life(Enum):
    """See the module docstring."""

    RUNNING = auto()
    CLOSING = auto()
    OVER = auto()


class ClosingInput(Enum):
    """The inputs of the machine."""

    CLOSED = auto()
    """``channel_closed`` was received, and no message is known to be missing."""
    CLOSED_WITH_GAP = auto()
    """``channel_closed`` was received while earlier messages are missing."""
    COMPLETED = auto()
    """The last missing message arrived."""
    EXPIRED = auto()
    """No missing message arrived in time."""
    DISCONNECTED = auto()
    """The websocket was lost in ``CLOSING``."""
    FAILED = auto()
    """The session has failed."""


_L, _I = Life, ClosingInput

TRANSITIONS: Mapping[tuple[Life, ClosingInput], Life] = {
    (_L.RUNNING, _I.CLOSED): _L.OVER,
    (_L.RUNNING, _I.CLOSED_WITH_GAP): _L.CLOSING,
    (_L.RUNNING, _I.FAILED): _L.OVER,
    (_L.CLOSING, _I.COMPLETED): _L.OVER,
    (_L.CLOSING, _I.EXPIRED): _L.OVER,
    (_L.CLOSING, _I.DISCONNECTED): _L.OVER,
    (_L.CLOSING, _I.FAILED): _L.OVER,
}


class Closing:
    """The state, and the deadline of ``CLOSING``."""

    def __init__(self) -> None:
        self.state = Life.RUNNING
        self.output = ""
        """The closing text of the service; empty at a normal end."""
        self.deadline: float | None = None
        """When ``EXPIRED`` is due; None outside ``CLOSING``."""
        self._limit = 0.0

    def apply(self, step: ClosingInput) -> None:
        """Make the transition. Raises ``LocalProtocolError`` if the table has no row for it."""
        try:
            self.state = TRANSITIONS[self.state, step]
        except KeyError:
            raise LocalProtocolError(f"closing: {step.name} in state {self.state.name}") from None
        if self.state is not Life.CLOSING:
            self.deadline = None

    def wait_for_missing(self, now: float) -> None:
        """Wait for missing messages after ``channel_closed``."""
        self.apply(ClosingInput.CLOSED_WITH_GAP)
        self.deadline, self._limit = now + CLOSE_DELAY, now + CLOSE_LIMIT

    def missing_arrived(self, now: float) -> None:
        """Restart the wait after a missing message has arrived in ``CLOSING``, while others are still missing."""
        self.deadline = min(now + CLOSE_DELAY, self._limit)
