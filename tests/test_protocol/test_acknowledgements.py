"""``protocol/acknowledgements.py``: acknowledgements that were probably lost are repeated."""

from __future__ import annotations

from session_manager_plugin.protocol.acknowledgements import REPEAT_INTERVAL, REPEATED
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.messages import acknowledged_sequence_number
from session_manager_plugin.protocol.role import Role
from tests.support.pair import Peer, new_connection, sent_by


def acknowledged(client: SessionEndpoint, now: float) -> list[int]:
    """What the client acknowledges now."""
    return [
        acknowledged_sequence_number(message.payload)
        for message in sent_by(client, now)
        if message.message_type == "acknowledge"
    ]


def received(count: int, *, missing: int = -1) -> tuple[SessionEndpoint, Peer]:
    """A client that has received ``count`` messages but one at 0, and has acknowledged them."""
    client, agent = new_connection(Role.CLIENT), Peer()
    client.connected("token", 0.0)
    for number in range(count):
        if number != missing:
            client.receive_message(agent.stream("x", number=number), 0.0)
    assert len(acknowledged(client, 0.0)) == count - (missing >= 0)
    return client, agent


def test_a_repeated_message_brings_the_acknowledgements_behind_it_again() -> None:
    """The official agent would send each of those messages again, 100 ms apart."""
    client, agent = received(6, missing=4)
    client.receive_message(agent.stream("x", number=2), 0.3)
    assert acknowledged(client, 0.3) == [2, 3, 5]


def test_no_acknowledgement_that_may_still_be_under_way_is_repeated() -> None:
    client, agent = received(6)
    client.receive_message(agent.stream("x", number=2), REPEAT_INTERVAL / 2)
    assert acknowledged(client, REPEAT_INTERVAL / 2) == [2]


def test_the_repetitions_are_bounded() -> None:
    client, agent = received(3 * REPEATED)
    client.receive_message(agent.stream("x", number=0), 1.0)
    client.receive_message(agent.stream("x", number=1), 1.0)
    assert acknowledged(client, 1.0) == [0, *range(1, REPEATED + 1), 1]
    client.receive_message(agent.stream("x", number=1), 1.0 + REPEAT_INTERVAL)
    assert acknowledged(client, 1.0 + REPEAT_INTERVAL) == [1, *range(2, REPEATED + 2)]
