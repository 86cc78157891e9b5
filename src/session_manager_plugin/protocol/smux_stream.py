"""One stream of a smux session: its two states, how much of it is unread, and the data queued for sending."""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from session_manager_plugin.protocol.smux import StreamData


class StreamState(Enum):
    """See the docstring of ``smux``."""

    OPEN = auto()
    FINISHED = auto()
    CLOSED = auto()


class SendQueue(Enum):
    """The sending half of a stream."""

    IDLE = auto()
    """Nothing to send; not in the rotation."""
    WAITING = auto()
    """Data or a FIN waits for the stream's turn."""
    FULL = auto()
    """The queue has exceeded ``smux.SEND_HIGH_WATER``; ``StreamWritable`` follows."""


# Looked up for every frame: an enum's attribute takes a tenth of a microsecond in Python 3.11.
OPEN, FINISHED, CLOSED = StreamState.OPEN, StreamState.FINISHED, StreamState.CLOSED
IDLE, WAITING, FULL = SendQueue.IDLE, SendQueue.WAITING, SendQueue.FULL


class Stream:
    """One stream: its state, how much of it is unread, and the data queued for sending."""

    __slots__ = ("batch", "buffered", "chunks", "offset", "queue", "state", "stream_id", "unread")

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.state = OPEN
        self.queue = IDLE
        self.unread = 0
        self.batch: StreamData | None = None
        """The event, not yet returned to the owner, that further data joins."""
        self.chunks: deque[bytes] = deque()
        self.offset = 0
        """How many bytes of the first chunk were sent."""
        self.buffered = 0

    def take(self, size: int, parts: list[bytes | memoryview]) -> None:
        """Move the first ``size`` queued bytes to ``parts``."""
        self.buffered -= size
        while size:
            chunk, start = self.chunks[0], self.offset
            end = start + size
            if end < len(chunk):
                parts.append(memoryview(chunk)[start:end])
                self.offset = end
                return
            parts.append(memoryview(chunk)[start:] if start else chunk)
            size = end - len(chunk)
            self.chunks.popleft()
            self.offset = 0
