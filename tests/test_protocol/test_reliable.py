"""``protocol/reliable.py``: order, acknowledgement, retransmission, and the limits of what is kept."""

import itertools
from typing import Any

import pytest

from session_manager_plugin.protocol.messages import ClientMessage
from session_manager_plugin.protocol.reliable import (
    BURST,
    INITIAL_WINDOW,
    MAX_HELD_MESSAGES,
    MAX_HELD_SIZE,
    MAX_WINDOW,
    RoundTripEstimator,
    StreamReceiver,
    StreamSender,
)
from tests.support.vectors import load_vectors

ROUND_TRIPS = load_vectors("rtt.json")["records"]


# The estimator against the recorded sequences.


@pytest.mark.parametrize("record", ROUND_TRIPS, ids=[record["name"] for record in ROUND_TRIPS])
def test_the_estimator_computes_what_was_recorded(record: dict[str, Any]) -> None:
    """To the nanosecond, to which the official client cuts its timeout down."""
    estimator = RoundTripEstimator()
    check(estimator, record["initial"])
    for step in record["steps"]:
        estimator.sample(step["sample_ns"] / 1e9)
        check(estimator, step)


def check(estimator: RoundTripEstimator, state: dict[str, Any]) -> None:
    assert estimator.smoothed * 1e9 == pytest.approx(state["rtt_ns"], abs=1.0)
    assert estimator.variation * 1e9 == pytest.approx(state["rttvar_ns"], abs=1.0)
    assert estimator.retransmission_timeout * 1e9 == pytest.approx(state["rto_ns"], abs=1.0)


# The sender.


def send(sender: StreamSender, count: int, now: float) -> list[bytes]:
    """Send so many messages; their bytes are their numbers."""
    messages = []
    for _ in range(count):
        messages.append(b"%d" % sender.next_sequence_number)
        sender.sent(messages[-1], now)
    return messages


def resend_times(sender: StreamSender, start: float, end: float) -> list[float]:
    """Let time pass with nothing acknowledged; the instants of sending, the first included."""
    times = [start]
    while (timeout := sender.next_timeout()) is not None and timeout <= end:
        assert sender.due(timeout)
        times.append(timeout)
    return times


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_an_idle_sender_has_nothing_to_do() -> None:
    sender = StreamSender()
    assert sender.next_timeout() is None
    assert sender.stalled_since is None
    assert sender.due(1e9) == sender.all_again(1e9) == []
    assert sender.next_timeout() is None


def test_messages_are_numbered_from_zero_and_forgotten_when_acknowledged() -> None:
    sender = StreamSender()
    send(sender, 3, 0.0)
    assert (sender.next_sequence_number, sender.in_flight) == (3, 3)
    assert sender.acknowledged(1, 0.1)
    assert sender.in_flight == 2
    assert sender.all_again(0.2) == [b"0", b"2"]


@pytest.mark.parametrize("number", [-1, 3, 2**63 - 1, -(2**63)])
def test_an_acknowledgement_of_nothing_in_flight_changes_nothing(number: int) -> None:
    sender = StreamSender()
    send(sender, 3, 0.0)
    state = (sender.in_flight, sender.window, sender.next_timeout(), sender.estimator.smoothed, sender.stalled_since)
    assert not sender.acknowledged(number, 0.1)
    assert state == (
        sender.in_flight,
        sender.window,
        sender.next_timeout(),
        sender.estimator.smoothed,
        sender.stalled_since,
    )


def test_the_progress_counts_acknowledgements_without_a_gap_and_has_the_time_of_the_last() -> None:
    sender = StreamSender()
    send(sender, 3, 1.0)
    assert sender.progress[:3] == (3, 0, 0.0)
    sender.acknowledged(1, 1.5)
    assert sender.progress[:3] == (3, 0, 1.5)
    sender.acknowledged(0, 1.75)
    assert sender.progress[:3] == (3, 2, 1.75)
    sender.acknowledged(0, 2.0)
    assert sender.progress[:3] == (3, 2, 1.75)


def test_an_acknowledgement_counts_once() -> None:
    sender = StreamSender()
    send(sender, 1, 0.0)
    assert sender.acknowledged(0, 0.1)
    assert not sender.acknowledged(0, 0.1)
    assert sender.window == INITIAL_WINDOW + 1


def test_d3_a_full_window_has_no_capacity_left_and_forgets_nothing() -> None:
    """Reference defect D3: a full buffer throws its oldest unacknowledged message away.

    It would be back if ``protocol/reliable.py``: ``StreamSender.sent`` removed the oldest of ``_in_flight`` when
    ``capacity`` is down to 1.
    """
    sender = StreamSender()
    messages = send(sender, INITIAL_WINDOW, 0.0)
    assert sender.capacity == 0
    assert sender.all_again(1.0) == messages
    sender.acknowledged(0, 1.1)
    assert sender.capacity == 2  # the place that became free, and one more


def test_the_window_grows_with_acknowledgements_up_to_its_limit() -> None:
    sender = StreamSender()
    for number in range(2 * MAX_WINDOW):
        send(sender, 1, 0.0)
        sender.acknowledged(number, 0.1)
    assert sender.window == MAX_WINDOW == sender.capacity


def test_the_first_timeout_is_the_official_one() -> None:
    sender = StreamSender()
    send(sender, 1, 5.0)
    assert sender.next_timeout() == pytest.approx(5.2)
    assert sender.due(5.19) == []
    assert sender.due(5.2) == [b"0"]


def test_everything_that_is_due_is_sent_again() -> None:
    """Reference defect A4: only the oldest message is ever sent again, one per 100 ms."""
    sender = StreamSender()
    messages = send(sender, 20, 0.0) + send(sender, 20, 0.1)
    # The second half was sent later, and when it is due the timeout has become twice as long.
    assert sender.due(0.2) == messages[:20]
    assert sender.retransmissions == sender.retransmitting == 20
    assert sender.due(0.49) == []
    assert sender.due(0.51) == messages[20:]
    assert sender.due(0.61) == messages[:20]
    assert (sender.retransmissions, sender.retransmitting) == (60, 40)


def test_a_burst_that_is_lost_backs_off_once() -> None:
    """Keys typed during an outage of a moment come back as fast as the first of them."""
    sender = StreamSender()
    sent_again = []
    for instant in range(640):  # ms
        if instant in range(0, 300, 50):
            send(sender, 1, instant / 1000)
        sent_again += [(data, round(instant, -1)) for data in sender.due(instant / 1000)]
    rounds = [(b"0", 200), (b"1", 450), (b"2", 500), (b"3", 550), (b"4", 600), (b"0", 600)]
    assert sent_again == rounds


def test_the_back_off_stays_within_one_second_for_ten_seconds_and_within_five_after_that() -> None:
    """Reference defect A2: after its first timeout a message is sent again every 100 ms."""
    sender = StreamSender()
    send(sender, 1, 0.0)
    times = resend_times(sender, 0.0, 120.0)
    assert gaps(times)[:5] == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0])
    for earlier, later in itertools.pairwise(times):
        assert later - earlier <= (1.0 if later <= 10.0 else 5.0) + 1e-9
    assert gaps(times)[-5:] == pytest.approx([5.0] * 5)
    # It never speeds up while nothing comes.
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(gaps(times)))


def test_the_recorded_resend_times_are_avoided() -> None:
    """Reference defect A2, as recorded: 0, 200, 300, 400 … ms."""
    recorded = load_vectors("send_behaviour.json")["unacknowledged_resend_times_ms_rounded_50"]
    assert gaps(recorded)[1:] == [100] * 9
    sender = StreamSender()
    send(sender, 1, 0.0)
    times = resend_times(sender, 0.0, recorded[-1] / 1000)
    assert [round(time * 1000) for time in times] == [0, 200, 600]


def test_ten_seconds_count_from_the_last_acknowledgement() -> None:
    sender = StreamSender()
    send(sender, 2, 0.0)
    resend_times(sender, 0.0, 8.0)
    sender.acknowledged(0, 8.0)
    times = resend_times(sender, 8.0, 17.9)[1:]
    assert max(gaps(times)) <= 1.0 + 1e-9
    assert max(gaps(resend_times(sender, times[-1], 60.0))) == pytest.approx(5.0)


def test_after_a_stall_any_acknowledgement_brings_the_short_timeouts_back() -> None:
    """A message that had to be sent again gives no round-trip time, but it does show that the far end is there."""
    sender = StreamSender()
    send(sender, 2, 0.0)
    last = resend_times(sender, 0.0, 60.0)[-1]
    sender.acknowledged(0, last + 0.1)
    send(sender, 1, last + 0.1)
    assert max(gaps(resend_times(sender, last + 0.1, last + 9.0))) <= 1.0 + 1e-9


def test_a_message_sent_once_gives_a_round_trip_time() -> None:
    sender = StreamSender()
    send(sender, 1, 0.0)
    sender.acknowledged(0, 0.05)
    assert sender.estimator.smoothed == pytest.approx(0.1 * 7 / 8 + 0.05 / 8)


def test_a_message_sent_again_gives_no_round_trip_time() -> None:
    """Karn's rule; reference defect A3: the official client measures from the first sending."""
    sender = StreamSender()
    send(sender, 1, 0.0)
    sender.due(0.2)
    sender.acknowledged(0, 5.0)
    estimator = sender.estimator
    assert (estimator.smoothed, estimator.variation, estimator.retransmission_timeout) == (0.1, 0.0, 0.2)


def test_the_back_off_lasts_until_a_message_gets_through_at_once() -> None:
    """The second half of Karn's rule."""
    sender = StreamSender()
    send(sender, 1, 0.0)
    sender.due(0.2)
    sender.acknowledged(0, 0.5)
    send(sender, 1, 1.0)
    assert sender.next_timeout() == pytest.approx(1.4)
    sender.acknowledged(1, 1.1)
    send(sender, 1, 2.0)
    assert sender.next_timeout() == pytest.approx(2.0 + sender.estimator.retransmission_timeout)


def grown(messages: int) -> tuple[StreamSender, list[bytes]]:
    """A sender with so many in flight, and what they are."""
    sender = StreamSender()
    while sender.window < messages:
        send(sender, 1, 0.0)
        sender.acknowledged(sender.next_sequence_number - 1, 0.0)
    return sender, send(sender, messages, 0.0)


def test_much_that_is_lost_at_once_leaves_in_a_burst_and_then_by_acknowledgements() -> None:
    """A link that breaks after some hundred kilobytes would break each time under all of it."""
    sender, messages = grown(500)
    first = sender.next_sequence_number - 500
    left = sender.all_again(1.0)
    assert left == messages[:BURST]
    assert sender.in_flight == 500
    assert sender.capacity == 0
    number = 0
    while sender.parked:
        assert sender.acknowledged(first + number, 1.0 + number / 1000)
        again = sender.unparked(1.0 + number / 1000)
        assert len(again) <= 2
        left += again
        number += 1
    assert left == messages
    assert sender.in_flight == 500 - number
    assert sender.capacity == sender.window - sender.in_flight
    assert sender.unparked(2.0) == []


def test_an_acknowledgement_of_what_is_parked_counts() -> None:
    sender, messages = grown(200)
    first = sender.next_sequence_number - 200
    sender.all_again(1.0)
    assert sender.acknowledged(first + BURST, 1.1)
    assert not sender.acknowledged(first + BURST, 1.1)
    assert sender.unparked(1.1) == messages[BURST + 1 : BURST + 3]


def test_parked_messages_go_with_the_next_websocket_in_order() -> None:
    sender, messages = grown(200)
    sender.all_again(1.0)
    assert sender.all_again(2.0) == messages[:BURST]


def test_a_silent_link_gets_a_burst_each_time_and_not_everything() -> None:
    sender, messages = grown(500)
    timeout = sender.next_timeout()
    assert timeout is not None
    assert sender.due(timeout) == messages[:BURST]
    later = sender.next_timeout()
    assert later is not None
    assert later > timeout
    assert sender.due(later) == messages[:BURST]
    # All that had left is acknowledged late, without anybody asking for the parked ones.
    for number in range(sender.next_sequence_number - 500, sender.next_sequence_number - 500 + BURST):
        sender.acknowledged(number, later)
    assert sender.next_timeout() is not None
    assert sender.due(later) == messages[BURST : BURST + 2]


def test_on_a_new_websocket_everything_goes_out_in_sequence_order() -> None:
    sender = StreamSender()
    messages = send(sender, 5, 0.0)
    sender.due(0.2)
    messages += send(sender, 5, 0.3)
    sender.due(0.75)  # the first five are now behind the others
    sender.acknowledged(3, 0.8)
    del messages[3]
    assert sender.all_again(20.0) == messages
    # And time starts afresh: no back-off, no stall.
    assert sender.next_timeout() == pytest.approx(20.2)
    assert sender.stalled_since == 20.0


def test_since_when_it_is_stalled() -> None:
    sender = StreamSender()
    send(sender, 1, 1.0)
    assert sender.stalled_since == 1.0
    send(sender, 1, 2.0)
    assert sender.stalled_since == 1.0
    sender.due(2.5)
    assert sender.stalled_since == 1.0
    sender.acknowledged(0, 3.0)
    assert sender.stalled_since == 3.0
    sender.acknowledged(1, 4.0)
    assert sender.stalled_since is None
    send(sender, 1, 9.0)
    assert sender.stalled_since == 9.0


# The receiver.


def message(number: int, payload: bytes = b"x") -> ClientMessage:
    return ClientMessage("output_stream_data", number, 1, payload, bytes(16), 1)


def numbers(messages: list[ClientMessage] | None) -> list[int] | None:
    return None if messages is None else [each.sequence_number for each in messages]


def test_messages_in_order_are_delivered_at_once() -> None:
    receiver = StreamReceiver()
    assert [numbers(receiver.receive(message(number))) for number in range(3)] == [[0], [1], [2]]
    assert (receiver.expected, receiver.held, receiver.disordered) == (3, 0, False)


def test_a_message_ahead_is_held_until_those_before_it_came() -> None:
    receiver = StreamReceiver()
    assert numbers(receiver.receive(message(3))) == []
    assert numbers(receiver.receive(message(1))) == []
    assert receiver.held == 2
    assert (receiver.gap, receiver.disordered) == (1, True)
    assert numbers(receiver.receive(message(0))) == [0, 1]
    assert (receiver.expected, receiver.held, receiver.gap) == (2, 1, 1)
    assert numbers(receiver.receive(message(2))) == [2, 3]
    assert (receiver.expected, receiver.held, receiver.gap) == (4, 0, 0)


def test_a_duplicate_is_acknowledged_again_and_not_delivered_again() -> None:
    """Reference defect A1: after one lost acknowledgement the official far end sends that message for ever."""
    receiver = StreamReceiver()
    receiver.receive(message(0))
    receiver.receive(message(2))
    assert numbers(receiver.receive(message(0))) == []
    assert numbers(receiver.receive(message(2))) == []
    assert receiver.held == 1


def test_the_first_of_two_held_messages_with_one_number_stays() -> None:
    """It has been acknowledged; the official client keeps the last. No honest far end sends two."""
    receiver = StreamReceiver()
    receiver.receive(message(1, b"first"))
    receiver.receive(message(1, b"second"))
    delivered = receiver.receive(message(0))
    assert delivered is not None
    assert delivered[1].payload == b"first"


@pytest.mark.parametrize("number", [-1, -(2**63), MAX_HELD_MESSAGES + 1, 2**63 - 1])
def test_a_number_that_cannot_be_is_passed_over_in_silence(number: int) -> None:
    receiver = StreamReceiver()
    assert receiver.receive(message(number)) is None
    assert (receiver.expected, receiver.held) == (0, 0)


def test_as_many_messages_are_held_as_the_official_client_holds() -> None:
    recorded = load_vectors("send_behaviour.json")["incoming_overflow_after_10001_future_messages"]
    receiver = StreamReceiver()
    answers = [receiver.receive(message(number)) for number in range(1, 10_002)]
    assert sum(answer is not None for answer in answers) == recorded["acknowledged"]
    assert receiver.held == recorded["buffered"]
    assert numbers(receiver.receive(message(0))) == list(range(10_001))
    assert numbers(receiver.receive(message(10_001))) == [10_001]  # what was refused comes again


def test_held_messages_are_bounded_in_size_too() -> None:
    receiver = StreamReceiver()
    large = bytes(MAX_HELD_SIZE // 4)
    assert [numbers(receiver.receive(message(number, large))) for number in range(1, 6)] == [[], [], [], [], None]
    # What is delivered makes room.
    assert numbers(receiver.receive(message(0, large))) == [0, 1, 2, 3, 4]
    assert numbers(receiver.receive(message(6, large))) == []


def test_a_message_in_order_is_taken_however_full_it_is() -> None:
    receiver = StreamReceiver()
    receiver.receive(message(1, bytes(MAX_HELD_SIZE)))
    assert receiver.receive(message(2)) is None
    assert numbers(receiver.receive(message(0))) == [0, 1]
