"""One data channel over a link that is there already, driven by hand: for who wants to see each step of its beginning.

The protocols are values here too: the library's ``ClientProtocol`` for the websocket, our ``Connection`` for the
session. What is between them and the link is one loop (``_turn``). There is no flow control and no reconnection: this
channel carries no data and lives for seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import Event as WebsocketEvent
from websockets.protocol import State
from websockets.uri import parse_uri

from session_manager_plugin import PLUGIN_VERSION
from session_manager_plugin.communicator.aws_hosts import is_aws_host
from session_manager_plugin.communicator.config import Bearer
from session_manager_plugin.communicator.connect_errors import answer_of, connect_failure
from session_manager_plugin.communicator.gateway_socket import USER_AGENT
from session_manager_plugin.communicator.http_answer import Answer, NotHTTP
from session_manager_plugin.communicator.opening import Stage
from session_manager_plugin.communicator.probe_link import Link, Route
from session_manager_plugin.errors import ConnectionLost, SessionEnded, SessionManagerError
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

MAX_MESSAGE_SIZE = 1024 * 1024
CLOSE_TIMEOUT = 1.0
"""Seconds the far end may take to close its end of the websocket."""
READ_SIZE = 65536


class ProbeChannel:
    """The websocket of ``route`` over ``link``, and the session on it. Methods are called in this order: ``upgrade``,
    ``begin``, ``until_ready``, ``ping`` as often as wanted, ``close``."""

    def __init__(self, link: Link, route: Route, *, session_id: str = "", session_types: Collection[str] = ()) -> None:
        self._link = link
        self._websocket = ClientProtocol(parse_uri(route.url), max_size=MAX_MESSAGE_SIZE)
        self._place = route.place
        self._host = route.host
        self._connection = SessionEndpoint(
            Role.CLIENT,
            version=PLUGIN_VERSION,
            epoch=time.time() - time.monotonic(),
            random_bytes=os.urandom,
            session_id=session_id,
            session_types=session_types,
        )
        self._answer = b""
        self._early: list[WebsocketEvent] = []
        self._fragments = b""
        self._pongs: dict[bytes, float] = {}
        self.heard_at: float | None = None
        """The instant (monotonic) of the first message that the far end sent."""

    # The websocket.

    async def upgrade(self, token: str, bearer: Bearer, signature: Mapping[str, str]) -> Answer:
        """Ask for a websocket; gives the answer, whatever its status is. ``signature`` holds headers to add, if any.

        Raises ``ConnectError`` when there is none, or a 101 that is no websocket.
        """
        websocket = self._websocket
        request = websocket.connect()
        request.headers["User-Agent"] = USER_AGENT
        if token and (bearer is Bearer.ALWAYS or (bearer is Bearer.AUTO and not is_aws_host(self._host))):
            request.headers["Authorization"] = f"Bearer {token}"
        for name, value in signature.items():
            request.headers.pop(name, None)  # setting one adds a value
            request.headers[name] = value
        websocket.send_request(request)
        self._write()
        while True:
            error = websocket.handshake_exc
            events = websocket.events_received()
            if events and (error is None or isinstance(error, InvalidStatus)):
                response, *self._early = events  # frames may come in the same read
                assert isinstance(response, Response)
                return answer_of(response)
            if error is not None:
                if isinstance(error, InvalidMessage):
                    error = NotHTTP(self._answer, cut_short=isinstance(error.__cause__, EOFError))
                raise connect_failure(error, self._place, via="", timeout=0, stage=Stage.WEBSOCKET) from error
            self._answer += await self._read()

    async def _read(self) -> bytes:
        data = await self._link.reader.read(READ_SIZE)
        if data:
            self._websocket.receive_data(data)
        else:
            self._websocket.receive_eof()
        return data

    def _write(self) -> None:
        data = b"".join(self._websocket.data_to_send())  # an empty item asks for a half-close, which close does
        if data and not self._link.writer.transport.is_closing():
            self._link.writer.write(data)

    # The session.

    def begin(self, token: str) -> None:
        """Send the token."""
        now = time.monotonic()
        self._connection.connected(token, now)
        self._receive_frames(now)
        self._send()

    async def until_ready(
        self, key_service: KeyService, key_asked: Callable[[str, Awaitable[DataKey]], Awaitable[DataKey]]
    ) -> SessionReady:
        """Go on until the session has begun.

        When it is to be encrypted, ``key_asked`` is given the key's id and the call that gets the data key, and makes
        it. Raises what prevents the session: ``ConnectionLost`` with a close code, ``SessionEnded``, others.
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
            self._connection.refuse_data_key(error, now())
        else:
            self._connection.provide_data_key(key.plaintext, now(), cipher_text=key.cipher_text)
        self._send()

    async def ping(self, timeout: float) -> float | None:
        """Seconds until the gateway answered a ping; None when it has not within ``timeout`` seconds.

        Raises what ended the session meanwhile.
        """
        sent_at = time.monotonic()
        payload = os.urandom(8)
        self._websocket.send_ping(payload)
        self._write()
        while payload not in self._pongs and time.monotonic() < sent_at + timeout:
            await self._turn(sent_at + timeout)
        answered_at = self._pongs.pop(payload, None)
        return None if answered_at is None else answered_at - sent_at

    async def idle(self, seconds: float) -> None:
        """Keep the session alive for a while. Raises what ended it meanwhile."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await self._turn(until)

    async def _turn(self, until: float | None) -> list[Event]:
        """Wait for something to happen, at most until an instant, and let the session see it; gives its events.

        Raises what ends the session.
        """
        events = self._take_events()
        if events:
            return events
        deadlines = [instant for instant in (until, self._connection.next_timeout()) if instant is not None]
        now = time.monotonic()
        delay = max(0.0, min(deadlines) - now) if deadlines else None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._read()
        now = time.monotonic()
        self._receive_frames(now)
        self._connection.handle_timeout(now)
        self._send()
        events = self._take_events()
        if not events and self._websocket.state is not State.OPEN:
            raise self._reason()
        return events

    def _take_events(self) -> list[Event]:
        events: list[Event] = []
        while (event := self._connection.next_event()) is not None:
            match event:
                case ChannelClosedReceived(output):
                    raise SessionEnded("the session was closed by the far end", output=output)
                case SessionFailed(error):
                    raise error
            events.append(event)
        return events

    def _receive_frames(self, now: float) -> None:
        frames, self._early = [*self._early, *self._websocket.events_received()], []
        for frame in frames:
            assert isinstance(frame, Frame)
            self._receive(frame, now)

    def _receive(self, frame: Frame, now: float) -> None:
        if frame.opcode is Opcode.PONG:
            self._pongs[bytes(frame.data)] = now
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._fragments += frame.data
            if frame.fin:
                message, self._fragments = self._fragments, b""
                self.heard_at = self.heard_at or now
                self._connection.receive_message(message, now)

    def _send(self) -> None:
        if self._websocket.state is State.OPEN:
            for message in self._connection.messages_to_send(time.monotonic()):
                if isinstance(message, str):
                    self._websocket.send_text(message.encode())
                else:
                    self._websocket.send_binary(message)
        self._write()

    def _reason(self) -> ConnectionLost:
        close = self._websocket.close_rcvd
        if close is not None and close.code != CloseCode.NO_STATUS_RCVD:
            reason = f" ({close.reason})" if close.reason else ""
            return ConnectionLost(
                f"the service closed the connection with code {close.code:d}{reason}", close_code=close.code
            )
        broken = self._websocket.parser_exc
        if broken is not None and not isinstance(broken, EOFError):
            return ConnectionLost(f"the service broke the websocket protocol: {broken}")
        return ConnectionLost("the service closed the connection without a word")

    async def close(self) -> None:
        """Close the websocket in order; the link is not touched."""
        if self._websocket.state is not State.OPEN:
            return
        self._websocket.send_close(CloseCode.NORMAL_CLOSURE)
        self._write()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                while self._websocket.close_rcvd is None and not self._link.reader.at_eof():
                    await self._read()
