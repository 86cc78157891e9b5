"""The state of a session's link, and its texts for the bar, the title, notices and ``~i``."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from session_manager_plugin.protocol.reliable import StreamProgress as StreamProgress


class LinkState(Enum):
    """The state of a link. The value is the text for it in the bar, the title, notices and ``~i``."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    SILENT = "no answer"
    """Nothing is received, not even pongs."""
    UNANSWERED = "target silent"
    """The service answers pings, but nothing arrives from the target."""
    DELAYED = "input delayed"
    """The target sends output, but does not acknowledge input."""
    AWAY = "target away"
    """The service reports that the target is not connected."""
    RECONNECTING = "reconnecting"
    CLOSING = "closing"
    CLOSED = "closed"


class LinkHealth(NamedTuple):
    """The state of a link with its details.

    ``troubled``: whether the user should be notified; false in the first second of an outage. ``lasted``: seconds since
    the first sign of the current trouble, which is the last contact before silence or the loss of the websocket. One
    trouble may pass through several states.
    """

    state: LinkState
    troubled: bool = False
    lasted: float = 0.0
    attempt: str = ""
    """While reconnecting: a clause about the current or next attempt."""
    reason: str = ""
    """While reconnecting: the reason."""
    restored_after: float | None = None
    """For some seconds after trouble: how long it lasted; otherwise None."""
    advice: str = ""
    """With ``restored_after``: how to avoid that trouble, if known."""
    latency: float | None = None
    """Seconds between the last ping and its pong; None before the first, and while no pong arrives."""
    retransmitting: int = 0
    """Messages retransmitted and still unacknowledged."""
    silent_for: float | None = None
    """Seconds since the last contact, if that is long but not trouble; otherwise None."""

    @property
    def clauses(self) -> tuple[str, ...]:
        """Return wordings of the details to show after the state, the longest first; empty without details."""
        seconds = int(self.lasted)
        if self.restored_after is not None:
            restored = f"restored after {_duration(self.restored_after)}"
            return (f"{restored}; {self.advice}", restored) if self.advice else (restored,)
        if self.silent_for is not None:
            return (f"last contact {int(self.silent_for)} s ago",)
        if not self.troubled:
            return ()
        brief = f"for {seconds} s"
        match self.state:
            case LinkState.SILENT:
                return f"last contact {seconds} s ago", brief
            case LinkState.DELAYED:
                return f"not acknowledged for {seconds} s", brief
            case LinkState.RECONNECTING:
                return (
                    f"{brief}, {self.attempt}: {self.reason}",
                    f"{brief}: {self.reason}",
                    f"{brief}: {self.reason.partition('; ')[0]}",
                    f"{brief}, {self.attempt}",
                    brief,
                )
        return (brief,)

    @property
    def sentence(self) -> str:
        """Return state and details as a sentence without a full stop; empty while the link works."""
        seconds = int(self.lasted)
        if self.restored_after is not None:
            return f"connection {self.clauses[0]}"
        if not self.troubled:
            return ""
        match self.state:
            case LinkState.SILENT:
                return f"no answer, last contact {seconds} s ago"
            case LinkState.UNANSWERED:
                return f"no answer from the target for {seconds} s"
            case LinkState.DELAYED:
                return f"input not acknowledged for {seconds} s"
            case LinkState.AWAY:
                return f"the target has had no connection for {seconds} s"
        return f"connection lost {seconds} s ago; reconnecting, {self.attempt}: {self.reason}"


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s"


class LinkStatus(NamedTuple):
    """The content of a status line."""

    health: LinkHealth
    label: str
    """The session id or the target."""
    latencies: tuple[float, ...] = ()
    """Seconds, oldest first; the last eight are shown."""
