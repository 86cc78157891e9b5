"""The interfaces between a session's handlers and the outside.

``communicator`` implements ``IDataChannel``, the handlers in this package use it, and neither imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, runtime_checkable

from session_manager_plugin.protocol.events import MissingOutput, SessionReady
from session_manager_plugin.protocol.messages import Flag, PayloadType
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
        """The session's id; empty if it is not known."""

    @property
    def is_open(self) -> bool:
        """Whether the session was opened and has not ended; the websocket may be lost and being replaced."""

    @property
    def last_error(self) -> Exception | None:
        """Why the last ``open`` returned False, or what ended the channel."""

    @property
    def latency(self) -> float | None:
        """Seconds between the last answered ping and its pong; None before the first."""

    @property
    def retransmitting(self) -> int:
        """How many messages in flight were sent more than once."""

    @property
    def is_connected(self) -> bool:
        """Whether the websocket is open at this moment."""

    @property
    def heard(self) -> bool:
        """Whether any message of the far end was received: without one it is not known that the session exists."""

    @property
    def health(self) -> LinkHealth:
        """How the link is at this moment."""

    @property
    def reconnects(self) -> int:
        """How often a lost websocket has been replaced."""

    async def reconnect(self) -> None:
        """Replace the websocket now; while that is being tried already, start the next attempt without waiting.

        Raises ``SessionManagerError``, and leaves the websocket as it is, when it could not be replaced: there would be
        no attempt, or no token for it.
        """

    def get_channel_info(self) -> dict[str, Any]:
        """Facts for monitoring and for a person who asks; nothing secret."""

    def set_link_handler(self, handler: Callable[[], None]) -> None:
        """``handler`` is called when the link's state changes, and when a trouble begins or is over."""

    async def open(self) -> bool:
        """Connect. Returns False if that failed; the reason is in ``last_error``."""

    async def close(self) -> None:
        """Disconnect; what was sent is given a short time to be acknowledged. May be called twice."""

    async def ready(self) -> SessionReady:
        """Wait until the session has begun. Raises the error that ended it before."""

    async def ended(self) -> str:
        """Wait until the far end closes the session, and return its text, which is empty for a normal end. A lost link
        does not end the session while it can be restored.

        Raises ``ConnectionLost``, ``TimedOut``, ``ProtocolError`` … if the session ended in another way.
        """

    async def send_input_data(self, data: bytes, *, more_follows: bool = False) -> None:
        """Send bytes to the remote program; waits while the window is full. Raises ``NotConnected`` once it is over.

        ``more_follows=True``: further data follows immediately; this piece may be delayed up to 1 ms to share a write.
        """

    @property
    def send_capacity(self) -> int:
        """Bytes that ``send_now`` accepts at this moment, in full messages; 0 while the window is full."""

    def send_now(self, data: bytes, payload_type: PayloadType = PayloadType.OUTPUT) -> None:
        """Send at most ``send_capacity`` bytes without waiting.

        Raises ``NotConnected`` when it is over, ``LocalProtocolError`` (and sends nothing) when ``data`` is more.
        """

    def set_writable_handler(self, handler: Callable[[], None]) -> None:
        """``handler`` is called whenever something has happened and ``send_capacity`` is not 0."""

    async def send_size(self, columns: int, rows: int) -> None:
        """Send the size of the terminal."""

    async def send_flag(self, flag: Flag) -> None:
        """Send a flag, behind all data sent before; waits while the window is full. Raises ``NotConnected``."""

    async def drain(self) -> None:
        """Wait until everything sent is acknowledged. Raises the error that ended the session before that."""

    @property
    def missing_output(self) -> MissingOutput | None:
        """What is known to be missing of the remote's output; while the session goes on, only what is lost for good."""

    def set_output_stopped_handler(self, handler: Callable[[], None]) -> None:
        """``handler`` is called once: a lost link is replaced, and the agent sends no more of a command's output."""

    def set_input_handler(self, handler: InputHandler) -> None:
        """``handler`` receives what the remote program writes (to stdout, where it has two streams)."""

    def set_output_handler(self, handler: OutputHandler) -> None:
        """``handler`` observes what is sent to the remote program."""

    def set_payload_handler(self, payload_type: int, handler: InputHandler) -> None:
        """``handler`` receives the payloads of one other type: stderr, exit code, flag."""

    def pause_reading(self) -> None:
        """Stop reading from the network: the consumer is full."""

    def resume_reading(self) -> None:
        """Go on reading."""


class Cancellable(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class Clock(Protocol):
    """Returns the time and schedules calls; an event loop is one."""

    def time(self) -> float:
        """Seconds since some instant; never goes back."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Cancellable:
        """Call `callback` in `delay` seconds."""


class Streams(Protocol):
    """Standard input, output and error of one session: a terminal, pipes, files or memory."""

    async def read(self) -> bytes:
        """Return the next bytes of the input, as soon as there are some; ``b""`` at its end. Raises ``OSError``."""

    def write(self, data: bytes, /) -> None:
        """Write to standard output. Never blocks: what cannot be written at once is kept.

        The streams of a terminal replace this method while the terminal is held: a handler that holds it looks the
        method up for each piece.
        """

    def write_error(self, data: bytes) -> None:
        """Write to standard error, in the same way. Output is dropped when standard error is closed."""

    async def drain(self) -> None:
        """Wait until everything is written, or cannot be written any more."""

    def set_flow_handlers(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """``pause`` is called when too many bytes are kept, ``resume`` when there is room again."""

    def set_output_failed_handler(self, handler: Callable[[OSError], None]) -> None:
        """``handler`` is called once standard output cannot be written to any more; at once if that is so already."""

    @property
    def output_abandoned(self) -> bool:
        """Whether standard output has lost its reader; known of a pipe before anything is written to it."""


class TerminalSize(NamedTuple):
    """Columns × rows, both in character cells."""

    columns: int
    rows: int


DEFAULT_SIZE = TerminalSize(80, 24)
"""The size that is sent when there is no terminal."""


class TerminalHold(Protocol):
    """The terminal of a shell, or what stands in for one."""

    @property
    def size(self) -> TerminalSize:
        """The size to send to the remote."""

    @property
    def hung_up(self) -> bool:
        """Whether the input ended because the terminal was closed."""

    def held(
        self, status: Callable[[], LinkStatus], size_changed: Callable[[TerminalSize], None]
    ) -> AbstractContextManager[None]:
        """Hold the terminal in raw mode for the length of the block, and restore it on every way out.

        ``size_changed`` is called at every resize; ``status`` returns what a status line shows.
        """

    def say(self, lines: Sequence[str]) -> None:
        """Show lines of our own at the cursor; they never go into an output that is not a terminal."""


class Notices(Protocol):
    """What a session has to say besides its bytes, to a person or to a tool that waits for certain words.

    No method raises, and none waits for a reader.
    """

    def port_opened(self, port: int, addresses: Sequence[str], *, multiplexed: bool) -> None:
        """A TCP port accepts connections from now on, on ``addresses`` (each with the port).

        ``multiplexed``: any number of connections at once, else one after the other.
        """

    def unix_socket_opened(self, path: str, *, multiplexed: bool) -> None:
        """A unix socket accepts connections from now on."""

    def connection_accepted(self, *, multiplexed: bool) -> None:
        """The first local connection was accepted."""

    def destination_failed(self, connection: str) -> None:
        """The far end could not connect to its destination, for the local connection ``connection`` (empty when
        it is not known for which)."""

    def interrupted(self) -> None:
        """A signal asked to leave; the session is being ended."""

    def trouble(self, sentence: str) -> None:
        """A problem that is not the end of the session, or that its exit status reports as well."""


class DataKey(NamedTuple):
    """A data key of KMS: in clear (64 bytes), and as KMS encrypted it."""

    plaintext: bytes
    cipher_text: bytes

    def __repr__(self) -> str:
        return "DataKey()"


class KeyService(Protocol):
    """Provides the data key of an encrypted session."""

    async def generate_data_key(self, key_id: str, challenge: str) -> DataKey:
        """Have a key generated under ``key_id``, bound to the session and, unless it is empty, to ``challenge``.

        Raises ``AccessDenied``, ``EncryptionError`` or ``ConfigurationError`` with a sentence that names the key.
        """


class ResumedSession(NamedTuple):
    """The answer of ResumeSession: a new token, and the stream URL if the answer holds one."""

    token: str
    url: str | None = None

    def __repr__(self) -> str:
        return "ResumedSession()"


class ResumeService(Protocol):
    """Provides a new token when the gateway no longer accepts the present one."""

    async def resume_session(self) -> ResumedSession:
        """Return a new token. Raises ``SessionExpired`` if the session is over, and ``AccessDenied``,
        ``ConfigurationError`` or ``ConnectError`` when asking again later may help.
        """


class OpeningRequest(NamedTuple):
    """The request that opens a websocket: a GET without a body."""

    host: str
    """The value of its Host header."""
    resource: str
    """Path and query as they are sent; the query may hold the token."""
    region: str | None
    """The region that the host's name holds."""

    def __repr__(self) -> str:
        return f"OpeningRequest(host={self.host!r}, region={self.region!r})"


class RequestSigner(Protocol):
    """Signs the requests that open the websockets of one session (protocol reference 13.1)."""

    async def sign(self, request: OpeningRequest) -> Mapping[str, str]:
        """Return the headers that sign ``request``.

        Raises ``SessionManagerError`` when it cannot be signed; the sentence names the reason. May be cancelled.
        """

    def refused(self) -> None:
        """The gateway refused the signed request with status 403; an unsigned one follows."""

    def opened_unsigned(self, sentence: str) -> None:
        """The unsigned request has opened the websocket; ``sentence`` is for a person."""


class SessionStarter(Protocol):
    """Starts one session by the service's API, and terminates it."""

    async def start(self) -> IDataChannel:
        """Start the session and return its channel, which is not open yet. Raises what prevents it."""

    async def terminate(self) -> None:
        """Terminate the session. Best effort, in bounded time; raises nothing."""


class SessionHandler(Protocol):
    """Runs the sessions of one type."""

    async def run(self, channel: IDataChannel) -> Outcome:
        """Run the session to its end and return how it ended. Called when the channel is ready.

        Raises what ended the session when neither the far end nor this side did so on purpose: a lost link, a broken
        rule of the protocol, an output that cannot be written.
        """


@runtime_checkable
class Interruptible(Protocol):
    """A handler that handles signals which otherwise end the program."""

    @property
    def interrupted(self) -> bool:
        """Whether it is ending the session because of a signal: the next signal ends the program."""

    def interrupt(self, number: int) -> bool:
        """Take signal ``number``. False when the handler does nothing with it (any more): the program should leave.

        Never waits; to be called in the event loop, while ``run`` runs.
        """


@runtime_checkable
class Forwarding(Protocol):
    """A handler that forwards local connections."""

    def connections(self) -> Sequence[str]:
        """Return a line for each connection that is open at this moment."""
