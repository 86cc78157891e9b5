"""Two endpoints connected in memory: whole sessions on good and on bad links."""

import random
from collections.abc import Callable

import pytest

from session_manager_plugin.errors import RemoteProtocolError
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    MessageRejected,
    PublicationPaused,
    PublicationStarted,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, PayloadType
from session_manager_plugin.protocol.payloads import OpenDataChannelInput, Size
from session_manager_plugin.protocol.readiness import READY_DELAY
from session_manager_plugin.protocol.reliable import INITIAL_WINDOW, MAX_WINDOW
from tests.support.pair import LATENCY, End, Link, Pair

Start = Callable[[Pair], None]


def plain(pair: Pair) -> None:
    """A shell of a current agent: no handshake, a prompt at once."""
    pair.agent.connection.skip_handshake()
    pair.connect()
    pair.agent.write(b"$ ")


def silent(pair: Pair) -> None:
    """A remote program that prints nothing: the client begins by itself."""
    pair.agent.connection.skip_handshake()
    pair.connect()


def shaken(pair: Pair) -> None:
    """A session with a handshake, at once."""
    pair.connect()
    pair.agent.connection.request_handshake("Standard_Stream", None, pair.now)


def late(pair: Pair) -> None:
    """A handshake that comes when the client has given up waiting for one and has begun, with a size and input."""
    pair.connect()
    pair.client.write(Size(80, 23).to_json().encode(), PayloadType.SIZE)
    pair.client.write(b"typed before the handshake\r")
    pair.run_for(READY_DELAY + 1.0)
    assert pair.client.connection.ready
    pair.agent.connection.request_handshake("Standard_Stream", None, pair.now)


STARTS: list[Start] = [plain, silent, shaken, late]
every_start = pytest.mark.parametrize("start", STARTS, ids=lambda start: start.__name__)


def no_failure(pair: Pair) -> None:
    for end in (pair.client, pair.agent):
        assert end.of(SessionFailed) == []
        assert end.of(MessageRejected) == []


def exchange(pair: Pair, start: Start, size: int) -> None:
    """Begin as ``start`` does, send ``size`` random bytes each way, and find both delivered, once and in order."""
    dice = random.Random(f"data {size}")
    up, down = dice.randbytes(size), dice.randbytes(size)
    start(pair)
    early = b"typed before the handshake\r" if start is late else b""
    prompt = b"$ " if start is plain else b""
    pair.client.write(up)
    pair.agent.write(down)
    pair.run_until_quiet()
    assert pair.agent.data() == early + up
    assert pair.client.data() == prompt + down
    if start is late:
        assert pair.agent.data(PayloadType.SIZE) == Size(80, 23).to_json().encode()
    no_failure(pair)


# Good links.


@every_start
def test_a_session_on_a_good_link(start: Start) -> None:
    pair = Pair()
    exchange(pair, start, 100_000)
    assert pair.client.connection.retransmitting == 0
    assert pair.next_instant() is None


def test_nothing_is_sent_twice_on_a_good_link() -> None:
    pair = Pair()
    exchange(pair, plain, 500_000)
    for link in (pair.to_agent, pair.to_client):
        sent = [each.message_id for each in link.carried]
        assert len(sent) == len(set(sent))


def test_the_gateway_keeps_the_openings_and_the_states() -> None:
    pair = Pair()
    plain(pair)
    pair.agent.connection.send_session_state("Connected", pair.now)
    pair.run_until_quiet()
    (opening,) = pair.client.opening_messages
    assert OpenDataChannelInput.from_json(opening).token == "token"
    assert pair.agent.opening_messages == []
    assert len(pair.agent.session_states) == 1
    no_failure(pair)


def test_a_handshake_takes_one_round_trip_and_a_half() -> None:
    pair = Pair()
    shaken(pair)
    pair.run_until(lambda: pair.client.connection.ready)
    assert pair.now == pytest.approx(3 * LATENCY)
    assert pair.client.of(SessionReady) == [SessionReady("Standard_Stream", {}, "3.3.0.0")]
    assert pair.agent.of(SessionReady) == [SessionReady("Standard_Stream", {}, "1.3.0.0")]


def test_a_refused_handshake_fails_at_both_ends() -> None:
    pair = Pair()
    pair.connect()
    pair.agent.connection.request_handshake("Teleport", None, pair.now)
    pair.run_until(lambda: bool(pair.agent.of(SessionFailed)))
    (at_client,), (at_agent,) = pair.client.of(SessionFailed), pair.agent.of(SessionFailed)
    assert str(at_client.error) == "Unknown session type Teleport"
    assert isinstance(at_agent.error, RemoteProtocolError)
    assert "SessionType failed on client with status 2" in str(at_agent.error)
    pair.run_for(0.1)  # acknowledgements
    assert pair.next_instant() is None


def test_the_window_is_never_overrun() -> None:
    pair = Pair(to_agent=Link(latency=1.0), to_client=Link(latency=1.0))
    plain(pair)
    pair.client.write(bytes(5 * MAX_WINDOW * MAX_PAYLOAD_SIZE))
    most = 0

    def finished() -> bool:
        nonlocal most
        most = max(most, pair.client.connection.in_flight)
        return not pair.client.waiting and not pair.client.connection.in_flight

    pair.run_until(finished)
    assert INITIAL_WINDOW < most <= MAX_WINDOW


def test_what_waits_for_a_late_handshake_may_overrun_the_window_once() -> None:
    """What the agent threw away goes out again even where it is not acknowledged yet: twice the window, at most."""
    pair = Pair(to_client=Link("x" * INITIAL_WINDOW))  # the acknowledgements are lost
    pair.connect()
    pair.client.write(bytes(3 * INITIAL_WINDOW * MAX_PAYLOAD_SIZE))
    pair.run_for(READY_DELAY + LATENCY)
    assert pair.client.connection.in_flight == INITIAL_WINDOW
    pair.agent.connection.request_handshake("Standard_Stream", None, pair.now)
    most = 0

    def finished() -> bool:
        nonlocal most
        most = max(most, pair.client.connection.in_flight)
        return pair.agent.data() == bytes(3 * INITIAL_WINDOW * MAX_PAYLOAD_SIZE)

    pair.run_until(finished)
    assert most <= 2 * MAX_WINDOW
    no_failure(pair)


def test_channel_closed_reaches_both() -> None:
    pair = Pair()
    plain(pair)
    pair.close_channel("terminated by alice")
    for end in (pair.client, pair.agent):
        assert end.of(ChannelClosedReceived) == [ChannelClosedReceived("terminated by alice")]


# Written faults.


@every_start
@pytest.mark.parametrize("direction", ["to_agent", "to_client"])
@pytest.mark.parametrize(
    "pattern", ["x", "2", ">", ".x", ".2", ".>", "..x", "..>", "xx", ">>", "x>2x>2", "xxxxxx", "222"]
)
def test_faults_at_the_beginning(start: Start, direction: str, pattern: str) -> None:
    """Where every message is one that matters: request, response, complete, size, their acknowledgements."""
    pair = Pair(to_agent=Link(pattern)) if direction == "to_agent" else Pair(to_client=Link(pattern))
    exchange(pair, start, 5000)


def test_a_lost_acknowledgement_costs_one_message() -> None:
    """Reference defect A1 makes it cost one per second for ever."""
    pair = Pair(to_client=Link(".x"))
    plain(pair)
    pair.run_until(lambda: pair.client.connection.ready)
    pair.client.write(b"x")
    pair.run_for(60.0)
    assert [each.message_type for each in pair.to_agent.carried].count("input_stream_data") == 2
    assert pair.agent.data() == b"x"


def test_a_late_handshake_message_is_no_new_one() -> None:
    """The request arrives twice, the second time when the session is running."""
    pair = Pair(to_client=Link("2"))
    exchange(pair, shaken, 1000)
    assert len(pair.client.of(SessionReady)) == 1


# Cuts.


@every_start
@pytest.mark.parametrize("which", ["both", "client", "agent"])
def test_the_websockets_are_cut_again_and_again(start: Start, which: str) -> None:
    """What is on its way is lost each time; the session does not notice."""
    pair = Pair()
    data = random.Random("cuts").randbytes(100_000)
    start(pair)
    early = b"typed before the handshake\r" if start is late else b""
    for position in range(0, len(data), 5000):
        chunk = data[position : position + 5000]
        pair.client.write(chunk)
        pair.agent.write(chunk)
        pair.run_for(1.5 * LATENCY)
        if which != "agent":
            pair.cut_client()
        if which != "client":
            pair.cut_agent()
        pair.run_for(0.3)
        if which != "agent":
            pair.connect_client()
        if which != "client":
            pair.connect_agent()
    pair.run_until_quiet()
    assert pair.agent.data() == early + data
    assert pair.client.data() == (b"$ " if start is plain else b"") + data
    no_failure(pair)


def test_what_is_typed_while_the_link_is_down_arrives() -> None:
    """Reference defect U4: typing during a reconnect ends the session."""
    pair = Pair()
    plain(pair)
    pair.run_until_quiet()
    pair.cut_client()
    for key in b"echo hello\r":
        pair.client.write(bytes([key]))
        pair.run_for(0.5)
    pair.connect_client()
    pair.run_until_quiet()
    assert pair.agent.data() == b"echo hello\r"


def test_a_cut_before_anything_came_begins_the_session_anew() -> None:
    pair = Pair(to_client=Link("x"))
    plain(pair)
    pair.run_for(0.1)
    pair.cut_client()
    pair.run_for(60.0)
    pair.connect_client()
    pair.run_until_quiet()
    assert pair.client.data() == b"$ "
    no_failure(pair)


# The gateway's pause.


def test_a_client_that_is_away_gets_everything_when_it_is_back() -> None:
    """The gateway pauses the agent meanwhile; nothing goes to waste on the link."""
    pair = Pair()
    plain(pair)
    pair.run_until_quiet()
    pair.cut_client()
    pair.agent.write(b"more than a windowful " * 10_000)
    pair.pump()
    carried = len(pair.to_client.carried)
    pair.pause(pair.agent)
    pair.run_for(600.0)
    assert len(pair.to_client.carried) == carried
    pair.connect_client()
    pair.start(pair.agent)
    pair.run_until_quiet()
    assert pair.client.data() == b"$ " + b"more than a windowful " * 10_000
    assert pair.agent.of(PublicationPaused) == [PublicationPaused()]
    assert pair.agent.of(PublicationStarted) == [PublicationStarted()]
    no_failure(pair)


def test_a_forgotten_start_is_no_harm() -> None:
    """The gateway pauses the agent and never starts it again: the client's next key does."""
    pair = Pair()
    plain(pair)
    pair.run_until_quiet()
    pair.pause(pair.agent)
    pair.client.write(b"\r")
    pair.agent.write(b"\r\n$ ")
    pair.run_until_quiet()
    assert pair.client.data() == b"$ \r\n$ "


# Dice.


def bad_link(seed: int, direction: str) -> Link:
    return Link(dice=random.Random(f"{direction} {seed}"), drop=0.5, duplicate=0.5, late=0.3)


@every_start
@pytest.mark.parametrize("seed", range(4))
def test_half_of_everything_is_lost_and_half_of_the_rest_comes_twice(start: Start, seed: int) -> None:
    pair = Pair(to_agent=bad_link(seed, "up"), to_client=bad_link(seed, "down"), seed=seed)
    exchange(pair, start, 100_000)


@pytest.mark.parametrize("seed", range(4))
def test_bad_links_that_are_cut_as_well(seed: int) -> None:
    dice = random.Random(f"cuts {seed}")
    pair = Pair(to_agent=bad_link(seed, "up"), to_client=bad_link(seed, "down"), seed=seed)
    shaken(pair)
    up, down = dice.randbytes(200_000), dice.randbytes(200_000)
    pair.client.write(up)
    pair.agent.write(down)
    cut: list[tuple[Callable[[], None], Callable[[], None], End]] = [
        (pair.cut_client, pair.connect_client, pair.agent),
        (pair.cut_agent, pair.connect_agent, pair.client),
    ]
    for _ in range(12):
        pair.run_for(dice.uniform(0.05, 1.0))
        cut_one, connect_one, other = dice.choice(cut)
        cut_one()
        if dice.random() < 0.5:
            pair.pause(other)
        pair.run_for(dice.uniform(0.05, 2.0))
        connect_one()
        if dice.random() < 0.5:
            pair.start(other)
    pair.run_until_quiet()
    assert pair.agent.data() == up
    assert pair.client.data() == down
    no_failure(pair)


def test_the_same_seed_gives_the_same_run() -> None:
    runs = []
    for _ in range(2):
        pair = Pair(to_agent=bad_link(7, "up"), to_client=bad_link(7, "down"), seed=7)
        exchange(pair, shaken, 20_000)
        runs.append((pair.now, pair.to_agent.carried, pair.to_client.carried))
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_the_bench_notices_a_link_that_lets_nothing_through() -> None:
    pair = Pair(to_agent=Link(dice=random.Random(0), drop=1.0))
    plain(pair)
    pair.run_until(lambda: pair.client.connection.ready)
    pair.client.write(b"x")
    with pytest.raises(AssertionError, match="too many rounds"):
        pair.run_until_quiet()
    assert pair.client.of(SessionFailed)  # after five minutes
