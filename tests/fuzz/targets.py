"""What is fuzzed: each target takes any bytes, and only returns or fails an assertion.

A target lets through what is documented for what it calls (``RemoteProtocolError``, ``InvalidURL`` …) and no other
exception, and asserts what must hold of the result and of what is kept. One that has a state (a core, a
multiplexer, a reader) takes its bytes as a script: an opcode, its arguments, the next opcode.
"""

from __future__ import annotations

import contextlib
import json
import random
import struct
from collections.abc import Callable
from typing import Any, Final

from websockets.utils import apply_mask

from session_manager_plugin.agent.http_messages import MAX_BODY_SIZE, MAX_HEAD_SIZE, BadRequestError, RequestReader
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.invocation import exposes_token, parse, take_response
from session_manager_plugin.communicator.stream_url import build_stream_url, complete_stream_url, validate_websocket_url
from session_manager_plugin.errors import (
    EncryptionError,
    InvalidURL,
    LocalProtocolError,
    RemoteProtocolError,
    UsageError,
)
from session_manager_plugin.protocol.crypto import DATA_KEY_SIZE, OVERHEAD, PayloadCipher
from session_manager_plugin.protocol.messages import (
    ClientMessage,
    ClientMessageType,
    acknowledged_sequence_number,
    parse_json_object,
)
from session_manager_plugin.protocol.payloads import (
    AgentSessionState,
    ChannelClosed,
    EncryptionChallenge,
    HandshakeComplete,
    HandshakeRequest,
    HandshakeResponse,
    KmsResult,
    OpenDataChannelInput,
    Size,
)
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux import (
    HEADER,
    HEADER_SIZE,
    MAX_STREAMS,
    MuxFailed,
    MuxSession,
    StreamData,
    StreamFinished,
    StreamOpened,
)
from session_manager_plugin.protocol.versions import (
    agent_supports_mux,
    agent_supports_terminate_flag,
    agent_wants_keepalive,
    client_is_outdated,
    client_supports_mux,
    client_wants_keepalive,
)
from session_manager_plugin.protocol.websocket_frames import FrameReader
from session_manager_plugin.session.port import LocalEnd
from session_manager_plugin.utils.hosts import host_and_port
from session_manager_plugin.utils.logging import redact, redact_url
from session_manager_plugin.utils.text import printable, printable_lines
from tests.support.owner import Owner
from tests.support.pair import Peer, new_connection

Target = Callable[[bytes], None]
MAX_INPUT: Final = 64 * 1024
"""Bytes; what is larger only takes longer."""
DATA_KEY: Final = bytes(range(DATA_KEY_SIZE))


class Script:
    """Bytes, read as opcodes and arguments; behind the end all is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data[:MAX_INPUT]
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def byte(self) -> int:
        """One byte."""
        return (self.bytes(1) or b"\0")[0]

    def bytes(self, size: int) -> bytes:
        """As many bytes, or what is left."""
        piece = self._data[self._position : self._position + size]
        self._position += size
        return piece

    def number(self, layout: str) -> int:
        """An integer in the layout of ``struct``."""
        size = struct.calcsize(layout)
        (value,) = struct.unpack(layout, self.bytes(size).ljust(size, b"\0"))
        assert isinstance(value, int)
        return value


def _tells(error: Exception, limit: int = 300) -> None:
    """An error's sentence has an end."""
    assert 0 < len(str(error)) <= limit


# Single messages and payloads.


def message(data: bytes) -> None:
    """The codec."""
    try:
        parsed = ClientMessage.parse(data)
    except RemoteProtocolError as error:
        _tells(error)
        return
    assert len(parsed.message_id) == 16
    assert len(parsed.payload) <= len(data)
    name = parsed.message_type
    if name.strip("\0").strip() == name != "" and parsed.created_date:  # what the reader strips cannot be written
        with contextlib.suppress(LocalProtocolError):
            assert ClientMessage.parse(parsed.serialize()) == parsed


def acknowledgement(data: bytes) -> None:
    """The payload of an acknowledgement."""
    with contextlib.suppress(RemoteProtocolError):
        assert -(2**63) <= acknowledged_sequence_number(data) < 2**63


_KINDS: Final[list[Any]] = [
    OpenDataChannelInput,
    HandshakeRequest,
    HandshakeResponse,
    HandshakeComplete,
    EncryptionChallenge,
    Size,
    ChannelClosed,
    AgentSessionState,
]


def payload(data: bytes) -> None:
    """A JSON payload of the kind that the first byte chooses: what can be read can be written, and reads the same."""
    script = Script(data)
    kind = _KINDS[script.byte() % len(_KINDS)]
    text = script.bytes(MAX_INPUT)
    try:
        value = kind.from_json(text)
    except RemoteProtocolError as error:
        _tells(error)
    else:
        assert kind.from_json(value.to_json().encode()) == value
        repr(value)
    with contextlib.suppress(RemoteProtocolError):
        KmsResult.from_value(parse_json_object(text, "it"))


def properties(data: bytes) -> None:
    """The properties of a port session and the parameters of a request: where to listen."""
    try:
        fields = parse_json_object(data, "properties")
    except RemoteProtocolError:
        return
    with contextlib.suppress(RemoteProtocolError, UsageError):
        assert 0 <= LocalEnd.of_session(fields).port < 65536
    with contextlib.suppress(UsageError):
        LocalEnd.of_request(json.loads(data.decode(errors="replace")))


def versions(data: bytes) -> None:
    """The version that the far end announces."""
    text = data.decode(errors="replace")
    for agent_gate in (agent_supports_mux, agent_wants_keepalive, agent_supports_terminate_flag):
        assert agent_gate(text) in (True, False)
    for client_gate in (client_supports_mux, client_wants_keepalive, client_is_outdated):
        assert client_gate(text) in (True, False)


def cipher(data: bytes) -> None:
    """What is to be decrypted: garbage, and a ciphertext with some bytes changed."""
    ours = PayloadCipher(DATA_KEY, agent=False, random_bytes=bytes)
    theirs = PayloadCipher(DATA_KEY, agent=True, random_bytes=bytes)
    sealed = bytearray(theirs.seal(b"plaintext"))
    for position, value in zip(data[::2], data[1::2], strict=False):
        sealed[position % len(sealed)] ^= value
    for garbage in (data, bytes(sealed)):
        try:
            opened = ours.open(garbage)
        except EncryptionError:
            continue
        assert len(opened) == len(garbage) - OVERHEAD
        assert garbage == theirs_again(opened)


def theirs_again(plaintext: bytes) -> bytes:
    """The first ciphertext of the agent's end: the only one there is."""
    return PayloadCipher(DATA_KEY, agent=True, random_bytes=bytes).seal(plaintext)


# The core.

_TYPES: Final = [*(each.value for each in ClientMessageType), "mystery", "\x1b[2J"]


def _connection(data: bytes, role: Role) -> None:
    """A far end that does what it likes, with an owner that does what it may."""
    script = Script(data)
    opening = script.byte()
    owner = Owner(new_connection(role, handshake_required=bool(opening & 1)))
    connection = owner.connection
    peer = Peer(Role.AGENT if role is Role.CLIENT else Role.CLIENT)
    owner.switch()
    if role is Role.AGENT and opening & 2:
        connection.request_handshake("Port", {}, 0.0, kms_key_id="alias/key" if opening & 4 else "")
    elif role is Role.AGENT and opening & 8:
        connection.skip_handshake()
    owner.check()
    while script:
        _step(script, owner, peer)
        owner.check()


def _step(script: Script, owner: Owner, peer: Peer) -> None:
    match script.byte() % 12:
        case 0 | 1:
            owner.receive(peer.stream(script.bytes(script.byte()) or b"x", script.byte() % 14))
        case 2:
            number, payload_type = script.number(">b"), script.byte() % 14
            owner.receive(peer.stream(script.bytes(script.byte()) or b"x", payload_type, number=number))
        case 3:
            number, payload_type = script.number(">q"), script.number(">I")
            owner.receive(peer.stream(script.bytes(script.number(">H")) or b"x", payload_type, number=number))
        case 4:
            owner.receive(peer.acknowledge(script.number(">b")))
        case 5:
            message_type = _TYPES[script.byte() % len(_TYPES)]
            owner.receive(peer.control(message_type, script.bytes(script.byte()) or b"{}"))
        case 6:
            owner.receive(script.bytes(script.number(">H")))
        case 7:
            changed = bytearray(peer.stream(script.bytes(script.byte()) or b"x", script.byte() % 14))
            changed[script.byte() % len(changed)] = script.byte()
            owner.receive(bytes(changed))
        case 8:
            owner.wait(script.byte() / 8)
        case 9:
            owner.send(script.bytes(script.byte()) or b"x")
        case 10:
            owner.switch()
        case 11:
            choice = script.byte()
            owner.answer_key([DATA_KEY, b"short", None][choice % 3])


def client(data: bytes) -> None:
    """The whole core, as a client."""
    _connection(data, Role.CLIENT)


def agent(data: bytes) -> None:
    """The whole core, as an agent."""
    _connection(data, Role.AGENT)


# smux.


class _MuxOwner:
    """Drives one multiplexer: every event is taken, and what it promises holds."""

    def __init__(self, role: Role, *, keepalive: bool) -> None:
        self.mux = MuxSession(role, keepalive=keepalive, now=0.0)
        self.now = 0.0
        self.dead = False
        self.open: dict[int, int] = {}
        """How much of each stream was received and not consumed."""

    def take_events(self) -> None:
        while (event := self.mux.next_event()) is not None:
            assert not self.dead
            if isinstance(event, MuxFailed):
                self.dead = True
            elif isinstance(event, StreamOpened):
                assert event.stream_id not in self.open
                self.open[event.stream_id] = 0
            elif isinstance(event, StreamData):
                self.open[event.stream_id] += len(event.data)
            elif isinstance(event, StreamFinished):
                assert event.stream_id in self.open
        assert len(self.open) <= 2 * MAX_STREAMS
        assert self.mux.total_unread == sum(self.open.values())
        assert (self.mux.culprit is not None) == self.mux.reading_paused
        timeout = self.mux.next_timeout()
        assert timeout is None or not self.dead

    def pick(self, choice: int) -> int | None:
        return [*self.open][choice % len(self.open)] if self.open else None


def smux(data: bytes) -> None:
    """The multiplexer: the far end's bytes in any pieces, between what an owner does."""
    script = Script(data)
    opening = script.byte()
    owner = _MuxOwner(Role.AGENT if opening & 1 else Role.CLIENT, keepalive=bool(opening & 2))
    mux = owner.mux
    while script:
        _mux_step(script, owner, mux)
        owner.take_events()


def _mux_step(script: Script, owner: _MuxOwner, mux: MuxSession) -> None:
    match script.byte() % 8:
        case 0 | 1:
            mux.receive_data(script.bytes(script.byte()), owner.now)
        case 2:
            # A frame with a plausible header.
            command, number, length = script.byte() % 6, script.byte() % 8, script.byte()
            mux.receive_data(HEADER.pack(1, command, length, number), owner.now)
            mux.receive_data(script.bytes(length if command == 2 else 0), owner.now)
        case 3:
            if not owner.dead:
                owner.open[mux.open_stream()] = 0
        case 4:
            stream_id = owner.pick(script.byte())
            if stream_id is not None and not owner.dead:
                mux.send_data(stream_id, script.bytes(script.byte()))
        case 5:
            if (stream_id := owner.pick(script.byte())) is not None:
                mux.close_stream(stream_id)
                del owner.open[stream_id]
        case 6:
            limit = HEADER_SIZE + 1 + script.byte()
            assert len(mux.data_to_send(limit)) <= limit
            if (stream_id := owner.pick(script.byte())) is not None:
                mux.consumed(stream_id, owner.open[stream_id])
                owner.open[stream_id] = 0
        case 7:
            owner.now += script.byte()
            mux.handle_timeout(owner.now)
            timeout = mux.next_timeout()
            assert timeout is None or timeout > owner.now


# What a caller gives.


def _texts(data: bytes, count: int) -> list[str]:
    """So many texts, as they come from a command line: bytes that are no text are lone surrogates."""
    pieces = data[:MAX_INPUT].split(b"\0", count - 1)
    return [piece.decode("utf-8", "surrogateescape") for piece in pieces] + [""] * (count - len(pieces))


def url(data: bytes) -> None:
    """Stream URLs: an endpoint, a session's id and a token."""
    endpoint, session_id, token = _texts(data, 3)
    with contextlib.suppress(InvalidURL):
        build_stream_url(endpoint, session_id, token)
    if validate_websocket_url(endpoint):
        host, port = host_and_port(endpoint)
        assert host
        assert 0 < port < 65536
    with contextlib.suppress(InvalidURL):
        complete, known = complete_stream_url(endpoint, session_id or None, token)
        assert validate_websocket_url(complete)
        assert session_id in ("", known)
        complete.encode()
    redact_url(endpoint)


def arguments(data: bytes) -> None:
    """The AWS CLI's positional arguments."""
    texts = _texts(data, 6)
    given = texts[: max(3, min(6, 1 + data.count(b"\0")))]
    environment = Environment(variables={"AWS_SSM_START_SESSION_RESPONSE": texts[0]})
    exposes_token(given[0])
    try:
        invocation = parse(given, take_response(given[0], environment))
    except UsageError as error:
        _tells(error, 300 + len(given[0]))
        return
    assert invocation.session_id
    (invocation.session_id + invocation.stream_url + invocation.token).encode()
    assert invocation.is_stdio in (True, False, None)
    with contextlib.suppress(UsageError):
        LocalEnd.of_request(invocation.parameters)


def text(data: bytes) -> None:
    """Text of the far end that is shown to a person."""
    for shown in (data.decode(errors="replace"), data.decode("latin-1"), data.decode("utf-8", "surrogateescape")):
        assert printable(shown).isprintable()
        assert not {*printable_lines(shown)} & {"\x1b", "\x9b", "\x07", "\x08", "\u202e", "\ud800", "\x00", "\x7f"}
        printable_lines(shown).encode()
        redact(shown)


# The agent's readers.


def http(data: bytes) -> None:
    """The sandbox's HTTP: what comes in pieces of the sizes that a seed gives is cut into the same requests."""
    whole = _requests(data, len(data) or 1)
    assert _requests(data, 7) == whole or len(data) > MAX_HEAD_SIZE
    assert len(whole) <= 1 + len(data) // 16


def _requests(data: bytes, step: int) -> list[str]:
    reader = RequestReader()
    found: list[str] = []
    for position in range(0, len(data), step):
        reader.feed(data[position : position + step])
        try:
            while (request := reader.next_request()) is not None:
                assert len(request.head) <= MAX_HEAD_SIZE + 4
                assert len(request.body) <= MAX_BODY_SIZE
                found.append(repr(request))
                assert request.is_websocket in (True, False)
            reader.must_continue()
        except BadRequestError as error:
            return [*found, f"{error.status} {error}"]
    return found


def frames(data: bytes) -> None:
    """The websocket frames of either end: nothing is lost, nothing is made up."""
    _read_frames(FrameReader(1024), data)
    _read_frames(FrameReader(1024, apply_mask), data)


def _read_frames(reader: FrameReader, data: bytes) -> None:
    dice = random.Random(len(data))
    taken = 0
    position = 0
    while position < len(data):
        step = dice.randint(1, 64)
        reader.feed(data[position : position + step])
        position += step
        while True:
            payloads, other = reader.read(binary=dice.random() < 0.9)
            taken += sum(len(each) + 2 for each in payloads) + len(other)
            assert taken <= len(data)
            assert all(len(each) <= 1024 for each in payloads)
            if not payloads and not other:
                break


TARGETS: Final[dict[str, Target]] = {
    target.__name__: target
    for target in (
        message,
        acknowledgement,
        payload,
        properties,
        versions,
        cipher,
        client,
        agent,
        smux,
        url,
        arguments,
        text,
        http,
        frames,
    )
}
