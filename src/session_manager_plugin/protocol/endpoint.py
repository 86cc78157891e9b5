"""One end of a session's data channel: composes codec, reliable stream and handshake, for either role.

The main methods are ``receive_message``, ``send_data``, ``messages_to_send``, ``next_event``, ``next_timeout`` and
``handle_timeout``. The owner calls ``connected`` and ``disconnected`` for each websocket; one endpoint uses any number
of websockets, one after the other. After any of these calls the owner sends ``messages_to_send``, dispatches
``next_event`` until None, and arms its timer for ``next_timeout``. All times are float seconds of a monotonic clock.

``readiness.py`` decides when the client becomes ready (``SessionReady``), ``closing.py`` when a session ends, and
``outbox.py`` what is sent and retransmitted. ``missing_output`` describes output that is still missing at the end.

The owner opens sockets, reads clocks, uses the data, and decides when to reconnect.
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
from session_manager_plugin.protocol.handshake import SETTLED
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
from session_manager_plugin.protocol.reliable import StreamProgress, StreamReceiver, StreamSender
from session_manager_plugin.protocol.role import Role

RESEND_TIMEOUT = 300.0
"""Seconds without any acknowledgement, while connected, after which the session fails. The official client's limit."""
READING_GRACE = 1.0
"""Seconds after reading is resumed in which acknowledgements already in the socket are received."""

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
"""The payload types that each end encrypts in an encrypted session."""
# Looked up for every message: an enum's attribute takes a tenth of a microsecond in Python 3.11.
_ACKNOWLEDGE = ClientMessageType.ACKNOWLEDGE.value
_EXIT_CODE = PayloadType.EXIT_CODE.value
_RUNNING, _CLOSING, _OVER = Life.RUNNING, Life.CLOSING, Life.OVER
_PAUSED, _DISCONNECTED = Flow.PAUSED, Flow.DISCONNECTED


class SessionEndpoint:
    """See the module docstring.

    ``version`` (four numeric parts) is sent in the handshake. ``epoch`` is added to a monotonic time to get seconds
    since the Unix epoch, for the created date of messages. ``random_bytes(n)`` returns n random bytes. ``sender``
    replaces the default ``StreamSender``, which decides what is retransmitted and when.

    A client accepts the session types ``session_types``. With ``handshake_required`` it never assumes that there is no
    handshake. With ``separate_outputs`` it refuses an agent that cannot keep a command's outputs apart
    (``AgentTooOld``).
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
        """Return the messages to write to the websocket now, in order: ``bytes`` as binary, ``str`` as text messages.

        Empty while disconnected. Each message is returned once; the caller must write all of them.
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
        """Return the next event, or None."""
        self._rejections = Rejections()

    # State.

    @property
    def ready(self) -> bool:
        """Whether data may be sent."""
        return self._handshake.open and self._closing.state is _RUNNING

    @property
    def encrypted(self) -> bool:
        """Whether the data of the session is encrypted."""
        return self._negotiation.cipher is not None

    @property
    def send_capacity(self) -> int:
        """How many messages of ``MAX_PAYLOAD_SIZE`` bytes ``send_data`` accepts now.

        0 before the session is ready and after its end, while the window is full, and while publication is paused.
        """
        outbox = self._outbox
        if not self._handshake.open or outbox.flow is _PAUSED or self._closing.state is not _RUNNING:
            return 0
        return max(0, min(outbox.sender.capacity, outbox.sender.window - self._readiness.kept))

    @property
    def in_flight(self) -> int:
        """How many messages are sent and unacknowledged."""
        return self._outbox.sender.in_flight

    @property
    def retransmitting(self) -> int:
        """How many of the messages in flight were retransmitted, or are parked for retransmission."""
        return self._outbox.sender.retransmitting

    @property
    def retransmissions(self) -> int:
        """How many messages were retransmitted in the session so far."""
        return self._outbox.sender.retransmissions

    @property
    def stalled_since(self) -> float | None:
        """Since when no acknowledgement has arrived although messages are in flight; None if none is due."""
        return self._outbox.stalled_since

    @property
    def missing_output(self) -> MissingOutput | None:
        """The output of the far end that is known to be missing now. After the end of the session it stays missing."""
        return self._output_loss.missing

    @property
    def output_gap(self) -> int:
        """The number of missing messages before the next message that has arrived; 0 if none waits for another."""
        return self._receiver.gap

    @property
    def lossy(self) -> bool:
        """Whether messages of the far end were lost on the way, as far as this end can know."""
        return self._receiver.disordered

    @property
    def round_trip_time(self) -> float:
        """The smoothed round-trip time of stream messages, in seconds."""
        return self._outbox.sender.estimator.smoothed

    @property
    def progress(self) -> StreamProgress:
        """How many stream messages of this end were sent and acknowledged."""
        return self._outbox.sender.progress

    # The websocket.

    def connected(self, token: str | None, now: float) -> None:
        """Note that a new websocket is open.

        Sends the opening message with ``token``, then everything unacknowledged; after the end of the session, nothing.
        An agent passes None and sends no opening message: the gateway has authenticated it already. May be called
        without ``disconnected`` for the previous websocket.
        """
        if self._outbox.flow is not _DISCONNECTED:
            self.disconnected(now)
        if self._closing.state is _OVER:
            return
        opening = None
        if token is not None:
            opening = OpenDataChannelInput(self._new_uuid(), token, self._client_id, self._version).to_json()
        self._readiness.connected(now)
        self._outbox.connected(opening, now)
        if self._output_loss.report_stop():
            self._emit(OutputStopped())

    def disconnected(self, now: float) -> None:
        """Note that the websocket is lost. Unacknowledged messages are kept.

        A session that waits for missing messages after ``channel_closed`` ends now.
        """
        if self._outbox.flow is _PAUSED and self._closing.state is not _OVER:
            self._emit(PublicationStarted())
        if self._outbox.flow is not _DISCONNECTED:
            self._outbox.disconnected()
        self._readiness.disconnected()
        if self._closing.state is _CLOSING:
            self._close(ClosingInput.DISCONNECTED)
        elif self._closing.state is _RUNNING:
            self._output_loss.websocket_lost(self._negotiation.agreement.session_type)

    def reading_paused(self) -> None:
        """Note that the owner has stopped reading the websocket: missing acknowledgements do not count as silence."""
        self._outbox.excuse_silence(math.inf)

    def reading_resumed(self, now: float) -> None:
        """Note that the owner reads again. Silence counts after ``READING_GRACE`` seconds."""
        self._outbox.excuse_silence(now + READING_GRACE)

    def _new_uuid(self) -> str:
        return str(uuid.UUID(bytes=self._random_bytes(16), version=4))

    # Receiving.

    def receive_message(self, data: bytes | bytearray | str, now: float) -> None:
        """Process one websocket message.

        Does not raise, whatever the far end sends: an unusable message is dropped unacknowledged (``MessageRejected``),
        and too many of them end the session (``SessionFailed``). After the end of the session all messages are ignored;
        after ``channel_closed`` all except stream messages.
        """
        life = self._closing.state
        if life is _OVER:
            return
        try:
            message = ClientMessage.parse(data.encode(errors="replace") if isinstance(data, str) else data)
            if message.message_type == self._received_type:
                self._receive_stream(message, now)
            elif life is _CLOSING:
                return
            elif message.message_type == _ACKNOWLEDGE:
                self._receive_acknowledgement(message, now)
            else:
                self._receive_control(message, now)
        except RemoteProtocolError as error:
            self._reject(error)
        else:
            if self._rejections.count:
                self._rejections.clear()

    def _receive_stream(self, message: ClientMessage, now: float) -> None:
        self._readiness.heard = True
        if self._outbox.flow is _PAUSED:
            self._resume(now)
        closing = self._closing
        missing = self._receiver.missing if closing.state is _CLOSING else 0
        in_order = self._receiver.receive(message)
        if in_order is None:
            return
        if not in_order and message.sequence_number < self._receiver.expected:
            self._outbox.acknowledgements.received_again(message, now)
        else:
            self._outbox.acknowledgements.received(message, now)
        for ready in in_order:
            if closing.state is _OVER:
                return
            self._deliver(ready.payload_type, ready.payload, now)
        if closing.state is _CLOSING:
            if not self._receiver.held:
                self._close(ClosingInput.COMPLETED)
            elif self._receiver.missing < missing:
                closing.missing_arrived(now)

    def _deliver(self, payload_type: int, payload: bytes | bytearray, now: float) -> None:
        if payload_type in _HANDSHAKE_PAYLOADS:
            self._driver.receive(payload_type, payload, now)
            return
        if self._handshake.state not in SETTLED:
            self._driver.data_received()
            if self.role is Role.AGENT:
                return  # acknowledged and discarded, as the official agent does
        cipher = self._negotiation.cipher
        if cipher is not None and payload_type in self._opened:
            try:
                payload = cipher.open(payload)
            except EncryptionError as error:
                # The official client does not acknowledge it, and it is retransmitted for ever (reference defect H11).
                self._fail(error)
                return
        if payload_type == _EXIT_CODE:
            self._output_loss.exit_code_received()
        self._events.add_data(payload_type, payload)

    def _receive_acknowledgement(self, message: ClientMessage, now: float) -> None:
        number = acknowledged_sequence_number(message.payload)
        self._readiness.heard = True
        acknowledged = self._outbox.sender.acknowledged(number, now)
        if self._outbox.flow is _PAUSED:
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
                if self._outbox.flow is _PAUSED:
                    self._resume(now)
            case _:
                raise RemoteProtocolError(f"unexpected message type {message.message_type[:32]!r}")

    def _receive_closed(self, message: ClientMessage, now: float) -> None:
        with contextlib.suppress(
            RemoteProtocolError
        ):  # as in the official client, a malformed one also ends the session
            self._closing.output = ChannelClosed.from_json(message.payload).output
        if self.role is Role.CLIENT and self._receiver.held and self._outbox.flow is not _DISCONNECTED:
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
        """Open the session as an agent, with a handshake, and with encryption if ``kms_key_id`` is set.

        ``SessionReady`` follows when the handshake is complete. ``customer_message`` returns the text to show to the
        user for the client's version. Raises ``LocalProtocolError`` in the client's role, and if the
        handshake has begun already.
        """
        self._driver.request(session_type, properties, now, kms_key_id=kms_key_id, customer_message=customer_message)

    def skip_handshake(self) -> None:
        """Open the session as an agent, without a handshake. Raises like ``request_handshake``."""
        self._driver.agent().skip()
        self._driver.become_ready()

    def provide_data_key(self, data_key: bytes, now: float, *, cipher_text: bytes = b"") -> None:
        """Answer ``DataKeyRequired`` with the data key: in plaintext (64 bytes) and, for a client, encrypted by KMS.

        A key of the wrong size ends the session. Ignored after the end of the session. Raises ``LocalProtocolError`` if
        no key is required.
        """
        if self._requires_key():
            self._driver.provide_data_key(data_key, cipher_text, now)

    def refuse_data_key(self, error: SessionManagerError, now: float) -> None:
        """Answer ``DataKeyRequired`` with the reason why there is no key. The session fails; a client sends the reason
        to the agent.

        Ignored after the end of the session. Raises ``LocalProtocolError`` if no key is required.
        """
        if self._requires_key():
            self._driver.refuse_data_key(error, now)

    def _requires_key(self) -> bool:
        if self._negotiation.key_required is None:
            raise LocalProtocolError("no data key is required")
        return self._closing.state is not _OVER

    # Sending.

    def send_data(self, payload_type: int, payload: bytes, now: float) -> None:
        """Send bytes in stream messages of at most ``MAX_PAYLOAD_SIZE`` bytes, each kept until acknowledged.

        Raises ``LocalProtocolError`` if ``payload`` is empty or needs more than ``send_capacity`` messages.
        """
        if not payload:
            raise LocalProtocolError("an empty payload cannot be sent")
        capacity = self.send_capacity * MAX_PAYLOAD_SIZE
        if len(payload) > capacity:
            raise LocalProtocolError(f"{len(payload)} bytes to send, but the window has room for {capacity} messages")
        pieces = [payload[start : start + MAX_PAYLOAD_SIZE] for start in range(0, len(payload), MAX_PAYLOAD_SIZE)]
        self._readiness.keep(payload_type, pieces)
        self._send(payload_type, pieces, now)

    def _send(self, payload_type: int, payloads: Iterable[bytes], now: float) -> None:
        """Send each payload in a message of its own, encrypted if the session encrypts this payload type."""
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
        """Return when to call ``handle_timeout``, or None."""
        if self._closing.state is not _RUNNING:
            return self._closing.deadline
        deadline = self._readiness.next_timeout()
        if (resend_at := self._outbox.next_timeout()) is not None:
            deadline = resend_at if deadline is None else min(deadline, resend_at)
        return deadline

    def handle_timeout(self, now: float) -> None:
        """Perform all timed actions that are due at ``now``. Early and late calls are harmless."""
        if self._closing.state is not _RUNNING:
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
        if self._closing.state is not _OVER:
            self._closing.apply(ClosingInput.FAILED)
            self._negotiation.fail()
            self._emit(SessionFailed(error))
