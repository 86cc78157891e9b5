"""The gateway and the client of one agent, joined to it in memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID

from session_manager_plugin.agent.agent import Agent, AgentSettings
from session_manager_plugin.agent.documents import SessionType
from session_manager_plugin.agent.program import SessionProgram
from session_manager_plugin.agent.service_messages import publication_message
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import DataReceived, SessionReady
from session_manager_plugin.protocol.messages import (
    ClientMessage,
    ClientMessageType,
    PayloadType,
    acknowledged_sequence_number,
)
from session_manager_plugin.protocol.role import Role
from tests.support.clock import ManualClock
from tests.support.raw_client import DEADLINE, SESSION_TYPES

SETTINGS = AgentSettings(version="3.3.987.0", handshake=None, pace="fast", shell=["sh"])


class FarEnd:
    """The gateway and the client of one agent.

    ``receiving`` False loses all that the agent sends; in ``delivered`` it can be read all the same. ``received`` holds
    the payloads that came, with their types, ``output`` those of type OUTPUT.
    """

    def __init__(
        self,
        session_type: SessionType,
        properties: Mapping[str, str],
        settings: AgentSettings = SETTINGS,
        *,
        version: str = "1.3.0.0",
        session_types: Sequence[str] = SESSION_TYPES,
        clock: ManualClock | None = None,
    ) -> None:
        """Both ends take the time from ``clock``, if there is one."""
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop
        self.connection = SessionEndpoint(
            Role.CLIENT,
            version=version,
            epoch=time.time() - self._clock.time(),
            random_bytes=os.urandom,
            session_types=session_types,
        )
        self.agent = Agent(
            "s-1",
            "local",
            session_type,
            properties,
            settings,
            deliver=self._deliver,
            finished=self._finished,
            timers=clock,
        )
        self.receiving = True
        self.delivered: list[ClientMessage] = []
        self.received: list[tuple[int, bytes]] = []
        self.ready: SessionReady | None = None
        self.result: str | None = None
        self.failed: bool | None = None
        self._changed = asyncio.Event()
        self.connection.connected(None, self._clock.time())

    def _deliver(self, messages: Sequence[bytes]) -> None:
        for data in messages:
            message = ClientMessage.parse(data)
            self.delivered.append(message)
            if self.receiving and message.message_type != ClientMessageType.AGENT_SESSION_STATE:
                self.connection.receive_message(data, self._clock.time())
        self._loop.call_soon(self.answer)
        self._changed.set()

    def answer(self) -> None:
        """Take what happened and send what is due."""
        while (event := self.connection.next_event()) is not None:
            if isinstance(event, DataReceived):
                self.received += [(event.payload_type, bytes(payload)) for payload in event.payloads]
            elif isinstance(event, SessionReady):
                self.ready = event
        self._changed.set()
        self.send(*(m for m in self.connection.messages_to_send(self._clock.time()) if isinstance(m, bytes)))

    def send(self, *messages: bytes) -> None:
        """Hand the agent messages."""
        if messages:
            self.agent.receive(messages)

    def type(self, data: bytes, payload_type: PayloadType = PayloadType.OUTPUT) -> None:
        """Send one message of input."""
        self.connection.send_data(payload_type, data, self._clock.time())
        self.answer()

    def _finished(self, failed: bool, result: str) -> None:
        assert self.result is None
        self.failed, self.result = failed, result
        self._changed.set()

    async def until(self, predicate: Callable[[], object]) -> None:
        """Return when ``predicate()`` is true; raises ``TimeoutError``."""
        async with asyncio.timeout(DEADLINE):
            while not predicate():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):  # not all that is waited for is told to this end
                    await asyncio.wait_for(self._changed.wait(), 0.02)

    async def until_output(self, marker: bytes) -> None:
        """Return when ``marker`` is in the output."""
        await self.until(lambda: marker in self.output)

    async def until_finished(self) -> str:
        """The session's result, once there is one."""
        await self.until(lambda: self.result is not None)
        assert self.result is not None
        return self.result

    @property
    def output(self) -> bytes:
        """What came as OUTPUT."""
        return self.payloads(PayloadType.OUTPUT)

    def payloads(self, payload_type: PayloadType) -> bytes:
        """What came by this type."""
        return b"".join(payload for received_type, payload in self.received if received_type == payload_type)

    @property
    def program(self) -> SessionProgram:
        """The program that runs."""
        assert self.agent.program is not None
        return self.agent.program

    def states(self) -> list[str]:
        """What the agent reported to the gateway."""
        return [
            json.loads(message.payload)["SessionState"]
            for message in self.delivered
            if message.message_type == ClientMessageType.AGENT_SESSION_STATE
        ]

    def acknowledged(self) -> set[int]:
        """The sequence numbers of the input that the agent has acknowledged."""
        return {
            acknowledged_sequence_number(message.payload)
            for message in self.delivered
            if message.message_type == ClientMessageType.ACKNOWLEDGE
        }

    def output_numbers(self) -> list[int]:
        """The sequence numbers of all output messages, resent ones too."""
        return [
            message.sequence_number
            for message in self.delivered
            if message.message_type == ClientMessageType.OUTPUT_STREAM_DATA
        ]


def publication(message_type: ClientMessageType) -> bytes:
    """What the gateway says when the client is away, or back."""
    return publication_message(message_type, created_at=datetime.now(UTC), message_id=UUID(int=1))
