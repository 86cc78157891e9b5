"""A tolerant parser for the head of an HTTP response: a proxy's response to CONNECT, or a server's to ``smp probe``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from websockets.http11 import Response

HEAD_LIMIT = 64 * 1024
"""The maximum size of a head, in bytes."""
BEGINNING_LIMIT = 1024
"""Bytes kept of a response that is not HTTP, to show them."""
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(r"HTTP/\d\.\d[ \t]+([1-9]\d\d)(?:[ \t]+(.*))?")
_SIGNATURE = b"HTTP/"


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    reason: str
    headers: dict[str, str]
    """By name in lower case. Several values of one name are joined by commas."""
    body: bytes = field(default=b"", repr=False)
    """Empty if it was not read."""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


def answer_of(response: Response) -> Answer:
    """Convert the library's response."""
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    return Answer(response.status_code, response.reason_phrase, headers, bytes(response.body or b""))


class NotHTTP(Exception):
    """The response is not HTTP, or there is none.

    ``beginning`` is the response's first bytes; empty if the connection was closed without a response.
    ``cut_short``: the connection ended in the middle of the response.
    """

    def __init__(self, beginning: bytes, *, cut_short: bool = False) -> None:
        super().__init__("the answer is not HTTP")
        self.beginning = beginning[:BEGINNING_LIMIT]
        self.cut_short = cut_short


class AnswerReader:
    """Parses one head from the pieces of a stream.

    Accepts lines that end with a bare LF (RFC 9112 2.2), and status lines that end after the status, which some proxies
    send and curl accepts.
    """

    def __init__(self) -> None:
        self._received = b""

    def feed(self, data: bytes) -> Answer | None:
        """Add bytes. Returns the response once its head is complete, without a body. Raises ``NotHTTP``."""
        self._received += data
        found = _HEAD_END.search(self._received)
        if found is not None:
            return self._parse(self._received[: found.start()])
        if not self._received.startswith(_SIGNATURE[: len(self._received)]) or len(self._received) > HEAD_LIMIT:
            raise NotHTTP(self._received)
        return None

    def end(self) -> NotHTTP:
        """Return the exception for a stream that has ended in the middle of the head."""
        return NotHTTP(self._received, cut_short=bool(self._received))

    def _parse(self, head: bytes) -> Answer:
        first, *lines = [line.rstrip("\r") for line in head.decode("latin-1").split("\n")]
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise NotHTTP(self._received)
        headers: dict[str, str] = {}
        for name, _, value in (line.partition(":") for line in lines):
            key, value = name.strip().lower(), value.strip()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        return Answer(int(match[1]), (match[2] or "").strip(), headers)
