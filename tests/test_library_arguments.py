"""Arguments of the library that cannot be used: each is a ``UsageError`` before anything else happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from session_manager_plugin import AwsSettings, LinkOptions, connect, copy, forward, run, run_many, start
from session_manager_plugin.errors import UsageError
from session_manager_plugin.session.session import Session
from tests.support.memory_channel import MemoryAgent, MemoryChannel

URL = "wss://gateway.test/v1/data-channel/alice-1"
NOT_TEXT: list[Any] = [None, 5, 1.5, b"x", [], True, "\ud800"]
NOT_PORTS: list[Any] = [None, "80", 80.0, -1, 65536, 70000, True]
NOT_COUNTS: list[Any] = [None, "1", 0, -1, 1.0, float("nan"), True]
NOT_SECONDS: list[Any] = ["1", -1, float("nan"), float("inf"), b"", [], True]
NOT_LISTS: list[Any] = [None, 5, b"x", 1.5]


def cases(call: str, argument: str, values: list[Any]) -> list[Any]:
    return [pytest.param(call, argument, value, id=f"{call}-{argument}-{value!a}") for value in values]


BAD = [
    *cases("connect", "url", NOT_TEXT),
    *cases("connect", "token", [*NOT_TEXT, ""]),
    *cases("connect", "session_id", [5, b"x"]),
    *cases("connect", "target", NOT_TEXT),
    *cases("start", "target", NOT_TEXT),
    *cases("start", "document", NOT_TEXT),
    *cases("start", "reason", NOT_TEXT),
    *cases("start", "parameters", [5, "x", [], {"portNumber": "80"}, {"portNumber": 80}, {5: ["80"]}, {"p": [80]}]),
    *cases("run", "target", NOT_TEXT),
    *cases("run", "command", [*NOT_LISTS, ["echo", 5], ["echo", b"x"], [], "", " ", "\0"]),
    *cases("run", "input", [None, "text", 5]),
    *cases("run", "via", [None, "shell", 5]),
    *cases("run", "timeout", NOT_SECONDS),
    *cases("run", "reason", NOT_TEXT),
    *cases("run_many", "targets", [*NOT_LISTS, "web-1"]),
    *cases("run_many", "command", NOT_LISTS),
    *cases("run_many", "fanout", NOT_COUNTS),
    *cases("run_many", "timeout", NOT_SECONDS),
    *cases("forward", "target", NOT_TEXT),
    *cases("forward", "port", [*NOT_PORTS, 0]),
    *cases("forward", "host", NOT_TEXT),
    *cases("forward", "local_port", NOT_PORTS),
    *cases("forward", "pool", NOT_COUNTS),
    *cases("copy", "sources", [*NOT_LISTS, [5], [b"x"], []]),
    *cases("copy", "destination", [*NOT_LISTS, "\ud800"]),
    *cases("copy", "streams", NOT_COUNTS),
    *[
        case
        for call in ("connect", "start", "run", "run_many", "forward", "copy")
        for case in (
            *cases(call, "aws", [5, "x", {}, AwsSettings(region=5), AwsSettings(proxy=b"x")]),  # type: ignore[arg-type]
            *cases(call, "link", [5, "x", {}, LinkOptions(keepalive=-1), LinkOptions(ca_bundle=5)]),  # type: ignore[arg-type]
        )
    ],
    *cases("start", "link", [LinkOptions(connect_timeout=value) for value in (0, -1, float("nan"), "30")]),  # type: ignore[arg-type]
    *cases("start", "link", [LinkOptions(reconnect_timeout=value) for value in (-1, float("inf"), None)]),  # type: ignore[arg-type]
    *cases("start", "link", [LinkOptions(dial=value) for value in (5, "host", ("h", 0), ("h", 70000), ("", 1))]),  # type: ignore[arg-type]
    *cases("start", "link", [LinkOptions(bearer="auto"), LinkOptions(sign="never")]),  # type: ignore[arg-type]
]
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "connect": (connect, {"url": URL, "token": "token"}),
    "start": (start, {"target": "web-1"}),
    "run": (run, {"target": "web-1", "command": ["true"]}),
    "run_many": (run_many, {"targets": ["web-1"], "command": ["true"]}),
    "forward": (forward, {"target": "web-1", "port": 80}),
    "copy": (copy, {"sources": "web-1:/a", "destination": "b"}),
}
"""Each function, and arguments that it accepts."""


async def result_of(call: str, argument: str, value: Any) -> None:
    function, good = CALLS[call]
    made = function(**{**good, argument: value})
    if isinstance(made, AsyncGenerator):
        await anext(made)
    elif not isinstance(made, Session):
        await made


@pytest.mark.parametrize(("call", "argument", "value"), BAD)
async def test_a_bad_argument(call: str, argument: str, value: Any) -> None:
    with pytest.raises(UsageError, match=r"\w"):
        await result_of(call, argument, value)


@pytest.mark.parametrize("data", [None, "text", 5, ["x"]])
async def test_what_cannot_be_written(data: Any) -> None:
    with pytest.raises(UsageError, match="data must be bytes"):
        await Session(MemoryChannel(MemoryAgent())).write(data)


@pytest.mark.parametrize("size", [None, "80", 0, -1, 65536, 1.5])
async def test_sizes_that_no_terminal_has(size: Any) -> None:
    session = Session(MemoryChannel(MemoryAgent()))
    for columns, rows in ((size, 24), (80, size)):
        with pytest.raises(UsageError, match="the size of a terminal must be 1 to 65535"):
            await session.resize(columns, rows)


async def test_the_sentence_names_the_argument() -> None:
    with pytest.raises(UsageError, match=r"^local_port must be 0 to 65535, not 70000$"):
        forward("web-1", 80, local_port=70000)
    with pytest.raises(UsageError, match=r"^targets must be a list of str, not str$"):
        await anext(run_many("web-1", ["true"]))
    with pytest.raises(UsageError, match=r"^LinkOptions.keepalive must be a number of seconds from 0 on, not -1$"):
        start("web-1", link=LinkOptions(keepalive=-1))
