"""The reliable stream: sequence numbers, acknowledgements, retransmission, in both directions.

Every stream message has a sequence number, counted from 0 in each direction for the whole session, and is acknowledged
individually (selectively, not cumulatively). The sender keeps a message until it is acknowledged, and retransmits it
after a timeout. The receiver delivers messages in order and once. It acknowledges every message that it accepts,
duplicates included, since the first acknowledgement may have been lost (the official client does not acknowledge
duplicates: reference defect A1).

Deliberate differences from the official client: every message that is due is retransmitted, not only the oldest (A4);
a retransmitted message is no round-trip sample (A3, Karn's rule), and the timeout backs off (A2); a full window
refuses new messages, where the official client drops old ones (D3). Messages are lost when a websocket is cut or while
the far end is away from the gateway. They are not lost by congestion, which TCP handles, so the window only grows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from session_manager_plugin.protocol.messages import ClientMessage

INITIAL_ROUND_TRIP_TIME = 0.1
INITIAL_RETRANSMISSION_TIMEOUT = 0.2
CLOCK_GRANULARITY = 0.01
MAX_RETRANSMISSION_TIMEOUT = 1.0
STALLED_MAX_RETRANSMISSION_TIMEOUT = 5.0
STALLED_AFTER = 10.0
"""Seconds without any acknowledgement after which the longer maximum timeout applies."""
INITIAL_WINDOW = 64
BURST = 64
"""Most messages retransmitted before any of them is acknowledged: as many as a new session may send."""
MAX_WINDOW = 1024
"""Most messages in flight: 1 MiB of data, far below the 10,000 messages that an official far end holds out of order."""
MAX_HELD_MESSAGES = 10_000
"""As in the official client. A message for which there is no room is not acknowledged, so the sender retransmits it."""
MAX_HELD_SIZE = 16 * 1024 * 1024


class RoundTripEstimator:
    """Smoothed round-trip time, its variation and the retransmission timeout, in seconds.

    The arithmetic is that of both official ends (``CalculateRetransmissionTimeout``): RFC 6298 with gains 1/8 and 1/4,
    but with an initial round-trip time of 100 ms, and a timeout of at least 10 ms above the round-trip time and at most
    1 s.
    """

    def __init__(self) -> None:
        self.smoothed = INITIAL_ROUND_TRIP_TIME
        self.variation = 0.0
        self.retransmission_timeout = INITIAL_RETRANSMISSION_TIMEOUT
        self.is_measured = False
        """Whether ``smoothed`` contains a measurement."""

    def sample(self, round_trip_time: float) -> None:
        """Add one measurement, in seconds."""
        self.is_measured = True
        self.variation = 0.75 * self.variation + 0.25 * abs(self.smoothed - round_trip_time)
        self.smoothed = 0.875 * self.smoothed + 0.125 * round_trip_time
        self.retransmission_timeout = min(
            MAX_RETRANSMISSION_TIMEOUT, self.smoothed + max(CLOCK_GRANULARITY, 4 * self.variation)
        )


class StreamProgress(NamedTuple):
    """How many stream messages of one direction were sent and acknowledged."""

    sent: int
    """Messages sent so far; also the sequence number of the next one."""
    acknowledged: int
    """Messages acknowledged without a gap, counted from the first."""
    acknowledged_at: float
    """When the last acknowledgement was received, in seconds on the clock of the stream; 0 before the first."""
    round_trip_time: float | None = None
    """Smoothed, in seconds; None before it was measured."""


class _InFlight:
    """One unacknowledged message: its bytes, when it was last sent, and how often."""

    __slots__ = ("data", "sent_at", "transmissions")

    def __init__(self, data: bytes, sent_at: float) -> None:
        self.data = data
        self.sent_at = sent_at
        self.transmissions = 1


class StreamSender:
    """The sending half: assigns sequence numbers, and keeps messages until they are acknowledged.

    Everything is delivered when ``in_flight`` is 0. Invariant: ``_in_flight`` is ordered by ``sent_at``, oldest first
    (a retransmitted message moves to the end), so the due messages are a prefix, and the first entry has the
    earliest deadline.

    When many messages are lost together, as with a websocket, ``BURST`` are retransmitted at once. The others are
    parked, and two of them are retransmitted for each acknowledgement. Otherwise a link that breaks after a few hundred
    kilobytes would break under the same burst each time, before anything is acknowledged.
    """

    def __init__(self) -> None:
        self.estimator = RoundTripEstimator()
        self.next_sequence_number = 0
        self.window = INITIAL_WINDOW
        self.retransmissions = 0
        """Messages retransmitted in the session so far."""
        self._in_flight: dict[int, _InFlight] = {}
        self._parked: dict[int, _InFlight] = {}
        self._backed_off_timeout: float | None = None
        self._progress_at = self._acknowledged_at = 0.0

    @property
    def in_flight(self) -> int:
        """How many messages are unacknowledged."""
        return len(self._in_flight) + len(self._parked)

    @property
    def progress(self) -> StreamProgress:
        """What is sent and acknowledged."""
        waiting = (*self._in_flight, *self._parked)
        smoothed = self.estimator.smoothed if self.estimator.is_measured else None
        acknowledged = min(waiting, default=self.next_sequence_number)
        return StreamProgress(self.next_sequence_number, acknowledged, self._acknowledged_at, smoothed)

    @property
    def retransmitting(self) -> int:
        """How many of the messages in flight were retransmitted, or are parked for retransmission."""
        return sum(1 for message in self._in_flight.values() if message.transmissions > 1) + len(self._parked)

    @property
    def stalled_since(self) -> float | None:
        """Since when no acknowledgement has arrived although messages are in flight; None when nothing is in flight."""
        return self._progress_at if self.in_flight else None

    @property
    def capacity(self) -> int:
        """How many more messages the window has room for; 0 while messages are parked."""
        return 0 if self._parked else self.window - len(self._in_flight)

    @property
    def parked(self) -> bool:
        """Whether messages wait for ``unparked``."""
        return bool(self._parked)

    def sent(self, data: bytes, now: float) -> None:
        """Keep ``data``, the message with ``next_sequence_number``, which is sent now."""
        if not self._in_flight:
            self._progress_at = now
        self._in_flight[self.next_sequence_number] = _InFlight(data, now)
        self.next_sequence_number += 1

    def acknowledged(self, sequence_number: int, now: float) -> bool:
        """Process an acknowledgement. Returns False if no such message is in flight: a duplicate, or a wrong number."""
        message = self._in_flight.pop(sequence_number, None)
        if message is None:
            message = self._parked.pop(sequence_number, None)  # acknowledged for its first transmission
            if message is None:
                return False
        self._progress_at = self._acknowledged_at = now
        if message.transmissions == 1:
            self.estimator.sample(now - message.sent_at)
            self._backed_off_timeout = None
        elif self._backed_off_timeout is not None:
            self._backed_off_timeout = min(MAX_RETRANSMISSION_TIMEOUT, self._backed_off_timeout)  # the stall is over
        if self.window < MAX_WINDOW:
            self.window += 1
        return True

    def next_timeout(self) -> float | None:
        """Return when ``due`` will return messages; None while nothing is in flight."""
        for message in self._in_flight.values():
            return message.sent_at + self._timeout
        return self._progress_at if self._parked else None

    @property
    def _timeout(self) -> float:
        return self._backed_off_timeout or self.estimator.retransmission_timeout

    def due(self, now: float) -> list[bytes]:
        """Return all messages whose timeout has passed, to be retransmitted now; back off the timeout if there are any.

        The timeout doubles up to 1 s, or up to 5 s after 10 s without any acknowledgement. It doubles once per
        round-trip: messages of one burst that become due one after the other count as one loss.
        """
        timeout = self._timeout
        overdue = []
        new_round = self._backed_off_timeout is None
        for number, message in self._in_flight.items():
            if message.sent_at + timeout > now:
                break
            overdue.append(number)
            new_round = new_round or message.transmissions > 1
        if not overdue:
            return self.unparked(now) if self._parked and not self._in_flight else []
        if new_round:
            stalled = now - self._progress_at >= STALLED_AFTER
            ceiling = STALLED_MAX_RETRANSMISSION_TIMEOUT if stalled else MAX_RETRANSMISSION_TIMEOUT
            self._backed_off_timeout = min(ceiling, 2 * timeout)
        if len(overdue) > BURST:
            self._park(overdue[BURST:])
            del overdue[BURST:]
        return self._send_again(overdue, now)

    def all_again(self, now: float) -> list[bytes]:
        """Return the unacknowledged messages, in sequence order, for a new websocket or when the far end is back.

        At most ``BURST`` messages are returned; ``unparked`` returns the others.
        """
        self._backed_off_timeout = None
        self._progress_at = now
        self._park(list(self._in_flight))
        return self._unpark(BURST, now)

    def unparked(self, now: float) -> list[bytes]:
        """Return the next two parked messages, to be retransmitted now. Call this after an acknowledgement."""
        return self._unpark(2, now)

    def _park(self, numbers: Iterable[int]) -> None:
        parked = {**self._parked, **{number: self._in_flight.pop(number) for number in numbers}}
        self._parked = dict(sorted(parked.items()))

    def _unpark(self, count: int, now: float) -> list[bytes]:
        numbers = list(itertools.islice(self._parked, count))
        for number in numbers:
            self._in_flight[number] = self._parked.pop(number)
        return self._send_again(numbers, now)

    def _send_again(self, numbers: Iterable[int], now: float) -> list[bytes]:
        again = []
        for number in numbers:
            message = self._in_flight.pop(number)
            message.sent_at = now
            message.transmissions += 1
            self._in_flight[number] = message
            again.append(message.data)
        self.retransmissions += len(again)
        return again


class StreamReceiver:
    """The receiving half: delivers messages in order, each once.

    A stream has no end mark. Invariant: every held message is ahead of ``expected``, has been
    acknowledged and will be delivered.
    """

    def __init__(self) -> None:
        self.expected = 0
        self.disordered = False
        """Whether a message has arrived before an earlier one: a link in order has lost the earlier one."""
        self._held: dict[int, ClientMessage] = {}
        self._held_size = 0

    @property
    def held(self) -> int:
        """How many messages are held until an earlier one arrives."""
        return len(self._held)

    @property
    def held_size(self) -> int:
        """The size of the held messages' payloads, in bytes."""
        return self._held_size

    @property
    def missing(self) -> int:
        """How many messages before the newest received message have not arrived."""
        return max(self._held) + 1 - self.expected - len(self._held) if self._held else 0

    @property
    def gap(self) -> int:
        """How many messages before the first held message have not arrived."""
        return min(self._held) - self.expected if self._held else 0

    def holds(self, payload_type: int) -> bool:
        """Whether a message of this payload type is held."""
        return any(message.payload_type == payload_type for message in self._held.values())

    def receive(self, message: ClientMessage) -> list[ClientMessage] | None:
        """Process a message and return the messages that can be delivered now.

        Returns an empty list for a duplicate and for a message that is held: acknowledge it. Returns None if there is
        no room or the sequence number is impossible: do not acknowledge it, so that the sender retransmits.
        """
        number = message.sequence_number
        if number == self.expected:
            self.expected = number + 1
            return self._with_successors(message) if self._held else [message]
        if number < self.expected:
            return [] if number >= 0 else None
        if number in self._held:
            return []
        size = len(message.payload)
        if number - self.expected > MAX_HELD_MESSAGES or self._held_size + size > MAX_HELD_SIZE:
            return None
        self.disordered = True
        self._held[number] = message
        self._held_size += size
        return []

    def _with_successors(self, message: ClientMessage) -> list[ClientMessage]:
        messages = [message]
        while (successor := self._held.pop(self.expected, None)) is not None:
            self.expected += 1
            self._held_size -= len(successor.payload)
            messages.append(successor)
        return messages
