"""When an MFA code is asked for, and when not."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli import mfa
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.mfa import ask, find_credentials_with_code
from session_manager_plugin.errors import ConfigurationError

DEVICE = "arn:aws:iam::111122223333:mfa/alice"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """A person at a terminal, whose default profile takes an MFA code."""
    config = tmp_path / "config"
    config.write_text(
        f"[default]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = keys\nmfa_serial = {DEVICE}\n"
        "[profile keys]\naws_access_key_id = AKIAX\naws_secret_access_key = x\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setattr(mfa, "_can_ask", lambda environment: environment.is_terminal(environment.stderr))
    return Environment(variables=os.environ, is_terminal=lambda _fd: True)


def asked(environment: Environment, settings: AwsSettings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that are asked; no answer is given."""
    questions: list[str] = []

    def getpass(question: str) -> str:
        questions.append(question)
        raise EOFError

    monkeypatch.setattr("getpass.getpass", getpass)
    with contextlib.suppress(ConfigurationError):
        find_credentials_with_code(environment, settings)
    assert settings.credentials.ask is None
    return questions


def test_a_person_is_asked(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(environment, AwsSettings("eu-west-1"), monkeypatch) == [f"MFA code of {DEVICE}: "]


def test_nobody_is_asked_for_nothing(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other credentials, and messages that nobody sees."""
    assert not asked(environment, AwsSettings("eu-west-1", "keys"), monkeypatch)
    environment.is_terminal = lambda fd: fd != environment.stderr
    assert not asked(environment, AwsSettings("eu-west-1"), monkeypatch)
    environment.is_terminal = lambda _fd: True
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
    assert not asked(environment, AwsSettings("eu-west-1"), monkeypatch)


def test_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment = Environment(is_terminal=lambda _fd: True)
    monkeypatch.setattr(mfa, "TERMINAL", str(tmp_path / "nothing"))
    assert not mfa._can_ask(environment)
    monkeypatch.setattr(mfa, "TERMINAL", os.devnull)
    assert not mfa._can_ask(environment)


@pytest.mark.parametrize("typed", ["", "12345", "1234567", "abcdef", "12345x"])
def test_what_is_no_code(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr("getpass.getpass", lambda _question: typed)
    with pytest.raises(ConfigurationError, match="six digits"):
        ask(DEVICE)


def test_a_code_with_a_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda _question: "123 456")
    assert ask(DEVICE) == "123456"
