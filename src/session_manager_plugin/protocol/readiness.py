"""When a session is ready, and how long its beginning may take.

The client is ready by HandshakeComplete, by the first stream message, or, when the document is not known to need a
handshake, ``READY_DELAY`` seconds after opening with nothing received: a remote program that prints nothing must be
usable (reference defect H9). Data sent on that assumption is kept: should a handshake begin after all, the agent has
thrown away what came before its end, so it is sent again under new numbers. What has a lower number than our answer
to the request is exactly what was thrown away, since the agent takes messages in order.

The clocks of ``READY_DELAY``, ``HANDSHAKE_TIMEOUT`` and ``AGENT_HANDSHAKE_TIMEOUT`` begin with each websocket and
stand still without one. Only the wait for a late handshake goes on, since it is the far end's patience, not ours.
"""

from __future__ import annotations

from collections.abc import Iterable

from session_manager_plugin.errors import TimedOut
from session_manager_plugin.protocol.handshake import Handshake, HandshakeInput, HandshakeState

READY_DELAY = 2.0
"""Seconds after opening with nothing received until a client assumes that no handshake will come."""
HANDSHAKE_TIMEOUT = 30.0
"""Seconds a client waits for a handshake, or for any sign of life."""
AGENT_HANDSHAKE_TIMEOUT = 15.0
"""Seconds the official agent waits for the client's answer."""

_AGENT_WAITS = (HandshakeState.REQUESTED, HandshakeState.DECRYPTING, HandshakeState.CHALLENGED)
_ASSUMED = HandshakeState.ASSUMED


class Readiness:
    """See the module docstring. It moves the handshake's state for time and data; messages are not its business."""

    def __init__(self, handshake: Handshake, *, client: bool, handshake_required: bool) -> None:
        self.heard = False
        """Whether anything of the protocol has come."""
        self._client = client
        self._handshake = handshake
        self._handshake_required = handshake_required
        self._connected = False
        self._kept: list[tuple[int, bytes]] = []
        self._ready_at: float | None = None
        self._deadline: float | None = None
        self._assumption_deadline: float | None = None

    # The websocket.

    def connected(self, now: float) -> None:
        """A new websocket is open: what is waited for is waited for anew."""
        self._connected = True
        state = self._handshake.state
        if self._client and not self._handshake.settled:
            self._deadline = now + HANDSHAKE_TIMEOUT
            if not self._handshake_required and state is HandshakeState.AWAITING:
                self._ready_at = now + READY_DELAY
        elif state in _AGENT_WAITS:
            self._deadline = now + AGENT_HANDSHAKE_TIMEOUT

    def disconnected(self) -> None:
        """The websocket is gone: nothing can come."""
        self._connected = False
        self._ready_at = self._deadline = None

    # What happens.

    def data_received(self) -> bool:
        """Data has come before the handshake was settled; True when the client's session begins with it."""
        state = self._handshake.state
        if not self._client or state not in (HandshakeState.AWAITING, _ASSUMED):
            return False
        self._handshake.apply(HandshakeInput.DATA_RECEIVED)
        self._no_handshake()
        return state is HandshakeState.AWAITING

    def acknowledged(self, now: float) -> None:
        """Something we sent was acknowledged. An agent that still wants a handshake gives up on it after this time."""
        if self._handshake.state is _ASSUMED and self._assumption_deadline is None:
            self._assumption_deadline = now + AGENT_HANDSHAKE_TIMEOUT

    def handshake_moved(self, now: float) -> None:
        """The handshake is in a new state."""
        self._ready_at = self._assumption_deadline = self._deadline = None
        if self._connected and not self._handshake.settled:
            self._deadline = now + (HANDSHAKE_TIMEOUT if self._client else AGENT_HANDSHAKE_TIMEOUT)

    def began(self) -> None:
        """The owner was told that the session has begun."""
        self._ready_at = None
        if self._handshake.settled:
            self._deadline = None

    def _no_handshake(self) -> None:
        """It is certain now: nothing has to be kept for one, or waited for."""
        self._kept.clear()
        self._assumption_deadline = self._deadline = None

    # What is kept for a handshake that begins late.

    @property
    def kept(self) -> int:
        """How many messages are kept."""
        return len(self._kept)

    def keep(self, payload_type: int, payloads: Iterable[bytes]) -> None:
        """Data is being sent, in these messages."""
        if self._handshake.state is _ASSUMED:
            self._kept.extend((payload_type, payload) for payload in payloads)

    def take_discarded(self) -> list[tuple[int, bytes]]:
        """What the agent has thrown away, once the late handshake is complete."""
        kept, self._kept = self._kept, []
        return kept

    # Time.

    def next_timeout(self) -> float | None:
        """When ``begins`` or ``overdue`` has something to say."""
        deadlines = (self._ready_at, self._deadline, self._assumption_deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def begins(self, now: float) -> bool:
        """Whether the client's session begins now, on the assumption that no handshake will come."""
        if self._ready_at is None or self._ready_at > now:
            return False
        self._handshake.apply(HandshakeInput.NOTHING_CAME)
        return True

    def overdue(self, now: float, rejection: str) -> TimedOut | None:
        """What has come too late to wait any longer; None while all is well.

        ``rejection`` tells why the first unusable message was none, or is empty.
        """
        if self._assumption_deadline is not None and self._assumption_deadline <= now:
            self._handshake.apply(HandshakeInput.SKIP)
            self._no_handshake()
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
        return TimedOut(
            f"{self._what_came(rejection)} within {HANDSHAKE_TIMEOUT:.0f} seconds", seconds=HANDSHAKE_TIMEOUT
        )

    def _what_came(self, rejection: str) -> str:
        state = self._handshake.state
        if state is HandshakeState.ANSWERING:
            return "KMS did not give a data key"
        if state in (HandshakeState.RESPONDED, HandshakeState.PROVED):
            return "the far end began a handshake and did not complete it"
        if self.heard:
            return "the far end did not begin the handshake that this session needs"
        if rejection:
            return f"the far end sent only what is not of the Session Manager protocol ({rejection})"
        return "nothing came from the far end"
