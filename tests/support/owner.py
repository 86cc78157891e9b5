"""The owner of a single core: drives it as a data channel would, and checks after every step what must hold then."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from session_manager_plugin.errors import ProtocolError
from session_manager_plugin.protocol.acknowledgements import MAX_PENDING_ACKNOWLEDGEMENTS
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import ChannelClosedReceived, DataKeyRequired, SessionFailed
from session_manager_plugin.protocol.messages import ClientMessage, PayloadType
from session_manager_plugin.protocol.reliable import MAX_WINDOW
from tests.support.pair import drain_events


@dataclass
class Owner:
    """See the module docstring."""

    connection: SessionEndpoint
    now: float = 0.0
    is_connected: bool = False
    failed: bool = False
    """Whether it is over: it has failed, or the service has closed it."""
    key_required: bool = False
    events: list[object] = field(default_factory=list)

    def receive(self, data: bytes | str) -> None:
        if self.is_connected:
            self.connection.receive_message(data, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.connection.handle_timeout(self.now)
        timeout = self.connection.next_timeout()
        assert timeout is None or timeout > self.now

    def answer_key(self, data_key: bytes | None) -> None:
        """Give the data key that is asked for, or refuse it."""
        if self.key_required:
            self.key_required = False
            if data_key is None:
                self.connection.refuse_data_key(ProtocolError("no key"), self.now)
            else:
                self.connection.provide_data_key(data_key, self.now, cipher_text=b"sealed")

    def send(self, payload: bytes) -> None:
        if self.connection.send_capacity:
            self.connection.send_data(PayloadType.OUTPUT, payload, self.now)

    def switch(self) -> None:
        if self.is_connected:
            self.connection.disconnected(self.now)
        else:
            self.connection.connected("token", self.now)
        self.is_connected = not self.is_connected

    def check(self) -> None:
        connection = self.connection
        outgoing = connection.messages_to_send(self.now)
        assert len(outgoing) <= MAX_PENDING_ACKNOWLEDGEMENTS + 3 * MAX_WINDOW
        for message in outgoing:
            if isinstance(message, bytes):
                ClientMessage.parse(message)
            else:
                json.loads(message)
        for event in drain_events(connection):
            assert not self.failed
            self.failed = isinstance(event, SessionFailed | ChannelClosedReceived)
            self.key_required = self.key_required or isinstance(event, DataKeyRequired)
            self.events.append(event)
        assert connection.send_capacity >= 0
        assert connection.in_flight <= 2 * MAX_WINDOW
        if self.failed:
            assert connection.next_timeout() is None
            assert not connection.ready
        assert (connection.in_flight == 0) == (connection.stalled_since is None)
