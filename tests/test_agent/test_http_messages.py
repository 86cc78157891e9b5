"""Requests cut out of bytes, responses made into bytes."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from session_manager_plugin.agent.http_messages import (
    MAX_BODY_SIZE,
    MAX_HEAD_SIZE,
    BadRequestError,
    HttpResponse,
    RequestReader,
    text_response,
)

POST = b"POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target:\tAmazonSSM.StartSession \r\nContent-Length: 5\r\n\r\nhello"


def reader(data: bytes) -> RequestReader:
    result = RequestReader()
    result.feed(data)
    return result


def test_a_request_with_a_body() -> None:
    request = reader(POST).next_request()
    assert request is not None
    assert (request.method, request.path, request.body) == ("POST", "/", b"hello")
    assert request.headers["x-amz-target"] == "AmazonSSM.StartSession"
    assert request.keep_alive
    assert not request.is_websocket


def test_requests_come_one_after_the_other_however_the_bytes_are_cut() -> None:
    requests = RequestReader()
    complete = []
    for position in range(len(POST) * 2):
        requests.feed((POST * 2)[position : position + 1])
        if (request := requests.next_request()) is not None:
            complete.append((position, request.body))
    assert complete == [(len(POST) - 1, b"hello"), (2 * len(POST) - 1, b"hello")]


def test_an_upgrade_keeps_its_bytes() -> None:
    head = b"GET /x HTTP/1.1\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"
    requests = reader(head + b"\x81\x80frame")
    request = requests.next_request()
    assert request is not None
    assert request.is_websocket
    assert request.head == head
    assert requests.take_rest() == b"\x81\x80frame"
    assert requests.next_request() is None


def test_continue_is_asked_for_once_and_only_while_the_body_is_missing() -> None:
    requests = reader(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
    assert requests.next_request() is None
    assert requests.must_continue()
    assert not requests.must_continue()
    requests.feed(b"ok")
    assert requests.next_request() is not None
    assert not requests.must_continue()


@pytest.mark.parametrize(
    ("head", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_who_keeps_the_connection(head: bytes, keep_alive: bool) -> None:
    request = reader(head).next_request()
    assert request is not None
    assert request.keep_alive is keep_alive


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/2\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET  / HTTP/1.1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/1.1\r\nbroken\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", HTTPStatus.BAD_REQUEST),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", HTTPStatus.LENGTH_REQUIRED),
        (
            b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_SIZE + 1),
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        ),
        (b"G" * (MAX_HEAD_SIZE + 1), HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
        (
            b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * MAX_HEAD_SIZE),
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        ),
    ],
)
def test_what_is_not_understood_is_refused(data: bytes, status: HTTPStatus) -> None:
    with pytest.raises(BadRequestError) as caught:
        reader(data).next_request()
    assert caught.value.status is status


def test_a_response_says_its_length_and_what_becomes_of_the_connection() -> None:
    response = HttpResponse(HTTPStatus.OK, b"{}", "application/json", {"X-Id": "7"})
    head, _, body = response.serialize(keep_alive=True).partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert {b"Content-Length: 2", b"Content-Type: application/json", b"Connection: keep-alive", b"X-Id: 7"} <= set(
        lines
    )
    assert body == b"{}"
    assert b"Connection: close" in text_response(HTTPStatus.NOT_FOUND, "no").serialize(keep_alive=False)
