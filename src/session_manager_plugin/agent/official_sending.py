"""The official agent's retransmission. With ``LimitedClosing`` it makes up the quirk ``OLDEST_ONLY_RESEND``.

On a lossy link the end of a program's output may be lost: only the oldest message is retransmitted
(``agent/session/datachannel``, the resend scheduler), and the session waits only a short time for the others.
"""

from __future__ import annotations

from session_manager_plugin.protocol.reliable import StreamSender

MAX_STORED = 100_000
"""Unacknowledged messages at most. There is no smaller window: output is sent as fast as it is read."""
RESEND_INTERVAL = 0.1
"""Seconds between two checks of the oldest message."""


class OldestOnlySender(StreamSender):
    """Retransmits only the oldest message, at most one in ``RESEND_INTERVAL``, also on a new websocket.

    Invariant: ``_in_flight`` is ordered by sequence number, since a retransmitted message keeps its place.
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
        """Return the oldest message if its timeout has passed and the last check was ``RESEND_INTERVAL`` ago."""
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
        """Return nothing: the timer retransmits the oldest message."""
        self._progress_at = now
        return []
