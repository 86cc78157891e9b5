"""The events of a ``SessionEndpoint``, in the order in which they happened."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from session_manager_plugin.errors import SessionManagerError


@dataclass(frozen=True, slots=True)
class SessionReady:
    """The session has begun: size and input may be sent.

    ``session_type`` is None without a handshake (current agents begin none for a plain shell); ``peer_version`` is then
    empty. ``properties`` are those of the session type, as received. The event occurs a second time when a handshake
    follows although the client has begun without one.
    """

    session_type: str | None
    properties: dict[str, Any] = field(default_factory=dict)
    peer_version: str = ""
    customer_message: str = ""

    @property
    def is_stdio(self) -> bool:
        """Whether the session is a stream of bytes for another program, `ssh` above all, on standard input and output.

        That is a port session without a local port.
        """
        return self.session_type == "Port" and self.properties.get("type") != "LocalPortForwarding"


@dataclass(frozen=True, slots=True)
class DataKeyRequired:
    """The agent requests encryption: the owner has to call KMS.

    A client's owner has KMS generate a data key under ``key_id``, an agent's owner has it decrypt ``cipher_text``. A
    ``challenge`` that is not empty belongs into the encryption context. Then the owner calls ``provide_data_key`` or
    ``refuse_data_key``.
    """

    key_id: str
    challenge: str = ""
    cipher_text: bytes = b""


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Consecutive payloads of one type from one read of the socket, in order, each once."""

    payload_type: int
    payloads: list[bytes | bytearray]

    @property
    def data(self) -> bytes:
        """The payloads joined."""
        return b"".join(self.payloads)


@dataclass(frozen=True, slots=True)
class ChannelClosedReceived:
    """The service closed the session; ``output`` is its reason, empty for a normal end."""

    output: str


@dataclass(frozen=True, slots=True)
class MissingOutput:
    """What is known to be missing of the far end's output.

    ``messages`` never arrived although later ones did; ``size`` estimates their payload in bytes. ``undelivered_size``
    bytes that arrived behind the first of them were not delivered: out of place they would be worse than missing.
    ``stopped`` says that the websocket was lost while a command ran: the agent then stops sending the command's output
    for good, and nothing that it sends shows how much is missing (protocol reference 13.3, N5).
    """

    messages: int = 0
    size: int = 0
    undelivered_size: int = 0
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class OutputStopped:
    """A lost websocket is replaced, and the agent sends no more of the command's output (``MissingOutput.stopped``).

    The session goes on until the command has ended. One that waits for its output to be read never ends.
    """


@dataclass(frozen=True, slots=True)
class PublicationPaused:
    """The gateway reports that the far end is away; nothing is sent until it is back."""


@dataclass(frozen=True, slots=True)
class PublicationStarted:
    """The far end is back; everything unacknowledged is sent again."""


@dataclass(frozen=True, slots=True)
class MessageRejected:
    """A message could not be used and was dropped unacknowledged; the session goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The session has failed; its owner raises ``error``."""

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
    """The events that the owner has not taken yet, in order. Data of one type in a row becomes one event."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._batch: DataReceived | None = None
        """The last event, while further data may join it."""

    def add(self, event: Event) -> None:
        """Append an event."""
        self._events.append(event)
        self._batch = None

    def add_data(self, payload_type: int, payload: bytes | bytearray) -> None:
        """Append a payload to the last event, if that is data of the same type, else as an event of its own."""
        if self._batch is not None and self._batch.payload_type == payload_type:
            self._batch.payloads.append(payload)
        else:
            self._batch = DataReceived(payload_type, [payload])
            self._events.append(self._batch)

    def take(self) -> Event | None:
        """Return the next event; None when there is none."""
        if not self._events:
            return None
        event = self._events.popleft()
        if event is self._batch:
            self._batch = None
        return event
