"""``protocol/smux.py``: frames compared with recorded ones, two connected sessions, limits, turns, keepalive."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_manager_plugin.errors import LocalProtocolError, RemoteProtocolError, TimedOut
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux import (
    FIN,
    HEADER,
    HEADER_SIZE,
    KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT,
    MAX_FRAME_DATA,
    MAX_STREAM_UNREAD,
    MAX_TOTAL_UNREAD,
    NOP,
    PSH,
    SEND_HIGH_WATER,
    SEND_LOW_WATER,
    SHARED_FRAME_DATA,
    SYN,
    UPD,
    MuxEvent,
    MuxFailed,
    MuxSession,
    StreamData,
    StreamFinished,
    StreamOpened,
    StreamWritable,
)
from tests.support.vectors import load_vectors

VECTORS = load_vectors("smux.json")
EVERYTHING = 1 << 30
MESSAGE = 1024


def new_session(role: Role = Role.CLIENT, *, keepalive: bool = False) -> MuxSession:
    return MuxSession(role, keepalive=keepalive, now=0.0)


def frame(command: int, stream_id: int = 0, data: bytes = b"", *, version: int = 1) -> bytes:
    return HEADER.pack(version, command, len(data), stream_id) + data


def frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """Our byte stream taken apart: command, stream id and data of each frame. Fails when one is not whole."""
    found = []
    while data:
        version, command, length, stream_id = HEADER.unpack_from(data)
        assert version == 1
        assert len(data) >= HEADER_SIZE + length
        found.append((command, stream_id, data[HEADER_SIZE : HEADER_SIZE + length]))
        data = data[HEADER_SIZE + length :]
    return found


def events(session: MuxSession) -> Iterator[MuxEvent]:
    while (event := session.next_event()) is not None:
        yield event


def failure(session: MuxSession) -> Exception | None:
    """What the session failed with; takes all events."""
    errors = [event.error for event in events(session) if isinstance(event, MuxFailed)]
    assert len(errors) < 2
    return errors[0] if errors else None


class End:
    """One session, and what its events have told so far."""

    def __init__(self, role: Role) -> None:
        self.session = new_session(role)
        self.received: defaultdict[int, bytes] = defaultdict(bytes)
        self.opened: list[int] = []
        self.finished: list[int] = []
        self.writable: list[int] = []

    def take_events(self, *, consume: bool = True) -> None:
        for event in events(self.session):
            match event:
                case StreamOpened(stream_id):
                    self.opened.append(stream_id)
                case StreamData(stream_id):
                    assert stream_id not in self.finished
                    self.received[stream_id] += event.data
                    if consume:
                        self.session.consumed(stream_id, len(event.data))
                case StreamFinished(stream_id):
                    self.finished.append(stream_id)
                case StreamWritable(stream_id):
                    self.writable.append(stream_id)
                case MuxFailed(error):
                    raise error


class Joined:
    """A client and an agent, each of which gets the other's bytes."""

    def __init__(self) -> None:
        self.client, self.agent = End(Role.CLIENT), End(Role.AGENT)

    def carry(self, sender: End, receiver: End, size: int = EVERYTHING, piece: int = MESSAGE) -> bytes:
        """Let at most ``size`` bytes pass, in pieces of ``piece``; gives them."""
        data = sender.session.data_to_send(size)
        assert len(data) <= size
        for position in range(0, len(data), piece):
            receiver.session.receive_data(data[position : position + piece], 0.0)
        receiver.take_events()
        sender.take_events()
        return data

    def exchange(self) -> tuple[bytes, bytes]:
        """Let everything pass both ways; gives what the client and what the agent sent."""
        return self.carry(self.client, self.agent), self.carry(self.agent, self.client)

    def open(self) -> int:
        """A stream that both ends know."""
        stream_id = self.client.session.open_stream()
        self.exchange()
        assert stream_id in self.agent.opened
        return stream_id


# The recorded frames.


def recorded_steps() -> dict[str, Callable[[MuxSession, MuxSession], object]]:
    """What each recorded step does, in the order of the record."""
    return {
        "client opens first stream": lambda client, agent: client.open_stream(),
        "client opens second stream": lambda client, agent: client.open_stream(),
        "client writes 18 bytes on first stream": lambda client, agent: client.send_data(3, b"GET / HTTP/1.0\r\n\r\n"),
        "server reads 18 bytes (version 1 sends no window update)": lambda client, agent: agent.consumed(3, 18),
        "server writes 19 bytes on first stream": lambda client, agent: agent.send_data(3, b"HTTP/1.0 200 OK\r\n\r\n"),
        "client writes zero bytes on second stream (no frame)": lambda client, agent: client.send_data(5, b""),
        "client writes 70000 bytes on second stream (split at 32768)": lambda client, agent: client.send_data(
            5, random.Random(0).randbytes(70_000)
        ),
        "client closes first stream": lambda client, agent: client.close_stream(3),
        "server writes after receiving FIN: n=4 err=<nil> (peer drops it)": lambda client, agent: agent.send_data(
            3, b"late"
        ),
        "server reads first stream: EOF": lambda client, agent: agent.consumed(3, 0),
        "server closes first stream": lambda client, agent: agent.close_stream(3),
        "server opens a stream (not used by either product)": lambda client, agent: agent.open_stream(),
        "client closes second stream": lambda client, agent: client.close_stream(5),
        "client closes the session (no frame, only the pipe is closed)": lambda client, agent: None,
    }


def check_frames(sent: bytes, recorded: list[dict[str, Any]] | None) -> None:
    recorded = recorded or []
    found = frames(sent)
    assert [(command, len(data), stream_id) for command, stream_id, data in found] == [
        (record["cmd_code"], record["length"], record["stream_id"]) for record in recorded
    ]
    for (command, stream_id, data), record in zip(found, recorded, strict=True):
        whole = frame(command, stream_id, data)
        if "hex" in record:
            assert whole.hex() == record["hex"]
        else:  # of these only the header and a digest of unknown data were recorded
            assert whole[:HEADER_SIZE].hex() == record["header_hex"]


def test_two_sessions_send_the_recorded_frames() -> None:
    client, agent = new_session(Role.CLIENT), new_session(Role.AGENT)
    actions = recorded_steps()
    assert list(actions) == [step["step"] for step in VECTORS["version1"]]
    told: list[MuxEvent] = []
    for step in VECTORS["version1"]:
        actions[step["step"]](client, agent)
        for sender, receiver, direction in (
            (client, agent, "client_to_server"),
            (agent, client, "server_to_client"),
        ):
            sent = sender.data_to_send(EVERYTHING)
            check_frames(sent, step[direction])
            receiver.receive_data(sent, 0.0)
        told += [event for event in events(client) if not isinstance(event, StreamData)]
        told += [event for event in events(agent) if not isinstance(event, StreamData)]
    # The client has closed stream 3 before the agent's FIN, so it hears of that no more.
    assert told[:3] == [StreamOpened(3), StreamOpened(5), StreamWritable(5)]
    assert told[3:] == [StreamFinished(3), StreamOpened(2), StreamFinished(5)]


@pytest.mark.parametrize("record", VECTORS["server_receives"], ids=lambda record: record["name"])
@pytest.mark.parametrize("piece", [1, 3, 7, 8, 9, 1024])
def test_malformed_and_odd_input_is_taken_as_recorded(record: dict[str, Any], piece: int) -> None:
    agent = new_session(Role.AGENT)
    data = bytes.fromhex(record["bytes_hex"]) + frame(SYN, 77)
    for position in range(0, len(data), piece):
        agent.receive_data(data[position : position + piece], 0.0)
    told = list(events(agent))
    assert [event.stream_id for event in told if isinstance(event, StreamOpened)] == (
        record["accepted_stream_ids"] or []
    )
    errors = [event.error for event in told if isinstance(event, MuxFailed)]
    if record["accept_then"] == "invalid protocol":
        assert [type(error) for error in errors] == [RemoteProtocolError]
    else:
        assert not errors


def test_the_numbers_are_the_recorded_default_configuration() -> None:
    recorded = VECTORS["default_config"]
    assert recorded["KeepAliveInterval_ns"] == KEEPALIVE_INTERVAL * 1e9
    assert recorded["KeepAliveTimeout_ns"] == KEEPALIVE_TIMEOUT * 1e9
    assert recorded["MaxFrameSize"] == MAX_FRAME_DATA
    # The official limit of all streams together is ours of a single one.
    assert recorded["MaxReceiveBuffer"] == MAX_STREAM_UNREAD


# Receiving.


def test_data_is_handed_on_before_its_frame_is_whole() -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(frame(SYN, 3) + frame(PSH, 3, bytes(30_000))[: HEADER_SIZE + 10], 0.0)
    assert list(events(agent)) == [StreamOpened(3), StreamData(3, [bytes(10)])]
    assert agent.unread(3) == 10


def test_what_comes_before_the_events_are_taken_is_one_event_for_each_stream() -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(frame(SYN, 3) + frame(SYN, 5), 0.0)
    for number in range(100):
        agent.receive_data(frame(PSH, 3, b"%d," % number) + frame(PSH, 5, b"%d;" % number), 0.0)
    agent.receive_data(frame(FIN, 3), 0.0)
    told = list(events(agent))
    assert [type(event) for event in told] == [StreamOpened, StreamOpened, StreamData, StreamData, StreamFinished]
    assert isinstance(told[2], StreamData)
    assert told[2].data == b"".join(b"%d," % number for number in range(100))
    assert isinstance(told[3], StreamData)
    assert told[3].data == b"".join(b"%d;" % number for number in range(100))
    agent.receive_data(frame(PSH, 5, b"more"), 0.0)
    assert list(events(agent)) == [StreamData(5, [b"more"])]
    assert told[3].data.endswith(b"99;"), "an event that was taken is not changed any more"


def test_whole_pieces_are_handed_on_uncopied() -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(frame(SYN, 3) + HEADER.pack(1, PSH, 2048, 3), 0.0)
    pieces: list[bytes | bytearray] = [bytes(1024), bytearray(1024)]
    for piece in pieces:
        agent.receive_data(piece, 0.0)
    *_, event = events(agent)
    assert isinstance(event, StreamData)
    assert [id(piece) for piece in event.pieces] == [id(piece) for piece in pieces]


@pytest.mark.parametrize("command", [SYN, FIN, NOP])
def test_the_length_of_a_frame_without_data_is_ignored(command: int) -> None:
    """Nothing is skipped after it, whatever it says, as in the reference."""
    agent = new_session(Role.AGENT)
    agent.receive_data(HEADER.pack(1, command, 5000, 0) + frame(SYN, 77), 0.0)
    opened = [event.stream_id for event in events(agent) if isinstance(event, StreamOpened)]
    assert opened == ([0, 77] if command == SYN else [77])


def test_a_window_update_is_8_bytes_whatever_its_length_says() -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(HEADER.pack(1, UPD, 500, 3) + bytes(8) + frame(SYN, 77), 0.0)
    assert list(events(agent)) == [StreamOpened(77)]


def test_a_window_update_is_no_data_of_the_stream_before_it() -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(frame(SYN, 3) + frame(PSH, 3, b"data") + frame(UPD, 3, bytes(8)), 0.0)
    assert list(events(agent)) == [StreamOpened(3), StreamData(3, [b"data"])]


def test_frames_for_unknown_and_closed_streams_are_dropped_with_their_data() -> None:
    agent = new_session(Role.AGENT)
    unknown = frame(PSH, 9, frame(SYN, 11)) + frame(FIN, 9)
    agent.receive_data(unknown + frame(SYN, 3) + frame(PSH, 3, b"kept"), 0.0)
    assert list(events(agent)) == [StreamOpened(3), StreamData(3, [b"kept"])]
    agent.close_stream(3)
    agent.receive_data(frame(PSH, 3, frame(SYN, 11)) + frame(FIN, 3) + frame(SYN, 77), 0.0)
    assert list(events(agent)) == [StreamOpened(77)]
    assert agent.total_unread == 0


def test_nothing_follows_the_end_of_a_stream() -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(frame(SYN, 3) + frame(FIN, 3) + frame(PSH, 3, b"late") + frame(FIN, 3) + frame(SYN, 3), 0.0)
    assert list(events(agent)) == [StreamOpened(3), StreamFinished(3)]
    assert agent.total_unread == 0


def test_a_stream_may_be_closed_in_the_middle_of_a_frame() -> None:
    agent = new_session(Role.AGENT)
    data = frame(SYN, 3) + frame(PSH, 3, bytes(2000)) + frame(SYN, 77)
    agent.receive_data(data[:1000], 0.0)
    agent.close_stream(3)
    agent.receive_data(data[1000:], 0.0)
    assert list(events(agent)) == [StreamOpened(77)], "and none of its events follows"
    assert agent.total_unread == 0


def test_an_id_may_be_used_again_when_both_ends_have_closed_it() -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(frame(SYN, 3) + frame(PSH, 3, b"old"), 0.0)
    agent.close_stream(3)
    agent.receive_data(frame(FIN, 3) + frame(SYN, 3) + frame(PSH, 3, b"new"), 0.0)
    assert list(events(agent)) == [StreamOpened(3), StreamData(3, [b"new"])]


@pytest.mark.parametrize("bad", [frame(SYN, 5, version=2), frame(SYN, 5, version=0), frame(5, 5), frame(255, 5)])
def test_a_broken_session_is_dead(bad: bytes) -> None:
    client = new_session(keepalive=True)
    stream_id, idle = client.open_stream(), client.open_stream()
    client.send_data(stream_id, b"unsent")
    client.receive_data(frame(PSH, stream_id, b"before") + bad + frame(PSH, stream_id, b"after"), 0.0)
    told = list(events(client))
    assert told[0] == StreamData(stream_id, [b"before"])
    assert isinstance(told[1], MuxFailed)
    assert isinstance(told[1].error, RemoteProtocolError)
    assert len(told) == 2
    client.receive_data(frame(PSH, stream_id, b"after") + bad, 0.0)
    client.handle_timeout(1e9)
    assert list(events(client)) == []
    assert client.data_to_send(EVERYTHING) == b""
    assert client.send_pending == 0
    assert client.next_timeout() is None
    with pytest.raises(LocalProtocolError):
        client.open_stream()
    with pytest.raises(LocalProtocolError):
        client.send_data(stream_id, b"x")
    # What an owner does while it clears up is harmless.
    client.consumed(stream_id, 6)
    client.close_stream(stream_id)
    client.close_stream(idle)
    assert client.data_to_send(EVERYTHING) == b""


@given(st.binary(max_size=200), st.integers(1, 50))
@example(frame(SYN, 3) + frame(PSH, 3, b"abc"), 1)
def test_any_bytes_are_events_or_a_remote_protocol_error(data: bytes, piece: int) -> None:
    check_any_input(data, piece)


FRAMES = st.builds(
    lambda version, command, length, stream_id, data: HEADER.pack(version, command, length, stream_id) + data,
    st.sampled_from([1, 1, 1, 1, 1, 1, 1, 1, 1, 2]),
    st.sampled_from([SYN, SYN, FIN, PSH, PSH, PSH, NOP, UPD, 5]),
    st.integers(0, 12),
    st.integers(0, 4),
    st.binary(max_size=12),
)


@given(st.lists(FRAMES, max_size=20).map(b"".join), st.integers(1, 50))
def test_any_frames_are_events_or_a_remote_protocol_error(data: bytes, piece: int) -> None:
    check_any_input(data, piece)


def check_any_input(data: bytes, piece: int) -> None:
    """However the input is cut, it says the same; what was said adds up; only a typed error ends the session."""
    whole = new_session(Role.AGENT)
    whole.receive_data(data, 0.0)
    cut = new_session(Role.AGENT)
    for position in range(0, len(data), piece):
        cut.receive_data(data[position : position + piece], 0.0)
    assert summary(cut) == summary(whole)


def summary(session: MuxSession) -> list[object]:
    told: list[object] = []
    unread: defaultdict[int, int] = defaultdict(int)
    for event in events(session):
        if isinstance(event, StreamData):
            told.append((event.stream_id, event.data))
            unread[event.stream_id] += len(event.data)
        elif isinstance(event, MuxFailed):
            assert isinstance(event.error, RemoteProtocolError)
            told.append(str(event.error))
        else:
            told.append(event)
    assert {stream_id: session.unread(stream_id) for stream_id in unread} == unread
    assert session.total_unread == sum(unread.values())
    return told


# What is unread, and what it pauses.


def feed(session: MuxSession, stream_id: int, size: int) -> None:
    """Let ``size`` bytes arrive on a stream."""
    while size:
        length = min(size, MAX_FRAME_DATA)
        session.receive_data(frame(PSH, stream_id, bytes(length)), 0.0)
        size -= length


def test_one_stream_may_hold_4_mib_unread() -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(frame(SYN, 3) + frame(SYN, 5), 0.0)
    feed(agent, 3, MAX_STREAM_UNREAD)
    feed(agent, 5, MAX_STREAM_UNREAD)
    assert (agent.unread(3), agent.total_unread) == (MAX_STREAM_UNREAD, 2 * MAX_STREAM_UNREAD)
    assert not agent.reading_paused
    assert agent.culprit is None
    feed(agent, 5, 1)
    assert agent.reading_paused
    assert agent.culprit == 5
    agent.consumed(3, MAX_STREAM_UNREAD)
    assert agent.reading_paused, "another stream's reader does not help"
    agent.consumed(5, 1)
    assert not agent.reading_paused
    assert agent.culprit is None
    assert agent.total_unread == MAX_STREAM_UNREAD


def test_h16_all_streams_together_may_hold_64_mib_unread() -> None:
    """Reference defect H16: 4 MiB unread on one stream stop all of them.

    It would be back if ``protocol/smux.py``: ``MuxSession.reading_paused`` compared ``_total_unread`` with
    ``MAX_STREAM_UNREAD``.
    """
    agent = new_session(Role.AGENT)
    streams = range(3, 3 + 2 * (MAX_TOTAL_UNREAD // MAX_STREAM_UNREAD), 2)
    for stream_id in streams:
        agent.receive_data(frame(SYN, stream_id), 0.0)
        feed(agent, stream_id, MAX_STREAM_UNREAD)
        assert not agent.reading_paused
    agent.receive_data(frame(SYN, 1001) + frame(PSH, 1001, b"x"), 0.0)
    assert agent.total_unread == MAX_TOTAL_UNREAD + 1
    assert agent.reading_paused
    agent.consumed(streams[0], 2)
    assert not agent.reading_paused
    feed(agent, 1001, 2)
    assert agent.reading_paused
    assert agent.culprit in streams[1:]


def test_closing_the_culprit_ends_the_pause() -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(frame(SYN, 3) + frame(SYN, 5) + frame(PSH, 5, b"x"), 0.0)
    feed(agent, 3, MAX_STREAM_UNREAD + 1)
    assert agent.culprit == 3
    agent.close_stream(3)
    assert not agent.reading_paused
    assert (agent.unread(3), agent.unread(5), agent.total_unread) == (0, 1, 1)
    agent.consumed(3, 1000)  # its reader may be late
    assert agent.total_unread == 1


@pytest.mark.parametrize("size", [-1, 6])
def test_more_than_was_unread_cannot_be_consumed(size: int) -> None:
    agent = new_session(Role.AGENT)
    agent.receive_data(frame(SYN, 3) + frame(PSH, 3, b"hello"), 0.0)
    with pytest.raises(LocalProtocolError):
        agent.consumed(3, size)
    assert agent.unread(3) == 5


# Opening, sending, closing.


def test_each_role_has_ids_of_its_own() -> None:
    client, agent = new_session(Role.CLIENT), new_session(Role.AGENT)
    assert [client.open_stream() for _ in range(4)] == [3, 5, 7, 9]
    assert [agent.open_stream() for _ in range(4)] == [2, 4, 6, 8]


def test_an_id_that_the_far_end_took_is_left_out() -> None:
    client = new_session()
    client.receive_data(frame(SYN, 3) + frame(SYN, 7), 0.0)
    assert [client.open_stream() for _ in range(3)] == [5, 9, 11]


def test_small_frames_leave_together() -> None:
    joined = Joined()
    stream_id = joined.client.session.open_stream()
    joined.client.session.send_data(stream_id, b"a")
    joined.client.session.send_data(stream_id, b"bc")
    joined.client.session.close_stream(stream_id)
    sent = joined.carry(joined.client, joined.agent)
    assert frames(sent) == [(SYN, 3, b""), (PSH, 3, b"abc"), (FIN, 3, b"")]
    assert joined.agent.received == {3: b"abc"}
    assert joined.agent.finished == [3]


def test_nothing_more_is_sent_on_a_closed_or_unknown_stream() -> None:
    client = new_session()
    with pytest.raises(LocalProtocolError):
        client.send_data(3, b"x")
    stream_id = client.open_stream()
    client.close_stream(stream_id)
    with pytest.raises(LocalProtocolError):
        client.send_data(stream_id, b"x")
    client.close_stream(stream_id)
    client.close_stream(99)
    assert frames(client.data_to_send(EVERYTHING)) == [(SYN, 3, b""), (FIN, 3, b"")]
    assert client.data_to_send(EVERYTHING) == b""


def test_what_is_queued_is_counted() -> None:
    client = new_session()
    stream_id = client.open_stream()
    client.send_data(stream_id, b"")
    assert client.send_pending == HEADER_SIZE
    client.send_data(stream_id, bytes(1000))
    assert client.send_buffered(stream_id) == 1000
    assert client.send_pending == 1000 + 2 * HEADER_SIZE
    assert len(client.data_to_send(HEADER_SIZE + 108)) == HEADER_SIZE + 108
    assert client.send_buffered(stream_id) == 900
    client.close_stream(stream_id)
    assert client.send_buffered(stream_id) == 0
    assert client.send_pending == 900 + HEADER_SIZE, "what a closed stream had queued still has to leave"
    client.data_to_send(EVERYTHING)
    assert client.send_pending == 0


def test_d8_the_answer_to_a_half_closed_request_arrives() -> None:
    """Reference defect D8: FIN is sent when the local end is finished writing, and the answer is dropped. Here
    the owner sends none then.

    It would be back if ``protocol/smux.py``: ``MuxSession.send_data`` ended with
    ``self.close_stream(stream_id)``.
    """
    joined = Joined()
    stream_id = joined.open()
    joined.client.session.send_data(stream_id, b"request")  # and shutdown(WR) by the local end: nothing to tell
    joined.exchange()
    joined.agent.session.send_data(stream_id, b"answer" * 10_000)
    joined.agent.session.close_stream(stream_id)
    joined.exchange()
    assert joined.agent.finished == []
    assert joined.client.received[stream_id] == b"answer" * 10_000
    assert joined.client.finished == [stream_id]
    joined.client.session.close_stream(stream_id)
    assert frames(joined.exchange()[0]) == [(FIN, stream_id, b"")]


def test_after_the_far_ends_fin_data_may_still_be_sent() -> None:
    joined = Joined()
    stream_id = joined.open()
    joined.agent.session.close_stream(stream_id)
    joined.exchange()
    assert joined.client.finished == [stream_id]
    joined.client.session.send_data(stream_id, b"late")
    joined.client.session.close_stream(stream_id)
    sent, _ = joined.exchange()
    assert frames(sent) == [(PSH, stream_id, b"late"), (FIN, stream_id, b"")]
    assert joined.agent.received == {}, "the end that closed has forgotten the stream"
    assert joined.agent.finished == []


def test_fin_follows_all_that_was_queued() -> None:
    joined = Joined()
    stream_id = joined.open()
    data = random.Random(1).randbytes(200_000)
    joined.client.session.send_data(stream_id, data)
    joined.client.session.close_stream(stream_id)
    while joined.carry(joined.client, joined.agent, size=5 * MESSAGE):
        pass
    assert joined.agent.received[stream_id] == data
    assert joined.agent.finished == [stream_id]


@pytest.mark.parametrize("limit", [9, 10, 16, 17, 100, 1024, 4096])
def test_the_limit_is_kept_and_frames_leave_whole(limit: int) -> None:
    client = new_session()
    streams = [client.open_stream() for _ in range(3)]
    for stream_id in streams:
        client.send_data(stream_id, bytes(300))
        client.close_stream(stream_id)
    sent: list[tuple[int, int, bytes]] = []
    while data := client.data_to_send(limit):
        assert len(data) <= limit
        sent += frames(data)
    for stream_id in streams:
        mine = [(command, data) for command, owner, data in sent if owner == stream_id]
        assert [command for command, _ in mine] == [SYN, *[PSH] * (len(mine) - 2), FIN]
        assert sum(len(data) for _, data in mine) == 300


def test_a_stream_is_writable_again_when_its_queue_has_shrunk() -> None:
    joined = Joined()
    stream_id = joined.open()
    client = joined.client.session
    client.send_data(stream_id, bytes(SEND_HIGH_WATER))
    joined.exchange()
    assert joined.client.writable == [], "it was never above the mark"
    client.send_data(stream_id, bytes(SEND_HIGH_WATER + 1))
    while client.send_buffered(stream_id) > SEND_LOW_WATER:
        assert joined.client.writable == []
        joined.carry(joined.client, joined.agent, size=MESSAGE)
    assert joined.client.writable == [stream_id]
    joined.exchange()
    assert joined.client.writable == [stream_id]


def test_a_queue_is_writable_at_the_low_mark_even_when_little_was_added_on_the_way() -> None:
    joined = Joined()
    stream_id = joined.open()
    joined.client.session.send_data(stream_id, bytes(SEND_HIGH_WATER + 1))
    joined.carry(joined.client, joined.agent, size=HEADER_SIZE + 1000)
    joined.client.session.send_data(stream_id, b"x")
    excess = SEND_HIGH_WATER + 2 - 1000 - SEND_LOW_WATER
    joined.carry(joined.client, joined.agent, size=excess + 2 * HEADER_SIZE - 1)
    assert joined.client.writable == []
    joined.carry(joined.client, joined.agent, size=HEADER_SIZE + 1)
    assert joined.client.session.send_buffered(stream_id) == SEND_LOW_WATER
    assert joined.client.writable == [stream_id]


def test_a_closed_stream_is_not_called_writable() -> None:
    joined = Joined()
    stream_id = joined.open()
    joined.client.session.send_data(stream_id, bytes(SEND_HIGH_WATER + 1))
    joined.client.session.close_stream(stream_id)
    joined.exchange()
    assert joined.client.writable == []


# Turns.


def test_a_stream_alone_sends_large_frames() -> None:
    client = new_session()
    stream_id = client.open_stream()
    client.send_data(stream_id, bytes(3 * MAX_FRAME_DATA))
    sizes = [len(data) for command, _, data in frames(client.data_to_send(EVERYTHING)) if command == PSH]
    assert sizes == [MAX_FRAME_DATA] * 3


def test_small_traffic_waits_for_one_turn_of_each_other_stream() -> None:
    client = new_session()
    bulk = [client.open_stream() for _ in range(4)]
    small = client.open_stream()
    for stream_id in bulk:
        client.send_data(stream_id, bytes(MAX_STREAM_UNREAD))
    client.data_to_send(64 * MESSAGE)
    client.send_data(small, b"keystroke")
    before = 0
    while (PSH, small, b"keystroke") not in frames(sent := client.data_to_send(MESSAGE)):
        before += len(sent)
    assert before <= len(bulk) * (SHARED_FRAME_DATA + HEADER_SIZE)


def test_a_new_stream_is_announced_before_what_is_queued() -> None:
    client = new_session()
    bulk = client.open_stream()
    client.send_data(bulk, bytes(MAX_STREAM_UNREAD))
    client.data_to_send(64 * MESSAGE)
    new = client.open_stream()
    client.send_data(new, b"GET /")
    sent = frames(client.data_to_send(8 * MESSAGE))
    assert sent[0] == (SYN, new, b"")
    assert (PSH, new, b"GET /") in sent


@pytest.mark.parametrize("limit", [700, 1024, 3000, 4096, 5000, 10_000, 65_536])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_busy_streams_get_equal_shares(limit: int, count: int) -> None:
    """Whatever the channel takes at a time, even when that cuts a turn short in each call."""
    client = new_session()
    streams = [client.open_stream() for _ in range(count)]
    for stream_id in streams:
        client.send_data(stream_id, bytes(1024 * 1024))
    sent: defaultdict[int, int] = defaultdict(int)
    while sum(sent.values()) < 300_000 * count:
        for _, stream_id, data in frames(client.data_to_send(limit)):
            sent[stream_id] += len(data)
    assert max(sent.values()) - min(sent.values()) <= 2 * SHARED_FRAME_DATA


def test_a_turn_cut_short_while_alone_is_not_continued_among_others() -> None:
    client = new_session()
    bulk, other = client.open_stream(), client.open_stream()
    client.send_data(bulk, bytes(MAX_STREAM_UNREAD))
    client.data_to_send(2000)
    client.send_data(other, bytes(100_000))
    sizes = [(stream_id, len(data)) for _, stream_id, data in frames(client.data_to_send(4 * 4096))]
    assert sizes == [(bulk, SHARED_FRAME_DATA), (other, SHARED_FRAME_DATA)] * 2


# Two sessions.


def test_a_thousand_streams() -> None:
    joined = Joined()
    random_bytes = random.Random(2).randbytes
    client, agent = joined.client.session, joined.agent.session
    requests = {client.open_stream(): random_bytes(50 + number) for number in range(1000)}
    for stream_id, request in requests.items():
        client.send_data(stream_id, request)
    joined.exchange()
    assert joined.agent.opened == list(requests)
    assert joined.agent.received == requests
    answers = {stream_id: random_bytes(3000) for stream_id in reversed(requests)}
    for stream_id, answer in answers.items():
        agent.send_data(stream_id, answer)
        agent.close_stream(stream_id)
    while joined.carry(joined.agent, joined.client, size=16 * MESSAGE):
        pass
    assert joined.client.received == answers
    assert sorted(joined.client.finished) == sorted(answers)
    for stream_id in requests:
        client.close_stream(stream_id)
    joined.exchange()
    assert joined.agent.finished == [], "which had forgotten them"
    assert client.total_unread == agent.total_unread == client.send_pending == agent.send_pending == 0


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.booleans(), st.just(0), st.just(0)),
        st.tuples(st.just("send"), st.booleans(), st.integers(0, 5), st.integers(0, 9000)),
        st.tuples(st.just("close"), st.booleans(), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("carry"), st.booleans(), st.integers(9, 20_000), st.integers(1, 3000)),
    ),
    max_size=60,
)


@given(ACTIONS)
def test_each_streams_bytes_arrive_once_and_in_order(actions: list[tuple[str, bool, int, int]]) -> None:
    """Under any interleaving and any cutting. An end that closed a stream gets what came before it did, no more."""
    joined = Joined()
    dice = random.Random(3)
    sent: defaultdict[tuple[End, int], bytes] = defaultdict(bytes)
    closed: set[tuple[End, int]] = set()
    streams: list[int] = []
    for action, from_client, first, second in actions:
        end, other = (joined.client, joined.agent) if from_client else (joined.agent, joined.client)
        if action == "open":
            streams.append(end.session.open_stream())
        elif action == "carry":
            joined.carry(end, other, size=first, piece=second)
        elif streams:
            stream_id = streams[first % len(streams)]
            known = stream_id % 2 == from_client or stream_id in end.opened
            if action == "send" and known and (end, stream_id) not in closed:
                data = dice.randbytes(second)
                end.session.send_data(stream_id, data)
                sent[end, stream_id] += data
            elif action == "close" and known:
                end.session.close_stream(stream_id)
                closed.add((end, stream_id))
    joined.exchange()
    for end, other in ((joined.client, joined.agent), (joined.agent, joined.client)):
        assert end.session.send_pending == 0
        assert other.session.total_unread == 0
        for stream_id in streams:
            received = other.received[stream_id]
            if (other, stream_id) in closed:
                assert sent[end, stream_id].startswith(received)
                assert other.session.unread(stream_id) == 0
            else:
                assert received == sent[end, stream_id]
                assert (stream_id in other.finished) == ((end, stream_id) in closed)


# Keep-alive.


def test_without_keepalive_time_means_nothing() -> None:
    client = new_session()
    assert client.next_timeout() is None
    client.handle_timeout(1e9)
    assert client.data_to_send(EVERYTHING) == b""
    assert failure(client) is None


def test_a_nop_leaves_every_10_seconds() -> None:
    client = new_session(keepalive=True)
    recorded = VECTORS["keepalive"][0]["client_to_server"]
    client.handle_timeout(KEEPALIVE_INTERVAL - 0.1)
    assert client.data_to_send(EVERYTHING) == b""
    for _ in range(20):
        now = client.next_timeout()
        assert now is not None
        client.receive_data(frame(NOP), now)
        client.handle_timeout(now)
        check_frames(client.data_to_send(EVERYTHING), recorded if now % KEEPALIVE_INTERVAL == 0 else None)
    assert now == 20 * KEEPALIVE_INTERVAL, "nothing else comes in between"
    assert failure(client) is None


def test_nops_do_not_pile_up_while_nothing_can_be_sent() -> None:
    client = new_session(keepalive=True)
    client.excuse_silence(True)
    run_to(client, 3600.0)
    assert client.data_to_send(EVERYTHING) == frame(NOP)


def run_to(session: MuxSession, end: float) -> float | None:
    """Let time pass with nothing coming; gives the instant at which the session failed, if it did."""
    while (now := session.next_timeout()) is not None and now <= end:
        session.handle_timeout(now)
        if (error := failure(session)) is not None:
            assert isinstance(error, TimedOut)
            return now
    return None


@pytest.mark.parametrize(("heard_at", "dead_at"), [(None, 30.0), (0.1, 60.0), (29.9, 60.0), (30.0, 90.0), (31.0, 90.0)])
def test_a_silent_far_end_is_dead_at_the_second_check(heard_at: float | None, dead_at: float) -> None:
    """As recorded: the session whose peer is silent for longer than the timeout is closed."""
    client = new_session(keepalive=True)
    if heard_at is not None:
        client.receive_data(frame(NOP), 0.05)
        assert run_to(client, heard_at) is None
        client.receive_data(frame(NOP)[:1], heard_at)  # any byte is a sign of life
    assert run_to(client, 1000.0) == dead_at
    assert client.next_timeout() is None


def test_nothing_follows_death_even_in_the_middle_of_a_frame() -> None:
    client = new_session(keepalive=True)
    stream_id = client.open_stream()
    client.receive_data(frame(PSH, stream_id, bytes(100))[:50], 0.0)
    assert run_to(client, 1000.0) == 60.0
    client.receive_data(bytes(10), 60.0)
    assert list(events(client)) == []


def test_no_bytes_are_no_sign_of_life() -> None:
    client = new_session(keepalive=True)
    client.receive_data(b"", 15.0)
    assert run_to(client, 1000.0) == 30.0


def test_silence_while_reading_is_paused_is_not_death() -> None:
    client = new_session(keepalive=True)
    stream_id = client.open_stream()
    feed(client, stream_id, MAX_STREAM_UNREAD + 1)
    assert client.reading_paused
    assert run_to(client, 200.0) is None
    client.consumed(stream_id, 1)
    assert not client.reading_paused
    assert run_to(client, 1000.0) == 240.0, "the check at 210 s follows a pause, the next one does not"


def test_silence_while_the_owner_excuses_it_is_not_death() -> None:
    client = new_session(keepalive=True)
    client.excuse_silence(True)
    assert run_to(client, 95.0) is None
    client.excuse_silence(False)
    assert run_to(client, 1000.0) == 150.0


def test_a_late_timer_does_no_harm() -> None:
    client = new_session(keepalive=True)
    client.receive_data(frame(NOP), 5.0)
    client.handle_timeout(1000.0)
    assert client.data_to_send(EVERYTHING) == frame(NOP)
    assert client.next_timeout() == 1000.0 + KEEPALIVE_INTERVAL
    assert failure(client) is None
