"""The outgoing messages of one end: stream messages with their retransmission, acknowledgements, and messages outside
the stream.

States::

    DISCONNECTED  there is no websocket; stream messages are kept and sent on the next websocket
    FLOWING       messages are sent as soon as the owner takes them
    PAUSED        the gateway reports that the far end is away; stream messages are kept

Invariants: an input without a row in ``TRANSITIONS`` raises ``LocalProtocolError`` and leaves the state unchanged; a
stream message is kept until it is acknowledged, over any number of websockets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import Enum, auto

from session_manager_plugin.errors import LocalProtocolError
from session_manager_plugin.protocol.acknowledgements import Acknowledgements
from session_manager_plugin.protocol.messages import (
    AcknowledgementWriter,
    ClientMessage,
    ClientMessageType,
    MessageIds,
    PayloadType,
    StreamMessageWriter,
)
from session_manager_plugin.protocol.reliable import MAX_WINDOW, StreamSender
from session_manager_plugin.protocol.role import Role

STOPPED_AFTER = 10.0
"""Seconds. A timer that is later than this shows that the process was stopped or the machine was asleep."""
RESUME_INTERVAL = 1.0
"""Minimum seconds between two retransmissions of everything by ``resume``."""
_SYN = 1
"""The flag of an agent's first stream message."""
_UNSEQUENCED = 3
"""The flags of an agent's session state message (SYN and FIN)."""


class Flow(Enum):
    """See the module docstring."""

    DISCONNECTED = auto()
    FLOWING = auto()
    PAUSED = auto()


# Looked up for every message: an enum's attribute takes a tenth of a microsecond in Python 3.11.
_DISCONNECTED, _FLOWING = Flow.DISCONNECTED, Flow.FLOWING


class FlowInput(Enum):
    """The inputs of the machine."""

    CONNECT = auto()
    DISCONNECT = auto()
    PAUSE = auto()
    RESUME = auto()


TRANSITIONS: Mapping[tuple[Flow, FlowInput], Flow] = {
    (Flow.DISCONNECTED, FlowInput.CONNECT): Flow.FLOWING,
    (Flow.FLOWING, FlowInput.DISCONNECT): Flow.DISCONNECTED,
    (Flow.FLOWING, FlowInput.PAUSE): Flow.PAUSED,
    (Flow.PAUSED, FlowInput.DISCONNECT): Flow.DISCONNECTED,
    (Flow.PAUSED, FlowInput.RESUME): Flow.FLOWING,
}


class Outbox:
    """See the module docstring.

    ``epoch`` is added to a monotonic time to get seconds since the Unix epoch, for the created date of messages.
    ``sender`` decides what is retransmitted and when.
    """

    def __init__(self, role: Role, message_ids: MessageIds, epoch: float, sender: StreamSender) -> None:
        sends, receives = ClientMessageType.INPUT_STREAM_DATA, ClientMessageType.OUTPUT_STREAM_DATA
        if role is Role.AGENT:
            sends, receives = receives, sends
        self.flow = Flow.DISCONNECTED
        self.sender = sender
        self.acknowledgements = Acknowledgements(AcknowledgementWriter(receives, message_ids))
        self._message_ids = message_ids
        self._stream = StreamMessageWriter(sends, message_ids, first_flags=_SYN if role is Role.AGENT else 0)
        self._epoch = epoch
        self._messages: list[bytes | str] = []
        self._resumed_at = float("-inf")
        self._excused_until = float("-inf")

    # State.

    def apply(self, step: FlowInput) -> None:
        """Make the transition. Raises ``LocalProtocolError`` if the table has no row for it."""
        try:
            self.flow = TRANSITIONS[self.flow, step]
        except KeyError:
            raise LocalProtocolError(f"sending: {step.name} in state {self.flow.name}") from None

    def connected(self, opening: str | None, now: float) -> None:
        """Send ``opening`` (if any) on a new websocket, then everything unacknowledged."""
        self.apply(FlowInput.CONNECT)
        self._messages.clear()
        if opening is not None:
            self._messages.append(opening)
        self._send_again(self.sender.all_again(now))

    def disconnected(self) -> None:
        """Note that the websocket is lost. Due acknowledgements are dropped: the far end retransmits those messages."""
        self.apply(FlowInput.DISCONNECT)
        self.acknowledgements.disconnected()

    def resume(self, now: float) -> None:
        """Retransmit everything unacknowledged when the far end is back, at most once in ``RESUME_INTERVAL``."""
        self.apply(FlowInput.RESUME)
        if now - self._resumed_at >= RESUME_INTERVAL:  # otherwise the timer retransmits
            self._resumed_at = now
            self._send_again(self.sender.all_again(now))

    # Messages.

    def send(self, payload_type: int, payloads: Iterable[bytes], now: float) -> None:
        """Send each payload in a stream message of its own."""
        created_date = self._created_date(now)
        sender, write = self.sender, self._stream.write
        messages = []
        for payload in payloads:
            data = write(sender.next_sequence_number, payload_type, payload, created_date)
            sender.sent(data, now)
            messages.append(data)
        if self.flow is _FLOWING:
            self._messages += messages

    def send_unsequenced(self, message_type: ClientMessageType, payload: bytes, now: float) -> None:
        """Send a message outside the stream. It is neither acknowledged nor retransmitted."""
        message = ClientMessage(
            message_type.value,
            0,
            PayloadType.NONE,
            payload,
            self._message_ids.next(),
            self._created_date(now),
            _UNSEQUENCED,
        )
        self._messages.append(message.serialize())

    def unpark(self, now: float) -> None:
        """Retransmit further messages of a large loss, after an acknowledgement."""
        if self.sender.parked:
            self._send_again(self.sender.unparked(now))

    def take(self, now: float) -> list[bytes | str]:
        """Return the messages to write to the websocket now. The caller must write all of them, in order.

        Empty while disconnected.
        """
        if self.flow is _DISCONNECTED:
            return []
        messages, self._messages = self._messages, []
        if self.acknowledgements.pending:
            messages += self.acknowledgements.take(self._created_date(now))
        return messages

    # Time.

    @property
    def stalled_since(self) -> float | None:
        """Since when no acknowledgement has arrived although messages are in flight; None if excused or none is due."""
        since = self.sender.stalled_since
        return None if since is None or self._excused_until == math.inf else max(since, self._excused_until)

    def excuse_silence(self, until: float) -> None:
        """Retransmit nothing until ``until``, and do not count missing acknowledgements as silence."""
        self._excused_until = until

    def next_timeout(self) -> float | None:
        """When to call ``handle_timeout``; None if nothing is to be retransmitted."""
        if self.flow is not _FLOWING or self._excused_until == math.inf:
            return None
        due_at = self.sender.next_timeout()
        return None if due_at is None else max(due_at, self._excused_until)

    def handle_timeout(self, now: float) -> None:
        """Retransmit the messages that are due."""
        due_at = self.next_timeout()
        if due_at is not None and due_at <= now:
            # A call this late shows that this process was stopped: missing acknowledgements do not count as silence.
            stopped = now - due_at > STOPPED_AFTER
            self._send_again(self.sender.all_again(now) if stopped else self.sender.due(now))

    def _send_again(self, messages: list[bytes]) -> None:
        # If the owner takes no messages, the socket is congested, and copies would accumulate here.
        if len(self._messages) < MAX_WINDOW:
            self._messages.extend(messages)

    def _created_date(self, now: float) -> int:
        return int((now + self._epoch) * 1000)
