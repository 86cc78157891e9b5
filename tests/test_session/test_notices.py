"""The texts of notices, official and plain."""

from __future__ import annotations

import pytest

from session_manager_plugin.session.notices import OfficialNotices, PlainNotices, SilentNotices
from session_manager_plugin.session.protocols import Notices

ADDRESSES = ["127.0.0.1:5432", "[::1]:5432"]


def say_everything(notices: Notices, *, multiplexed: bool) -> None:
    """Everything there is to say, in the order of a session."""
    notices.port_opened(5432, ADDRESSES, multiplexed=multiplexed)
    notices.unix_socket_opened("/tmp/100%s.sock", multiplexed=multiplexed)
    notices.connection_accepted(multiplexed=multiplexed)
    notices.destination_failed("connection 3 from 127.0.0.1:40000")
    notices.destination_failed("")
    notices.trouble("a sentence")
    notices.interrupted()


def test_the_official_texts_of_multiplexed_forwarding() -> None:
    written: list[str] = []
    told: list[str] = []
    say_everything(OfficialNotices("alice-0a1b2c3d", written.append, told.append), multiplexed=True)
    assert written == [
        "Port 5432 opened for sessionId alice-0a1b2c3d.\nWaiting for connections...\n",
        "Unix socket /tmp/100%s.sock opened for sessionId alice-0a1b2c3d.\nWaiting for connections...\n",
        "\nConnection accepted for session [alice-0a1b2c3d]\n",
        "\nConnection to destination port failed, check SSM Agent logs.\n",
        "\nConnection to destination port failed, check SSM Agent logs.\n",
        "Terminate signal received, exiting.\n",
    ]
    assert told == ["a sentence"]


def test_the_official_texts_of_basic_forwarding() -> None:
    written: list[str] = []
    say_everything(OfficialNotices("alice-0a1b2c3d", written.append, lambda sentence: None), multiplexed=False)
    assert written[:3] == [
        "Port 5432 opened for sessionId alice-0a1b2c3d.\n",
        "Unix socket /tmp/100%s.sock opened for sessionId alice-0a1b2c3d.\n",
        "Connection accepted for session alice-0a1b2c3d.\n",
    ]


def test_plain_sentences() -> None:
    told: list[str] = []
    say_everything(PlainNotices(told.append), multiplexed=False)
    refused = "the far end could not connect to its destination; is something listening there?"
    assert told == [
        "listening on 127.0.0.1:5432 and [::1]:5432; this agent takes one connection at a time",
        "listening on /tmp/100%s.sock; this agent takes one connection at a time",
        f"connection 3 from 127.0.0.1:40000: {refused}",
        refused,
        "a sentence",
    ]
    told.clear()
    PlainNotices(told.append).port_opened(5432, ADDRESSES, multiplexed=True)
    assert told == ["listening on 127.0.0.1:5432 and [::1]:5432"]


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    say_everything(SilentNotices(), multiplexed=True)
    assert capfd.readouterr() == ("", "")
