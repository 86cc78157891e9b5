"""The messages the gateway makes itself, against recorded bytes."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from session_manager_plugin.agent.service_messages import channel_closed_message, publication_message
from session_manager_plugin.protocol.messages import ClientMessage, ClientMessageType
from session_manager_plugin.protocol.payloads import ChannelClosed

VECTORS = Path(__file__).parent.parent / "vectors"
MOMENT = datetime(2024, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)


def test_channel_closed_has_the_recorded_header_of_112_bytes() -> None:
    records = json.loads((VECTORS / "malformed.json").read_text())["records"]
    (record,) = [r for r in records if r["name"].startswith("channel_closed with 112 byte header (no")]
    recorded = bytes.fromhex(record["hex"])
    payload = ChannelClosed.from_json(recorded[116:])
    ours = channel_closed_message(
        payload.session_id, payload.output, created_at=MOMENT, message_id=uuid.UUID(payload.message_id)
    )
    assert ours[:36] == recorded[:36]
    # The recording's own id, date and sequence number differ from those in its payload; the rest is equal.
    assert ours[80:] == recorded[80:]
    assert len(ours) == len(recorded)


def test_channel_closed_can_be_read() -> None:
    message = ClientMessage.parse(channel_closed_message("s-1", "gone", created_at=MOMENT, message_id=uuid.UUID(int=7)))
    assert message.message_type == ClientMessageType.CHANNEL_CLOSED
    assert message.created_date == 1704164645006
    assert message.message_id == uuid.UUID(int=7).bytes
    assert ChannelClosed.from_json(message.payload) == ChannelClosed(
        "s-1", "gone", str(uuid.UUID(int=7)), "s-1", "2024-01-02T03:04:05.006Z"
    )


@pytest.mark.parametrize("message_type", [ClientMessageType.START_PUBLICATION, ClientMessageType.PAUSE_PUBLICATION])
def test_publication_messages_equal_the_recorded_ones(message_type: ClientMessageType) -> None:
    records = json.loads((VECTORS / "frames.json").read_text())["records"]
    (record,) = [r for r in records if r["name"] == message_type.value]
    fields = record["fields"]
    ours = publication_message(
        message_type,
        created_at=datetime.fromtimestamp(int(fields["created_date"]) / 1000, UTC),
        message_id=uuid.UUID(fields["message_id"]),
    )
    assert ours.hex() == record["hex"]
