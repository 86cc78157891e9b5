"""When a session becomes ready, and the time limits of its beginning.

The client becomes ready at HandshakeComplete, or at a first stream message that belongs to no handshake. Unless a
handshake is required, it also becomes ready if no stream message arrives within ``READY_DELAY`` seconds after opening:
a remote program that prints nothing must be usable (reference defect H9). The client then assumes that there is no
handshake, and keeps the data that it sends. If a handshake follows nevertheless, the agent has acknowledged and
discarded the data received before HandshakeComplete, so the client sends it again with new sequence numbers. The agent
handles messages in order, so it has discarded exactly the messages with a lower sequence number than our
HandshakeResponse.

The waits of ``READY_DELAY``, ``HANDSHAKE_TIMEOUT`` and ``AGENT_HANDSHAKE_TIMEOUT`` start again with each websocket and
stop when it is lost. Only the wait for a late handshake continues without a websocket, as the agent's timeout does.
"""

from __future__ import annotations

from collections.abc import Iterable

from session_manager_plugin.errors import TimedOut
from session_manager_plugin.protocol.handshake import Handshake, HandshakeState
from session_manager_plugin.protocol.role import Role

READY_DELAY = 2.0
"""Seconds after opening, without a stream message, until a client assumes that there is no handshake."""
HANDSHAKE_TIMEOUT = 30.0
"""Seconds that a client waits for the end of a handshake, or for any message."""
AGENT_HANDSHAKE_TIMEOUT = 15.0
"""Seconds that the official agent waits for the client's answer."""

_AGENT_WAITS = (HandshakeState.REQUESTED, HandshakeState.DECRYPTING, HandshakeState.CHALLENGED)
_ASSUMED = HandshakeState.ASSUMED
_NO_DEADLINES = (None, None, None)


class Readiness:
    """See the module docstring. Reads the state of the handshake and does not change it: the owner calls
    ``assumption_due``, ``certain_by_now`` and ``overdue`` when ``next_timeout`` has passed, and acts on the results."""

    def __init__(self, handshake: Handshake, role: Role, *, handshake_required: bool) -> None:
        self.heard = False
        """Whether any protocol message was received."""
        self._client = role is Role.CLIENT
        self._handshake = handshake
        self._handshake_required = handshake_required
        self._connected = False
        self._kept: list[tuple[int, bytes]] = []
        self._ready_at: float | None = None
        self._deadline: float | None = None
        self._assumption_deadline: float | None = None

    # The websocket.

    def connected(self, now: float) -> None:
        """Start the waits again for a new websocket."""
        self._connected = True
        state = self._handshake.state
        if self._client and not self._handshake.settled:
            self._deadline = now + HANDSHAKE_TIMEOUT
            if not self._handshake_required and state is HandshakeState.AWAITING:
                self._ready_at = now + READY_DELAY
        elif state in _AGENT_WAITS:
            self._deadline = now + AGENT_HANDSHAKE_TIMEOUT

    def disconnected(self) -> None:
        """Stop the waits: the websocket is lost."""
        self._connected = False
        self._ready_at = self._deadline = None

    # The handshake.

    def acknowledged(self, now: float) -> None:
        """Note an acknowledgement. It shows that the agent runs: if the agent waits for our HandshakeResponse, it times
        out at most ``AGENT_HANDSHAKE_TIMEOUT`` seconds later."""
        if self._handshake.state is _ASSUMED and self._assumption_deadline is None:
            self._assumption_deadline = now + AGENT_HANDSHAKE_TIMEOUT

    def handshake_moved(self, now: float) -> None:
        """Note that a handshake message has changed the state of the handshake."""
        self._ready_at = self._assumption_deadline = self._deadline = None
        if self._connected and not self._handshake.settled:
            self._deadline = now + (HANDSHAKE_TIMEOUT if self._client else AGENT_HANDSHAKE_TIMEOUT)

    def handshake_excluded(self) -> None:
        """Drop the kept data and stop waiting: it is certain that no handshake follows."""
        self._kept.clear()
        self._assumption_deadline = self._deadline = None

    def began(self) -> None:
        """Note that ``SessionReady`` was emitted."""
        self._ready_at = None
        if self._handshake.settled:
            self._deadline = None

    # Data kept in case a handshake follows.

    @property
    def kept(self) -> int:
        """How many messages are kept."""
        return len(self._kept)

    def keep(self, payload_type: int, payloads: Iterable[bytes]) -> None:
        """Keep the payloads of sent messages while the agent may still discard them."""
        if self._handshake.state is _ASSUMED:
            self._kept.extend((payload_type, payload) for payload in payloads)

    def take_discarded(self) -> list[tuple[int, bytes]]:
        """Return the payloads that the agent has discarded. Call this once the late handshake is complete."""
        kept, self._kept = self._kept, []
        return kept

    # Time.

    def next_timeout(self) -> float | None:
        """When to call the three methods below again."""
        deadlines = (self._ready_at, self._deadline, self._assumption_deadline)
        if deadlines == _NO_DEADLINES:
            return None
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def assumption_due(self, now: float) -> bool:
        """Whether the client has to assume now that there is no handshake."""
        return self._ready_at is not None and self._ready_at <= now

    def certain_by_now(self, now: float) -> bool:
        """Whether it is certain that no handshake follows, because the agent's own timeout has passed."""
        return self._assumption_deadline is not None and self._assumption_deadline <= now

    def overdue(self, now: float, rejection: str) -> TimedOut | None:
        """Return the error that ends the session if its beginning has taken too long; otherwise None.

        ``rejection`` is why the first unusable message was rejected, or empty.
        """
        if self._deadline is None or self._deadline > now:
            return None
        self._deadline = None
        if not self._client:
            text = "Handshake timed out. Please ensure that you have the latest version of the session manager plugin."
            if self._handshake.state is HandshakeState.CHALLENGED:
                text = "Timed out waiting for encryption challenge."
            return TimedOut(text, seconds=AGENT_HANDSHAKE_TIMEOUT)
        if self._handshake.state is _ASSUMED and self.heard:
            return None
        return TimedOut(f"{self._cause(rejection)} within {HANDSHAKE_TIMEOUT:.0f} seconds", seconds=HANDSHAKE_TIMEOUT)

    def _cause(self, rejection: str) -> str:
        state = self._handshake.state
        if state is HandshakeState.ANSWERING:
            return "KMS did not return a data key"
        if state in (HandshakeState.RESPONDED, HandshakeState.PROVED):
            return "the agent began a handshake and did not complete it"
        if self.heard:
            return "the agent did not begin the handshake that this session needs"
        if rejection:
            return f"the far end sent only messages that are not of the Session Manager protocol ({rejection})"
        return "the far end sent nothing"
