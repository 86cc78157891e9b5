"""``Inbox``: handlers receive payloads in order, whenever they are set, and reading pauses while too many are kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from session_manager_plugin.communicator.inbox import (
    TRANSITIONS,
    UNCLAIMED_OVERHEAD,
    UNCLAIMED_SIZE,
    Inbox,
    Reading,
    ReadingInput,
)
from session_manager_plugin.protocol.messages import PayloadType


class Owner:
    """An inbox, what was received from it, and whether it asked to go on reading."""

    def __init__(self) -> None:
        self.flow: list[bool] = []
        self.taken: list[tuple[str, bytes]] = []
        self.inbox = Inbox(self.flow.append)

    def take(self, payload_type: PayloadType) -> None:
        """Set a handler."""
        self.inbox.set_handler(payload_type, lambda data: self.taken.append((payload_type.name, data)))


def test_payloads_wait_for_the_handler_of_the_output() -> None:
    owner = Owner()
    owner.inbox.receive(PayloadType.STDERR, b"1")
    owner.inbox.receive(PayloadType.OUTPUT, b"2")
    owner.take(PayloadType.STDERR)
    owner.inbox.receive(PayloadType.STDERR, b"3")
    assert owner.taken == []
    owner.take(PayloadType.OUTPUT)
    owner.inbox.receive(PayloadType.OUTPUT, b"4")
    assert owner.taken == [("STDERR", b"1"), ("OUTPUT", b"2"), ("STDERR", b"3"), ("OUTPUT", b"4")]


def test_a_payload_type_without_a_handler_is_dropped() -> None:
    owner = Owner()
    owner.inbox.receive(PayloadType.EXIT_CODE, b"0")
    owner.take(PayloadType.OUTPUT)
    owner.inbox.receive(PayloadType.EXIT_CODE, b"0")
    owner.inbox.receive(PayloadType.OUTPUT, b"x")
    assert owner.taken == [("OUTPUT", b"x")]


def test_reading_pauses_for_the_owner_and_for_what_is_kept() -> None:
    owner = Owner()
    inbox = owner.inbox
    states: list[Reading] = []
    steps: list[Callable[[], None]] = [
        lambda: inbox.receive(PayloadType.OUTPUT, bytes(UNCLAIMED_SIZE - UNCLAIMED_OVERHEAD)),
        lambda: inbox.receive(PayloadType.OUTPUT, b""),
        inbox.pause,
        inbox.resume,
        inbox.pause,
        lambda: owner.take(PayloadType.OUTPUT),
        inbox.pause,
        inbox.resume,
        inbox.resume,
    ]
    for step in steps:
        step()
        states.append(inbox.reading)
    on, full, paused, both = Reading.ON, Reading.FULL, Reading.PAUSED, Reading.PAUSED_AND_FULL
    assert states == [on, full, both, full, both, paused, paused, on, on]
    assert owner.flow == [False, True]


WAYS: dict[Reading, list[ReadingInput]] = {
    Reading.ON: [],
    Reading.PAUSED: [ReadingInput.PAUSE],
    Reading.FULL: [ReadingInput.FILLED],
    Reading.PAUSED_AND_FULL: [ReadingInput.FILLED, ReadingInput.PAUSE],
}


@pytest.mark.parametrize("state", [*Reading])
@pytest.mark.parametrize("step", [*ReadingInput])
def test_every_input_in_every_state(state: Reading, step: ReadingInput) -> None:
    owner = Owner()
    inputs: dict[ReadingInput, Callable[[], None]] = {
        ReadingInput.PAUSE: owner.inbox.pause,
        ReadingInput.RESUME: owner.inbox.resume,
        ReadingInput.FILLED: lambda: owner.inbox.receive(PayloadType.OUTPUT, bytes(UNCLAIMED_SIZE)),
        ReadingInput.CLAIMED: lambda: owner.take(PayloadType.OUTPUT),
    }
    for each in WAYS[state]:
        inputs[each]()
    assert owner.inbox.reading is state
    before = list(owner.flow)
    inputs[step]()
    after = TRANSITIONS.get((state, step), state)
    assert owner.inbox.reading is after
    assert owner.flow == [
        *before,
        *([after is Reading.ON] if (state is Reading.ON) is not (after is Reading.ON) else []),
    ]
