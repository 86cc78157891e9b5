"""Acknowledgements of received stream messages: which are due, and which are repeated.

Each message is acknowledged individually. Acknowledgements may be lost, mostly when a websocket is lost, and are not
themselves acknowledged. The official agent retransmits only its oldest unacknowledged message, one every 100 ms, and
closes the session a few seconds after its program has ended (protocol reference 13.3, N7). Each needless
retransmission therefore takes the place of a message that is really missing. A message that arrives a second time
shows that its acknowledgement was lost. Up to ``REPEATED`` acknowledgements of later messages are then repeated too.
"""

from __future__ import annotations

import itertools
from collections import deque

from session_manager_plugin.protocol.messages import AcknowledgementWriter, ClientMessage

MAX_PENDING_ACKNOWLEDGEMENTS = 10_000
"""Most acknowledgements kept while the socket is congested. The oldest are dropped: the far end retransmits their
messages."""
REMEMBERED = 1024
"""Number of latest received messages whose acknowledgements can be repeated."""
REPEATED = 64
"""Most acknowledgements repeated at once (about 25 kB): those of the messages that the agent would retransmit next."""
REPEAT_INTERVAL = 0.1
"""Minimum seconds between two repetitions, and from the receipt of a message to the repetition of its acknowledgement.
The agent retransmits one message in that time."""


class Acknowledgements:
    """See the module docstring. ``writer`` serializes the acknowledgements."""

    def __init__(self, writer: AcknowledgementWriter) -> None:
        self._writer = writer
        self.pending: deque[tuple[bytes, int]] = deque(maxlen=MAX_PENDING_ACKNOWLEDGEMENTS)
        """The due acknowledgements: the ids and sequence numbers of the messages."""
        self._recent: deque[tuple[tuple[bytes, int], float]] = deque(maxlen=REMEMBERED)
        """The acknowledgements of the latest messages, each with the time when the message was first received."""
        self._repeated_at = float("-inf")

    def received(self, message: ClientMessage, now: float) -> None:
        """Acknowledge a message."""
        acknowledgement = (message.message_id, message.sequence_number)
        self.pending.append(acknowledgement)
        self._recent.append((acknowledgement, now))

    def received_again(self, message: ClientMessage, now: float) -> None:
        """Acknowledge a duplicate of a delivered message, and repeat the acknowledgements of the messages after it."""
        number = message.sequence_number
        self.pending.append((message.message_id, number))
        if now >= self._repeated_at + REPEAT_INTERVAL:
            self._repeated_at = now
            later = (
                recent
                for recent, received_at in self._recent
                if recent[1] > number and now >= received_at + REPEAT_INTERVAL
            )
            self.pending.extend(itertools.islice(later, REPEATED))

    def disconnected(self) -> None:
        """Drop the due acknowledgements when the websocket is lost: the far end retransmits those messages."""
        self.pending.clear()

    def take(self, created_date: int) -> list[bytes]:
        """Return the due acknowledgements as messages to send. ``created_date`` is in milliseconds since the epoch."""
        messages = self._writer.write(self.pending, created_date)
        self.pending.clear()
        return messages
