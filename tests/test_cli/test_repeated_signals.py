"""Which of two signals in a row counts: a key's second one does, that of timeout(1) does not."""

from __future__ import annotations

import asyncio
import signal
from types import SimpleNamespace
from typing import NoReturn

import pytest

from session_manager_plugin.cli import signals
from session_manager_plugin.cli.fleet import stop
from session_manager_plugin.cli.fleet.stop import StopOnSignal
from session_manager_plugin.cli.signals import Interruption
from tests.support.waiting import DEADLINE


def interruption() -> Interruption:
    task = asyncio.current_task()
    assert task is not None
    return Interruption(task, die)


def die(number: int) -> NoReturn:
    raise AssertionError(number)


@pytest.mark.parametrize(
    ("number", "seconds", "count"),
    [
        (signal.SIGINT, 0.05, 2),
        (signal.SIGQUIT, 0.03, 2),
        (signal.SIGINT, 0.002, 1),
        (signal.SIGTERM, 0.05, 1),
        (signal.SIGTERM, 0.2, 2),
    ],
)
async def test_a_second_signal_counts_unless_it_follows_at_once(
    monkeypatch: pytest.MonkeyPatch, number: int, seconds: float, count: int
) -> None:
    received: list[int] = []
    now = 0.01  # a machine that has just started

    def offer(offered: int) -> bool:
        received.append(offered)
        return True

    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: now))
    tested = interruption()
    with tested.session(offer):
        tested.interrupt(number)
        now += seconds
        tested.interrupt(number)
    assert received == [number] * count


async def test_a_fleet_that_does_not_end_says_how_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "INTERRUPT_PATIENCE", 0.0)
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    tested = interruption()
    with StopOnSignal(tested, told.set_result) as signalled:
        assert not signalled.is_stopped
        tested.interrupt(signal.SIGINT)
        assert signalled.number == signal.SIGINT
        async with asyncio.timeout(DEADLINE):
            assert await told == "waiting for the commands to end; Ctrl-C again leaves"
