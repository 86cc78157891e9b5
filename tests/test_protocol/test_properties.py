"""Properties that hold for every input, tested by hypothesis with the same examples in every run."""

import json
import random
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from session_manager_plugin.errors import RemoteProtocolError
from session_manager_plugin.protocol.events import DataReceived, MessageRejected, SessionFailed
from session_manager_plugin.protocol.messages import (
    AcknowledgementWriter,
    ClientMessage,
    ClientMessageType,
    MessageIds,
    PayloadType,
    acknowledged_sequence_number,
)
from session_manager_plugin.protocol.payloads import HandshakeRequest, HandshakeResponse, RequestedAction, Size
from session_manager_plugin.protocol.reliable import StreamReceiver, StreamSender
from session_manager_plugin.protocol.role import Role
from tests.support.owner import Owner
from tests.support.pair import Link, Pair, Peer, new_connection, sent_by

INT64 = st.integers(-(2**63), 2**63 - 1)
UINT32 = st.integers(0, 2**32 - 1)
UINT64 = st.integers(0, 2**64 - 1)

# The codec.


def is_whole(message_type: str) -> bool:
    """Whether a reader gives this name back: it strips NULs and white space, and has 32 bytes."""
    return len(message_type.encode()) <= 32 and message_type.strip("\0").strip() == message_type != ""


MESSAGES = st.builds(
    ClientMessage,
    message_type=st.one_of(
        st.sampled_from([each.value for each in ClientMessageType]), st.text(max_size=32).filter(is_whole)
    ),
    sequence_number=INT64,
    payload_type=UINT32,
    payload=st.binary(min_size=1, max_size=1100),
    message_id=st.binary(min_size=16, max_size=16),
    created_date=st.integers(1, 2**64 - 1),
    flags=UINT64,
    schema_version=UINT32,
)


@given(MESSAGES)
def test_what_is_serialized_is_parsed_back(message: ClientMessage) -> None:
    data = message.serialize()
    assert ClientMessage.parse(data) == message
    assert ClientMessage.parse(bytearray(data)) == message


@given(INT64, st.binary(min_size=16, max_size=16))
def test_an_acknowledgement_is_read_back(number: int, message_id: bytes) -> None:
    writer = AcknowledgementWriter(ClientMessageType.OUTPUT_STREAM_DATA, MessageIds(random.Random(1).randbytes))
    message = ClientMessage.parse(*writer.write([(message_id, number)], 1))
    assert acknowledged_sequence_number(message.payload) == number
    assert json.loads(message.payload)["AcknowledgedMessageId"].replace("-", "") == message_id.hex()


@st.composite
def mutated(draw: st.DrawFn, messages: st.SearchStrategy[bytes]) -> bytes:
    """A message with some bytes changed, cut off or added."""
    data = bytearray(draw(messages))
    for position, value in draw(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4)):
        if position < len(data):
            data[position] = value
    del data[draw(st.sampled_from([len(data)] * 4 + [*range(110, 125)])) :]
    return bytes(data) + draw(st.binary(max_size=3))


ANY_BYTES = st.one_of(st.binary(max_size=300), mutated(MESSAGES.map(ClientMessage.serialize)))


@given(ANY_BYTES)
def test_any_bytes_are_a_message_or_a_remote_error(data: bytes) -> None:
    try:
        message = ClientMessage.parse(data)
    except RemoteProtocolError:
        return
    assert len(message.message_id) == 16


@given(st.binary(max_size=200))
def test_any_payload_is_an_acknowledgement_or_a_remote_error(payload: bytes) -> None:
    try:
        number = acknowledged_sequence_number(payload)
    except RemoteProtocolError:
        return
    assert isinstance(number, int)


# The core, against a far end that does what it likes.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(), max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *("AgentVersion", "RequestedClientActions", "ActionType", "ActionParameters", "SessionType", "Properties"),
        *("ClientVersion", "ProcessedClientActions", "ActionStatus", "ActionResult", "Error", "Errors"),
        *("HandshakeTimeToComplete", "CustomerMessage", "AcknowledgedMessageSequenceNumber", "Output"),
    ]
)
PAYLOADS = st.one_of(
    st.binary(min_size=1, max_size=50),
    st.dictionaries(KEYS, JSON, min_size=1, max_size=4).map(lambda value: json.dumps(value).encode()),
    st.lists(
        st.builds(RequestedAction, st.sampled_from(["SessionType", "KMSEncryption", "\ud800"]), JSON), max_size=2
    ).map(
        lambda actions: json.dumps(
            {
                "AgentVersion": "3.3.0.0",
                "RequestedClientActions": [
                    {"ActionType": each.action_type, "ActionParameters": each.parameters} for each in actions
                ],
            }
        ).encode()
    ),
    st.sampled_from(
        [
            HandshakeRequest("3.3.0.0", (RequestedAction("SessionType", {"SessionType": "Port"}),)).to_json().encode(),
            HandshakeResponse("1.3.0.0").to_json().encode(),
            b'{"AcknowledgedMessageSequenceNumber":0}',
            b"{}",
        ]
    ),
)
PLAUSIBLE = st.builds(
    ClientMessage,
    message_type=st.sampled_from(
        [*[each.value for each in ClientMessageType], *["output_stream_data", "input_stream_data"] * 4, "acknowledge"]
    ),
    sequence_number=st.one_of(st.integers(-1, 8), INT64),
    payload_type=st.one_of(st.integers(0, 13), UINT32),
    payload=PAYLOADS,
    message_id=st.binary(min_size=16, max_size=16),
    created_date=st.just(1),
    flags=st.just(0),
    schema_version=st.just(1),
).map(ClientMessage.serialize)


Step = Callable[[Owner], None]

STEPS: st.SearchStrategy[Step] = st.one_of(
    *[st.builds(lambda data: lambda owner: owner.receive(data), PLAUSIBLE)] * 4,
    st.builds(lambda data: lambda owner: owner.receive(data), mutated(PLAUSIBLE)),
    st.builds(lambda data: lambda owner: owner.receive(data), ANY_BYTES),
    st.builds(lambda text: lambda owner: owner.receive(text), st.text(max_size=150)),
    st.builds(lambda seconds: lambda owner: owner.wait(seconds), st.sampled_from([0.0, 0.1, 0.5, 2.0, 16.0, 31.0])),
    st.builds(lambda data: lambda owner: owner.send(data), st.binary(min_size=1, max_size=20)),
    st.just(Owner.switch),
)
OPENINGS: dict[str, tuple[Role, Step]] = {
    "client": (Role.CLIENT, lambda owner: None),
    "client that needs a handshake": (Role.CLIENT, lambda owner: None),
    "client that has begun by itself": (Role.CLIENT, lambda owner: owner.wait(2.0)),
    "client in a session": (Role.CLIENT, lambda owner: owner.receive(Peer().stream("$ "))),
    "agent": (Role.AGENT, lambda owner: None),
    "agent that has asked": (Role.AGENT, lambda owner: owner.connection.request_handshake("Port", {}, owner.now)),
    "agent in a session": (Role.AGENT, lambda owner: owner.connection.skip_handshake()),
}


def stream_message(number: int) -> bytes:
    """The stream message with this number."""
    peer = Peer()
    return [peer.stream("$ ") for _ in range(number + 1)][number]


@pytest.mark.slow
@settings(max_examples=300)
@given(st.sampled_from(sorted(OPENINGS)), st.lists(STEPS, max_size=12))
@example("client in a session", [lambda owner: owner.receive(stream_message(1)), lambda owner: owner.wait(0.1)])
def test_no_far_end_can_break_a_core(opening: str, steps: list[Step]) -> None:
    """Whatever comes, and whenever: events or a typed error; and a session that has not failed goes on."""
    role, begin = OPENINGS[opening]
    owner = Owner(new_connection(role, handshake_required="needs" in opening))
    owner.switch()
    begin(owner)
    owner.check()
    for step in steps:
        step(owner)
        owner.check()
    if owner.failed:
        return
    # Now an honest far end takes over, from the first number on: it is acknowledged and, once the session is ready,
    # heard. What was held of the other one may still end the session.
    if not owner.is_connected:
        owner.switch()
    owner.connection.messages_to_send(owner.now)
    heard = len(owner.events)
    peer = Peer(Role.AGENT if role is Role.CLIENT else Role.CLIENT)
    for _ in range(60):
        owner.receive(peer.stream("honest"))
    numbers = [
        acknowledged_sequence_number(each.payload)
        for each in sent_by(owner.connection, owner.now)
        if each.message_type == "acknowledge"
    ]
    owner.check()
    data = [event for event in owner.events[heard:] if isinstance(event, DataReceived)]
    # A message that comes a second time has other acknowledgements repeated: see acknowledgements.py.
    assert sorted(set(numbers)) == list(range(60)) or owner.failed
    assert not owner.connection.ready or b"honest" in [payload for event in data for payload in event.payloads]


# The reliable stream.


@given(st.lists(st.integers(0, 30), max_size=120))
def test_a_receiver_delivers_each_number_once_and_in_order(arrivals: list[int]) -> None:
    receiver = StreamReceiver()
    delivered: list[int] = []
    for number in arrivals:
        in_order = receiver.receive(ClientMessage("output_stream_data", number, 1, b"x", bytes(16), 1))
        assert in_order is not None
        delivered += [each.sequence_number for each in in_order]
        assert receiver.expected == len(delivered)
    missing = min(set(range(32)) - set(arrivals))
    assert delivered == list(range(missing))
    assert receiver.held == len({number for number in arrivals if number > missing})


@given(st.lists(st.one_of(st.just("send"), st.integers(0, 40), st.floats(0.01, 3.0)), max_size=80))
@example(["send", "send", 1.0, 2.0, 3.0, 3.0, 3.0, 0, 1.0])
def test_a_sender_keeps_what_is_not_acknowledged_and_its_promises_about_time(steps: list[str | int | float]) -> None:
    """A send, an acknowledgement of a number, or time that passes."""
    sender = StreamSender()
    kept: dict[int, bytes] = {}
    left_at: dict[int, float] = {}
    now = progress_at = 0.0
    for step in steps:
        if step == "send":
            if not kept:
                progress_at = now
            number = sender.next_sequence_number
            kept[number] = b"%d" % number
            left_at[number] = now
            sender.sent(kept[number], now)
        elif isinstance(step, int):
            assert sender.acknowledged(step, now) == (step in kept)
            if kept.pop(step, None):
                progress_at = now
        elif isinstance(step, float):
            until = now + step
            while (timeout := sender.next_timeout()) is not None and timeout <= until:
                # An acknowledgement ends a stall, and with it the longer timeout: what the shorter one has passed for
                # meanwhile is due at once.
                overdue = timeout < now
                now = max(now, timeout)
                again = sender.due(now)
                assert again
                assert set(again) <= set(kept.values())
                for data in again:
                    gap = now - left_at[int(data)]
                    assert gap <= (1.0 if now - progress_at <= 10.0 and not overdue else 5.0) + 1e-9
                    left_at[int(data)] = now
            now = until
        assert sender.in_flight == len(kept)
        assert sender.stalled_since == (progress_at if kept else None)
    assert sender.all_again(now) == [kept[number] for number in sorted(kept)]


# Two cores and a path that does its worst: for a while, and then lets everything through.

FAULTS = st.text(alphabet=".x2>", max_size=12)
CHUNKS = st.lists(st.binary(min_size=1, max_size=2500), max_size=4)
CUTS = st.lists(
    st.tuples(st.sampled_from(["client", "agent", "both"]), st.floats(0.0, 1.0), st.floats(0.0, 2.0)), max_size=3
)


@settings(max_examples=250)
@given(
    start=st.sampled_from(["without handshake", "with handshake", "late handshake"]),
    to_agent=FAULTS,
    to_client=FAULTS,
    up=CHUNKS,
    down=CHUNKS,
    cuts=CUTS,
)
@example("late handshake", "xx2>x", "x>x2x>", [b"a" * 2000], [b"b"], [("both", 0.5, 1.0)])
def test_what_was_sent_arrives_once_and_in_order(
    start: str,
    to_agent: str,
    to_client: str,
    up: list[bytes],
    down: list[bytes],
    cuts: list[tuple[str, float, float]],
) -> None:
    pair = Pair(to_agent=Link(to_agent), to_client=Link(to_client))
    size = Size(80, 24).to_json().encode()
    if start == "without handshake":
        pair.agent.connection.skip_handshake()
    pair.connect()
    if start == "with handshake":
        pair.agent.connection.request_handshake("Standard_Stream", None, pair.now)
    pair.client.write(size, PayloadType.SIZE)
    for chunk in up:
        pair.client.write(chunk)
    for chunk in down:
        pair.agent.write(chunk)
    if start == "late handshake":
        pair.run_for(2.5)
        pair.agent.connection.request_handshake("Standard_Stream", None, pair.now)
    for which, before, gap in cuts:
        pair.run_for(before)
        if which != "agent":
            pair.cut_client()
        if which != "client":
            pair.cut_agent()
        pair.run_for(gap)
        if which != "agent":
            pair.connect_client()
        if which != "client":
            pair.connect_agent()
    pair.run_until_quiet()
    assert pair.agent.data() == b"".join(up)
    assert pair.agent.data(PayloadType.SIZE) == size
    assert pair.client.data() == b"".join(down)
    for end in (pair.client, pair.agent):
        assert not end.of(SessionFailed)
        assert not end.of(MessageRejected)
