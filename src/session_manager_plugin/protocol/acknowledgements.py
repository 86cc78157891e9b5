"""The acknowledgements of received stream messages: which are due, and which are sent once more.

Each message is acknowledged by itself, and nobody acknowledges acknowledgements, so they may be lost, above all with a
websocket. The official agent sends only its oldest unacknowledged message again, one each 100 ms, and closes some
seconds after its program has ended (protocol reference 13.3, N7): what it sends again needlessly takes the place of a
message that is really missing. A message that arrives a second time shows that its acknowledgement was lost. Then those
of the messages received after it are sent again as well, up to ``REPEATED``.
"""

from __future__ import annotations

import itertools
from collections import deque

from session_manager_plugin.protocol.messages import AcknowledgementWriter, ClientMessage

MAX_PENDING_ACKNOWLEDGEMENTS = 10_000
"""While the socket cannot be written to, older acknowledgements are dropped: the far end sends those messages again."""
REMEMBERED = 1024
"""Messages received last whose acknowledgements can be repeated."""
REPEATED = 64
"""Acknowledgements repeated at a time, about 25 kB: those that the agent gets to next."""
REPEAT_INTERVAL = 0.1
"""Seconds between two repetitions at least, and from a message's acknowledgement to its repetition. The agent sends one
message again in that time."""


class Acknowledgements:
    """See the module docstring. ``writer`` serializes them."""

    def __init__(self, writer: AcknowledgementWriter) -> None:
        self._writer = writer
        self._pending: deque[tuple[bytes, int]] = deque(maxlen=MAX_PENDING_ACKNOWLEDGEMENTS)
        self._recent: deque[tuple[tuple[bytes, int], float]] = deque(maxlen=REMEMBERED)
        """Those of the messages received last, each with the instant."""
        self._repeated_at = float("-inf")

    def received(self, message: ClientMessage, now: float) -> None:
        """A message arrived and has to be acknowledged."""
        acknowledgement = (message.message_id, message.sequence_number)
        self._pending.append(acknowledgement)
        self._recent.append((acknowledgement, now))

    def received_again(self, message: ClientMessage, now: float) -> None:
        """A message that was delivered long since arrived once more: acknowledge it, and those received after it."""
        number = message.sequence_number
        self._pending.append((message.message_id, number))
        if now >= self._repeated_at + REPEAT_INTERVAL:
            self._repeated_at = now
            later = (
                recent
                for recent, received_at in self._recent
                if recent[1] > number and now >= received_at + REPEAT_INTERVAL
            )
            self._pending.extend(itertools.islice(later, REPEATED))

    def disconnected(self) -> None:
        """The websocket is gone: what was due is dropped, since the far end sends those messages again."""
        self._pending.clear()

    @property
    def due(self) -> bool:
        """Whether ``take`` has something."""
        return bool(self._pending)

    def take(self, created_date: int) -> list[bytes]:
        """Return those that are due, as messages to be sent; ``created_date`` is in milliseconds since the epoch."""
        messages = self._writer.write(self._pending, created_date)
        self._pending.clear()
        return messages
