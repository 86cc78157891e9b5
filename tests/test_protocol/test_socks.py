"""``protocol/socks.py``: the server's end of SOCKS5."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.errors import LocalProtocolError
from session_manager_plugin.protocol.socks import Reply, SocksRequest, SocksServer, SocksState

GREETING = b"\x05\x01\x00"
SUCCEEDED = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"


def request(kind: int, address: bytes, port: int = 443, command: int = 1) -> bytes:
    return bytes((5, command, 0, kind)) + address + port.to_bytes(2, "big")


def named(host: bytes, port: int = 443) -> bytes:
    return request(3, bytes((len(host),)) + host, port)


def feed(server: SocksServer, data: bytes, piece: int = 1 << 16) -> bytes:
    """Feed as a reader of a socket would, which asks for no more than is needed; return what is left unread."""
    while data and (needed := server.bytes_needed):
        size = min(needed, piece)
        server.receive_data(data[:size])
        data = data[size:]
    return data


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (named(b"db.internal", 5432), SocksRequest("db.internal", 5432)),
        (request(1, bytes((10, 0, 0, 7)), 80), SocksRequest("10.0.0.7", 80)),
        (request(4, ipaddress.ip_address("fd00::1").packed, 65535), SocksRequest("fd00::1", 65535)),
    ],
)
def test_a_request_in_pieces_of_any_size(message: bytes, expected: SocksRequest, piece: int) -> None:
    server = SocksServer()
    rest = feed(server, GREETING + message + b"GET / HTTP/1.1\r\n", piece)
    assert server.request == expected
    assert server.data_to_send() == b"\x05\x00"
    assert rest == b"GET / HTTP/1.1\r\n"  # what belongs to the connection is never asked for
    server.accept()
    assert server.data_to_send() == SUCCEEDED
    assert server.state is SocksState.ACCEPTED
    assert server.bytes_needed == 0


def test_a_refusal() -> None:
    server = SocksServer()
    feed(server, GREETING + named(b"db.internal"))
    server.data_to_send()
    server.refuse(Reply.HOST_UNREACHABLE, "db.internal is not allowed")
    assert server.data_to_send()[:2] == b"\x05\x04"
    assert server.state is SocksState.REFUSED
    assert server.error == "db.internal is not allowed"


@pytest.mark.parametrize(
    ("data", "answer", "error"),
    [
        (b"\x04\x01", b"", "SOCKS4"),
        (b"CONNECT ", b"", "HTTP proxy"),
        (b"\x16\x03", b"", "does not use SOCKS5"),
        (b"\x05\x01\x02", b"\x05\xff", "authentication"),
        (b"\x05\x00", b"\x05\xff", "authentication"),
        (GREETING + request(1, bytes(4), command=2), b"\x05\x00\x05\x07", "TCP connection"),
        (GREETING + request(1, bytes(4), command=3), b"\x05\x00\x05\x07", "TCP connection"),
        (GREETING + request(9, b""), b"\x05\x00\x05\x08", "type 9"),
        (GREETING + named(b""), b"\x05\x00\x05\x01", "host name"),
        (GREETING + named(b"a b"), b"\x05\x00\x05\x01", "host name"),
        (GREETING + named("münchen".encode()), b"\x05\x00\x05\x01", "host name"),
    ],
)
def test_a_client_that_is_not_served(data: bytes, answer: bytes, error: str) -> None:
    server = SocksServer()
    feed(server, data)
    assert server.state is SocksState.REFUSED
    assert server.data_to_send()[:4] == answer
    assert error in server.error
    assert server.bytes_needed == 0


@pytest.mark.parametrize("state", [SocksState.GREETING, SocksState.REQUEST, SocksState.ACCEPTED, SocksState.REFUSED])
def test_a_reply_out_of_turn(state: SocksState) -> None:
    server = SocksServer()
    if state is not SocksState.GREETING:
        feed(server, GREETING)
    if state is SocksState.ACCEPTED:
        feed(server, named(b"host"))
        server.accept()
    if state is SocksState.REFUSED:
        feed(server, named(b"host"))
        server.refuse(Reply.GENERAL_FAILURE, "no")
    assert server.state is state
    for reply in (server.accept, lambda: server.refuse(Reply.GENERAL_FAILURE, "")):
        with pytest.raises(LocalProtocolError):
            reply()
    assert server.state is state


def test_more_bytes_than_were_needed() -> None:
    server = SocksServer()
    with pytest.raises(LocalProtocolError):
        server.receive_data(b"\x05\x01\x00")


@given(data=st.binary(max_size=300), piece=st.integers(1, 64))
def test_any_bytes_are_a_request_or_a_refusal(data: bytes, piece: int) -> None:
    server = SocksServer()
    rest = feed(server, data, piece)
    assert len(rest) < len(data) or not data
    if server.state is SocksState.REFUSED:
        assert server.error
    elif server.state is SocksState.DECIDING:
        assert server.request is not None
    else:
        assert not rest
        assert server.bytes_needed > 0


@given(data=st.binary(max_size=300))
def test_the_answer_depends_on_the_bytes_alone(data: bytes) -> None:
    whole, in_pieces = SocksServer(), SocksServer()
    feed(whole, GREETING + data)
    feed(in_pieces, GREETING + data, 1)
    assert (whole.state, whole.request, whole.data_to_send()) == (
        in_pieces.state,
        in_pieces.request,
        in_pieces.data_to_send(),
    )
