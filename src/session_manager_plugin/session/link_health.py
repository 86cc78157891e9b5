"""The state of a session's link at one moment, and its texts for the bar, the title, notices and ``~i``."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class LinkState(Enum):
    """One word for the link. The bar, the title, notices and ``~i`` all show this word, and no other."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    SILENT = "no answer"
    """Nothing is received, not even answers to pings."""
    UNANSWERED = "target silent"
    """The service answers, but nothing arrives from the target."""
    DELAYED = "input delayed"
    """The target sends, but does not acknowledge input."""
    AWAY = "target away"
    """The service reports that the target has no connection."""
    RECONNECTING = "reconnecting"
    CLOSING = "closing"
    CLOSED = "closed"


class LinkHealth(NamedTuple):
    """``lasted`` is how long the present trouble has lasted, in seconds since its first sign: the last contact before a
    silence, or the loss of the websocket. One trouble may go through several states; it has one beginning.

    ``troubled`` is whether a person should be told. An outage shorter than a second is not worth it.
    """

    state: LinkState
    troubled: bool = False
    lasted: float = 0.0
    attempt: str = ""
    """While reconnecting: which attempt is next or under way, as a clause."""
    reason: str = ""
    """While reconnecting: why."""
    restored_after: float | None = None
    """For some seconds after a trouble: how long it lasted. Else None."""
    advice: str = ""
    """With ``restored_after``: what would have avoided the trouble, if that is known."""
    latency: float | None = None
    """Seconds the last ping took; None before the first, and while no answer arrives."""
    retransmitting: int = 0
    """Messages sent again and still unacknowledged."""
    silent_for: float | None = None
    """Seconds since the last contact, where that is long but no sign of trouble; else None."""

    @property
    def clauses(self) -> tuple[str, ...]:
        """The details that follow the word for the state, the longest wording first; empty if there are none."""
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
        """The same as a sentence without a full stop; empty while the link works."""
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
