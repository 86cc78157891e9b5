"""One end of a session's data channel: composes codec, reliable stream and handshake, for either role.

Six verbs: ``receive_message``, ``send_data``, ``messages_to_send``, ``next_event``, ``next_timeout``,
``handle_timeout``; and the owner tells it ``connected`` and ``disconnected`` about the websocket underneath. After any
of them the owner sends ``messages_to_send``, dispatches ``next_event`` until None and arms its timer for
``next_timeout``. Instants are float seconds of a monotonic clock.

The client becomes ready (``SessionReady``) by HandshakeComplete, by the first stream message, or, when the
document is not known to need a handshake, ``READY_DELAY`` seconds after opening with nothing received: a remote program
that prints nothing must be usable (reference defect H9). Data sent on that assumption is kept: should a
handshake begin after all, the agent has thrown away what came before its end, so it is sent again under new
numbers. What has a lower number than our answer to the request is exactly what was thrown away, since the agent
takes messages in order.

It leaves to its owner: sockets, clocks, what to do with the data, when to reconnect.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Collection
from enum import Enum
from typing import Any

from session_manager_plugin.errors import (
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    SessionManagerError,
    TimedOut,
)
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataReceived,
    Event,
    MessageRejected,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.handshake import Handshake, HandshakeInput, HandshakeState
from session_manager_plugin.protocol.messages import (
    MAX_PAYLOAD_SIZE,
    AcknowledgementWriter,
    ClientMessage,
    ClientMessageType,
    MessageIds,
    PayloadType,
    acknowledged_sequence_number,
)
from session_manager_plugin.protocol.payloads import (
    SESSION_TYPE_ACTION,
    AgentSessionState,
    ChannelClosed,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    OpenDataChannelInput,
    RequestedAction,
)
from session_manager_plugin.protocol.reliable import MAX_WINDOW, StreamReceiver, StreamSender

READY_DELAY = 2.0
"""Seconds after opening with nothing received until a client assumes that no handshake will come."""
HANDSHAKE_TIMEOUT = 30.0
"""Seconds a client waits for a handshake, or for any sign of life."""
AGENT_HANDSHAKE_TIMEOUT = 15.0
"""Seconds the official agent waits for the client's answer."""
RESEND_TIMEOUT = 300.0
"""Seconds without any acknowledgement, while connected, after which the far end is given up: the official limit."""
MAX_REJECTED = 100
"""Unusable messages in a row that end the session: the far end is not a Session Manager."""
MAX_PENDING_ACKNOWLEDGEMENTS = 10_000
"""While the socket cannot be written to, older acknowledgements are dropped: the far end sends those messages again."""

_HANDSHAKE_PAYLOADS = frozenset(
    {
        PayloadType.HANDSHAKE_REQUEST,
        PayloadType.HANDSHAKE_RESPONSE,
        PayloadType.HANDSHAKE_COMPLETE,
        PayloadType.ENC_CHALLENGE_REQUEST,
        PayloadType.ENC_CHALLENGE_RESPONSE,
    }
)


class Role(Enum):
    """Which end of the session a connection plays."""

    CLIENT = "client"
    AGENT = "agent"


class Connection:
    """See the module docstring.

    ``version`` is ours, announced in the handshake (four numeric parts). ``epoch`` is what has to be added to an
    instant to give seconds since the Unix epoch, for the messages' created date. ``random_bytes(n)`` gives n random
    bytes. ``session_types`` are those a client accepts; with ``handshake_required`` it never assumes that no handshake
    will come.
    """

    def __init__(
        self,
        role: Role,
        *,
        version: str,
        epoch: float,
        random_bytes: Callable[[int], bytes],
        session_id: str = "",
        session_types: Collection[str] = (),
        handshake_required: bool = False,
    ) -> None:
        self.role = role
        self.session_id = session_id
        self._version = version
        self._epoch = epoch
        self._random_bytes = random_bytes
        self._session_types = session_types
        self._handshake_required = handshake_required

        sends, receives = ClientMessageType.INPUT_STREAM_DATA, ClientMessageType.OUTPUT_STREAM_DATA
        if role is Role.AGENT:
            sends, receives = receives, sends
        self._sent_type, self._received_type = sends.value, receives.value
        self._message_ids = MessageIds(random_bytes)
        self._acknowledgement = AcknowledgementWriter(receives, self._message_ids)
        self._client_id = str(uuid.UUID(bytes=random_bytes(16), version=4))

        self._sender = StreamSender()
        self._receiver = StreamReceiver()
        self._handshake = Handshake()
        self._requested: tuple[str, dict[str, Any]] = ("", {})
        self._connected = False
        self._paused = False
        self._failed = False
        self._acknowledgements: deque[tuple[bytes, int]] = deque(maxlen=MAX_PENDING_ACKNOWLEDGEMENTS)
        self._outgoing: list[bytes | str] = []
        self._events: deque[Event] = deque()
        self._batch: DataReceived | None = None
        self._retained: list[tuple[int, bytes]] = []

        self._ready_at: float | None = None
        self._handshake_deadline: float | None = None
        self._assumption_deadline: float | None = None
        self._handshake_started_at = 0.0
        self._heard = False
        self._rejected = 0
        self._first_rejection = ""

    # What the owner may ask.

    @property
    def ready(self) -> bool:
        """Whether data may be sent."""
        return self._handshake.open and not self._failed

    @property
    def send_capacity(self) -> int:
        """How many messages ``send_data`` takes now; 0 before the session is ready and while the window is full."""
        if not self._handshake.open or self._paused or self._failed:
            return 0
        return max(0, min(self._sender.capacity, self._sender.window - len(self._retained)))

    @property
    def in_flight(self) -> int:
        """How many sent messages have not been acknowledged."""
        return self._sender.in_flight

    @property
    def retransmitting(self) -> int:
        """How many of those were sent more than once."""
        return self._sender.retransmitting

    @property
    def stalled_since(self) -> float | None:
        """The instant since which acknowledgements are awaited and none has come; None when none is due."""
        return self._sender.stalled_since

    @property
    def round_trip_time(self) -> float:
        """The smoothed round-trip time of stream messages, in seconds."""
        return self._sender.estimator.smoothed

    # The websocket underneath.

    def connected(self, token: str | None, now: float) -> None:
        """A new websocket is open. ``token`` goes first, in the opening message (None for the agent's end, which the
        gateway has already let in); then whatever is unacknowledged, at once."""
        self._connected = True
        self._outgoing.clear()
        if token is not None:
            request_id = str(uuid.UUID(bytes=self._random_bytes(16), version=4))
            opening = OpenDataChannelInput(request_id, token, self._client_id, self._version)
            self._outgoing.append(opening.to_json())
        if self.role is Role.CLIENT and not self._handshake.settled:
            self._handshake_deadline = now + HANDSHAKE_TIMEOUT
            if not self._handshake_required and self._handshake.state is HandshakeState.AWAITING:
                self._ready_at = now + READY_DELAY
        elif self._handshake.state is HandshakeState.REQUESTED:
            self._handshake_deadline = now + AGENT_HANDSHAKE_TIMEOUT
        self._lift_pause()
        self._send_again(self._sender.all_again(now))

    def disconnected(self, now: float) -> None:
        """The websocket is gone. What is unacknowledged stays; acknowledgements that had not left are not owed any
        more, since the far end sends again what was not acknowledged."""
        self._connected = False
        self._outgoing.clear()
        self._acknowledgements.clear()
        self._ready_at = self._handshake_deadline = None

    # Receiving.

    def receive_message(self, data: bytes | bytearray | str, now: float) -> None:
        """Take one websocket message. Nothing the far end sends makes this raise: a message that cannot be used is
        dropped unacknowledged (``MessageRejected``), too many of them end the session (``SessionFailed``). A session
        that has failed takes nothing more."""
        if self._failed:
            return
        try:
            message = ClientMessage.parse(data.encode() if isinstance(data, str) else data)
            if message.message_type == self._received_type:
                self._receive_stream(message, now)
            elif message.message_type == ClientMessageType.ACKNOWLEDGE:
                self._receive_acknowledgement(message, now)
            else:
                self._receive_control(message, now)
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            self._rejected = 0

    def _receive_stream(self, message: ClientMessage, now: float) -> None:
        self._heard = True
        if self._paused:
            self._resume(now)
        in_order = self._receiver.receive(message)
        if in_order is None:
            return
        self._acknowledgements.append((message.message_id, message.sequence_number))
        for ready in in_order:
            self._deliver(ready.payload_type, ready.payload, now)

    def _deliver(self, payload_type: int, payload: bytes | bytearray, now: float) -> None:
        if payload_type in _HANDSHAKE_PAYLOADS:
            try:
                self._receive_handshake(payload_type, payload, now)
            except ProtocolError as error:
                self._handshake_error(error)
            return
        if not self._handshake.settled and not self._first_data(now):
            return
        if self._batch is not None and self._batch.payload_type == payload_type:
            self._batch.payloads.append(payload)
        else:
            self._emit(DataReceived(payload_type, [payload]))

    def _first_data(self, now: float) -> bool:
        """Data before the handshake is settled; tells whether it is to be delivered."""
        if self.role is Role.AGENT:
            return False  # acknowledged and thrown away, as the official agent does
        state = self._handshake.state
        if state in (HandshakeState.AWAITING, HandshakeState.ASSUMED):
            self._handshake.apply(HandshakeInput.DATA_RECEIVED)
            self._retained.clear()
            self._assumption_deadline = None
            if state is HandshakeState.AWAITING:
                self._become_ready()
        return state is not HandshakeState.FAILED

    def _receive_acknowledgement(self, message: ClientMessage, now: float) -> None:
        number = acknowledged_sequence_number(message.payload)
        self._heard = True
        acknowledged = self._sender.acknowledged(number, now)
        if self._paused:
            self._resume(now)
        if acknowledged and self._handshake.state is HandshakeState.ASSUMED and self._assumption_deadline is None:
            # An agent that acknowledges and still wants a handshake gives up on it after this time.
            self._assumption_deadline = now + AGENT_HANDSHAKE_TIMEOUT

    def _receive_control(self, message: ClientMessage, now: float) -> None:
        match message.message_type:
            case ClientMessageType.CHANNEL_CLOSED:
                self._heard = True
                try:
                    output = ChannelClosed.from_json(message.payload).output
                except RemoteProtocolError:
                    output = ""  # as the official client: the session is over, whatever was meant
                self._emit(ChannelClosedReceived(output))
            case ClientMessageType.PAUSE_PUBLICATION:
                self._heard = True
                if not self._paused:
                    self._paused = True
                    self._emit(PublicationPaused())
            case ClientMessageType.START_PUBLICATION:
                self._heard = True
                if self._paused:
                    self._resume(now)
            case _:
                raise RemoteProtocolError(f"unexpected message type {message.message_type[:32]!r}")

    def _resume(self, now: float) -> None:
        self._lift_pause()
        if self._connected:
            self._send_again(self._sender.all_again(now))

    def _lift_pause(self) -> None:
        if self._paused:
            self._paused = False
            self._emit(PublicationStarted())

    def _reject(self, error: RemoteProtocolError) -> None:
        self._rejected += 1
        if self._rejected == 1:
            self._first_rejection = str(error)
        self._emit(MessageRejected(str(error)))
        if self._rejected == MAX_REJECTED:
            self._fail(
                RemoteProtocolError(
                    f"the far end sent {MAX_REJECTED} messages in a row that are not of the Session Manager "
                    f"protocol; the first of them: {self._first_rejection}"
                )
            )

    # The handshake.

    def _receive_handshake(self, payload_type: int, payload: bytes | bytearray, now: float) -> None:
        if payload_type == PayloadType.HANDSHAKE_REQUEST and self.role is Role.CLIENT:
            self._answer_handshake(HandshakeRequest.from_json(payload), now)
        elif payload_type == PayloadType.HANDSHAKE_COMPLETE and self.role is Role.CLIENT:
            self._complete_handshake(HandshakeComplete.from_json(payload), now)
        elif payload_type == PayloadType.HANDSHAKE_RESPONSE and self.role is Role.AGENT:
            self._accept_handshake(HandshakeResponse.from_json(payload), now)
        else:
            raise RemoteProtocolError(f"handshake: unexpected payload type {payload_type}")

    def _answer_handshake(self, request: HandshakeRequest, now: float) -> None:
        response = self._handshake.answer(request, self._version, self._session_types)
        self._ready_at = self._assumption_deadline = None
        self._handshake_deadline = now + HANDSHAKE_TIMEOUT
        self._transmit(PayloadType.HANDSHAKE_RESPONSE, response.to_json().encode(), now)
        if self._handshake.agreement.error is not None:
            self._fail(self._handshake.agreement.error)

    def _complete_handshake(self, complete: HandshakeComplete, now: float) -> None:
        self._handshake.apply(HandshakeInput.COMPLETE_RECEIVED)
        self._handshake_deadline = None
        if self._handshake.agreement.session_type is None:
            self._fail(RemoteProtocolError("the handshake ended without a session type"))
            return
        self._become_ready(complete.customer_message)
        discarded, self._retained = self._retained, []
        for payload_type, payload in discarded:
            self._transmit(payload_type, payload, now)

    def _accept_handshake(self, response: HandshakeResponse, now: float) -> None:
        self._handshake.accept(response, *self._requested)
        self._handshake_deadline = None
        elapsed = int((now - self._handshake_started_at) * 1e9)
        self._transmit(PayloadType.HANDSHAKE_COMPLETE, HandshakeComplete(elapsed).to_json().encode(), now)
        self._become_ready()

    def _handshake_error(self, error: ProtocolError) -> None:
        if self._handshake.settled:
            self._emit(MessageRejected(str(error)))
        else:
            self._fail(error)

    def _become_ready(self, customer_message: str = "") -> None:
        self._ready_at = None
        if self._handshake.settled:
            self._handshake_deadline = None
        agreement = self._handshake.agreement
        self._emit(SessionReady(agreement.session_type, agreement.properties, agreement.peer_version, customer_message))

    def request_handshake(self, session_type: str, properties: dict[str, Any] | None, now: float) -> None:
        """The agent's opening when the session type needs a handshake; ``SessionReady`` follows when it is over.

        Raises ``LocalProtocolError`` in the client's role or when it has begun already.
        """
        self._only(Role.AGENT)
        self._handshake.apply(HandshakeInput.REQUEST)
        self._requested = (session_type, properties or {})
        self._handshake_started_at = now
        self._handshake_deadline = now + AGENT_HANDSHAKE_TIMEOUT
        parameters = {"SessionType": session_type, "Properties": properties}
        request = HandshakeRequest(self._version, (RequestedAction(SESSION_TYPE_ACTION, parameters),))
        self._transmit(PayloadType.HANDSHAKE_REQUEST, request.to_json().encode(), now)

    def skip_handshake(self) -> None:
        """The agent's opening when the session type needs none. Raises as ``request_handshake``."""
        self._only(Role.AGENT)
        self._handshake.apply(HandshakeInput.SKIP)
        self._become_ready()

    def _only(self, role: Role) -> None:
        if self.role is not role:
            raise LocalProtocolError(f"only the {role.value} does this")

    # Sending.

    def send_data(self, payload_type: int, payload: bytes, now: float) -> None:
        """Send one stream message of at most ``MAX_PAYLOAD_SIZE`` bytes; it is kept until it is acknowledged, over
        any number of websockets.

        Raises ``LocalProtocolError`` when ``send_capacity`` is 0 or the payload is empty or too long.
        """
        if not 0 < len(payload) <= MAX_PAYLOAD_SIZE:
            raise LocalProtocolError(f"a payload of {len(payload)} bytes cannot be sent")
        if not self.send_capacity:
            raise LocalProtocolError("the session takes no data now")
        if self._handshake.state is HandshakeState.ASSUMED:
            self._retained.append((payload_type, payload))
        self._transmit(payload_type, payload, now)

    def _transmit(self, payload_type: int, payload: bytes, now: float) -> None:
        number = self._sender.next_sequence_number
        data = ClientMessage(
            self._sent_type,
            number,
            payload_type,
            payload,
            self._message_ids.next(),
            int((now + self._epoch) * 1000),
            1 if number == 0 and self.role is Role.AGENT else 0,
        ).serialize()
        self._sender.sent(data, now)
        if self._connected and not self._paused:
            self._outgoing.append(data)

    def _send_again(self, messages: list[bytes]) -> None:
        """Put messages out that were out before. Not while the owner takes nothing: then it is the socket that is
        stuck, not the far end, and copies would only pile up."""
        if len(self._outgoing) < MAX_WINDOW:
            self._outgoing.extend(messages)

    def send_session_state(self, state: str, now: float) -> None:
        """Tell the gateway the agent's session state, ``Connected`` or ``Terminating``: unsequenced, unacknowledged."""
        self._only(Role.AGENT)
        payload = AgentSessionState(self.session_id, state).to_json().encode()
        message = ClientMessage(
            ClientMessageType.AGENT_SESSION_STATE.value,
            0,
            PayloadType.NONE,
            payload,
            self._message_ids.next(),
            int((now + self._epoch) * 1000),
            3,
        )
        self._outgoing.append(message.serialize())

    def messages_to_send(self, now: float) -> list[bytes | str]:
        """What has to be written to the websocket now, in this order: bytes as binary, str as text messages.

        Empty while disconnected. The list is handed over: call it once and write all of it.
        """
        if not self._connected:
            return []
        outgoing, self._outgoing = self._outgoing, []
        if self._acknowledgements:
            created_date = int((now + self._epoch) * 1000)
            write = self._acknowledgement.write
            outgoing.extend([write(message_id, number, created_date) for message_id, number in self._acknowledgements])
            self._acknowledgements.clear()
        return outgoing

    # Time.

    def next_timeout(self) -> float | None:
        """The instant at which ``handle_timeout`` has something to do, or None."""
        if self._failed:
            return None
        deadlines = [
            deadline
            for deadline in (self._ready_at, self._handshake_deadline, self._assumption_deadline)
            if deadline is not None
        ]
        if self._connected and not self._paused and (resend_at := self._sender.next_timeout()) is not None:
            deadlines.append(resend_at)
        return min(deadlines, default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due; calling it early or late is harmless."""
        if self._failed:
            return
        if self._ready_at is not None and self._ready_at <= now:
            self._handshake.apply(HandshakeInput.NOTHING_CAME)
            self._become_ready()
        if self._assumption_deadline is not None and self._assumption_deadline <= now:
            self._handshake.apply(HandshakeInput.SKIP)
            self._assumption_deadline = None
            self._retained.clear()
        if self._handshake_deadline is not None and self._handshake_deadline <= now:
            self._handshake_deadline = None
            self._handshake_overdue()
        if self._connected and not self._paused:
            self._send_again(self._sender.due(now))
            stalled_since = self._sender.stalled_since
            if stalled_since is not None and now - stalled_since > RESEND_TIMEOUT:
                self._fail(
                    TimedOut(
                        f"the far end has acknowledged nothing for {RESEND_TIMEOUT:.0f} seconds",
                        seconds=RESEND_TIMEOUT,
                    )
                )

    def _handshake_overdue(self) -> None:
        if self.role is Role.AGENT:
            self._fail(
                TimedOut(
                    "Handshake timed out. "
                    "Please ensure that you have the latest version of the session manager plugin.",
                    seconds=AGENT_HANDSHAKE_TIMEOUT,
                )
            )
        elif self._handshake.state is HandshakeState.ASSUMED and self._heard:
            return
        else:
            came = "nothing came from the far end"
            if self._handshake.state is HandshakeState.RESPONDED:
                came = "the far end began a handshake and did not complete it"
            elif self._heard:
                came = "the far end did not begin the handshake that this session needs"
            elif self._rejected:
                came = f"the far end sent only what is not of the Session Manager protocol ({self._first_rejection})"
            self._fail(TimedOut(f"{came} within {HANDSHAKE_TIMEOUT:.0f} seconds", seconds=HANDSHAKE_TIMEOUT))

    # Events.

    def next_event(self) -> Event | None:
        """The next thing that happened, in order; None when there is nothing more."""
        if not self._events:
            return None
        event = self._events.popleft()
        if event is self._batch:
            self._batch = None
        return event

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        self._batch = event if isinstance(event, DataReceived) else None

    def _fail(self, error: SessionManagerError) -> None:
        if not self._failed:
            self._failed = True
            if not self._handshake.settled:
                self._handshake.apply(HandshakeInput.FAIL)
            self._emit(SessionFailed(error))
