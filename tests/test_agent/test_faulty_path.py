"""The way between gateway and agent of a session with faults: what passes, when, and what is lost with a websocket."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from session_manager_plugin.agent import Faults, MessageFaults, faulty_path
from session_manager_plugin.agent.faults import Message
from session_manager_plugin.agent.faulty_path import FaultyPath
from tests.support.waiting import wait_until
from tests.test_agent.test_faults import ACKNOWLEDGEMENT, stream

SIZE = len(stream(0))


class Ends:
    """A path and what comes out of it."""

    def __init__(self, seed: str = "", **faults: Any) -> None:
        self.at_client: list[Message] = []
        self.at_agent: list[Message] = []
        self.cuts = 0
        self.path = FaultyPath(
            Faults(**faults), seed, to_client=self.at_client.extend, to_agent=self.at_agent.extend, cut=self._cut
        )
        self.path.opened()

    def _cut(self) -> None:
        self.cuts += 1
        self.path.lost()

    def pattern(self, directions: Sequence[str] = ("agent", "client")) -> list[list[Message]]:
        """What 200 messages each way become."""
        messages = [stream(number) for number in range(200)]
        if "agent" in directions:
            self.path.from_agent(messages)
        if "client" in directions:
            self.path.from_client(messages)
        return [self.at_client, self.at_agent]


async def test_the_pattern_is_the_seeds_and_each_direction_has_its_own() -> None:
    faults = {"to_client": MessageFaults(drop=0.2), "to_agent": MessageFaults(drop=0.2)}
    at_client, at_agent = Ends("1 0", **faults).pattern()
    assert at_client != at_agent
    assert Ends("1 0", **faults).pattern() == [at_client, at_agent]
    assert Ends("1 0", **faults).pattern(["client"]) == [[], at_agent]
    assert Ends("1 1", **faults).pattern()[0] != at_client
    assert Ends("2 0", **faults).pattern()[0] != at_client


async def test_what_is_late_comes_by_itself() -> None:
    ends = Ends(to_client=MessageFaults(delay=1.0, delay_time=0.1))
    started_at = asyncio.get_running_loop().time()
    ends.path.from_agent([stream(0)])
    assert ends.at_client == []
    await wait_until(lambda: ends.at_client == [stream(0)])
    assert asyncio.get_running_loop().time() - started_at >= 0.1
    assert ends.path.counts.delayed == 1


async def test_what_is_late_comes_at_once_at_the_end_and_not_at_all_after_a_loss() -> None:
    ends = Ends(to_client=MessageFaults(delay=1.0), to_agent=MessageFaults(delay=1.0))
    ends.path.from_agent([stream(0)])
    ends.path.from_client([stream(1)])
    ends.path.flush()
    assert (ends.at_client, ends.at_agent) == ([stream(0)], [])
    ends.path.from_agent([stream(2)])
    ends.path.lost()
    ends.path.flush()
    assert (ends.at_client, ends.at_agent) == ([stream(0)], [])


async def test_after_the_limit_only_acknowledgements_pass_until_the_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faulty_path, "CUT_LINGER", 0.1)
    ends = Ends(cut_every=2 * SIZE)
    ends.path.from_agent([stream(0)])
    ends.path.from_client([stream(0), stream(1), ACKNOWLEDGEMENT, stream(2)])
    ends.path.from_agent([ACKNOWLEDGEMENT, stream(1)])
    assert ends.at_client == [stream(0), ACKNOWLEDGEMENT]
    assert ends.at_agent == [stream(0), ACKNOWLEDGEMENT]
    assert ends.cuts == 0
    await wait_until(lambda: ends.cuts == 1)
    ends.path.opened()
    ends.path.from_client([stream(1), stream(2)])
    assert ends.at_agent[2:] == [stream(1), stream(2)]
    await wait_until(lambda: ends.cuts == 2)


async def test_a_websocket_that_is_lost_before_the_cut_is_not_cut() -> None:
    ends = Ends(cut_every=1)
    ends.path.from_agent([stream(0)])
    ends.path.lost()
    ends.path.opened()
    late = asyncio.get_running_loop().time() + 2 * faulty_path.CUT_LINGER
    await wait_until(lambda: asyncio.get_running_loop().time() > late)
    assert ends.cuts == 0
