"""One stream of a smux session: its two states, the size of its unread data, and the data queued for sending."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING

from session_manager_plugin.errors import LocalProtocolError

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


class StreamInput(Enum):
    """The inputs of a stream's ``state``."""

    FIN_RECEIVED = auto()
    CLOSE = auto()
    """``close_stream`` was called."""


class QueueInput(Enum):
    """The inputs of a stream's ``queue``."""

    QUEUED = auto()
    """Data or a FIN was queued."""
    OVERFILLED = auto()
    """More than ``smux.SEND_HIGH_WATER`` bytes are queued."""
    DRAINED = auto()
    """No more than ``smux.SEND_LOW_WATER`` bytes are queued."""
    EMPTIED = auto()
    """Everything was sent."""


STATE_TRANSITIONS: Mapping[tuple[StreamState, StreamInput], StreamState] = {
    (StreamState.OPEN, StreamInput.FIN_RECEIVED): StreamState.FINISHED,
    (StreamState.OPEN, StreamInput.CLOSE): StreamState.CLOSED,
    (StreamState.FINISHED, StreamInput.CLOSE): StreamState.CLOSED,
}
QUEUE_TRANSITIONS: Mapping[tuple[SendQueue, QueueInput], SendQueue] = {
    (SendQueue.IDLE, QueueInput.QUEUED): SendQueue.WAITING,
    (SendQueue.WAITING, QueueInput.OVERFILLED): SendQueue.FULL,
    (SendQueue.WAITING, QueueInput.EMPTIED): SendQueue.IDLE,
    (SendQueue.FULL, QueueInput.DRAINED): SendQueue.WAITING,
}

# Looked up for every frame: an enum's attribute takes a tenth of a microsecond in Python 3.11.
OPEN, CLOSED = StreamState.OPEN, StreamState.CLOSED
IDLE, FULL = SendQueue.IDLE, SendQueue.FULL


class Stream:
    """See the module docstring."""

    __slots__ = ("batch", "buffered", "chunks", "offset", "queue", "state", "stream_id", "unread")

    def __init__(self, stream_id: int) -> None:
        self.stream_id = stream_id
        self.state = OPEN
        self.queue = IDLE
        self.unread = 0
        self.batch: StreamData | None = None
        """The event to which further data is appended, until the owner takes it."""
        self.chunks: deque[bytes] = deque()
        self.offset = 0
        """How many bytes of the first chunk were sent."""
        self.buffered = 0

    def apply(self, step: StreamInput) -> None:
        """Make the transition of ``state``. Raises ``LocalProtocolError`` if the table has no row for it."""
        try:
            self.state = STATE_TRANSITIONS[self.state, step]
        except KeyError:
            raise LocalProtocolError(f"stream: {step.name} in state {self.state.name}") from None

    def apply_to_queue(self, step: QueueInput) -> None:
        """Make the transition of ``queue``. Raises ``LocalProtocolError`` if the table has no row for it."""
        try:
            self.queue = QUEUE_TRANSITIONS[self.queue, step]
        except KeyError:
            raise LocalProtocolError(f"queue of a stream: {step.name} in state {self.queue.name}") from None

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
