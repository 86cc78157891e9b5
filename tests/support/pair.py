"""Two cores joined in memory: a client, an agent, a gateway between them and a clock that is a number.

Nothing here waits: ``Pair.step`` jumps to the next instant at which something happens, so minutes of protocol time
pass in milliseconds, and every run is the same. A message travels one of two ``Link``s, each with its own faults: a
written pattern, or dice with a seed. A test reads as a script::

    pair = Pair(to_agent=Link("x.2"))      # the client's first message is lost, its third arrives twice
    pair.agent.connection.skip_handshake()
    pair.connect()
    pair.client.write(b"ls\\r")
    pair.run_until(lambda: pair.agent.data() == b"ls\\r")
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Collection
from typing import TypeVar

from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import DataReceived, Event
from session_manager_plugin.protocol.messages import (
    MAX_PAYLOAD_SIZE,
    ClientMessage,
    ClientMessageType,
    MessageIds,
    PayloadType,
)
from session_manager_plugin.protocol.payloads import ChannelClosed
from session_manager_plugin.protocol.role import Role

AnyEvent = TypeVar("AnyEvent")

EPOCH = 1_700_000_000.0
"""What makes the pair's clock, which starts at 0, seconds since the Unix epoch."""
VERSION = "1.3.0.0"
SESSION_ID = "alice-0a1b2c3d4e5f60718"
LATENCY = 0.01
LATE = 0.35
"""How much longer a late message takes: more than the first retransmission timeouts."""
TOO_MANY_ROUNDS = 50_000


def new_connection(
    role: Role,
    *,
    version: str = VERSION,
    session_types: Collection[str] = ("Standard_Stream", "InteractiveCommands", "NonInteractiveCommands", "Port"),
    handshake_required: bool = False,
    seed: int = 0,
) -> SessionEndpoint:
    """A core whose ids are the same in every run."""
    return SessionEndpoint(
        role,
        version=version,
        epoch=EPOCH,
        random_bytes=random.Random(f"{role} {seed}").randbytes,
        session_id=SESSION_ID,
        session_types=session_types,
        handshake_required=handshake_required,
    )


def drain_events(connection: SessionEndpoint) -> list[Event]:
    """Everything ``next_event`` has to say."""
    events = []
    while (event := connection.next_event()) is not None:
        events.append(event)
    return events


def sent_by(connection: SessionEndpoint, now: float) -> list[ClientMessage]:
    """The binary messages that the connection has to send now, parsed."""
    return [ClientMessage.parse(data) for data in connection.messages_to_send(now) if isinstance(data, bytes)]


class Peer:
    """The hand-written far end of a single core: makes the messages that a test wants it to receive."""

    def __init__(self, role: Role = Role.AGENT) -> None:
        sends = ClientMessageType.OUTPUT_STREAM_DATA if role is Role.AGENT else ClientMessageType.INPUT_STREAM_DATA
        self._sent_type = sends.value
        self._message_ids = MessageIds(random.Random("peer").randbytes)
        self._next_sequence_number = 0

    def control(self, message_type: str, payload: bytes = b"{}") -> bytes:
        """A message outside the stream, as bytes."""
        created_date = int(EPOCH * 1000)
        return ClientMessage(message_type, 0, 0, payload, self._message_ids.next(), created_date).serialize()

    def stream(
        self, payload: bytes | str, payload_type: int = PayloadType.OUTPUT, *, number: int | None = None
    ) -> bytes:
        """The next stream message, as bytes; with ``number``, one out of turn."""
        if number is None:
            number = self._next_sequence_number
            self._next_sequence_number += 1
        if isinstance(payload, str):
            payload = payload.encode()
        created_date = int(EPOCH * 1000)
        message_id = self._message_ids.next()
        return ClientMessage(self._sent_type, number, payload_type, payload, message_id, created_date).serialize()

    def acknowledge(self, number: int) -> bytes:
        """The acknowledgement of a sequence number; its other fields, which nobody reads, are made up."""
        return self.control("acknowledge", b'{"AcknowledgedMessageSequenceNumber":%d}' % number)


class Link:
    """One direction of the path, which misbehaves as it is told.

    ``pattern`` holds the fate of the first messages, a character each: ``.`` arrives, ``x`` is lost, ``2`` arrives
    twice, ``>`` arrives late, behind those that follow. Behind its end fate is up to ``dice`` with the three
    probabilities (a message may be both doubled and late); without dice everything arrives.
    """

    def __init__(
        self,
        pattern: str = "",
        *,
        dice: random.Random | None = None,
        drop: float = 0.0,
        duplicate: float = 0.0,
        late: float = 0.0,
        latency: float = LATENCY,
    ) -> None:
        assert set(pattern) <= set(".x2>")
        self._pattern = deque(pattern)
        self._dice = dice
        self._drop, self._duplicate, self._late = drop, duplicate, late
        self._latency = latency
        self._under_way: list[tuple[float, int, bytes]] = []
        self._order = 0
        self.carried: list[ClientMessage] = []
        """Everything that was put on the link, in order, lost or not."""

    def carry(self, data: bytes, now: float) -> None:
        """Take a message in; what becomes of it is decided here."""
        self.carried.append(ClientMessage.parse(data))
        for delay in self._fate():
            self._order += 1
            heapq.heappush(self._under_way, (now + self._latency + delay, self._order, data))

    def _fate(self) -> list[float]:
        """A delay for every copy that is to arrive."""
        if self._pattern:
            return {".": [0.0], "x": [], "2": [0.0, 0.0], ">": [LATE]}[self._pattern.popleft()]
        if self._dice is None:
            return [0.0]
        # Every message costs the same number of throws, so that one fate does not change those after it.
        lost, doubled, *late = (self._dice.random() for _ in range(4))
        if lost < self._drop:
            return []
        copies = 2 if doubled < self._duplicate else 1
        return [LATE if throw < self._late else 0.0 for throw in late[:copies]]

    def next_arrival(self) -> float | None:
        """When the next message arrives; None when none is under way."""
        return self._under_way[0][0] if self._under_way else None

    def arrived(self, now: float) -> list[bytes]:
        """Take out what has arrived by now."""
        messages = []
        while self._under_way and self._under_way[0][0] <= now:
            messages.append(heapq.heappop(self._under_way)[2])
        return messages

    def cut(self) -> None:
        """Lose what is under way."""
        self._under_way.clear()


class End:
    """A core, what its owner wants to send through it, and everything it has said."""

    def __init__(self, connection: SessionEndpoint) -> None:
        self.connection = connection
        self.events: list[Event] = []
        self.opening_messages: list[str] = []
        """The text messages it sent: the gateway keeps them to itself."""
        self.session_states: list[ClientMessage] = []
        """The ``agent_session_state`` messages it sent: the gateway's as well."""
        self.connected = False
        self.waiting: deque[tuple[int, bytes]] = deque()
        """What did not fit into the window yet."""

    def write(self, data: bytes, payload_type: int = PayloadType.OUTPUT) -> None:
        """Have ``data`` sent, in messages as large as may be, as soon as there is room."""
        self.waiting.extend(
            (payload_type, data[position : position + MAX_PAYLOAD_SIZE])
            for position in range(0, len(data), MAX_PAYLOAD_SIZE)
        )

    def flush(self, now: float) -> None:
        """Send of ``waiting`` what the window takes."""
        while self.waiting and self.connection.send_capacity:
            payload_type, payload = self.waiting.popleft()
            self.connection.send_data(payload_type, payload, now)

    def data(self, payload_type: int = PayloadType.OUTPUT) -> bytes:
        """All that was received of one payload type."""
        return b"".join(event.data for event in self.of(DataReceived) if event.payload_type == payload_type)

    def of(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """See the module docstring. The websockets of the two ends come and go apart from each other, as they do at the
    real gateway, which drops what it cannot pass on."""

    def __init__(
        self,
        *,
        to_agent: Link | None = None,
        to_client: Link | None = None,
        handshake_required: bool = False,
        seed: int = 0,
    ) -> None:
        self.now = 0.0
        self.client = End(new_connection(Role.CLIENT, handshake_required=handshake_required, seed=seed))
        self.agent = End(new_connection(Role.AGENT, version="3.3.0.0", seed=seed))
        self.to_agent = to_agent or Link()
        self.to_client = to_client or Link()
        self.gateway = Peer()

    @property
    def ends(self) -> tuple[tuple[End, Link, Link], ...]:
        """Both ends, each with the link it sends on and the link it receives from."""
        return (self.client, self.to_agent, self.to_client), (self.agent, self.to_client, self.to_agent)

    # Websockets.

    def connect(self) -> None:
        """Give both ends a websocket."""
        self.connect_agent()
        self.connect_client()

    def connect_client(self) -> None:
        """Give the client a new websocket."""
        self.client.connected = True
        self.client.connection.connected("token", self.now)
        self.pump()

    def connect_agent(self) -> None:
        """Give the agent a new websocket."""
        self.agent.connected = True
        self.agent.connection.connected(None, self.now)
        self.pump()

    def cut(self) -> None:
        """Take both websockets away, with all that is under way."""
        self.cut_client()
        self.cut_agent()

    def cut_client(self) -> None:
        """Take the client's websocket away."""
        self._cut(self.client)

    def cut_agent(self) -> None:
        """Take the agent's websocket away."""
        self._cut(self.agent)

    def _cut(self, end: End) -> None:
        self.to_agent.cut()
        self.to_client.cut()
        if end.connected:
            end.connected = False
            end.connection.disconnected(self.now)

    # What the gateway says by itself.

    def pause(self, *ends: End) -> None:
        """The gateway tells an end that the other one is away."""
        self._tell(ends, ClientMessageType.PAUSE_PUBLICATION, b"pause_publication")

    def start(self, *ends: End) -> None:
        """The gateway tells an end that the other one is back."""
        self._tell(ends, ClientMessageType.START_PUBLICATION, b"start_publication")

    def close_channel(self, output: str = "") -> None:
        """The gateway closes the session, and says so to both."""
        payload = ChannelClosed(SESSION_ID, output).to_json().encode()
        self._tell((self.client, self.agent), ClientMessageType.CHANNEL_CLOSED, payload)

    def _tell(self, ends: Collection[End], message_type: ClientMessageType, payload: bytes) -> None:
        for end in ends:
            end.connection.receive_message(self.gateway.control(message_type.value, payload), self.now)
        self.pump()

    # Time.

    def pump(self) -> None:
        """What the owner of a core does after every stimulus: send, and take the events."""
        for end, out, _ in self.ends:
            end.flush(self.now)
            for message in end.connection.messages_to_send(self.now):
                if isinstance(message, str):
                    end.opening_messages.append(message)
                elif ClientMessage.parse(message).message_type == ClientMessageType.AGENT_SESSION_STATE:
                    end.session_states.append(ClientMessage.parse(message))
                else:
                    out.carry(message, self.now)
            end.events.extend(drain_events(end.connection))

    def next_instant(self) -> float | None:
        """When something happens next; None when nothing will."""
        instants = [end.connection.next_timeout() for end, _, _ in self.ends]
        instants += [self.to_agent.next_arrival(), self.to_client.next_arrival()]
        return min((instant for instant in instants if instant is not None), default=None)

    def step(self) -> bool:
        """Go on to the next instant and let happen what happens then; False when nothing will."""
        instant = self.next_instant()
        if instant is None:
            return False
        self.now = max(self.now, instant)  # what fell due while nobody could do it is due at once
        for end, _, link in self.ends:
            for message in link.arrived(self.now):
                if end.connected:
                    end.connection.receive_message(message, self.now)
        self.pump()
        for end, _, _ in self.ends:
            timeout = end.connection.next_timeout()
            if timeout is not None and timeout <= self.now:
                end.connection.handle_timeout(self.now)
                # A deadline that stays in the past would make the owner's timer spin.
                timeout = end.connection.next_timeout()
                assert timeout is None or timeout > self.now
        self.pump()
        return True

    def run_until(self, reached: Callable[[], bool]) -> None:
        """Let time pass until ``reached``; fails when nothing more happens, or too much."""
        self.pump()
        for _ in range(TOO_MANY_ROUNDS):
            if reached():
                return
            assert self.step(), f"nothing more happens, at {self.now:.3f} s"
        raise AssertionError(f"too many rounds, at {self.now:.3f} s")

    def run_for(self, seconds: float) -> None:
        """Let so much time pass."""
        self.pump()
        end = self.now + seconds
        for _ in range(TOO_MANY_ROUNDS):
            instant = self.next_instant()
            if instant is None or instant > end:
                self.now = end
                return
            self.step()
        raise AssertionError(f"too many rounds, at {self.now:.3f} s")

    def run_until_quiet(self) -> None:
        """Let time pass until everything sent has arrived and been acknowledged."""
        self.run_until(
            lambda: (
                not any(
                    end.waiting or end.connection.in_flight or link.next_arrival() is not None
                    for end, link, _ in self.ends
                )
            )
        )
