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
"""Seconds from one message to the next. In a faster stream one read returns several messages anyway."""
STREAK = 8
"""Full messages at that pace before the first read that waits."""
MAX_WAIT = 0.004
"""Seconds that the first message of a read waits for the others."""
ANSWER_TIME = 0.25
"""Seconds within which an answer to sent data is expected."""


class ReadCoalescer:
    """Decides for how many bytes the next read waits. Pure; times are seconds of one clock."""

    def __init__(self) -> None:
        self._streak = 0
        self._received_at = 0.0
        self._sent_at = -ANSWER_TIME
        self.deadline = 0.0
        """When the next read is due, even if fewer bytes have arrived."""

    def received(self, messages: Sequence[str | bytes | bytearray], now: float) -> int:
        """Note the messages of one read. Returns the number of bytes that the next read waits for, at most until
        ``deadline``; 1 if it does not wait."""
        gap = (now - self._received_at) / len(messages) if messages else 0.0
        self._received_at = now
        if not LEAST_GAP <= gap <= MOST_GAP or min(map(len, messages)) < FULL_SIZE:
            self._streak = 0
            return 1
        self._streak += len(messages)
        if self._streak < STREAK or now - self._sent_at < ANSWER_TIME:
            return 1
        self.deadline = now + gap + MAX_WAIT
        return FULL_SIZE * (1 + int(MAX_WAIT / gap))

    def sent(self, now: float) -> None:
        """Note that data was sent that may be answered. The next read does not wait."""
        self._sent_at = now
