"""Parsing requests and serializing responses of HTTP/1.1, as far as the sandbox needs it. Pure.

Supports what the AWS SDKs send: a request line, headers, a body with a ``Content-Length``. A websocket's opening
request is recognised here; its original bytes are kept for the websockets library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus

MAX_HEAD_SIZE = 32 * 1024
"""Bytes of request line and headers. The session token of temporary credentials alone may take 2 KiB."""
MAX_BODY_SIZE = 1024 * 1024

_HEAD_END = b"\r\n\r\n"
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")


class BadRequestError(Exception):
    """The received bytes are not a supported request. The connection cannot be used any longer."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request. Header names are in lower case, values of repeated headers joined with ``", "``.

    ``head`` is the request line and headers as received, with the final empty line.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    head: bytes = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    keep_alive: bool = True

    @property
    def is_websocket(self) -> bool:
        """Whether the request opens a websocket."""
        return self.headers.get("upgrade", "").lower() == "websocket"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One response. Its length, the date and whether the connection stays open are added by ``serialize``."""

    status: HTTPStatus
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def serialize(self, *, keep_alive: bool) -> bytes:
        """Return the response as bytes."""
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Date: {formatdate(usegmt=True)}",
            f"Content-Type: {self.content_type}",
            f"Content-Length: {len(self.body)}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode("latin-1") + _HEAD_END + self.body


def text_response(status: HTTPStatus, text: str) -> HttpResponse:
    """Return a response with one line of text."""
    return HttpResponse(status, f"{text}\n".encode())


class RequestReader:
    """Splits the bytes of one connection into requests. Buffers at most one head and body of the largest sizes, and the
    rest of one read."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: HttpRequest | None = None
        self._body_size = 0
        self._continued = False

    def feed(self, data: bytes) -> None:
        """Take bytes read from the socket."""
        self._buffer += data

    def take_rest(self) -> bytes:
        """Return the bytes after the last request returned. The connection is no longer HTTP."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def must_continue(self) -> bool:
        """Whether to send ``100 Continue``, for which the peer waits before sending the body; true once for a
        request."""
        if self._head is None or self._continued:
            return False
        self._continued = self._head.headers.get("expect", "").lower() == "100-continue"
        return self._continued

    def next_request(self) -> HttpRequest | None:
        """Return the next complete request; None if more bytes are needed. Raises ``BadRequestError``."""
        if self._head is None:
            end = self._buffer.find(_HEAD_END)
            if (end if end >= 0 else len(self._buffer)) > MAX_HEAD_SIZE:
                status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
                raise BadRequestError(status, "the request's head is too long")
            if end < 0:
                return None
            head = bytes(self._buffer[: end + len(_HEAD_END)])
            self._head, self._body_size = _parse_head(head)
            self._continued = False
            del self._buffer[: len(head)]
        if len(self._buffer) < self._body_size:
            return None
        request = replace(self._head, body=bytes(self._buffer[: self._body_size]))
        del self._buffer[: self._body_size]
        self._head = None
        return request


def _parse_head(head: bytes) -> tuple[HttpRequest, int]:
    """Parse a request without its body. Returns it and the size of the body in bytes."""
    request_line, *lines = head[: -len(_HEAD_END)].decode("latin-1").split("\r\n")
    parts = request_line.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.0", "HTTP/1.1"):
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _HEADER_NAME.fullmatch(name):
            raise BadRequestError(HTTPStatus.BAD_REQUEST, "a header cannot be read")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if "transfer-encoding" in headers:
        raise BadRequestError(HTTPStatus.LENGTH_REQUIRED, "a body needs a Content-Length")
    length = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise BadRequestError(HTTPStatus.BAD_REQUEST, "the Content-Length is not a number")
    if int(length) > MAX_BODY_SIZE:
        raise BadRequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request's body is too long")
    connection = headers.get("connection", "").lower()
    keep_alive = "close" not in connection and (parts[2] == "HTTP/1.1" or "keep-alive" in connection)
    return HttpRequest(parts[0], parts[1], headers, head, keep_alive=keep_alive), int(length)
