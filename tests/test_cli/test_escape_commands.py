"""What escapes say: only what applies, and nothing that a terminal would obey."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.escape_commands import EscapeCommands
from session_manager_plugin.cli.target_argument import target_label
from session_manager_plugin.errors import ConfigurationError, LeftByEscape
from session_manager_plugin.library import connect
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.session.session import Session
from session_manager_plugin.terminal.console import Console
from session_manager_plugin.terminal.escapes import Escape, EscapeScanner
from tests.support.agent_gateway import TOKEN, AgentGateway
from tests.support.waiting import wait_until


class FakeConsole:
    """What `EscapeCommands` uses of a `Console`."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.size = TerminalSize(80, 24)
        self.shows_status = True
        self.toggled = 0
        self.predicts = False
        self.can_suspend = True
        self.suspended = 0
        self.scanner: EscapeScanner | None = None

    def say(self, lines: Sequence[str], *, at_cursor: bool = False) -> None:
        self.said += lines

    def toggle_bar(self) -> None:
        self.toggled += 1

    def toggle_prediction(self) -> None:
        self.predicts = not self.predicts

    def suspend(self) -> bool:
        self.suspended += self.can_suspend
        return self.can_suspend

    def listen(self, scanner: EscapeScanner, obey: Callable[[Escape], None]) -> None:
        self.scanner = scanner


class FakeSession:
    """What `EscapeCommands` uses of a `Session`."""

    session_id = "alice-1\x1b[2J"
    state = "opening"

    def __init__(self) -> None:
        self.info: dict[str, Any] = {}
        self.began: SessionReady | None = SessionReady(None)
        self.lines: list[str] | None = None
        self.reconnected = 0
        self.refusal: ConfigurationError | None = None

    def get_info(self) -> dict[str, Any]:
        return self.info

    async def reconnect(self) -> None:
        self.reconnected += 1
        if self.refusal is not None:
            raise self.refusal


class Commands:
    """The commands between two fakes."""

    def __init__(self) -> None:
        self.console, self.session = FakeConsole(), FakeSession()
        self.left: list[Exception] = []
        self.now = 0.0
        self.commands = EscapeCommands(
            cast(Console, self.console),
            cast(Session, self.session),
            lambda: self.session.lines,
            b"~",
            self.left.append,
            target="web-1 eu-west-1",
            now=lambda: self.now,
        )

    def said(self, escape: Escape) -> list[str]:
        """What is said when `escape` is typed."""
        self.console.said.clear()
        self.commands.obey(escape)
        return self.console.said


@pytest.fixture
def typed() -> Commands:
    return Commands()


def keys(lines: Sequence[str]) -> list[str]:
    return [line.split()[0] for line in lines if line.startswith(" ~")]


def test_help_lists_what_applies(typed: Commands) -> None:
    lines = typed.said(Escape.HELP)
    assert lines[0] == "~?"
    assert keys(lines) == ["~.", "~^Z", "~i", "~r", "~B", "~p", "~?", "~~"]
    typed.session.lines = []
    assert "~#" in keys(typed.said(Escape.HELP))
    typed.console.shows_status = False
    typed.session.began = None
    assert keys(typed.said(Escape.HELP)) == ["~.", "~^Z", "~#", "~i", "~?", "~~"]


def test_help_names_the_character() -> None:
    console = FakeConsole()
    commands = EscapeCommands(cast(Console, console), cast(Session, FakeSession()), lambda: None, b"\x1d", print)
    commands.start()
    commands.obey(Escape.HELP)
    assert console.scanner is not None
    assert console.scanner.feed(b"\x1d?", 0.0) == [Escape.HELP]
    assert console.said[0] == "^]?"
    assert any(line.startswith(" ^]^] ") for line in console.said)


def test_leaving(typed: Commands) -> None:
    assert typed.said(Escape.LEAVE) == []
    (error,) = typed.left
    assert isinstance(error, LeftByEscape)
    assert str(error) == "~."


def test_details_before_the_session_has_begun(typed: Commands) -> None:
    typed.session.began = None
    assert typed.said(Escape.DETAILS) == [
        "~i",
        " session: alice-1?[2J",
        " target:  web-1 eu-west-1",
        " state:   opening",
    ]


def test_details(typed: Commands) -> None:
    typed.session.began = SessionReady("Standard_Stream", peer_version="3.3.0.0\x1b]0;x\x07")
    typed.now = 3725.0
    typed.session.info = {
        "url": "wss://user:secret@gateway.example:8443/v1/data-channel/alice-1?token=abcdefgh12345678",
        "state": "connected",
        "link": "reconnecting",
        "trouble": "no answer for 3 s",
        "latency": 0.01234,
        "tls": "TLSv1.3, TLS_AES_256_GCM_SHA384",
        "bytes_received": 1_234_567,
        "bytes_sent": 999,
        "retransmitting": 2,
        "retransmissions": 1042,
        "reconnects": 0,
        "queue_size": 7,
        "encrypted": True,
        "encryption_key": "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    }
    assert typed.said(Escape.DETAILS) == [
        "~i",
        " session:         alice-1?[2J",
        " target:          web-1 eu-west-1",
        " uptime:          1 h 2 min",
        " state:           reconnecting",
        " trouble:         no answer for 3 s",
        " latency:         no answer",
        " received:        1.2 MB",
        " sent:            999 bytes",
        " retransmissions: 1,042, 2 not acknowledged yet",
        " reconnects:      0",
        " host:            gateway.example:8443",
        " TLS:             TLSv1.3, TLS_AES_256_GCM_SHA384",
        " encryption:      KMS key",
        "                  arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef",
        "                  -1234567890ab",
        " agent:           3.3.0.0?]0;x?",
        " session type:    Standard_Stream",
    ]


def test_details_are_no_wider_than_the_terminal(typed: Commands) -> None:
    typed.console.size = TerminalSize(40, 10)
    typed.session.session_id = "alice-0123456789abcdef0123456789abcdef0"
    typed.session.info = {"url": "wss://ssmmessages.ap-southeast-1.amazonaws.com/v1/data-channel/alice"}
    lines = typed.said(Escape.DETAILS)
    assert max(map(len, lines)) <= 40
    text = "".join("".join(lines).split())
    assert typed.session.session_id in text
    assert "ssmmessages.ap-southeast-1.amazonaws.com" in text


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_951, "1.0 MB")],
)
def test_sizes_in_the_details(typed: Commands, size: int, shown: str) -> None:
    typed.session.info = {"bytes_sent": size}
    assert f" sent:         {shown}" in typed.said(Escape.DETAILS)


async def test_the_details_are_supplied_by_a_session() -> None:
    async with AgentGateway() as gateway, connect(gateway.url, TOKEN) as session:
        await session.write(b"1234567890")
        await wait_until(lambda: session.get_info()["bytes_received"] > 0)
        console = FakeConsole()
        EscapeCommands(cast(Console, console), session, lambda: None, b"~", print).obey(Escape.DETAILS)
    labels = [line.split(":")[0].strip() for line in console.said[1:]]
    assert labels == [
        "session",
        "uptime",
        "state",
        *(["latency"] if "latency" in labels else []),
        "received",
        "sent",
        "retransmissions",
        "reconnects",
        "host",
        "TLS",
        "encryption",
        "agent",
        "session type",
    ]
    values = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in console.said[1:]}
    assert (values["TLS"], values["encryption"], values["retransmissions"]) == ("none", "none", "0")
    assert values["host"].startswith("127.0.0.1:")


def test_connections(typed: Commands) -> None:
    assert typed.said(Escape.CONNECTIONS) == ["~#", "no port is forwarded in this session"]
    typed.session.lines = []
    assert typed.said(Escape.CONNECTIONS) == ["~#", "no connection is open"]
    typed.session.lines = ["connection 1 from 127.0.0.1:5", "connection 2"]
    assert typed.said(Escape.CONNECTIONS) == ["~#", " connection 1 from 127.0.0.1:5", " connection 2"]


async def test_reconnecting(typed: Commands) -> None:
    assert typed.said(Escape.RECONNECT) == ["~r", "reconnecting"]
    await wait_until(lambda: typed.session.reconnected == 1)


async def test_reconnecting_is_refused(typed: Commands) -> None:
    typed.session.refusal = ConfigurationError("no token\x07")
    said = typed.said(Escape.RECONNECT)
    await wait_until(lambda: len(said) > 2)
    assert said == ["~r", "reconnecting", "not reconnecting: no token?"]


def test_prediction(typed: Commands) -> None:
    assert typed.said(Escape.TOGGLE_PREDICTION) == ["~p", "keys are drawn at once"]
    assert typed.said(Escape.TOGGLE_PREDICTION) == ["~p", "keys wait for their echo"]
    typed.console.shows_status = False
    assert typed.said(Escape.TOGGLE_PREDICTION) == ["~p", "there is no screen here to show that on"]


def test_the_bar(typed: Commands) -> None:
    assert typed.said(Escape.TOGGLE_BAR) == []
    typed.console.shows_status = False
    assert typed.said(Escape.TOGGLE_BAR) == ["~B", "there is no screen here to show that on"]
    assert typed.console.toggled == 1


def test_suspending(typed: Commands) -> None:
    assert typed.said(Escape.SUSPEND) == ["~^Z [suspended]"]
    typed.console.can_suspend = False
    assert "cannot be suspended" in typed.said(Escape.SUSPEND)[-1]
    assert typed.console.suspended == 1


@pytest.mark.parametrize(("region", "label"), [("eu-west-1", "web-1 eu-west-1"), (None, "web-1")])
def test_the_label_of_a_target(region: str | None, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    environment = Environment(variables={"AWS_CONFIG_FILE": os.devnull})
    assert target_label(environment, AwsSettings(region=region), "web-1") == label
