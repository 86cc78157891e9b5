"""A clock that a test moves by hand."""

from __future__ import annotations

from collections.abc import Callable

from session_manager_plugin.session.protocols import Clock


class _Call:
    def __init__(self, at: float, callback: Callable[[], object]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class ManualClock(Clock):
    """Stands still but for ``advance``."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._calls: list[_Call] = []

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> _Call:
        call = _Call(self._now + delay, callback)
        self._calls.append(call)
        return call

    def call_at(self, when: float, callback: Callable[..., object], *args: str) -> _Call:
        return self.call_later(when - self._now, lambda: callback(*args))

    @property
    def is_awaited(self) -> bool:
        """Whether a call is planned."""
        return any(not call.cancelled for call in self._calls)

    def advance(self, seconds: float) -> None:
        """Let time pass: planned calls are made in their order, each at its instant."""
        end = self._now + seconds
        while True:
            self._calls = [call for call in self._calls if not call.cancelled]
            due = [call for call in self._calls if call.at <= end]
            if not due:
                break
            call = min(due, key=lambda call: call.at)
            self._calls.remove(call)
            self._now = max(self._now, call.at)
            call.callback()
        self._now = end
