"""Faults on purpose: what may happen to a session's messages and to its websocket, and the engine that does it.

``Faults`` says what goes wrong in a sandbox; everything is off by default. Pure: no socket, no clock, no randomness but
what a seed gives, so that the same messages suffer the same faults each time.

What each fault applies to:

* Stream messages and acknowledgements are dropped, duplicated, reordered, delayed and corrupted: the protocol repairs
  all of that.
* ``channel_closed``, ``start_publication`` and ``pause_publication`` are made by the gateway and nothing ever sends
  them again, so they are exempt. What was held back leaves before a ``channel_closed``. The text message with the token
  is exempt too: it opens the websocket, which has faults of its own (``refuse_websocket``, ``void_token``).
* Bytes on the way when the websocket is cut are lost, both ways.
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
"""How a websocket with a token that is void is refused: opened and closed with 1008, or the upgrade answered 403."""
ABNORMAL_CLOSURE = 1006
"""Stands for a TCP connection that is closed without a close frame (RFC 6455, section 7.1.5)."""
MAX_DISPLACEMENT = 8
"""A reordered message lets at least one and at most this many pass that came after it."""
REORDER_TIMEOUT = 0.1
"""Seconds a reordered message waits at most, when nothing comes after it."""
MAX_HELD = 10_000
"""Messages held back at a time; what would be held beyond that is dropped, as a full queue does."""

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
    """What happens to the messages of one direction: but for ``delay_time``, how probably, 0 to 1, for each of them.

    Raises ``ValueError`` for what is not.
    """

    drop: float = 0.0
    """It does not arrive."""
    duplicate: float = 0.0
    """It arrives twice; a reordered or delayed one at once and late."""
    reorder: float = 0.0
    """It arrives behind 1 to ``MAX_DISPLACEMENT`` others that came after it."""
    delay: float = 0.0
    """It arrives ``delay_time`` later; with 1 all do, in order."""
    delay_time: float = 0.2
    """Seconds, up to 60."""
    corrupt: float = 0.0
    """One bit of its payload is flipped, or its end is missing. Its digest or its length tells; the fields of the
    header, which nothing protects, are left alone, since no receiver could notice."""

    def __post_init__(self) -> None:
        for name in ("drop", "duplicate", "reorder", "delay", "corrupt"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability from 0 to 1, not {getattr(self, name)}")
        if not 0 <= self.delay_time <= 60:
            raise ValueError(f"the delay time is 0 to 60 seconds, not {self.delay_time}")

    @property
    def active(self) -> bool:
        """Whether there are any faults at all."""
        return any((self.drop, self.duplicate, self.reorder, self.delay, self.corrupt))


_NO_MESSAGE_FAULTS = MessageFaults()


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong in the sessions of a sandbox; by default nothing. Raises ``ValueError`` for what cannot be.

    For example a link as on a train::

        lossy = MessageFaults(drop=0.05, duplicate=0.05, reorder=0.05)
        Sandbox(faults=Faults(to_client=lossy, to_agent=lossy, cut_every=300_000, seed=7))
    """

    to_client: MessageFaults = _NO_MESSAGE_FAULTS
    to_agent: MessageFaults = _NO_MESSAGE_FAULTS
    seed: int = 0
    """The same seed gives the same pattern; each session of a sandbox, by its place in their order, one of its own."""
    cut_every: int = 0
    """The websocket is cut when this many bytes of messages have passed through it, and so the next one; 0 never."""
    cut_after: int = 0
    """The websocket is cut once, when this many have passed in the session, both ways together; 0 never."""
    cut_code: int | None = None
    """How it is cut: None resets the TCP connection, 1006 closes it without a close frame, any other code is sent in a
    close frame."""
    withhold_pongs: bool = False
    """Pings are not answered."""
    refuse_resume: int = 0
    """This many ResumeSession calls of each session are answered with an error, ``resume_error``."""
    resume_error: str = "ExpiredTokenException"
    """The code of that error. SDKs retry some by themselves, ``ThrottlingException`` for one; not the default."""
    refuse_websocket: int = 0
    """This many websockets of each session, after its first, are refused with status 403."""
    void_token: VoidToken = "close"
    """How a token is refused that was used, replaced or expired."""
    tokens_reusable: bool = False
    """A token opens any number of websockets until another one is given."""

    def __post_init__(self) -> None:
        for name in ("cut_every", "cut_after", "refuse_resume", "refuse_websocket"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is a number from 0 on, not {getattr(self, name)}")
        if self.void_token not in get_args(VoidToken):
            raise ValueError(f"void_token is close or forbidden, not {self.void_token!r}")
        check_cut_code(self.cut_code)

    @property
    def may_cut(self) -> bool:
        """Whether a websocket may be lost by them: a client ends the connection itself when no pong comes."""
        return bool(self.cut_every or self.cut_after or self.withhold_pongs)

    @property
    def in_transit(self) -> bool:
        """Whether messages do not simply pass."""
        return self.to_client.active or self.to_agent.active or bool(self.cut_every or self.cut_after)


def check_cut_code(code: int | None) -> None:
    """Raise ``ValueError`` when a websocket cannot be cut in this way; see ``Faults.cut_code``."""
    if code is not None and not (1000 <= code <= 1014 and code not in (1004, 1005)) and not 3000 <= code <= 4999:
        raise ValueError(f"{code} is no close code: 1000, 1001, 1006, 1011 and those from 3000 to 4999 are")


NO_FAULTS = Faults()


@dataclass(slots=True)
class FaultCounts:
    """How often each fault happened. Counts of several places can be added."""

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
    """A message that waits for a moment or, when it is reordered, until ``followers`` more messages have passed it."""

    data: Message
    due_at: float
    followers: int = 0


class FaultInjector:
    """The faults of one direction of one session. Messages go in, and come out as they arrive.

    Six numbers are drawn for each message that is subject to faults, whichever faults are on: so the n-th of them has
    the same fate each time, whatever the clock says, and switching one fault on does not move the others.
    """

    def __init__(self, faults: MessageFaults, seed: int | str) -> None:
        self.counts = FaultCounts()
        self._faults = faults
        self._random = random.Random(seed).random
        # The longer a message is in a queue, the earlier it is due: all of one queue wait for the same time.
        self._delayed: deque[_Held] = deque()
        self._reordered: deque[_Held] = deque()

    @property
    def held(self) -> int:
        """How many messages are held back."""
        return len(self._delayed) + len(self._reordered)

    def receive(self, messages: Iterable[Message], now: float) -> list[Message]:
        """Take messages that left at ``now``; gives those that arrive now. Call ``next_timeout`` then."""
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
            self._hold(self._delayed, _Held(data, now + faults.delay_time))
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
        """One message has passed all that are reordered."""
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
        """When the next message that is held back arrives at the latest; None when there is none."""
        return min((queue[0].due_at for queue in (self._delayed, self._reordered) if queue), default=None)

    def handle_timeout(self, now: float) -> list[Message]:
        """The held messages that arrive by ``now``."""
        arriving: list[Message] = []
        for queue in (self._delayed, self._reordered):
            while queue and queue[0].due_at <= now:
                arriving.append(queue.popleft().data)
        return arriving

    def release(self) -> list[Message]:
        """Everything that is held back, at once: nothing comes any more."""
        return self.handle_timeout(math.inf)


class CutSchedule:
    """Tells when the websockets of a session are to be cut; see ``Faults.cut_every`` and ``Faults.cut_after``."""

    def __init__(self, faults: Faults) -> None:
        self._every = faults.cut_every or math.inf
        self._left = self._every
        self._left_once = faults.cut_after or math.inf

    def opened(self) -> None:
        """A new websocket."""
        self._left = self._every

    def pass_through(self, messages: Sequence[Message]) -> int | None:
        """How many of ``messages`` pass before the cut, the one that reaches the limit included; None without a cut."""
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
    """``data`` damaged so that a receiver can tell: in the first half of ``fraction``'s range (0 to 1) one bit of its
    payload flipped, in the second half cut short. Which bit, or where, ``fraction`` says as well."""
    damaged = bytearray(data)
    if fraction >= 0.5 or len(damaged) <= PAYLOAD_OFFSET:
        return bytes(damaged[: int(2 * (fraction % 0.5) * len(damaged))])
    bit = int(2 * fraction * (len(damaged) - PAYLOAD_OFFSET) * 8)
    damaged[PAYLOAD_OFFSET + bit // 8] ^= 1 << bit % 8
    return bytes(damaged)
