"""Lets several messages of a steady stream share one read of the socket."""

from __future__ import annotations

from collections.abc import Sequence

from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, PAYLOAD_OFFSET

# The official agent sleeps for a millisecond after each message of at most 1 KiB (protocol reference 13.3). Read one by
# one, each message costs a wake-up, a read and two writes, more than all other work. So a read waits for several
# messages, like interrupt coalescing in network cards; but only during a steady stream of full messages, and only if no
# answer to sent data is expected: a short message, such as the echo of a key, is not delayed.

FULL_SIZE = PAYLOAD_OFFSET + MAX_PAYLOAD_SIZE
"""Bytes of a full message. After one, further messages are likely."""
LEAST_GAP, MOST_GAP = 0.0005, 0.004
"""Seconds from one message to the next, on average. In a faster stream one read returns several messages anyway."""
PAUSE = 0.02
"""Seconds without a message that end a stream. Shorter gaps are jitter of the network and of a busy machine."""
STREAK = 8
"""Full messages after the first one before a read waits."""
MEMORY = 64
"""Messages over which the average is taken, at most."""
MAX_WAIT = 0.004
"""Seconds that the first message of a read waits for the others."""
ANSWER_TIME = 0.25
"""Seconds within which an answer to sent data is expected."""


class ReadCoalescer:
    """Decides for how many bytes the next read waits. Pure; times are seconds of one clock."""

    def __init__(self) -> None:
        self._streak = 0
        """Full messages since ``_began_at``, with nothing else and no pause between them. At ``MEMORY`` of them the
        older half is forgotten."""
        self._began_at = 0.0
        self._received_at = float("-inf")
        """When the last full message was received."""
        self._sent_at = -ANSWER_TIME
        self.wait = 0.0
        """Seconds until the next read is due, even if fewer bytes have arrived."""

    def received(self, messages: Sequence[str | bytes | bytearray], now: float) -> int:
        """Note the messages of one read. Returns the number of bytes that the next read waits for, at most for ``wait``
        seconds; 1 if it does not wait."""
        before, self._received_at = self._received_at, now
        for message in messages:
            if len(message) < FULL_SIZE:
                self._received_at = float("-inf")
                return 1
        if now - before > PAUSE:
            self._streak, self._began_at = 0, now
            return 1
        self._streak += len(messages)
        if self._streak < STREAK or now - self._sent_at < ANSWER_TIME:
            return 1
        gap = (now - self._began_at) / self._streak
        if self._streak >= MEMORY:
            self._streak //= 2
            self._began_at = now - gap * self._streak
        if not LEAST_GAP <= gap <= MOST_GAP:
            return 1
        self.wait = gap + MAX_WAIT
        return FULL_SIZE * (1 + int(MAX_WAIT / gap))

    def sent(self, now: float) -> None:
        """Note that data was sent that may be answered. The next read does not wait."""
        self._sent_at = now
