"""How the official agent sends: a part of the quirk ``OLDEST_ONLY_RESEND``; ``LimitedClosing`` is the other.

On a link that loses messages the two lose the end of a program's output: only the oldest message is sent again
(``agent/session/datachannel``, the resend scheduler), and the session does not wait long for the rest.
"""

from __future__ import annotations

from session_manager_plugin.protocol.reliable import StreamSender

MAX_STORED = 100_000
"""Messages that wait for their acknowledgement. There is no smaller window: output leaves as fast as it is read."""
RESEND_INTERVAL = 0.1
"""Seconds between two looks at the oldest message."""


class OldestOnlySender(StreamSender):
    """Sends again only the oldest message, at most one each ``RESEND_INTERVAL``, also after a lost websocket.

    Invariant: ``_in_flight`` is ordered by sequence number, since a message that is sent again keeps its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.window = MAX_STORED
        self._next_look_at = 0.0

    def next_timeout(self) -> float | None:
        """See ``StreamSender``."""
        for oldest in self._in_flight.values():
            return max(oldest.sent_at + self.estimator.retransmission_timeout, self._next_look_at)
        return None

    def due(self, now: float) -> list[bytes]:
        """The oldest message, if its timeout has passed and the last look was ``RESEND_INTERVAL`` ago."""
        due_at = self.next_timeout()
        if due_at is None or due_at > now:
            return []
        self._next_look_at = now + RESEND_INTERVAL
        oldest = next(iter(self._in_flight.values()))
        oldest.sent_at = now
        oldest.transmissions += 1
        self.retransmissions += 1
        return [oldest.data]

    def all_again(self, now: float) -> list[bytes]:
        """Nothing: the timer goes on with the oldest message."""
        self._progress_at = now
        return []
