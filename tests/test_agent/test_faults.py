"""What goes wrong on purpose, as a pure engine: which messages suffer, what becomes of them, and that it repeats."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from session_manager_plugin.agent import faults as faults_module
from session_manager_plugin.agent.faults import (
    MAX_DISPLACEMENT,
    REORDER_TIMEOUT,
    CutSchedule,
    FaultCounts,
    FaultInjector,
    Faults,
    Message,
    MessageFaults,
    corrupt,
    is_acknowledgement,
)
from session_manager_plugin.agent.service_messages import channel_closed_message, publication_message
from session_manager_plugin.errors import RemoteProtocolError
from session_manager_plugin.protocol.messages import (
    AcknowledgementWriter,
    ClientMessage,
    ClientMessageType,
    MessageIds,
    PayloadType,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ID = UUID(int=5)


def stream(number: int, payload: bytes = b"payload") -> bytes:
    """A stream message of the agent."""
    kind = ClientMessageType.OUTPUT_STREAM_DATA.value
    return ClientMessage(kind, number, PayloadType.OUTPUT, payload, ID.bytes, 1).serialize()


(ACKNOWLEDGEMENT,) = AcknowledgementWriter(ClientMessageType.OUTPUT_STREAM_DATA, MessageIds(bytes)).write(
    [(ID.bytes, 3)], 1
)
EXEMPT = [
    channel_closed_message("s-1", "", created_at=NOW, message_id=ID),
    publication_message(ClientMessageType.PAUSE_PUBLICATION, created_at=NOW, message_id=ID),
    publication_message(ClientMessageType.START_PUBLICATION, created_at=NOW, message_id=ID),
    b"",
    b"no message at all",
]


def numbers(messages: list[Message]) -> list[int]:
    """Their sequence numbers."""
    return [ClientMessage.parse(message).sequence_number for message in messages]


def pass_all(injector: FaultInjector, count: int) -> list[int]:
    """The order in which ``count`` messages, sent one each millisecond, arrive in the end."""
    arrived: list[Message] = []
    for number in range(count):
        now = number / 1000
        arrived += injector.handle_timeout(now)
        arrived += injector.receive([stream(number)], now)
    return numbers(arrived + injector.release())


# Messages.


def test_by_default_nothing_goes_wrong() -> None:
    assert not Faults().in_transit
    assert not MessageFaults().active
    assert pass_all(FaultInjector(MessageFaults(), 0), 100) == list(range(100))


@pytest.mark.parametrize("name", ["drop", "duplicate", "reorder", "delay", "corrupt"])
def test_a_tenth_of_the_messages_suffers_and_always_the_same_ones(name: str) -> None:
    faults = MessageFaults(**{name: 0.1})
    assert faults.active

    def suffer(seed: int) -> tuple[list[Message], FaultCounts]:
        injector = FaultInjector(faults, seed)
        arrived = list(itertools.chain.from_iterable(injector.receive([stream(n)], n / 1000) for n in range(2000)))
        return arrived + injector.release(), injector.counts

    arrived, counts = suffer(7)
    happened = [counts.dropped, counts.duplicated, counts.reordered, counts.delayed, counts.corrupted]
    assert 150 < sum(happened) < 250
    assert len([count for count in happened if count]) == 1
    assert suffer(7) == (arrived, counts)
    assert suffer(8)[0] != arrived


def test_one_fault_does_not_move_another() -> None:
    dropped_alone = set(range(500)) - set(pass_all(FaultInjector(MessageFaults(drop=0.1), 3), 500))
    faults = MessageFaults(drop=0.1, duplicate=0.3, reorder=0.3, delay=0.1)
    assert set(range(500)) - set(pass_all(FaultInjector(faults, 3), 500)) == dropped_alone


def test_how_messages_are_batched_does_not_matter() -> None:
    faults = MessageFaults(drop=0.1, duplicate=0.1, reorder=0.1, corrupt=0.1)
    one, other = FaultInjector(faults, 1), FaultInjector(faults, 1)
    messages = [stream(number) for number in range(100)]
    together = one.receive(messages, 0.0)
    assert together == [arrived for message in messages for arrived in other.receive([message], 0.0)]


@pytest.mark.parametrize("name", ["drop", "corrupt", "reorder", "delay"])
@pytest.mark.parametrize("message", EXEMPT)
def test_what_is_never_sent_again_is_exempt(name: str, message: bytes) -> None:
    injector = FaultInjector(MessageFaults(**{name: 1.0}), 0)
    assert injector.receive([message], 0.0) == [message]
    assert injector.counts == FaultCounts()


@pytest.mark.parametrize("make", [bytes, bytearray])
def test_acknowledgements_are_not_exempt(make: type[bytes] | type[bytearray]) -> None:
    assert FaultInjector(MessageFaults(drop=1.0), 0).receive([make(ACKNOWLEDGEMENT)], 0.0) == []
    assert is_acknowledgement(make(ACKNOWLEDGEMENT))
    assert not is_acknowledgement(stream(1))


def test_a_duplicate_arrives_behind_its_original_or_long_before_it() -> None:
    assert pass_all(FaultInjector(MessageFaults(duplicate=1.0), 0), 3) == [0, 0, 1, 1, 2, 2]
    both = FaultInjector(MessageFaults(duplicate=1.0, delay=1.0, delay_time=1.0), 0)
    assert numbers(both.receive([stream(0), stream(1)], 0.0)) == [0, 1]
    assert numbers(both.handle_timeout(1.0)) == [0, 1]


def test_reordered_messages_are_overtaken_by_a_few() -> None:
    arrived = pass_all(FaultInjector(MessageFaults(reorder=0.1), 5), 1000)
    assert sorted(arrived) == list(range(1000))
    assert arrived != list(range(1000))
    passed_by = [sum(1 for later in arrived[: arrived.index(n)] if later > n) for n in range(1000)]
    # Others may be held back at the same time, and come with the one that was waited for.
    assert 0 < max(passed_by) <= 2 * MAX_DISPLACEMENT


def test_a_reordered_message_does_not_wait_for_ever() -> None:
    injector = FaultInjector(MessageFaults(reorder=1.0), 0)
    assert injector.receive([stream(0)], 10.0) == []
    assert injector.next_timeout() == 10.0 + REORDER_TIMEOUT
    assert injector.handle_timeout(10.0) == []
    assert numbers(injector.handle_timeout(10.0 + REORDER_TIMEOUT)) == [0]
    assert (injector.next_timeout(), injector.held) == (None, 0)


def test_delayed_messages_come_in_order_each_at_its_time() -> None:
    injector = FaultInjector(MessageFaults(delay=1.0, delay_time=0.5), 0)
    assert injector.receive([stream(0)], 1.0) == injector.receive([stream(1)], 1.25) == []
    assert (injector.next_timeout(), injector.held) == (1.5, 2)
    assert numbers(injector.handle_timeout(1.5)) == [0]
    assert injector.next_timeout() == 1.75
    assert numbers(injector.release()) == [1]


def test_what_is_held_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults_module, "MAX_HELD", 3)
    injector = FaultInjector(MessageFaults(delay=1.0, delay_time=60.0), 0)
    injector.receive([stream(number) for number in range(5)], 0.0)
    assert injector.held == 3
    assert injector.counts.dropped == 2


@pytest.mark.parametrize("message", [stream(0), stream(1, bytes(1024)), ACKNOWLEDGEMENT])
def test_a_receiver_can_tell_whatever_is_corrupted(message: bytes) -> None:
    for step in range(1000):
        damaged = corrupt(message, step / 1000)
        assert damaged != message
        with pytest.raises(RemoteProtocolError):
            ClientMessage.parse(damaged)


def test_a_message_without_a_payload_can_be_corrupted_too() -> None:
    for step in range(100):
        assert len(corrupt(stream(0)[:120], step / 100)) < 120


# Cuts.


def test_the_message_that_reaches_the_limit_still_passes() -> None:
    schedule = CutSchedule(Faults(cut_every=250))
    messages = [bytes(100)] * 4
    assert schedule.pass_through(messages[:2]) is None
    assert schedule.pass_through(messages) == 1
    schedule.opened()
    assert schedule.pass_through(messages) == 3


def test_a_cut_after_so_many_bytes_comes_once_whatever_the_websocket() -> None:
    schedule = CutSchedule(Faults(cut_after=250))
    assert schedule.pass_through([bytes(100)] * 2) is None
    schedule.opened()
    assert schedule.pass_through([bytes(100)] * 2) == 1
    schedule.opened()
    assert schedule.pass_through([bytes(100)] * 1000) is None


def test_both_limits_together() -> None:
    schedule = CutSchedule(Faults(cut_every=300, cut_after=100))
    cuts = []
    for _ in range(3):
        schedule.opened()
        cuts.append(schedule.pass_through([bytes(100)] * 4))
    assert cuts == [1, 3, 3]


# Settings.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop": 1.5}, "drop is a probability from 0 to 1, not 1.5"),
        ({"corrupt": -0.1}, "corrupt is a probability from 0 to 1, not -0.1"),
        ({"reorder": float("nan")}, "reorder is a probability from 0 to 1, not nan"),
        ({"delay_time": 61}, "the delay time is 0 to 60 seconds, not 61"),
    ],
)
def test_probabilities_are_checked(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MessageFaults(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cut_every": -1}, "cut_every is a number from 0 on, not -1"),
        ({"refuse_resume": -1}, "refuse_resume is a number from 0 on, not -1"),
        ({"cut_code": 999}, "close code 999; expected"),
        ({"cut_code": 1005}, "close code 1005; expected"),
        ({"cut_code": 1015}, "close code 1015; expected"),
        ({"void_token": "ignore"}, "void_token is close or forbidden, not 'ignore'"),
    ],
)
def test_other_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Faults(**settings)


@pytest.mark.parametrize("code", [None, 1000, 1001, 1006, 1011, 1013, 3000, 4999])
def test_codes_to_cut_with(code: int | None) -> None:
    assert Faults(cut_code=code).cut_code == code


def test_what_needs_the_longer_way() -> None:
    for faults in (
        Faults(to_client=MessageFaults(drop=0.1)),
        Faults(to_agent=MessageFaults(delay=0.1)),
        Faults(cut_every=1),
        Faults(cut_after=1),
    ):
        assert faults.in_transit
    for faults in (Faults(withhold_pongs=True), Faults(refuse_resume=1), Faults(tokens_reusable=True)):
        assert not faults.in_transit


def test_a_jitter_keeps_the_order() -> None:
    injector = FaultInjector(MessageFaults(delay=1, delay_time=0.1, delay_jitter=0.05), "seed")
    messages = [stream(number) for number in range(200)]
    arrived: list[tuple[float, bytes]] = []
    for number, data in enumerate(messages):
        now = number * 0.02
        arrived += [(now, bytes(each)) for each in injector.handle_timeout(now)]
        assert injector.receive([data], now) == []
    while (due_at := injector.next_timeout()) is not None:
        arrived += [(due_at, bytes(each)) for each in injector.handle_timeout(due_at)]
    assert [data for _, data in arrived] == messages
    waits = [at - number * 0.02 for number, (at, _) in enumerate(arrived)]
    assert 0.05 <= min(waits) < 0.1 < max(waits) <= 0.17
