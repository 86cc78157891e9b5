"""The options of AWS reach a command as one value."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import command
from session_manager_plugin.cli.environment import Environment


def received(*arguments: str) -> tuple[AwsSettings, int]:
    """The settings that a command gets for these arguments, and an option of its own."""
    results: list[tuple[AwsSettings, int]] = []

    @command("some", examples="")
    @click.option("--count", type=int, default=1)
    @aws_options
    def some(_environment: Environment, *, count: int, settings: AwsSettings) -> None:
        results.append((settings, count))

    CliRunner().invoke(some, arguments, obj=Environment(), catch_exceptions=False, standalone_mode=False)
    return results[0]


def test_all_options() -> None:
    settings, count = received(
        *("--region", "eu-west-1", "--profile", "team", "--endpoint-url", "http://127.0.0.1:1"),
        *("--ca-bundle", "bundle.pem", "--proxy", "http://proxy:3128", "--count", "3"),
    )
    assert settings == AwsSettings("eu-west-1", "team", "http://127.0.0.1:1", "bundle.pem", "http://proxy:3128")
    assert count == 3


def test_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    assert received() == (AwsSettings(), 1)


def test_the_bundle_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "variable.pem")
    assert received()[0].ca_bundle == "variable.pem"
