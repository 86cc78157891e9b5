"""The service's time limits, on a clock that is a number."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from session_manager_plugin.agent.limits import NO_LIMITS, Limits, LimitWatch
from session_manager_plugin.protocol.messages import ClientMessageType


@dataclass
class Due:
    """A timer."""

    at: float
    call: Callable[[], object]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop that has timers only."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[Due] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[..., object], *args: str) -> Due:
        self._timers.append(Due(when, functools.partial(callback, *args)))
        return self._timers[-1]

    def advance(self, to: float) -> None:
        """Let the time pass until ``to``, and what is due happen."""
        self._now = to
        for timer in [timer for timer in self._timers if timer.at <= to]:
            self._timers.remove(timer)
            if not timer.cancelled:
                timer.call()


def message(message_type: ClientMessageType) -> bytes:
    return bytes(4) + message_type.value.encode().ljust(32)


INPUT, OUTPUT = message(ClientMessageType.INPUT_STREAM_DATA), message(ClientMessageType.OUTPUT_STREAM_DATA)
ACKNOWLEDGE = message(ClientMessageType.ACKNOWLEDGE)


def test_stream_messages_of_either_direction_put_the_idle_timeout_off() -> None:
    clock, ended, passed = Clock(), list[str](), list[object]()
    watch = LimitWatch(Limits(idle_timeout=10), ended.append, clock)
    deliver = watch.watching(passed.append)
    clock.advance(5)
    watch.start()  # the time before the client came does not count
    clock.advance(14)
    deliver([ACKNOWLEDGE, INPUT])
    clock.advance(15)
    clock.advance(23)
    deliver([OUTPUT])
    clock.advance(24)
    clock.advance(32)
    deliver([ACKNOWLEDGE])
    assert ended == []
    clock.advance(33)
    assert ended == ["The session was idle for 10 s."]
    assert passed == [[ACKNOWLEDGE, INPUT], [OUTPUT], [ACKNOWLEDGE]]


def test_the_maximum_duration_is_not_put_off() -> None:
    clock, ended = Clock(), list[str]()
    watch = LimitWatch(Limits(end_after=10, idle_timeout=6, text="That was it."), ended.append, clock)
    deliver = watch.watching(lambda _: None)
    watch.start()
    clock.advance(5)
    deliver([INPUT])
    clock.advance(9.9)
    assert ended == []
    clock.advance(10)
    assert ended == ["That was it."]


def test_a_session_that_is_over_has_no_limits() -> None:
    clock, ended = Clock(), list[str]()
    watch = LimitWatch(Limits(end_after=10, idle_timeout=6), ended.append, clock)
    watch.start()
    watch.stop()
    clock.advance(100)
    assert ended == []


def test_without_an_idle_timeout_messages_are_not_looked_at() -> None:
    passed: list[object] = []
    assert LimitWatch(NO_LIMITS, print, Clock()).watching(passed.append) == passed.append


def test_a_limit_is_not_negative() -> None:
    with pytest.raises(ValueError, match="from 0 on"):
        Limits(idle_timeout=-1)
