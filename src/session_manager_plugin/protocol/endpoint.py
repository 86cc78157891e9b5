"""One end of a session's data channel: composes codec, reliable stream and handshake, for either role.

Six verbs: ``receive_message``, ``send_data``, ``messages_to_send``, ``next_event``, ``next_timeout``,
``handle_timeout``; and the owner calls ``connected`` and ``disconnected`` for each websocket: an endpoint outlives any
number of them. After any of these calls the owner sends ``messages_to_send``, dispatches ``next_event`` until None and
arms its timer for ``next_timeout``. Instants are float seconds of a monotonic clock.

When the client becomes ready (``SessionReady``) is decided in ``readiness.py``, how a session ends in ``closing.py``,
what is sent and sent again in ``outbox.py``. Output that is still missing at the end is ``missing_output``.

The owner is left to: open sockets, read clocks, use the data, and decide when to reconnect.
"""

from __future__ import annotations

import contextlib
import math
import uuid
from collections.abc import Callable, Collection, Iterable
from typing import Any

from session_manager_plugin.errors import (
    EncryptionError,
    LocalProtocolError,
    RemoteProtocolError,
    SessionManagerError,
    TimedOut,
)
from session_manager_plugin.protocol.closing import Closing, ClosingInput, Life
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    Event,
    EventQueue,
    MessageRejected,
    MissingOutput,
    OutputStopped,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
)
from session_manager_plugin.protocol.handshake_driver import HandshakeDriver
from session_manager_plugin.protocol.messages import (
    MAX_PAYLOAD_SIZE,
    ClientMessage,
    ClientMessageType,
    MessageIds,
    PayloadType,
    acknowledged_sequence_number,
)
from session_manager_plugin.protocol.negotiation import AgentNegotiation, ClientNegotiation
from session_manager_plugin.protocol.outbox import Flow, FlowInput, Outbox
from session_manager_plugin.protocol.output_loss import OutputLoss
from session_manager_plugin.protocol.payloads import AgentSessionState, ChannelClosed, OpenDataChannelInput
from session_manager_plugin.protocol.readiness import Readiness
from session_manager_plugin.protocol.rejections import Rejections
from session_manager_plugin.protocol.reliable import StreamReceiver, StreamSender
from session_manager_plugin.protocol.role import Role

RESEND_TIMEOUT = 300.0
"""Seconds without any acknowledgement, while connected, after which the far end is given up: the official limit."""
READING_GRACE = 1.0
"""Seconds after reading goes on for the acknowledgements that wait in the socket."""

_HANDSHAKE_PAYLOADS = frozenset(
    {
        PayloadType.HANDSHAKE_REQUEST,
        PayloadType.HANDSHAKE_RESPONSE,
        PayloadType.HANDSHAKE_COMPLETE,
        PayloadType.ENC_CHALLENGE_REQUEST,
        PayloadType.ENC_CHALLENGE_RESPONSE,
    }
)
_FROM_CLIENT = frozenset({PayloadType.OUTPUT})
_FROM_AGENT = frozenset({PayloadType.OUTPUT, PayloadType.STDERR, PayloadType.EXIT_CODE})
"""What each end encrypts, in an encrypted session; the rest stays clear."""
# Looked up for every message: an enum's attribute takes a tenth of a microsecond in Python 3.11.
_ACKNOWLEDGE = ClientMessageType.ACKNOWLEDGE.value


class SessionEndpoint:
    """See the module docstring.

    ``version`` is announced in the handshake (four numeric parts). ``epoch`` is added to an instant to get seconds
    since the Unix epoch, for the messages' created date. ``random_bytes(n)`` returns n random bytes. A client accepts
    the session types ``session_types``; with ``handshake_required`` it never assumes that there is no handshake, with
    ``separate_outputs`` it refuses an agent that cannot keep the outputs of a command apart (``AgentTooOld``).
    ``sender`` replaces the ``StreamSender`` that decides what is sent again and when.
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
        separate_outputs: bool = False,
        sender: StreamSender | None = None,
    ) -> None:
        self.role = role
        self.session_id = session_id
        self._version = version
        self._random_bytes = random_bytes
        self._client_id = self._new_uuid()

        receives = ClientMessageType.OUTPUT_STREAM_DATA if role is Role.CLIENT else ClientMessageType.INPUT_STREAM_DATA
        self._received_type = receives.value
        self._outbox = Outbox(role, MessageIds(random_bytes), epoch, sender or StreamSender())
        self.messages_to_send: Callable[[float], list[bytes | str]] = self._outbox.take
        """Return what has to be written to the websocket now, in order: bytes as binary, str as text messages.

        Empty while disconnected. Call it once and write all of it.
        """
        self._receiver = StreamReceiver()
        self._negotiation: ClientNegotiation | AgentNegotiation = (
            ClientNegotiation(version, random_bytes, session_types, separate_outputs=separate_outputs)
            if role is Role.CLIENT
            else AgentNegotiation(version, random_bytes)
        )
        self._handshake = self._negotiation.handshake
        self._readiness = Readiness(self._handshake, role, handshake_required=handshake_required)
        self._driver = HandshakeDriver(
            self._negotiation, self._readiness, send=self._send, emit=self._emit, fail=self._fail
        )
        self._closing = Closing()
        self._sealed, self._opened = _FROM_CLIENT, _FROM_AGENT
        if role is Role.AGENT:
            self._sealed, self._opened = self._opened, self._sealed
        self._output_loss = OutputLoss(self._receiver)
        self._events = EventQueue()
        self.next_event: Callable[[], Event | None] = self._events.take
        """Return the next event, in order; None when there is none."""
        self._rejections = Rejections()

    # State.

    @property
    def ready(self) -> bool:
        """Whether data may be sent."""
        return self._handshake.open and self._closing.state is Life.RUNNING

    @property
    def encrypted(self) -> bool:
        """Whether what the programs at both ends write is encrypted."""
        return self._negotiation.cipher is not None

    @property
    def send_capacity(self) -> int:
        """How many messages ``send_data`` takes now; 0 before the session is ready and while the window is full."""
        outbox = self._outbox
        if not self._handshake.open or outbox.flow is Flow.PAUSED or self._closing.state is not Life.RUNNING:
            return 0
        return max(0, min(outbox.sender.capacity, outbox.sender.window - self._readiness.kept))

    @property
    def in_flight(self) -> int:
        """How many sent messages have not been acknowledged."""
        return self._outbox.sender.in_flight

    @property
    def retransmitting(self) -> int:
        """How many of those were sent more than once."""
        return self._outbox.sender.retransmitting

    @property
    def retransmissions(self) -> int:
        """How many messages were sent again, over the life of the session."""
        return self._outbox.sender.retransmissions

    @property
    def stalled_since(self) -> float | None:
        """The instant of the last acknowledgement while others are due; None when none is due."""
        return self._outbox.stalled_since

    @property
    def missing_output(self) -> MissingOutput | None:
        """What is missing of the far end's output at this moment, as far as that is known; at the end of the session
        it is lost."""
        return self._output_loss.missing

    @property
    def round_trip_time(self) -> float:
        """The smoothed round-trip time of stream messages, in seconds."""
        return self._outbox.sender.estimator.smoothed

    # The websocket.

    def connected(self, token: str | None, now: float) -> None:
        """A new websocket is open.

        The opening message with ``token`` is sent first (None for the agent's end, which the gateway has authenticated
        already), then everything unacknowledged. It replaces a websocket whose end was not noticed. A session that is
        over sends nothing.
        """
        if self._outbox.flow is not Flow.DISCONNECTED:
            self.disconnected(now)
        if self._closing.state is Life.OVER:
            return
        opening = None
        if token is not None:
            opening = OpenDataChannelInput(self._new_uuid(), token, self._client_id, self._version).to_json()
        self._readiness.connected(now)
        self._outbox.connected(opening, now)
        if self._output_loss.report_stop():
            self._emit(OutputStopped())

    def disconnected(self, now: float) -> None:
        """The websocket is gone. What is unacknowledged is kept. A session that the service has closed ends now."""
        if self._outbox.flow is Flow.PAUSED and self._closing.state is not Life.OVER:
            self._emit(PublicationStarted())
        if self._outbox.flow is not Flow.DISCONNECTED:
            self._outbox.disconnected()
        self._readiness.disconnected()
        if self._closing.state is Life.CLOSING:
            self._close(ClosingInput.DISCONNECTED)
        elif self._closing.state is Life.RUNNING:
            self._output_loss.websocket_lost(self._negotiation.agreement.session_type)

    def reading_paused(self) -> None:
        """The owner does not read the websocket for now: silence is not counted against the far end."""
        self._outbox.excuse_silence(math.inf)

    def reading_resumed(self, now: float) -> None:
        """The owner reads again: acknowledgements that have arrived meanwhile are received soon."""
        self._outbox.excuse_silence(now + READING_GRACE)

    def _new_uuid(self) -> str:
        return str(uuid.UUID(bytes=self._random_bytes(16), version=4))

    # Receiving.

    def receive_message(self, data: bytes | bytearray | str, now: float) -> None:
        """Take one websocket message.

        Nothing the far end sends makes this raise: a message that cannot be used is dropped unacknowledged
        (``MessageRejected``), too many of them end the session (``SessionFailed``). A session that is over ignores all
        messages, one that the service has closed all but the missing ones.
        """
        life = self._closing.state
        if life is Life.OVER:
            return
        try:
            message = ClientMessage.parse(data.encode(errors="replace") if isinstance(data, str) else data)
            if message.message_type == self._received_type:
                self._receive_stream(message, now)
            elif life is Life.CLOSING:
                return
            elif message.message_type == _ACKNOWLEDGE:
                self._receive_acknowledgement(message, now)
            else:
                self._receive_control(message, now)
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            self._rejections.clear()

    def _receive_stream(self, message: ClientMessage, now: float) -> None:
        self._readiness.heard = True
        if self._outbox.flow is Flow.PAUSED:
            self._resume(now)
        closing = self._closing
        missing = self._receiver.missing if closing.state is Life.CLOSING else 0
        in_order = self._receiver.receive(message)
        if in_order is None:
            return
        if not in_order and message.sequence_number < self._receiver.expected:
            self._outbox.acknowledgements.received_again(message, now)
        else:
            self._outbox.acknowledgements.received(message, now)
        for ready in in_order:
            if closing.state is Life.OVER:
                return
            self._deliver(ready.payload_type, ready.payload, now)
        if closing.state is Life.CLOSING:
            if not self._receiver.held:
                self._close(ClosingInput.COMPLETED)
            elif self._receiver.missing < missing:
                closing.missing_arrived(now)

    def _deliver(self, payload_type: int, payload: bytes | bytearray, now: float) -> None:
        if payload_type in _HANDSHAKE_PAYLOADS:
            self._driver.receive(payload_type, payload, now)
            return
        if not self._handshake.settled:
            self._driver.data_received()
            if self.role is Role.AGENT:
                return  # acknowledged and discarded, as the official agent does
        cipher = self._negotiation.cipher
        if cipher is not None and payload_type in self._opened:
            try:
                payload = cipher.open(payload)
            except EncryptionError as error:
                # Unacknowledged, it would be sent again for ever (reference defect H11).
                self._fail(error)
                return
        if payload_type == PayloadType.EXIT_CODE:
            self._output_loss.exit_code_received()
        self._events.add_data(payload_type, payload)

    def _receive_acknowledgement(self, message: ClientMessage, now: float) -> None:
        number = acknowledged_sequence_number(message.payload)
        self._readiness.heard = True
        acknowledged = self._outbox.sender.acknowledged(number, now)
        if self._outbox.flow is Flow.PAUSED:
            self._resume(now)
        if acknowledged:
            self._readiness.acknowledged(now)
            self._outbox.unpark(now)

    def _receive_control(self, message: ClientMessage, now: float) -> None:
        match message.message_type:
            case ClientMessageType.CHANNEL_CLOSED:
                self._receive_closed(message, now)
            case ClientMessageType.PAUSE_PUBLICATION:
                self._readiness.heard = True
                if self._outbox.flow is Flow.FLOWING:
                    self._outbox.apply(FlowInput.PAUSE)
                    self._emit(PublicationPaused())
            case ClientMessageType.START_PUBLICATION:
                self._readiness.heard = True
                if self._outbox.flow is Flow.PAUSED:
                    self._resume(now)
            case _:
                raise RemoteProtocolError(f"unexpected message type {message.message_type[:32]!r}")

    def _receive_closed(self, message: ClientMessage, now: float) -> None:
        with contextlib.suppress(RemoteProtocolError):  # as the official client: a malformed one closes the session too
            self._closing.output = ChannelClosed.from_json(message.payload).output
        if self.role is Role.CLIENT and self._receiver.held and self._outbox.flow is not Flow.DISCONNECTED:
            self._closing.wait_for_missing(now)
        else:
            self._close(ClosingInput.CLOSED)

    def _close(self, step: ClosingInput) -> None:
        self._closing.apply(step)
        self._emit(ChannelClosedReceived(self._closing.output))

    def _resume(self, now: float) -> None:
        self._emit(PublicationStarted())
        self._outbox.resume(now)

    def _reject(self, error: RemoteProtocolError) -> None:
        self._emit(MessageRejected(str(error)))
        if (failure := self._rejections.add(str(error))) is not None:
            self._fail(failure)

    # The handshake.

    def request_handshake(
        self,
        session_type: str,
        properties: dict[str, Any] | None,
        now: float,
        *,
        kms_key_id: str = "",
        customer_message: Callable[[str], str] | None = None,
    ) -> None:
        """Open the session as an agent whose session type needs a handshake, or, with a ``kms_key_id``, encryption.

        ``SessionReady`` follows when the handshake is complete. ``customer_message`` returns the text shown to the
        user, given the client's version. Raises ``LocalProtocolError`` in the client's role, or when the handshake
        has begun already.
        """
        self._driver.request(session_type, properties, now, kms_key_id=kms_key_id, customer_message=customer_message)

    def skip_handshake(self) -> None:
        """Open the session as an agent whose session type needs no handshake. Raises as ``request_handshake``."""
        self._driver.agent().skip()
        self._driver.become_ready()

    def provide_data_key(self, data_key: bytes, now: float, *, cipher_text: bytes = b"") -> None:
        """Answer ``DataKeyRequired`` with the data key in clear (64 bytes) and, from a client, as KMS encrypted it.

        A key of the wrong size ends the session. Ignored when the session is over. Raises ``LocalProtocolError`` when
        no key is required.
        """
        if self._requires_key():
            self._driver.provide_data_key(data_key, cipher_text, now)

    def refuse_data_key(self, error: SessionManagerError, now: float) -> None:
        """Answer ``DataKeyRequired`` with the reason why there is no key: the session fails, and a client's agent is
        told why.

        Ignored when the session is over. Raises ``LocalProtocolError`` when no key is required.
        """
        if self._requires_key():
            self._driver.refuse_data_key(error, now)

    def _requires_key(self) -> bool:
        if self._negotiation.key_required is None:
            raise LocalProtocolError("no data key is required")
        return self._closing.state is not Life.OVER

    # Sending.

    def send_data(self, payload_type: int, payload: bytes, now: float) -> None:
        """Send bytes in stream messages of at most ``MAX_PAYLOAD_SIZE``, each kept until it is acknowledged.

        Raises ``LocalProtocolError`` when ``payload`` is empty, or needs more than ``send_capacity`` messages.
        """
        if not payload:
            raise LocalProtocolError("an empty payload cannot be sent")
        capacity = self.send_capacity * MAX_PAYLOAD_SIZE
        if len(payload) > capacity:
            raise LocalProtocolError(f"{len(payload)} bytes to be sent, the window takes {capacity}")
        pieces = [payload[start : start + MAX_PAYLOAD_SIZE] for start in range(0, len(payload), MAX_PAYLOAD_SIZE)]
        self._readiness.keep(payload_type, pieces)
        self._send(payload_type, pieces, now)

    def _send(self, payload_type: int, payloads: Iterable[bytes], now: float) -> None:
        """Send each payload in a message of its own, encrypted where that applies."""
        cipher = self._negotiation.cipher
        if cipher is not None and payload_type in self._sealed:
            payloads = map(cipher.seal, payloads)
        self._outbox.send(payload_type, payloads, now)

    def send_session_state(self, state: str, now: float) -> None:
        """Send the agent's session state, ``Connected`` or ``Terminating``, to the gateway."""
        self._driver.agent()
        payload = AgentSessionState(self.session_id, state).to_json().encode()
        self._outbox.send_unsequenced(ClientMessageType.AGENT_SESSION_STATE, payload, now)

    # Time.

    def next_timeout(self) -> float | None:
        """The instant at which ``handle_timeout`` has something to do, or None."""
        if self._closing.state is not Life.RUNNING:
            return self._closing.deadline
        deadline = self._readiness.next_timeout()
        if (resend_at := self._outbox.next_timeout()) is not None:
            deadline = resend_at if deadline is None else min(deadline, resend_at)
        return deadline

    def handle_timeout(self, now: float) -> None:
        """Do what is due; calling it early or late is harmless."""
        if self._closing.state is not Life.RUNNING:
            if self._closing.deadline is not None and self._closing.deadline <= now:
                self._close(ClosingInput.EXPIRED)
            return
        self._driver.handle_timeout(now)
        if (error := self._readiness.overdue(now, self._rejections.first)) is not None:
            self._fail(error)
            return
        if self._outbox.flow is Flow.FLOWING:
            self._outbox.handle_timeout(now)
            stalled_since = self.stalled_since
            if self.role is Role.CLIENT and stalled_since is not None and now - stalled_since > RESEND_TIMEOUT:
                self._fail(
                    TimedOut(
                        f"the agent has acknowledged nothing for {RESEND_TIMEOUT:.0f} seconds", seconds=RESEND_TIMEOUT
                    )
                )

    # Events.

    def _emit(self, event: Event) -> None:
        self._events.add(event)

    def _fail(self, error: SessionManagerError) -> None:
        if self._closing.state is not Life.OVER:
            self._closing.apply(ClosingInput.FAILED)
            self._negotiation.fail()
            self._emit(SessionFailed(error))
