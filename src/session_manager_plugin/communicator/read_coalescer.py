"""Lets several messages of a steady stream share one read of the socket."""

from __future__ import annotations

from collections.abc import Sequence

from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, PAYLOAD_OFFSET

# The official agent sends one message of at most 1 KiB and rests for a millisecond (protocol reference 13.3). Read one
# by one, each message costs a wake-up, a read and two writes, which is more than all the rest. So, as network cards do,
# reading waits for a few messages; but only in a stream of full messages at such a pace, and while nothing that was
# sent may still be answered: a short message, such as the echo of a key, is not kept waiting.

FULL_SIZE = PAYLOAD_OFFSET + MAX_PAYLOAD_SIZE
"""Bytes of a message of which more are likely to follow."""
LEAST_GAP, MOST_GAP = 0.0005, 0.004
"""Seconds from one message to the next. In a faster stream one read brings several messages already."""
STREAK = 8
"""Full messages at such a pace before the first read that waits."""
MAX_WAIT = 0.004
"""Seconds that the first message of a read waits for the others."""
ANSWER_TIME = 0.25
"""Seconds in which the answer to what was sent is expected."""


class ReadCoalescer:
    """Decides for how many bytes the next read waits. Times are seconds of one clock; nothing here waits."""

    def __init__(self) -> None:
        self._streak = 0
        self._received_at = 0.0
        self._sent_at = -ANSWER_TIME
        self.deadline = 0.0
        """When the next read is due although fewer bytes have arrived."""

    def received(self, messages: Sequence[str | bytes | bytearray], now: float) -> int:
        """Take note of the messages of one read, which brought nothing else. Returns for how many bytes the next read
        waits, until ``deadline``; 1 if it does not wait."""
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
        """Something was sent that may be answered. The next read does not wait."""
        self._sent_at = now
