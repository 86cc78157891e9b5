"""The path between the gateway and the agent of one session with faults: two injectors, their timer, the cuts.

A session without faults does not use this module: its messages are passed on in one call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from session_manager_plugin.agent.faults import (
    CutSchedule,
    FaultCounts,
    FaultInjector,
    Faults,
    Message,
    is_acknowledgement,
)

CUT_LINGER = 0.02
"""Seconds between the last byte that passes and the cut, in which acknowledgements still pass. On a new websocket both
ends retransmit everything unacknowledged at once; without this time every such burst could be cut before any of it is
acknowledged, for ever."""

Deliver = Callable[[Sequence[Message]], None]


class FaultyPath:
    """See the module docstring. Calls ``to_client`` and ``to_agent`` with arriving messages, and ``cut`` to cut."""

    def __init__(
        self, faults: Faults, seed: str, *, to_client: Deliver, to_agent: Deliver, cut: Callable[[], object]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._to_client = _Direction(FaultInjector(faults.to_client, f"{seed} to the client"), to_client)
        self._to_agent = _Direction(FaultInjector(faults.to_agent, f"{seed} to the agent"), to_agent)
        self._schedule = CutSchedule(faults)
        self._cut = cut
        self._cut_timer: asyncio.TimerHandle | None = None

    @property
    def counts(self) -> FaultCounts:
        """The faults of messages so far, both directions together. Cuts are not counted here."""
        return self._to_client.injector.counts + self._to_agent.injector.counts

    def from_agent(self, messages: Sequence[Message]) -> None:
        """Take messages for the client."""
        self._send(self._to_client, messages)

    def from_client(self, messages: Sequence[Message]) -> None:
        """Take messages for the agent."""
        self._send(self._to_agent, messages)

    def opened(self) -> None:
        """A new websocket was opened."""
        self._schedule.opened()

    def lost(self) -> None:
        """The websocket is lost, with the messages in transit."""
        if self._cut_timer is not None:
            self._cut_timer.cancel()
            self._cut_timer = None
        for direction in (self._to_client, self._to_agent):
            direction.injector.release()
            direction.arm(None)

    def flush(self) -> None:
        """Deliver messages in transit to the client at once, at the end of the session."""
        self._deliver(self._to_client, self._to_client.injector.release())

    def _send(self, direction: _Direction, messages: Sequence[Message]) -> None:
        self._deliver(direction, direction.injector.receive(messages, self._loop.time()))
        self._arm(direction)

    def _arm(self, direction: _Direction) -> None:
        due_at = direction.injector.next_timeout()
        direction.arm(None if due_at is None else self._loop.call_at(due_at, self._fire, direction))

    def _fire(self, direction: _Direction) -> None:
        # The loop may fire early by its clock's resolution; then the message is delivered by the next timer.
        self._deliver(direction, direction.injector.handle_timeout(self._loop.time()))
        self._arm(direction)

    def _deliver(self, direction: _Direction, messages: Sequence[Message]) -> None:
        if self._cut_timer is None:
            passing = self._schedule.pass_through(messages)
            if passing is not None:
                self._cut_timer = self._loop.call_later(CUT_LINGER, self._cut)
                messages = [*messages[:passing], *filter(is_acknowledgement, messages[passing:])]
        else:
            messages = [message for message in messages if is_acknowledgement(message)]
        if messages:
            direction.deliver(messages)


class _Direction:
    """One direction: its injector, the receiver of arriving messages, and its timer."""

    def __init__(self, injector: FaultInjector, deliver: Deliver) -> None:
        self.injector = injector
        self.deliver = deliver
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, timer: asyncio.TimerHandle | None) -> None:
        """Replace the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer
