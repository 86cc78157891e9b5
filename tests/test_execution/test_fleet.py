"""Which targets are at work, and when."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from session_manager_plugin.execution.fleet import run_on_all


class Work:
    """Runs that end when they are told to."""

    def __init__(self) -> None:
        self.running: dict[int, asyncio.Future[int]] = {}
        self.cancelled: list[int] = []

    async def run(self, target: int) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.running[target] = future
        try:
            return await future
        except asyncio.CancelledError:
            self.cancelled.append(target)
            raise
        finally:
            del self.running[target]

    def end(self, *targets: int) -> None:
        for target in targets:
            self.running[target].set_result(target)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_than_the_fanout_at_once() -> None:
    work = Work()
    ended: list[int] = []

    async def collect() -> None:
        nonlocal ended
        async for target in run_on_all(range(5), work.run, fanout=2):
            ended += [target]

    task = asyncio.ensure_future(collect())
    await settle()
    assert set(work.running) == {0, 1}
    work.end(1)
    await settle()
    assert (set(work.running), ended) == ({0, 2}, [1])
    for target in (2, 3, 4, 0):
        work.end(target)
        await settle()
    await task
    assert ended == [1, 2, 3, 4, 0]


async def test_a_batch_begins_when_all_before_have_ended() -> None:
    work = Work()

    async def collect() -> list[int]:
        return [target async for target in run_on_all(range(5), work.run, batch=2)]

    task = asyncio.ensure_future(collect())
    for batch in ({0, 1}, {2, 3}, {4}):
        await settle()
        assert set(work.running) == batch
        first, *others = sorted(batch)
        work.end(first)
        await settle()
        assert set(work.running) == set(others)
        work.end(*others)
    assert sorted(await task) == [0, 1, 2, 3, 4]


async def test_nothing_begins_once_it_is_stopped() -> None:
    work, stopped = Work(), False

    async def collect() -> list[int]:
        return [
            target async for target in run_on_all(range(9), work.run, fanout=2, batch=2, is_stopped=lambda: stopped)
        ]

    task = asyncio.ensure_future(collect())
    await settle()
    stopped = True
    work.end(0, 1)
    assert sorted(await task) == [0, 1]


async def test_closing_cancels_what_is_at_work() -> None:
    work = Work()
    async with aclosing(run_on_all(range(3), work.run)) as results:

        async def first() -> int:
            return await anext(results)

        task = asyncio.ensure_future(first())
        await settle()
        work.end(1)
        assert await task == 1
    assert sorted(work.cancelled) == [0, 2]


async def test_no_targets() -> None:
    assert [target async for target in run_on_all([], Work().run)] == []
