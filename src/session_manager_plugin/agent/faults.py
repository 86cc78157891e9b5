"""Fault injection for a session's messages and its websocket.

``Faults`` configures the faults of a sandbox; all are off by default. Pure: no socket and no clock, and all randomness
comes from a seed, so that the same messages get the same faults each time.

What each fault applies to:

* Stream messages and acknowledgements are dropped, duplicated, reordered, delayed and corrupted. The protocol recovers
  from all of that.
* ``channel_closed``, ``start_publication`` and ``pause_publication`` are exempt: the gateway creates them and never
  sends them again. Messages held back are delivered before a ``channel_closed``. The text message with the token is
  exempt too: it opens the websocket, which has faults of its own (``refuse_websocket``, ``void_token``).
* Bytes in transit when the websocket is cut are lost, in both directions.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

from session_manager_plugin.protocol.messages import PAYLOAD_OFFSET, ClientMessageType

VoidToken = Literal["close", "forbidden"]
"""How a websocket with a void token is refused: closed with 1008 after opening, or refused with status 403."""
ABNORMAL_CLOSURE = 1006
"""Stands for a TCP connection that is closed without a close frame (RFC 6455, section 7.1.5)."""
MAX_DISPLACEMENT = 8
"""A reordered message is overtaken by at least one and at most this many later messages."""
REORDER_TIMEOUT = 0.1
"""Seconds that a reordered message waits at most for later messages."""
MAX_HELD = 10_000
"""Messages held back at a time. Further ones are dropped, as by a full queue."""

Message = bytes | bytearray

_ACKNOWLEDGE = ClientMessageType.ACKNOWLEDGE.value.encode().ljust(32)
_SUBJECT = frozenset(
    {
        _ACKNOWLEDGE,
        ClientMessageType.INPUT_STREAM_DATA.value.encode().ljust(32),
        ClientMessageType.OUTPUT_STREAM_DATA.value.encode().ljust(32),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFaults:
    """The faults of one direction. Except for ``delay_time``, each is a probability from 0 to 1 for each message.

    Raises ``ValueError`` for a value out of range.
    """

    drop: float = 0.0
    """The message is lost."""
    duplicate: float = 0.0
    """The message arrives twice; if it is also reordered or delayed, one copy arrives at once."""
    reorder: float = 0.0
    """The message arrives after 1 to ``MAX_DISPLACEMENT`` later messages."""
    delay: float = 0.0
    """The message arrives ``delay_time`` later; with 1 all messages do, in order."""
    delay_time: float = 0.2
    """Seconds, up to 60."""
    delay_jitter: float = 0.0
    """Seconds by which ``delay_time`` varies up and down. Delayed messages stay in order."""
    corrupt: float = 0.0
    """One bit of the payload is flipped, or the end of the message is missing; the receiver detects it by the digest
    or the length. Header fields are never changed: no checksum covers them, so a receiver could not detect it."""

    def __post_init__(self) -> None:
        for name in ("drop", "duplicate", "reorder", "delay", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability from 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.delay_time <= 60:
            raise ValueError(f"the delay time is 0 to 60 seconds, not {self.delay_time}")
        if not 0 <= self.delay_jitter <= self.delay_time:
            raise ValueError(f"the jitter is at most the delay, {self.delay_time} seconds, not {self.delay_jitter}")

    @property
    def active(self) -> bool:
        """Whether any fault is on."""
        return any((self.drop, self.duplicate, self.reorder, self.delay, self.corrupt))


_NO_MESSAGE_FAULTS = MessageFaults()


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """The faults in the sessions of a sandbox; by default none. Raises ``ValueError`` for an invalid value.

    For example, a link as on a train::

        lossy = MessageFaults(drop=0.05, duplicate=0.05, reorder=0.05)
        Sandbox(faults=Faults(to_client=lossy, to_agent=lossy, cut_every=300_000, seed=7))
    """

    to_client: MessageFaults = _NO_MESSAGE_FAULTS
    to_agent: MessageFaults = _NO_MESSAGE_FAULTS
    seed: int = 0
    """The same seed produces the same pattern. Each session of a sandbox has its own, derived from its number."""
    cut_every: int = 0
    """Each websocket is cut after this many bytes of messages; 0 never."""
    cut_after: int = 0
    """The websocket is cut once, after this many bytes in the session, both directions together; 0 never."""
    cut_code: int | None = None
    """How the websocket is cut: None resets the TCP connection, 1006 closes it without a close frame, any other code is
    sent in a close frame."""
    withhold_pongs: bool = False
    """Pings are not answered."""
    pong_delay: float = 0.0
    """Seconds until a ping is answered."""
    refuse_resume: int = 0
    """This many ResumeSession calls of each session fail with ``resume_error``."""
    resume_error: str = "ExpiredTokenException"
    """The code of that error. SDKs retry some codes, such as ``ThrottlingException``, but not the default."""
    refuse_websocket: int = 0
    """This many websockets of each session, after the first, are refused with status 403."""
    void_token: VoidToken = "close"
    """How a websocket with a used, replaced or expired token is refused."""
    tokens_reusable: bool = False
    """A token opens any number of websockets until it is replaced."""

    def __post_init__(self) -> None:
        for name in ("cut_every", "cut_after", "refuse_resume", "refuse_websocket"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a number from 0 on, not {getattr(self, name)}")
        if self.void_token not in get_args(VoidToken):
            raise ValueError(f"void_token is close or forbidden, not {self.void_token!r}")
        check_cut_code(self.cut_code)

    @property
    def may_cut(self) -> bool:
        """Whether these faults may end a websocket; without pongs the client itself closes it."""
        return bool(self.cut_every or self.cut_after or self.withhold_pongs)

    @property
    def in_transit(self) -> bool:
        """Whether these faults affect messages or cut websockets."""
        return self.to_client.active or self.to_agent.active or bool(self.cut_every or self.cut_after)


def check_cut_code(code: int | None) -> None:
    """Raise ``ValueError`` if ``code`` is no valid ``Faults.cut_code``."""
    if code is not None and not (1000 <= code <= 1014 and code not in (1004, 1005)) and not 3000 <= code <= 4999:
        raise ValueError(f"close code {code}; expected 1000, 1001, 1006, 1011, or 3000 to 4999")


NO_FAULTS = Faults()


@dataclass(slots=True)
class FaultCounts:
    """How often each fault happened. Counts can be added."""

    dropped: int = 0
    duplicated: int = 0
    reordered: int = 0
    delayed: int = 0
    corrupted: int = 0
    cuts: int = 0

    def __add__(self, other: FaultCounts) -> FaultCounts:
        return FaultCounts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(slots=True)
class _Held:
    """A message held back until ``due_at`` or, if reordered, until ``followers`` more messages have overtaken it."""

    data: Message
    due_at: float
    followers: int = 0


class FaultInjector:
    """The faults of one direction of one session. Takes messages and returns those that arrive.

    Six random numbers are drawn for each message that is subject to faults, whichever faults are on. So the n-th
    message gets the same faults each time, independent of the clock, and one fault does not influence the others.
    """

    def __init__(self, faults: MessageFaults, seed: int | str) -> None:
        self.counts = FaultCounts()
        self._faults = faults
        self._random = random.Random(seed).random
        # Each queue is ordered by time, because all messages of one queue wait equally long.
        self._delayed: deque[_Held] = deque()
        self._reordered: deque[_Held] = deque()

    @property
    def held(self) -> int:
        """How many messages are held back."""
        return len(self._delayed) + len(self._reordered)

    def receive(self, messages: Iterable[Message], now: float) -> list[Message]:
        """Take messages sent at ``now``; return those that arrive now. Call ``next_timeout`` afterwards."""
        arriving: list[Message] = []
        for data in messages:
            if bytes(data[4:36]) in _SUBJECT:
                self._suffer(data, now, arriving)
            else:
                arriving.append(data)
        return arriving

    def _suffer(self, data: Message, now: float, arriving: list[Message]) -> None:
        draw, faults, counts = self._random, self._faults, self.counts
        dropped, corrupted, duplicated = draw() < faults.drop, draw() < faults.corrupt, draw() < faults.duplicate
        reordered, delayed, detail = draw() < faults.reorder, draw() < faults.delay, draw()
        if dropped:
            counts.dropped += 1
            return
        if corrupted:
            counts.corrupted += 1
            data = corrupt(data, detail)
        if duplicated:
            counts.duplicated += 1
            arriving.append(data)
        if delayed:
            counts.delayed += 1
            due_at = now + faults.delay_time
            if faults.delay_jitter:
                due_at += faults.delay_jitter * (2 * draw() - 1)
            if self._delayed:
                due_at = max(due_at, self._delayed[-1].due_at)
            self._hold(self._delayed, _Held(data, due_at))
        elif reordered:
            counts.reordered += 1
            followers = 1 + int(detail * MAX_DISPLACEMENT)
            self._hold(self._reordered, _Held(data, now + REORDER_TIMEOUT, followers))
        else:
            arriving.append(data)
            self._let_pass(arriving)

    def _hold(self, queue: deque[_Held], held: _Held) -> None:
        if self.held < MAX_HELD:
            queue.append(held)
        else:
            self.counts.dropped += 1

    def _let_pass(self, arriving: list[Message]) -> None:
        """Count one message that overtakes all reordered ones; append those that arrive now to ``arriving``."""
        if not self._reordered:
            return
        waiting: deque[_Held] = deque()
        for held in self._reordered:
            held.followers -= 1
            if held.followers:
                waiting.append(held)
            else:
                arriving.append(held.data)
        self._reordered = waiting

    def next_timeout(self) -> float | None:
        """Return when the next held message arrives at the latest; None if none is held."""
        return min((queue[0].due_at for queue in (self._delayed, self._reordered) if queue), default=None)

    def handle_timeout(self, now: float) -> list[Message]:
        """Return the held messages that arrive by ``now``."""
        arriving: list[Message] = []
        for queue in (self._delayed, self._reordered):
            while queue and queue[0].due_at <= now:
                arriving.append(queue.popleft().data)
        return arriving

    def release(self) -> list[Message]:
        """Return all held messages at once, at the end of the session."""
        return self.handle_timeout(math.inf)


class CutSchedule:
    """Decides when to cut the websockets of a session: see ``Faults.cut_every`` and ``Faults.cut_after``."""

    def __init__(self, faults: Faults) -> None:
        self._every = faults.cut_every or math.inf
        self._left = self._every
        self._left_once = faults.cut_after or math.inf

    def opened(self) -> None:
        """A new websocket was opened."""
        self._left = self._every

    def pass_through(self, messages: Sequence[Message]) -> int | None:
        """Return how many of ``messages`` pass before the cut, including the one that reaches the limit; None for no
        cut."""
        for passed, data in enumerate(messages, 1):
            self._left -= len(data)
            self._left_once -= len(data)
            if self._left_once <= 0:
                self._left_once = math.inf
                return passed
            if self._left <= 0:
                return passed
        return None


def is_acknowledgement(data: Message) -> bool:
    """Whether a message is an acknowledgement."""
    return data[4:36] == _ACKNOWLEDGE


def corrupt(data: Message, fraction: float) -> bytes:
    """Return ``data`` with damage that a receiver can detect. A ``fraction`` from 0 to 0.5 flips a bit of the payload,
    one from 0.5 to 1 truncates the message; its value also selects the bit or the length."""
    damaged = bytearray(data)
    if fraction >= 0.5 or len(damaged) <= PAYLOAD_OFFSET:
        return bytes(damaged[: int(2 * (fraction % 0.5) * len(damaged))])
    bit = int(2 * fraction * (len(damaged) - PAYLOAD_OFFSET) * 8)
    damaged[PAYLOAD_OFFSET + bit // 8] ^= 1 << bit % 8
    return bytes(damaged)
