"""The two time limits of Session Manager's preferences: maximum duration and idle timeout.

The service enforces both, not the agent. Its texts in ``channel_closed`` are not published; these are the sandbox's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from session_manager_plugin.agent.faults import Message
from session_manager_plugin.protocol.messages import ClientMessageType

Deliver = Callable[[Sequence[Message]], None]

_STREAM_DATA = frozenset(
    {
        ClientMessageType.INPUT_STREAM_DATA.value.encode().ljust(32),
        ClientMessageType.OUTPUT_STREAM_DATA.value.encode().ljust(32),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When the service ends a session, in seconds; 0 means never. Raises ``ValueError`` for a negative value."""

    end_after: float = 0.0
    """The maximum duration, counted from the client's first websocket."""
    idle_timeout: float = 0.0
    """Counted from the last stream message in either direction. Acknowledgements and pings do not count."""
    text: str = ""
    """The text sent to the client. If empty, a sentence that names the limit."""

    def __post_init__(self) -> None:
        if self.end_after < 0 or self.idle_timeout < 0:
            raise ValueError("a time limit is a number of seconds from 0 on")


NO_LIMITS = Limits()


class Timer(Protocol):
    """A scheduled call, as returned by ``call_at``."""

    def cancel(self) -> None:
        """Cancel the call."""
        ...


class Timers(Protocol):
    """The clock and timers of an event loop."""

    def time(self) -> float:
        """Return the current time in seconds."""
        ...

    def call_at(self, when: float, callback: Callable[..., object], *args: str) -> Timer:
        """Call ``callback`` at the time ``when``."""
        ...


class LimitWatch:
    """Calls ``end`` with the text for the client when a session has reached a limit."""

    def __init__(self, limits: Limits, end: Callable[[str], None], loop: Timers) -> None:
        self._limits = limits
        self._end = end
        self._loop = loop
        self._active_at = 0.0
        self._end_timer: Timer | None = None
        self._idle_timer: Timer | None = None

    def start(self) -> None:
        """Start when the session's client has connected."""
        limits, now = self._limits, self._loop.time()
        self._active_at = now
        if limits.end_after:
            text = limits.text or f"The session has reached its maximum duration of {limits.end_after:g} s."
            self._end_timer = self._loop.call_at(now + limits.end_after, self._end, text)
        if limits.idle_timeout:
            self._idle_timer = self._loop.call_at(now + limits.idle_timeout, self._check_idle)

    def watching(self, deliver: Deliver) -> Deliver:
        """Return ``deliver``, wrapped to count stream messages as activity if there is an idle timeout."""
        if not self._limits.idle_timeout:
            return deliver

        def watched(messages: Sequence[Message]) -> None:
            if any(bytes(data[4:36]) in _STREAM_DATA for data in messages):
                self._active_at = self._loop.time()
            deliver(messages)

        return watched

    def stop(self) -> None:
        """Stop when the session has ended."""
        for timer in (self._end_timer, self._idle_timer):
            if timer is not None:
                timer.cancel()

    def _check_idle(self) -> None:
        timeout = self._limits.idle_timeout
        if self._loop.time() < self._active_at + timeout:
            self._idle_timer = self._loop.call_at(self._active_at + timeout, self._check_idle)
        else:
            self._end(self._limits.text or f"The session was idle for {timeout:g} s.")
