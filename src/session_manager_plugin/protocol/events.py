"""The events of a ``SessionEndpoint``, and their queue."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from session_manager_plugin.errors import SessionManagerError


@dataclass(frozen=True, slots=True)
class SessionReady:
    """The session has begun: size and input may be sent.

    Without a handshake (current agents make none for a plain shell) ``session_type`` is None and ``peer_version`` is
    empty. ``properties`` are those of the session type, as received. The event is emitted again if a handshake follows
    after the client has begun without one.
    """

    session_type: str | None
    properties: dict[str, Any] = field(default_factory=dict)
    peer_version: str = ""
    customer_message: str = ""

    @property
    def is_stdio(self) -> bool:
        """Whether the session is a port session over standard input and output, without a local port, as for
        ``ssh``."""
        return self.session_type == "Port" and self.properties.get("type") != "LocalPortForwarding"


@dataclass(frozen=True, slots=True)
class DataKeyRequired:
    """The agent requests encryption: the owner has to call KMS.

    A client's owner calls GenerateDataKey with ``key_id``, an agent's owner calls Decrypt with ``cipher_text``. The
    encryption context contains ``challenge`` if that is not empty. Then the owner calls ``provide_data_key`` or
    ``refuse_data_key``.
    """

    key_id: str
    challenge: str = ""
    cipher_text: bytes = b""


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Consecutive payloads of one type, in order."""

    payload_type: int
    payloads: list[bytes | bytearray]

    @property
    def data(self) -> bytes:
        """The payloads joined."""
        return b"".join(self.payloads)


@dataclass(frozen=True, slots=True)
class ChannelClosedReceived:
    """The service has closed the session. ``output`` is the reason; empty for a normal end."""

    output: str


@dataclass(frozen=True, slots=True)
class MissingOutput:
    """The output of the far end that is known to be missing.

    ``messages`` is the number of messages that did not arrive although later ones did, ``size`` an estimate of their
    payload in bytes. ``undelivered_size`` bytes arrived after the first missing message and were not delivered, because
    output with a gap would be misleading. ``stopped``: the websocket was lost while a command ran. The agent then never
    sends the rest of the command's output, nor its size (protocol reference 13.3, N5).
    """

    messages: int = 0
    size: int = 0
    undelivered_size: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class OutputStopped:
    """After a reconnect the agent does not send the rest of the command's output (``MissingOutput.stopped``).

    The session continues until the command ends. A command that blocks on writing its output never ends.
    """


@dataclass(frozen=True, slots=True)
class PublicationPaused:
    """The gateway reports that the far end is away. Stream messages are kept until it is back."""


@dataclass(frozen=True, slots=True)
class PublicationStarted:
    """The far end is back. Everything unacknowledged is retransmitted."""


@dataclass(frozen=True, slots=True)
class MessageRejected:
    """An unusable message was dropped unacknowledged. The session continues."""

    reason: str


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The session has failed with ``error``, which the owner raises."""

    error: SessionManagerError


Event = (
    SessionReady
    | DataKeyRequired
    | DataReceived
    | ChannelClosedReceived
    | OutputStopped
    | PublicationPaused
    | PublicationStarted
    | MessageRejected
    | SessionFailed
)


class EventQueue:
    """The events that the owner has not taken yet, in order. Consecutive data of one type is one event."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._batch: DataReceived | None = None
        """The last event, if further data may be appended to it."""

    def add(self, event: Event) -> None:
        """Append an event."""
        self._events.append(event)
        self._batch = None

    def add_data(self, payload_type: int, payload: bytes | bytearray) -> None:
        """Append a payload: to the last event if that is data of the same type, otherwise as a new event."""
        if self._batch is not None and self._batch.payload_type == payload_type:
            self._batch.payloads.append(payload)
        else:
            self._batch = DataReceived(payload_type, [payload])
            self._events.append(self._batch)

    def take(self) -> Event | None:
        """Return the next event, or None."""
        if not self._events:
            return None
        event = self._events.popleft()
        if event is self._batch:
            self._batch = None
        return event
