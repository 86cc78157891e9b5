"""What a session needs from the outside, as interfaces only.

This module is the leaf both sides meet at: ``communicator`` fulfils ``IDataChannel``, the handlers in this package
use it, and neither imports the other.
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
        """The session's id; empty when nobody has told it."""

    @property
    def is_open(self) -> bool:
        """Whether the session goes on: it was opened and nothing has ended it, though the websocket may be away."""

    @property
    def last_error(self) -> Exception | None:
        """Why the last ``open`` gave False, or what ended the channel."""

    @property
    def latency(self) -> float | None:
        """Seconds between the last answered ping and its pong; None before the first."""

    @property
    def retransmitting(self) -> int:
        """How many messages in flight were sent more than once."""

    @property
    def is_connected(self) -> bool:
        """Whether there is a websocket at this moment."""

    @property
    def heard(self) -> bool:
        """Whether any message has come from the far end: if not, nothing shows that there is a session."""

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
        """Connect. False when that failed; the reason is in ``last_error``."""

    async def close(self) -> None:
        """Disconnect; what was sent is given a short time to be acknowledged. May be called twice."""

    async def ready(self) -> SessionReady:
        """Wait until the session has begun. Raises what ended it when it never does."""

    async def ended(self) -> str:
        """Wait until the far end closes the session; gives its text, empty at a normal end. A lost link does not end
        it as long as reconnecting may help.

        Raises ``ConnectionLost``, ``TimedOut``, ``ProtocolError`` … when it ended in another way.
        """

    async def send_input_data(self, data: bytes, *, more_follows: bool = False) -> None:
        """Send bytes to the remote program; waits while the window is full. Raises ``NotConnected`` when it is over.

        ``more_follows=True``: further data follows immediately; this piece may be delayed up to 1 ms to share a write.
        """

    @property
    def send_capacity(self) -> int:
        """Bytes that ``send_now`` takes at this moment, in full messages; 0 when it has to be asked again later."""

    def send_now(self, data: bytes, payload_type: PayloadType = PayloadType.OUTPUT) -> None:
        """Send at most ``send_capacity`` bytes without waiting.

        Raises ``NotConnected`` when it is over, ``LocalProtocolError`` (and sends nothing) when ``data`` is more.
        """

    def set_writable_handler(self, handler: Callable[[], None]) -> None:
        """``handler`` is called whenever something has happened and ``send_capacity`` is not 0."""

    async def send_size(self, columns: int, rows: int) -> None:
        """Tell the remote the size of the terminal."""

    async def send_flag(self, flag: Flag) -> None:
        """Send a flag, behind all data sent before; waits while the window is full. Raises ``NotConnected``."""

    async def drain(self) -> None:
        """Wait until everything sent is acknowledged; raises what ended the session before that."""

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
    """A call that has been planned."""

    def cancel(self) -> None:
        """Do not make it."""


class Clock(Protocol):
    """What a handler reads the time from, and plans calls with; an event loop is one."""

    def time(self) -> float:
        """Seconds since some instant; never goes back."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Cancellable:
        """Call `callback` in `delay` seconds."""


class Streams(Protocol):
    """Standard input, output and error of one session: a terminal, pipes, files or memory."""

    async def read(self) -> bytes:
        """Return the next bytes of the input, as soon as there are some; ``b""`` at its end. Raises ``OSError``."""

    def write(self, data: bytes) -> None:
        """Write to standard output. Never blocks: what cannot be written at once is kept."""

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
"""The size that a session is told when there is no terminal."""


class TerminalHold(Protocol):
    """The terminal of a shell, or what stands in for one."""

    @property
    def size(self) -> TerminalSize:
        """The size that the remote is told."""

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
        """A TCP port takes connections now, on ``addresses`` (each with the port). ``multiplexed``: any number of
        connections at once, else one after the other."""

    def unix_socket_opened(self, path: str, *, multiplexed: bool) -> None:
        """A unix socket takes connections now."""

    def connection_accepted(self, *, multiplexed: bool) -> None:
        """The first local connection has come."""

    def destination_failed(self, connection: str) -> None:
        """The far end could not connect to its destination, for the local connection ``connection`` (empty when
        it is not known for which)."""

    def interrupted(self) -> None:
        """A signal asked to leave; the session is being ended."""

    def trouble(self, sentence: str) -> None:
        """Something did not go as it should; the session goes on, or ends with a status of its own."""


class DataKey(NamedTuple):
    """A data key of KMS: in clear (64 bytes), and as KMS encrypted it."""

    plaintext: bytes
    cipher_text: bytes

    def __repr__(self) -> str:
        return "DataKey()"


class KeyService(Protocol):
    """Where a session that asks for encryption gets its data key."""

    async def generate_data_key(self, key_id: str, challenge: str) -> DataKey:
        """Have a key generated under ``key_id``, bound to the session and, unless it is empty, to ``challenge``.

        Raises ``AccessDenied``, ``EncryptionError`` or ``ConfigurationError`` with a sentence that names the key.
        """


class ResumedSession(NamedTuple):
    """What ResumeSession answers: a fresh token, and the stream URL if there was one in the answer."""

    token: str
    url: str | None = None

    def __repr__(self) -> str:
        return "ResumedSession()"


class ResumeService(Protocol):
    """Where a session gets a fresh token when the gateway does not take the one in hand any more."""

    async def resume_session(self) -> ResumedSession:
        """Ask for one. Raises ``SessionExpired`` when there is no such session any more, and ``AccessDenied``,
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


class SessionHandler(Protocol):
    """What a session type does with its bytes."""

    async def run(self, channel: IDataChannel) -> Outcome:
        """Run the session to its end and return how it ended. Called when the channel is ready.

        Raises what ended the session when neither the far end nor this side did so on purpose: a lost link, a broken
        rule of the protocol, an output that cannot be written.
        """


@runtime_checkable
class Interruptible(Protocol):
    """A handler that has a use for the signals which otherwise end the program."""

    @property
    def interrupted(self) -> bool:
        """Whether a signal makes it end the session: the next one is for the program."""

    def interrupt(self, number: int) -> bool:
        """Take signal ``number``. False when the handler does nothing with it (any more): the program should leave.

        Never waits; to be called in the event loop, while ``run`` runs.
        """


@runtime_checkable
class Forwarding(Protocol):
    """A handler that forwards local connections."""

    def connections(self) -> Sequence[str]:
        """A line for each that is open at this moment."""
