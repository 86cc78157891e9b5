"""How fast sessions are started, against a service with a bucket of tokens, on a clock that is a number."""

from __future__ import annotations

import asyncio
import heapq
import random

import pytest

from session_manager_plugin.agent.call_rate import CallRate
from session_manager_plugin.aws.start_pace import MAX_ATTEMPTS, TRANSIENT_ATTEMPTS, StartPace
from session_manager_plugin.errors import AccessDenied, ConnectError


class Refusal(Exception):
    """What botocore raises."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.response = {"Error": {"Code": code, "Message": ""}}


def throttling() -> ConnectError:
    error = ConnectError("Rate exceeded", retryable=True)
    error.__cause__ = Refusal("ThrottlingException")
    return error


class SimulatedTime:
    """A clock that jumps to the next wake-up when nothing else is to be done."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, future))
        await future

    async def run(self, task: asyncio.Future[None]) -> None:
        while not task.done():
            for _ in range(5):
                await asyncio.sleep(0)
            if self._sleepers:
                at, _, future = heapq.heappop(self._sleepers)
                self.now = max(self.now, at)
                future.set_result(None)


@pytest.mark.parametrize(("rate", "count"), [(20.0, 300), (3.0, 60), (1.0, 20)])
async def test_sessions_start_as_fast_as_the_service_allows(rate: float, count: int) -> None:
    time = SimulatedTime()
    service = CallRate(rate, time.clock)
    pace = StartPace(clock=time.clock, sleep=time.sleep, randomness=random.Random(7).random)
    refused = 0

    async def start() -> None:
        nonlocal refused
        await time.sleep(0.05)
        if not service.take():
            refused += 1
            raise throttling()

    async def work() -> None:
        free = asyncio.Semaphore(32)

        async def one() -> None:
            async with free:
                await pace.run(start)
                await time.sleep(0.5)  # the command

        await asyncio.gather(*(one() for _ in range(count)))

    task = asyncio.ensure_future(work())
    await time.run(task)
    await task
    assert time.now <= count / rate * 1.05 + 2
    assert refused <= 32 + count / 2  # 32 at the beginning, before anything is known
    assert pace.limit is not None
    assert pace.refused == refused
    assert pace.average == pytest.approx(count / time.now, rel=0.25)


async def test_without_throttling_nothing_waits() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def start() -> int:
        return 3

    pace = StartPace(sleep=sleep)
    assert [await pace.run(start) for _ in range(50)] == [3] * 50
    assert (pace.limit, set(waits)) == (None, {0.0})


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (throttling(), MAX_ATTEMPTS),
        (ConnectError("the network", retryable=True), TRANSIENT_ATTEMPTS),
        (ConnectError("offline"), 1),
        (AccessDenied("no"), 1),
    ],
)
async def test_a_start_is_given_up(error: Exception, attempts: int) -> None:
    calls = 0

    async def sleep(_seconds: float) -> None:
        pass

    async def start() -> None:
        nonlocal calls
        calls += 1
        raise error

    with pytest.raises(type(error)):
        await StartPace(sleep=sleep).run(start)
    assert calls == attempts
