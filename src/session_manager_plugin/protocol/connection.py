"""One end of a session's data channel: composes codec, reliable stream and handshake, for either role.

Six verbs: ``receive_message``, ``send_data``, ``messages_to_send``, ``next_event``, ``next_timeout``,
``handle_timeout``; and the owner tells it ``connected`` and ``disconnected`` about the websocket underneath. After any
of them the owner sends ``messages_to_send``, dispatches ``next_event`` until None and arms its timer for
``next_timeout``. Instants are float seconds of a monotonic clock.

When the client becomes ready (``SessionReady``) is ``readiness.py``'s rule. ``channel_closed`` ends the session: at
once, or, while messages are held since earlier ones are missing, when those have arrived, at the latest when nothing
missing has arrived for ``CLOSE_DELAY`` (reference defect D15 is to end with them lost). What is still missing then is
``missing_output``.

It leaves to its owner: sockets, clocks, what to do with the data, when to reconnect.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable
from enum import Enum, auto
from typing import Any

from session_manager_plugin.errors import (
    EncryptionError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    SessionManagerError,
    TimedOut,
)
from session_manager_plugin.protocol.acknowledgements import Acknowledgements
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataReceived,
    Event,
    MessageRejected,
    MissingOutput,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.handshake import HandshakeInput, HandshakeState
from session_manager_plugin.protocol.messages import (
    MAX_PAYLOAD_SIZE,
    AcknowledgementWriter,
    ClientMessage,
    ClientMessageType,
    MessageIds,
    PayloadType,
    StreamMessageWriter,
    acknowledged_sequence_number,
)
from session_manager_plugin.protocol.negotiation import AgentNegotiation, ClientNegotiation, Replies
from session_manager_plugin.protocol.payloads import AgentSessionState, ChannelClosed, OpenDataChannelInput
from session_manager_plugin.protocol.readiness import Readiness
from session_manager_plugin.protocol.reliable import MAX_WINDOW, StreamReceiver, StreamSender

RESEND_TIMEOUT = 300.0
"""Seconds without any acknowledgement, while connected, after which the far end is given up: the official limit."""
CLOSE_DELAY = 2.0
"""Seconds after channel_closed, and after each missing message that arrives then, for the next one: as long as the
official agent goes on sending them."""
CLOSE_LIMIT = 30.0
"""Seconds after channel_closed at most."""
STOPPED_AFTER = 10.0
"""Seconds by which a timer is never late unless the process was stopped or the machine asleep."""
RESUME_INTERVAL = 1.0
"""Seconds between two times that everything is sent again because the far end says that it is back."""
MAX_REJECTED = 100
"""Unusable messages in a row that end the session: the far end is not a Session Manager."""

_HANDSHAKE_PAYLOADS = frozenset(
    {
        PayloadType.HANDSHAKE_REQUEST,
        PayloadType.HANDSHAKE_RESPONSE,
        PayloadType.HANDSHAKE_COMPLETE,
        PayloadType.ENC_CHALLENGE_REQUEST,
        PayloadType.ENC_CHALLENGE_RESPONSE,
    }
)
_SYN = 1
"""The flag of an agent's first stream message."""
_FROM_CLIENT = frozenset({PayloadType.OUTPUT})
_FROM_AGENT = frozenset({PayloadType.OUTPUT, PayloadType.STDERR, PayloadType.EXIT_CODE})
"""What each end encrypts, in an encrypted session; the rest stays clear."""
_STOPS_AT_A_LOST_LINK = "NonInteractiveCommands"
"""The session type whose output ends for good when the client's websocket is lost (protocol reference 13.3, N5)."""
# Looked up for every message: an enum's attribute takes a tenth of a microsecond in Python 3.11.
_ACKNOWLEDGE = ClientMessageType.ACKNOWLEDGE.value


class Role(Enum):
    """Which end of the session a connection plays."""

    CLIENT = "client"
    AGENT = "agent"


class _Life(Enum):
    """``CLOSING``: the service has closed the session, what is missing may still come. ``OVER``: it was said."""

    RUNNING = auto()
    CLOSING = auto()
    OVER = auto()


class Connection:
    """See the module docstring.

    ``version`` is ours, announced in the handshake (four numeric parts). ``epoch`` is what has to be added to an
    instant to give seconds since the Unix epoch, for the messages' created date. ``random_bytes(n)`` gives n random
    bytes. ``session_types`` are those a client accepts; with ``handshake_required`` it never assumes that no handshake
    will come. ``sender`` takes the place of the ``StreamSender`` that decides what is sent again and when.
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
        sender: StreamSender | None = None,
    ) -> None:
        self.role = role
        self.session_id = session_id
        self._version = version
        self._epoch = epoch
        self._random_bytes = random_bytes

        sends, receives = ClientMessageType.INPUT_STREAM_DATA, ClientMessageType.OUTPUT_STREAM_DATA
        if role is Role.AGENT:
            sends, receives = receives, sends
        self._received_type = receives.value
        self._message_ids = MessageIds(random_bytes)
        self._stream = StreamMessageWriter(sends, self._message_ids, first_flags=_SYN if role is Role.AGENT else 0)
        self._acknowledgements = Acknowledgements(AcknowledgementWriter(receives, self._message_ids))
        self._client_id = str(uuid.UUID(bytes=random_bytes(16), version=4))

        self._sender = sender or StreamSender()
        self._receiver = StreamReceiver()
        self._negotiation: ClientNegotiation | AgentNegotiation = (
            ClientNegotiation(version, random_bytes, session_types)
            if role is Role.CLIENT
            else AgentNegotiation(version, random_bytes)
        )
        self._handshake = self._negotiation.handshake
        self._readiness = Readiness(self._handshake, client=role is Role.CLIENT, handshake_required=handshake_required)
        self._sealed, self._opened = _FROM_CLIENT, _FROM_AGENT
        if role is Role.AGENT:
            self._sealed, self._opened = self._opened, self._sealed
        self._connected = False
        self._paused = False
        self._life = _Life.RUNNING
        self._closing_output = ""
        self._close_at: float | None = None
        self._close_limit = 0.0
        self._resumed_at = float("-inf")
        self._exit_code_received = False
        self._output_stopped = False
        self._outgoing: list[bytes | str] = []
        self._events: deque[Event] = deque()
        self._batch: DataReceived | None = None
        self._rejected = 0
        self._first_rejection = ""

    # What the owner may ask.

    @property
    def ready(self) -> bool:
        """Whether data may be sent."""
        return self._handshake.open and self._life is _Life.RUNNING

    @property
    def send_capacity(self) -> int:
        """How many messages ``send_data`` takes now; 0 before the session is ready and while the window is full."""
        if not self._handshake.open or self._paused or self._life is not _Life.RUNNING:
            return 0
        return max(0, min(self._sender.capacity, self._sender.window - self._readiness.kept))

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
    def missing_output(self) -> MissingOutput | None:
        """What is missing of the far end's output at this moment, as far as that is known; at the end of the session it
        is lost."""
        receiver = self._receiver
        if not receiver.held and not self._output_stopped:
            return None
        size = receiver.missing * receiver.held_size // receiver.held if receiver.held else 0
        return MissingOutput(receiver.missing, size, receiver.held_size, self._output_stopped)

    @property
    def round_trip_time(self) -> float:
        """The smoothed round-trip time of stream messages, in seconds."""
        return self._sender.estimator.smoothed

    # The websocket underneath.

    def connected(self, token: str | None, now: float) -> None:
        """A new websocket is open. ``token`` goes first, in the opening message (None for the agent's end, which the
        gateway has already let in); then whatever is unacknowledged, at once. A session that is over sends nothing."""
        self._connected = True
        self._outgoing.clear()
        if self._life is _Life.OVER:
            return
        if token is not None:
            request_id = str(uuid.UUID(bytes=self._random_bytes(16), version=4))
            opening = OpenDataChannelInput(request_id, token, self._client_id, self._version)
            self._outgoing.append(opening.to_json())
        self._readiness.connected(now)
        self._lift_pause()
        self._send_again(self._sender.all_again(now))

    def disconnected(self, now: float) -> None:
        """The websocket is gone. What is unacknowledged stays; acknowledgements that had not left are dropped, since
        the far end sends those messages again. A session that the service has closed ends now, which is an event."""
        self._connected = False
        self._acknowledgements.disconnected()
        self._readiness.disconnected()
        if self._life is _Life.CLOSING:
            self._say_closed()
        elif self._life is _Life.RUNNING and self._negotiation.agreement.session_type == _STOPS_AT_A_LOST_LINK:
            # The exit code is sent last. Once it has left, all output has, and what was lost of it is sent again.
            complete = self._exit_code_received or self._receiver.holds(PayloadType.EXIT_CODE)
            self._output_stopped = self._output_stopped or not complete

    # Receiving.

    def receive_message(self, data: bytes | bytearray | str, now: float) -> None:
        """Take one websocket message. Nothing the far end sends makes this raise: a message that cannot be used is
        dropped unacknowledged (``MessageRejected``), too many of them end the session (``SessionFailed``). A session
        that is over takes nothing more, one that the service has closed only what is missing."""
        if self._life is _Life.OVER:
            return
        try:
            message = ClientMessage.parse(data.encode(errors="replace") if isinstance(data, str) else data)
            if message.message_type == self._received_type:
                self._receive_stream(message, now)
            elif self._life is _Life.CLOSING:
                return
            elif message.message_type == _ACKNOWLEDGE:
                self._receive_acknowledgement(message, now)
            else:
                self._receive_control(message, now)
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            self._rejected = 0

    def _receive_stream(self, message: ClientMessage, now: float) -> None:
        self._readiness.heard = True
        if self._paused:
            self._resume(now)
        missing = self._receiver.missing if self._life is _Life.CLOSING else 0
        in_order = self._receiver.receive(message)
        if in_order is None:
            return
        if not in_order and message.sequence_number < self._receiver.expected:
            self._acknowledgements.received_again(message, now)
        else:
            self._acknowledgements.received(message, now)
        for ready in in_order:
            if self._life is _Life.OVER:
                return
            self._deliver(ready.payload_type, ready.payload, now)
        if self._life is _Life.CLOSING:
            if not self._receiver.held:
                self._say_closed()
            elif self._receiver.missing < missing:
                self._close_at = min(now + CLOSE_DELAY, self._close_limit)

    def _deliver(self, payload_type: int, payload: bytes | bytearray, now: float) -> None:
        if payload_type in _HANDSHAKE_PAYLOADS:
            try:
                self._receive_handshake(payload_type, payload, now)
            except (ProtocolError, EncryptionError) as error:
                self._handshake_error(error)
            return
        if not self._handshake.settled and not self._first_data():
            return
        cipher = self._negotiation.cipher
        if cipher is not None and payload_type in self._opened:
            try:
                payload = cipher.open(payload)
            except EncryptionError as error:
                # It would be sent again for ever, and never be readable (reference defect H11).
                self._fail(error)
                return
        if self._batch is not None and self._batch.payload_type == payload_type:
            self._batch.payloads.append(payload)
        else:
            self._exit_code_received = self._exit_code_received or payload_type == PayloadType.EXIT_CODE
            self._emit(DataReceived(payload_type, [payload]))

    def _first_data(self) -> bool:
        """Data before the handshake is settled; tells whether it is to be delivered."""
        if self.role is Role.AGENT:
            return False  # acknowledged and thrown away, as the official agent does
        if self._readiness.data_received():
            self._become_ready()
        return self._handshake.state is not HandshakeState.FAILED

    def _receive_acknowledgement(self, message: ClientMessage, now: float) -> None:
        number = acknowledged_sequence_number(message.payload)
        self._readiness.heard = True
        acknowledged = self._sender.acknowledged(number, now)
        if self._paused:
            self._resume(now)
        if acknowledged:
            self._readiness.acknowledged(now)
            if self._sender.parked:
                self._send_again(self._sender.unparked(now))

    def _receive_control(self, message: ClientMessage, now: float) -> None:
        match message.message_type:
            case ClientMessageType.CHANNEL_CLOSED:
                self._close(message, now)
            case ClientMessageType.PAUSE_PUBLICATION:
                self._readiness.heard = True
                if not self._paused:
                    self._paused = True
                    self._emit(PublicationPaused())
            case ClientMessageType.START_PUBLICATION:
                self._readiness.heard = True
                if self._paused:
                    self._resume(now)
            case _:
                raise RemoteProtocolError(f"unexpected message type {message.message_type[:32]!r}")

    def _close(self, message: ClientMessage, now: float) -> None:
        try:
            self._closing_output = ChannelClosed.from_json(message.payload).output
        except RemoteProtocolError:
            self._closing_output = ""  # as the official client: the session is over, whatever was meant
        self._life = _Life.CLOSING
        if self.role is Role.CLIENT and self._connected and self._receiver.held:
            self._close_at, self._close_limit = now + CLOSE_DELAY, now + CLOSE_LIMIT
        else:
            self._say_closed()

    def _say_closed(self) -> None:
        self._life = _Life.OVER
        self._emit(ChannelClosedReceived(self._closing_output))

    def _resume(self, now: float) -> None:
        self._lift_pause()
        if self._connected and now - self._resumed_at >= RESUME_INTERVAL:  # else by the timer
            self._resumed_at = now
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
        before = self._handshake.state
        replies = self._negotiation.receive(payload_type, payload, now)
        self._reply(replies, now)
        if self._handshake.state is not before:
            self._handshake_moved(now)

    def _reply(self, replies: Replies, now: float) -> None:
        for payload_type, payload in replies:
            self._transmit(payload_type, [payload], now)

    def _handshake_moved(self, now: float) -> None:
        """Do what the new state of the handshake asks for."""
        self._readiness.handshake_moved(now)
        if self._negotiation.key_required is not None:
            self._emit(self._negotiation.key_required)
        if self._handshake.state is HandshakeState.COMPLETE:
            self._become_ready()
            for payload_type, payload in self._readiness.take_discarded():
                self._transmit(payload_type, [payload], now)
        if self._negotiation.agreement.error is not None:
            self._fail(self._negotiation.agreement.error)

    def _handshake_error(self, error: ProtocolError | EncryptionError) -> None:
        if self._handshake.settled:
            self._emit(MessageRejected(str(error)))
        else:
            self._fail(error)

    def _become_ready(self) -> None:
        self._readiness.began()
        agreement = self._negotiation.agreement
        self._emit(
            SessionReady(
                agreement.session_type, agreement.properties, agreement.peer_version, agreement.customer_message
            )
        )

    def request_handshake(
        self,
        session_type: str,
        properties: dict[str, Any] | None,
        now: float,
        *,
        kms_key_id: str = "",
        customer_message: Callable[[str], str] | None = None,
    ) -> None:
        """The agent's opening when the session type needs a handshake, or encryption is wanted (with a ``kms_key_id``);
        ``SessionReady`` follows when it is over. ``customer_message`` makes, of the client's version, what the user
        is told.

        Raises ``LocalProtocolError`` in the client's role or when it has begun already.
        """
        negotiation = self._agent_negotiation()
        replies = negotiation.request(
            session_type, properties, now, kms_key_id=kms_key_id, customer_message=customer_message
        )
        self._readiness.handshake_moved(now)
        self._reply(replies, now)

    def skip_handshake(self) -> None:
        """The agent's opening when the session type needs none. Raises as ``request_handshake``."""
        self._agent_negotiation().handshake.apply(HandshakeInput.SKIP)
        self._become_ready()

    def provide_data_key(self, data_key: bytes, now: float, *, cipher_text: bytes = b"") -> None:
        """Answer ``DataKeyRequired``: the data key in clear (64 bytes) and, from a client, as KMS encrypted it.

        A key of the wrong size ends the session; in one that is over it has no effect. Raises ``LocalProtocolError``
        when no key is required.
        """
        if not self._requires_key():
            return
        before = self._handshake.state
        try:
            if isinstance(self._negotiation, ClientNegotiation):
                self._reply(self._negotiation.provide_data_key(data_key, cipher_text), now)
            else:
                self._reply(self._negotiation.provide_data_key(data_key), now)
        except EncryptionError as error:
            self.refuse_data_key(error, now)
            return
        if self._handshake.state is not before:
            self._handshake_moved(now)

    def refuse_data_key(self, error: SessionManagerError, now: float) -> None:
        """Answer ``DataKeyRequired``: there is none, for this reason. A client's agent is told; the session has failed.

        Without effect in a session that is over. Raises ``LocalProtocolError`` when no key is required.
        """
        if not self._requires_key():
            return
        if isinstance(self._negotiation, ClientNegotiation):
            self._reply(self._negotiation.refuse_data_key(error), now)
        self._fail(error)

    def _requires_key(self) -> bool:
        if self._negotiation.key_required is None:
            raise LocalProtocolError("no data key is required")
        return self._life is not _Life.OVER

    def _agent_negotiation(self) -> AgentNegotiation:
        if not isinstance(self._negotiation, AgentNegotiation):
            raise LocalProtocolError("only the agent does this")
        return self._negotiation

    # Sending.

    def send_data(self, payload_type: int, payload: bytes, now: float) -> None:
        """Send bytes, in stream messages of at most ``MAX_PAYLOAD_SIZE``; they are kept until they are acknowledged,
        over any number of websockets.

        Raises ``LocalProtocolError`` when there are none, or more than fit into ``send_capacity`` messages.
        """
        if not payload:
            raise LocalProtocolError("an empty payload cannot be sent")
        capacity = self.send_capacity * MAX_PAYLOAD_SIZE
        if len(payload) > capacity:
            raise LocalProtocolError(f"{len(payload)} bytes to be sent, the window takes {capacity}")
        pieces = [payload[start : start + MAX_PAYLOAD_SIZE] for start in range(0, len(payload), MAX_PAYLOAD_SIZE)]
        self._readiness.keep(payload_type, pieces)
        self._transmit(payload_type, pieces, now)

    def _transmit(self, payload_type: int, payloads: Iterable[bytes], now: float) -> None:
        """Send each payload in a message of its own."""
        cipher = self._negotiation.cipher
        if cipher is not None and payload_type in self._sealed:
            payloads = map(cipher.seal, payloads)
        created_date = int((now + self._epoch) * 1000)
        sender, write = self._sender, self._stream.write
        messages = []
        for payload in payloads:
            data = write(sender.next_sequence_number, payload_type, payload, created_date)
            sender.sent(data, now)
            messages.append(data)
        if self._connected and not self._paused:
            self._outgoing += messages

    def _send_again(self, messages: list[bytes]) -> None:
        """Put messages out that were out before. Not while the owner takes nothing: then it is the socket that is
        stuck, not the far end, and copies would only pile up."""
        if len(self._outgoing) < MAX_WINDOW:
            self._outgoing.extend(messages)

    def send_session_state(self, state: str, now: float) -> None:
        """Tell the gateway the agent's session state, ``Connected`` or ``Terminating``: unsequenced, unacknowledged."""
        self._agent_negotiation()
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
        if self._acknowledgements.due:
            outgoing += self._acknowledgements.take(int((now + self._epoch) * 1000))
        return outgoing

    # Time.

    def next_timeout(self) -> float | None:
        """The instant at which ``handle_timeout`` has something to do, or None."""
        if self._life is _Life.OVER:
            return None
        if self._life is _Life.CLOSING:
            return self._close_at
        deadline = self._readiness.next_timeout()
        if self._connected and not self._paused and (resend_at := self._sender.next_timeout()) is not None:
            deadline = resend_at if deadline is None else min(deadline, resend_at)
        return deadline

    def handle_timeout(self, now: float) -> None:
        """Do what is due; calling it early or late is harmless."""
        if self._life is not _Life.RUNNING:
            if self._life is _Life.CLOSING and self._close_at is not None and self._close_at <= now:
                self._say_closed()
            return
        if self._readiness.begins(now):
            self._become_ready()
        if (error := self._readiness.overdue(now, self._first_rejection if self._rejected else "")) is not None:
            self._fail(error)
        if self._connected and not self._paused:
            resend_at = self._sender.next_timeout()
            # So late a call means that this process was stopped: the far end is not to blame for the silence.
            stopped = resend_at is not None and now - resend_at > STOPPED_AFTER
            self._send_again(self._sender.all_again(now) if stopped else self._sender.due(now))
            stalled_since = self._sender.stalled_since
            overdue = stalled_since is not None and now - stalled_since > RESEND_TIMEOUT
            if overdue and self.role is Role.CLIENT:
                self._fail(
                    TimedOut(
                        f"the far end has acknowledged nothing for {RESEND_TIMEOUT:.0f} seconds",
                        seconds=RESEND_TIMEOUT,
                    )
                )

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
        if self._life is not _Life.OVER:
            self._life = _Life.OVER
            if not self._handshake.settled:
                self._handshake.apply(HandshakeInput.FAIL)
            self._emit(SessionFailed(error))
