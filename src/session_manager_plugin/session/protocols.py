"""The interfaces between session handlers and the other packages.

``communicator`` implements ``IDataChannel``, the handlers in this package use it, and neither imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, runtime_checkable

from session_manager_plugin.protocol.events import MissingOutput, SessionReady
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.protocol.reliable import StreamProgress
from session_manager_plugin.session.link_health import LinkHealth, LinkStatus
from session_manager_plugin.session.outcome import Outcome

InputHandler = Callable[[bytes], None]
"""Receives bytes from the remote."""
OutputHandler = Callable[[bytes], None]
"""Observes bytes sent to the remote."""


class IDataChannel(Protocol):
    """A reliable, ordered, two-way channel to the remote program of one session."""

    @property
    def session_id(self) -> str:
        """The session's id; empty if unknown."""

    @property
    def is_open(self) -> bool:
        """Whether the session was opened and has not ended. The websocket may be lost and reconnecting."""

    @property
    def last_error(self) -> Exception | None:
        """The reason why the last ``open`` returned False, or why the channel has ended."""

    @property
    def latency(self) -> float | None:
        """Seconds between the last answered ping and its pong; None before the first."""

    @property
    def retransmitting(self) -> int:
        """How many messages in flight were sent more than once."""

    @property
    def input_progress(self) -> StreamProgress:
        """The numbers of messages with input sent and acknowledged."""

    @property
    def is_connected(self) -> bool:
        """Whether the websocket is open at this moment."""

    @property
    def heard(self) -> bool:
        """Whether any message of the far end was received. Without one it is unknown whether the session exists."""

    @property
    def health(self) -> LinkHealth:
        """The current state of the link."""

    @property
    def reconnects(self) -> int:
        """How often the connection was restored."""

    async def reconnect(self) -> None:
        """Replace the websocket now; while reconnecting, make the next attempt now.

        Raises ``SessionManagerError``, and keeps the websocket, if reconnecting is off or no token for a new one
        is available.
        """

    def get_channel_info(self) -> dict[str, Any]:
        """Return facts for monitoring and for the user, without secrets."""

    def set_link_handler(self, handler: Callable[[], None]) -> None:
        """Call ``handler`` when the link's state changes, and when trouble begins or ends."""

    async def open(self) -> bool:
        """Connect. Returns False if that fails; the reason is in ``last_error``."""

    async def close(self) -> None:
        """Disconnect, after waiting a short time for acknowledgements. Idempotent."""

    async def ready(self) -> SessionReady:
        """Wait until the session has begun. Raises the error if the session ends before that."""

    async def ended(self) -> str:
        """Wait until the far end closes the session, and return its text, which is empty for a normal end.

        Raises ``ConnectionLost``, ``TimedOut``, ``ProtocolError`` … if the session ends in another way. A lost link
        ends the session only if it is not restored.
        """

    async def send_input_data(self, data: bytes, *, more_follows: bool = False) -> None:
        """Send bytes to the remote program. Waits while the window is full. Raises ``NotConnected`` if the session has
        ended.

        ``more_follows=True``: further data follows immediately; this piece may be delayed up to 1 ms to share a write.
        """

    @property
    def send_capacity(self) -> int:
        """Bytes that ``send_now`` accepts now, in full messages; 0 while the window is full."""

    def send_now(self, data: bytes, payload_type: PayloadType = PayloadType.OUTPUT) -> None:
        """Send at most ``send_capacity`` bytes without waiting.

        Raises ``NotConnected`` if the session has ended, ``LocalProtocolError`` (and sends nothing) if ``data`` is
        longer.
        """

    def set_writable_handler(self, handler: Callable[[], None]) -> None:
        """Call ``handler`` after every event after which ``send_capacity`` is not 0."""

    async def send_size(self, columns: int, rows: int) -> None:
        """Send the size of the terminal."""

    async def send_flag(self, flag: Flag) -> None:
        """Send a flag, after all data sent before. Waits while the window is full. Raises ``NotConnected``."""

    async def drain(self) -> None:
        """Wait until everything sent is acknowledged. Raises the error if the session ends before that."""

    @property
    def missing_output(self) -> MissingOutput | None:
        """The remote's output that is known to be missing. Before the end of the session, this is only output that can
        no longer arrive."""

    @property
    def output_gap(self) -> int:
        """The number of missing messages before the next message that has arrived; 0 if none waits for another."""

    @property
    def lossy(self) -> bool:
        """Whether messages of the remote were lost on the way, as far as this end can know."""

    def set_output_stopped_handler(self, handler: Callable[[], None]) -> None:
        """Call ``handler`` once, when after a reconnect the agent does not send the rest of a command's output."""

    def set_input_handler(self, handler: InputHandler) -> None:
        """Call ``handler`` with the remote program's output (stdout, if it has two streams)."""

    def set_output_handler(self, handler: OutputHandler) -> None:
        """Call ``handler`` with the data sent to the remote program."""

    def set_payload_handler(self, payload_type: int, handler: InputHandler) -> None:
        """Call ``handler`` with the payloads of one other type: stderr, exit code, flag."""

    def pause_reading(self) -> None:
        """Stop reading from the network, because the consumer has no room for more data."""

    def resume_reading(self) -> None:
        """Read from the network again."""


class Cancellable(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock(Protocol):
    """Returns the time and schedules calls; an event loop is one."""

    def time(self) -> float:
        """Return seconds of a monotonic clock."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Cancellable:
        """Call ``callback`` in ``delay`` seconds."""


class Streams(Protocol):
    """Standard input, output and error of one session: a terminal, pipes, files or memory."""

    async def read(self) -> bytes:
        """Wait for input and return it; ``b""`` at its end. Raises ``OSError``."""

    def write(self, data: bytes, /) -> None:
        """Write to standard output. Never blocks: bytes that cannot be written at once are kept.

        The streams of a terminal replace this method while the terminal is held: a handler that holds the terminal must
        look the method up for each call.
        """

    def write_error(self, data: bytes) -> None:
        """Write to standard error in the same way. Output is dropped if standard error is closed."""

    async def drain(self) -> None:
        """Wait until everything is written, or writing has failed."""

    def set_flow_handlers(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Call ``pause`` when too many bytes are queued, ``resume`` when there is room again."""

    def set_output_failed_handler(self, handler: Callable[[OSError], None]) -> None:
        """Call ``handler`` once writing to standard output fails; at once if it has failed already. An error of
        standard error counts too, if output of the remote is lost by it, but not that its reader has closed it."""

    @property
    def output_abandoned(self) -> bool:
        """Whether the reader of standard output has closed it. For a pipe this is detected before a write fails."""


class TerminalSize(NamedTuple):
    """Columns × rows, both in character cells."""

    columns: int
    rows: int


DEFAULT_SIZE = TerminalSize(80, 24)
"""The size sent without a terminal."""


class TerminalHold(Protocol):
    """The terminal of a shell session, or a substitute."""

    @property
    def size(self) -> TerminalSize:
        """The size to send to the remote."""

    @property
    def hung_up(self) -> bool:
        """Whether the input ended because the terminal was closed."""

    def held(
        self,
        status: Callable[[], LinkStatus],
        input_progress: Callable[[], StreamProgress],
        size_changed: Callable[[TerminalSize], None],
    ) -> AbstractContextManager[None]:
        """Hold the terminal in raw mode during the block, and restore it however the block ends.

        Calls ``size_changed`` at every resize. ``status`` returns the content of the status line. ``input_progress``
        returns how much of the input was sent and acknowledged; it is called for each key while its echo is predicted.
        """

    def typed(self, data: bytes) -> None:
        """``data``, a part of the input, was sent: its expected echo may be drawn before the remote's echo arrives."""


class SessionRecording(Protocol):
    """Records the output and the input of a shell. No method raises."""

    failed: Callable[[str], None]
    """Called once, with a sentence for a person, if the recording ends before the session."""

    def begin(self, size: TerminalSize, title: str, variables: Mapping[str, str]) -> None:
        """The session has begun. ``variables`` is the environment."""

    def output(self, data: bytes) -> None:
        """Record output of the remote."""

    def input(self, data: bytes) -> None:
        """Record input."""

    def resize(self, size: TerminalSize) -> None:
        """Record the size of the remote's terminal."""

    def close(self) -> None:
        """End the recording. Idempotent."""


class Notices(Protocol):
    """The messages of a session, for the user or for a tool that parses them.

    The methods do not raise and do not block.
    """

    def port_opened(self, port: int, addresses: Sequence[str], *, multiplexed: bool) -> None:
        """A TCP port accepts connections from now on, on ``addresses`` (each with the port).

        ``multiplexed``: any number of connections at a time, otherwise one.
        """

    def unix_socket_opened(self, path: str, *, multiplexed: bool) -> None:
        """A unix socket accepts connections from now on."""

    def connection_accepted(self, *, multiplexed: bool) -> None:
        """The first local connection was accepted."""

    def destination_failed(self, connection: str) -> None:
        """The far end could not connect to the destination for the local connection ``connection`` (empty if it is
        unknown which one)."""

    def interrupted(self) -> None:
        """A signal was received, and the session is being ended."""

    def trouble(self, sentence: str) -> None:
        """A problem that does not end the session, or that the exit status reports as well."""


class DataKey(NamedTuple):
    """A data key of KMS: in plaintext (64 bytes), and encrypted by KMS."""

    plaintext: bytes
    cipher_text: bytes

    def __repr__(self) -> str:
        return "DataKey()"


class KeyService(Protocol):
    """Provides the data key of an encrypted session."""

    async def generate_data_key(self, key_id: str, challenge: str) -> DataKey:
        """Generate a key under ``key_id``, with the session and, unless empty, ``challenge`` in the encryption context.

        Raises ``AccessDenied``, ``EncryptionError`` or ``ConfigurationError`` with a sentence that names the key.
        """


class ResumedSession(NamedTuple):
    """The response of ResumeSession: a new token, and the stream URL if the response has one."""

    token: str
    url: str | None = None

    def __repr__(self) -> str:
        return "ResumedSession()"


class ResumeService(Protocol):
    """Provides a new token when the gateway no longer accepts the current one."""

    async def resume_session(self) -> ResumedSession:
        """Return a new token. Raises ``SessionExpired`` if the session has ended, and ``AccessDenied``,
        ``ConfigurationError`` or ``ConnectError`` if a later call may succeed.
        """


class OpeningRequest(NamedTuple):
    """The request that opens a websocket: a GET without a body."""

    host: str
    """The value of its Host header."""
    resource: str
    """Path and query as sent. The query may contain the token."""
    region: str | None
    """The region in the host's name, if any."""

    def __repr__(self) -> str:
        return f"OpeningRequest(host={self.host!r}, region={self.region!r})"


class RequestSigner(Protocol):
    """Signs the requests that open the websockets of one session (protocol reference 13.1)."""

    async def sign(self, request: OpeningRequest) -> Mapping[str, str]:
        """Return the headers that sign ``request``.

        Raises ``SessionManagerError`` when it cannot be signed; the sentence names the reason. May be cancelled.
        """

    def refused(self) -> None:
        """The gateway has refused the signed request with status 403. An unsigned request follows."""

    def opened_unsigned(self, sentence: str) -> None:
        """The unsigned request has opened the websocket. ``sentence`` is for the user."""


class SessionStarter(Protocol):
    """Starts one session with the service's API, and terminates it."""

    async def start(self) -> IDataChannel:
        """Start the session and return its channel, not yet opened. Raises the error that prevents it."""

    async def terminate(self) -> None:
        """Terminate the session. Best effort, within a bounded time; does not raise."""


class SessionHandler(Protocol):
    """Runs the sessions of one type."""

    async def run(self, channel: IDataChannel) -> Outcome:
        """Run the session to its end and return how it ended. Called when the channel is ready.

        Raises the error if the session did not end on purpose: a lost link, a protocol error, output that cannot be
        written.
        """


@runtime_checkable
class Interruptible(Protocol):
    """A handler that handles signals that would otherwise end the program."""

    @property
    def interrupted(self) -> bool:
        """Whether the handler is ending the session because of a signal. The next signal then ends the program."""

    def interrupt(self, number: int) -> bool:
        """Handle signal ``number``. Returns False if the handler does not handle it, or not again; the caller
        should then end the program.

        Does not block. Must be called in the event loop, while ``run`` runs.
        """


@runtime_checkable
class Forwarding(Protocol):
    """A handler that forwards local connections."""

    def connections(self) -> Sequence[str]:
        """Return one line for each open connection."""
