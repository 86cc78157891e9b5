"""``protocol/smux_stream.py``: the two state machines of a stream, every row and every input without a row."""

from __future__ import annotations

from importlib import import_module

import pytest

from session_manager_plugin.errors import LocalProtocolError
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux import FIN, HEADER, SEND_HIGH_WATER, VERSION, MuxSession, StreamWritable
from session_manager_plugin.protocol.smux_stream import (
    QUEUE_TRANSITIONS,
    STATE_TRANSITIONS,
    QueueInput,
    SendQueue,
    Stream,
    StreamInput,
    StreamState,
)
from tests.support.transitions import recorded

SMUX_STREAM = import_module("session_manager_plugin.protocol.smux_stream")
EVERYTHING = 1 << 30


def test_a_session_takes_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    states = recorded(monkeypatch, SMUX_STREAM, "STATE_TRANSITIONS")
    queues = recorded(monkeypatch, SMUX_STREAM, "QUEUE_TRANSITIONS")
    session = MuxSession(Role.CLIENT, keepalive=False, now=0.0)
    answered, left = session.open_stream(), session.open_stream()
    session.send_data(answered, bytes(SEND_HIGH_WATER + 1))
    session.data_to_send(EVERYTHING)
    assert session.next_event() == StreamWritable(answered)
    session.data_to_send(EVERYTHING)
    session.receive_data(HEADER.pack(VERSION, FIN, 0, answered), 0.0)
    session.close_stream(answered)
    session.close_stream(left)
    session.data_to_send(EVERYTHING)
    assert not states.missed
    assert not queues.missed


@pytest.mark.parametrize("state", [*StreamState])
@pytest.mark.parametrize("step", [*StreamInput])
def test_a_stream_refuses_what_has_no_row(state: StreamState, step: StreamInput) -> None:
    stream = Stream(3)
    stream.state = state
    if (state, step) in STATE_TRANSITIONS:
        stream.apply(step)
        assert stream.state is STATE_TRANSITIONS[state, step]
    else:
        with pytest.raises(LocalProtocolError, match=f"{step.name} in state {state.name}"):
            stream.apply(step)
        assert stream.state is state


@pytest.mark.parametrize("queue", [*SendQueue])
@pytest.mark.parametrize("step", [*QueueInput])
def test_a_queue_refuses_what_has_no_row(queue: SendQueue, step: QueueInput) -> None:
    stream = Stream(3)
    stream.queue = queue
    if (queue, step) in QUEUE_TRANSITIONS:
        stream.apply_to_queue(step)
        assert stream.queue is QUEUE_TRANSITIONS[queue, step]
    else:
        with pytest.raises(LocalProtocolError, match=f"{step.name} in state {queue.name}"):
            stream.apply_to_queue(step)
        assert stream.queue is queue
