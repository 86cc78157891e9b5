"""Websocket frames: our data path returns the same messages as the library."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from session_manager_plugin.communicator.gateway_socket import GatewaySocket, Message
from session_manager_plugin.communicator.opening import deliver

MAX_SIZE = 2000


def open_protocol() -> ClientProtocol:
    """As it is behind the answer to the opening."""
    return ClientProtocol(parse_uri("ws://127.0.0.1/"), max_size=MAX_SIZE, state=State.OPEN)


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.pongs: list[bytes] = []
        self.ended = False

    last_contact_at = 0.0

    def messages_received(self, _connection: GatewaySocket, messages: list[Message]) -> None:
        self.messages += messages

    def pong_received(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def write_paused(self, _connection: GatewaySocket, paused: bool) -> None:
        raise AssertionError("nothing much is written")

    def connection_ended(self, _connection: GatewaySocket | None, _error: Exception) -> None:
        self.ended = True


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


def the_librarys_way(data: bytes) -> tuple[list[Message], list[bytes], ClientProtocol]:
    """Messages and pongs; a text that is none, as bytes."""
    protocol = open_protocol()
    protocol.receive_data(data)
    messages: list[Message] = []
    pongs = []
    parts, text = bytearray(), False
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode is Opcode.PONG:
            pongs.append(bytes(frame.data))
        elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if frame.opcode is not Opcode.CONT:
                parts, text = bytearray(), frame.opcode is Opcode.TEXT
            parts += frame.data
            if frame.fin:
                try:
                    messages.append(parts.decode() if text else bytes(parts))
                except UnicodeDecodeError:
                    messages.append(bytes(parts))
    return messages, pongs, protocol


def serialize(opcode: Opcode, data: bytes, fin: bool = True, masked: bool = False) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=masked)


sizes = st.one_of(st.integers(0, 130), st.integers(MAX_SIZE - 2, MAX_SIZE + 2))
messages = sizes.map(lambda size: serialize(Opcode.BINARY, bytes(size)))
texts = st.sampled_from([serialize(Opcode.TEXT, b"text"), serialize(Opcode.TEXT, b"\xff")])
divided = st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY]), st.lists(sizes, min_size=1, max_size=3)).map(
    lambda parts: b"".join(
        [
            serialize(parts[0] if position == 0 else Opcode.CONT, b"x" * size, fin=position == len(parts[1]) - 1)
            for position, size in enumerate(parts[1])
        ]
    )
)
control = st.sampled_from(
    [
        serialize(Opcode.PING, b"are you there"),
        serialize(Opcode.PONG, b"yes"),
        serialize(Opcode.CLOSE, Close(1000, "bye").serialize()),
        serialize(Opcode.CLOSE, b"\x00"),
    ]
)
broken = st.one_of(
    st.binary(min_size=1, max_size=20),
    st.sampled_from(
        [
            serialize(Opcode.CONT, b"of nothing"),
            serialize(Opcode.BINARY, b"begun", fin=False),
            serialize(Opcode.BINARY, b"masked", masked=True),
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ]
    ),
)


async def test_the_library_would_have_given_the_same() -> None:
    """Whatever comes, cut wherever: the same messages, pongs and answers, and the same end for the same reason."""

    @example(b"\xc2\x05", [])
    @given(
        st.lists(st.one_of(messages, messages, texts, divided, control, broken), max_size=8).map(b"".join),
        st.lists(st.integers(1, MAX_SIZE), max_size=20),
    )
    def same(data: bytes, steps: list[int]) -> None:
        expected, pongs, library = the_librarys_way(data)
        owner, wire = Owner(), Wire()
        connection = GatewaySocket(owner, open_protocol())
        connection.connection_made(wire)
        connection.attach()
        position = 0
        for step in steps:
            deliver(connection, data[position : position + step])
            position += step
        deliver(connection, data[position:])
        assert owner.messages == expected
        assert owner.pongs == pongs
        ours = connection.protocol
        assert (ours.state, ours.close_rcvd) == (library.state, library.close_rcvd)
        assert repr(ours.parser_exc) == repr(library.parser_exc)
        assert owner.ended == (library.state is not State.OPEN)
        unmasked = [read_frames(bytes(wire.written)), read_frames(b"".join(library.data_to_send()))]
        assert unmasked[0] == unmasked[1]

    same()


def read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """The short masked frames in ``data``: opcode byte and payload."""
    frames = []
    while data:
        size = data[1] & 0x7F
        mask = data[2:6]
        frames.append((data[0], bytes(byte ^ mask[index % 4] for index, byte in enumerate(data[6 : 6 + size]))))
        data = data[6 + size :]
    return frames
