"""One data channel over an established link, started and checked step by step.

Uses the websocket of a data channel (``GatewaySocket``) and a ``SessionEndpoint``, without flow control and
reconnection: this channel carries no data and exists for a few seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

from websockets.exceptions import InvalidStatus

from session_manager_plugin import PLUGIN_VERSION
from session_manager_plugin.communicator.gateway_socket import (
    GatewaySocket,
    GatewaySocketOwner,
    Message,
    bearer_header,
    client_protocol,
)
from session_manager_plugin.communicator.http_answer import Answer, answer_of
from session_manager_plugin.communicator.opening import Link
from session_manager_plugin.communicator.route import Route
from session_manager_plugin.errors import SessionEnded, SessionManagerError
from session_manager_plugin.protocol.endpoint import SessionEndpoint
from session_manager_plugin.protocol.events import (
    ChannelClosedReceived,
    DataKeyRequired,
    Event,
    SessionFailed,
    SessionReady,
)
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.session.protocols import DataKey, KeyService
from session_manager_plugin.utils.link_options import Bearer

MAX_MESSAGE_SIZE = 1024 * 1024
CLOSE_TIMEOUT = 1.0
"""Seconds within which the far end must close its end of the websocket."""


class ProbeChannel(GatewaySocketOwner):
    """The websocket of ``route`` over ``link``, and the session on it. Call order: ``upgrade``, ``begin``,
    ``until_ready``, ``ping`` any number of times, ``close``."""

    def __init__(self, link: Link, route: Route, *, session_id: str = "", session_types: Collection[str] = ()) -> None:
        self._link = link
        self._route = route
        self._socket = GatewaySocket(self, client_protocol(route.url, MAX_MESSAGE_SIZE))
        self._endpoint = SessionEndpoint(
            Role.CLIENT,
            version=PLUGIN_VERSION,
            epoch=time.time() - time.monotonic(),
            random_bytes=os.urandom,
            session_id=session_id,
            session_types=session_types,
        )
        self._changed = asyncio.Event()
        self._ended: Exception | None = None
        self._pongs: dict[bytes, float] = {}
        self.last_contact_at = 0.0
        self.heard_at: float | None = None
        """When the first message of the far end arrived (monotonic)."""

    # The websocket.

    async def upgrade(self, token: str, bearer: Bearer, signature: Mapping[str, str]) -> Answer:
        """Request a websocket, and return the response with any status. ``signature`` holds headers to add.

        Raises ``NotHTTP``, ``OSError``, and the library's exceptions for an invalid response with status 101.
        """
        await self._link.hand_over(self._socket)
        try:
            return await self._socket.handshake(bearer_header(token, bearer, self._route.host) | dict(signature))
        except InvalidStatus as error:
            return answer_of(error.response)

    def messages_received(self, connection: GatewaySocket, messages: list[Message]) -> None:
        """Pass the messages of one read to the session."""
        now = time.monotonic()
        self.heard_at = self.heard_at or now
        for message in messages:
            self._endpoint.receive_message(message, now)
        self._changed.set()

    def pong_received(self, payload: bytes) -> None:
        """Note when a ping was answered."""
        self._pongs[payload] = time.monotonic()
        self._changed.set()

    def write_paused(self, connection: GatewaySocket, paused: bool) -> None:
        """Do nothing: little is written."""

    def connection_ended(self, connection: GatewaySocket | None, error: Exception) -> None:
        """Note why the websocket was lost."""
        self._ended = self._ended or error
        self._changed.set()

    # The session.

    def begin(self, token: str) -> None:
        """Send the token."""
        now = time.monotonic()
        self._endpoint.connected(token, now)
        self._socket.attach()  # messages may have arrived already
        self._send()

    async def until_ready(
        self, key_service: KeyService, key_asked: Callable[[str, Awaitable[DataKey]], Awaitable[DataKey]]
    ) -> SessionReady:
        """Wait until the session has begun.

        For an encrypted session, calls ``key_asked`` with the key's id and an awaitable. ``key_asked`` must await that
        and return the result, the data key. Raises the error that prevents the session, such as ``ConnectionLost`` with
        a close code.
        """
        while True:
            for event in await self._turn(None):
                match event:
                    case SessionReady():
                        return event
                    case DataKeyRequired(key_id, challenge):
                        await self._provide_key(
                            key_id, key_asked(key_id, key_service.generate_data_key(key_id, challenge))
                        )

    async def _provide_key(self, key_id: str, asking: Awaitable[DataKey]) -> None:
        now = time.monotonic
        try:
            key = await asking
        except SessionManagerError as error:
            self._endpoint.refuse_data_key(error, now())
        else:
            self._endpoint.provide_data_key(key.plaintext, now(), cipher_text=key.cipher_text)
        self._send()

    async def ping(self, timeout: float) -> float | None:
        """Ping the gateway; return the seconds until the pong, or None if none arrives within ``timeout`` seconds.

        Raises the error that has ended the session in the meantime.
        """
        sent_at = time.monotonic()
        payload = os.urandom(8)
        self._socket.ping_now(payload)
        while payload not in self._pongs and time.monotonic() < sent_at + timeout:
            await self._turn(sent_at + timeout)
        answered_at = self._pongs.pop(payload, None)
        return None if answered_at is None else answered_at - sent_at

    async def idle(self, seconds: float) -> None:
        """Run the session for ``seconds``. Raises the error that has ended it in the meantime."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await self._turn(until)

    async def _turn(self, until: float | None) -> list[Event]:
        """Wait for an event, at most until the time ``until``, and return the session's events.

        Raises the error that ends the session.
        """
        events = self._take_events()
        if events:
            return events
        if self._ended is not None:
            raise self._ended
        deadlines = [instant for instant in (until, self._endpoint.next_timeout()) if instant is not None]
        delay = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._changed.wait()
        self._endpoint.handle_timeout(time.monotonic())
        self._send()
        return self._take_events()

    def _take_events(self) -> list[Event]:
        events: list[Event] = []
        while (event := self._endpoint.next_event()) is not None:
            match event:
                case ChannelClosedReceived(output):
                    raise SessionEnded("the session was closed by the far end", output=output)
                case SessionFailed(error):
                    raise error
            events.append(event)
        return events

    def _send(self) -> None:
        messages = self._endpoint.messages_to_send(time.monotonic())
        if messages and self._socket.is_open:
            self._socket.write_messages(messages)

    async def close(self) -> None:
        """Close the websocket with a closing handshake. The link stays open."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._socket.close()
