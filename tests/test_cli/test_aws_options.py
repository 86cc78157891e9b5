"""The options of AWS reach a command as one value."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import command
from session_manager_plugin.cli.environment import Environment
from tests.test_cli.conftest import Smp


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


def test_all_options(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.touch()
    settings, count = received(
        *("--region", "eu-west-1", "--profile", "team", "--endpoint-url", "http://127.0.0.1:1"),
        *("--ca-bundle", str(bundle), "--proxy", "http://proxy:3128", "--count", "3"),
    )
    assert settings == AwsSettings("eu-west-1", "team", "http://127.0.0.1:1", str(bundle), "http://proxy:3128")
    assert count == 3


def test_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    assert received() == (AwsSettings(), 1)


def test_the_bundle_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "variable.pem")
    assert received()[0].ca_bundle == "variable.pem"


WRONG_URL = "is not a URL such as https://HOST or http://127.0.0.1:8080"
WRONG_REGION = "is not the name of a region, such as eu-west-1"


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        *[
            ("--region", value, f"{value!r} {WRONG_REGION}")
            for value in ("us east", "", "-", "12", "eu_west", "a" * 64)
        ],
        *[
            ("--endpoint-url", value, f"{value!r} {WRONG_URL}")
            for value in (
                "foo",
                "",
                "http://",
                "ftp://127.0.0.1",
                "http://h:99999",
                "http://h:0",
                "http://[::1",
                "https://a b",
            )
        ],
        ("--profile", "", "the name is empty"),
    ],
)
@pytest.mark.parametrize("command", [["ls"], ["kill", "a"], ["start", "i-0123456789abcdef0"], ["probe"]])
def test_values_that_cannot_be_used(smp: Smp, command: list[str], option: str, value: str, sentence: str) -> None:
    run = smp(*command, option, value)
    assert (run.status, run.out) == (2, b"")
    usage = f"(smp {command[0]} --help shows what there is)"
    assert run.err == f"smp: Invalid value for '{option}': {sentence} {usage}\n"


@pytest.mark.parametrize("endpoint", [["--endpoint-url", "http://127.0.0.1:1"], []])
def test_certificates_that_are_not_there(smp: Smp, endpoint: list[str], tmp_path: Path) -> None:
    """Also where no connection is to use TLS."""
    run = smp("ls", "--region", "eu-west-1", *endpoint, "--ca-bundle", str(tmp_path / "none"))
    assert (run.status, run.out) == (2, b"")
    assert run.err == f"smp: the CA bundle {tmp_path}/none cannot be read: No such file or directory\n"


@pytest.mark.parametrize("session", ["", " "])
def test_a_session_without_an_id(smp: Smp, session: str) -> None:
    run = smp("kill", "alice-1", session)
    assert (run.status, run.err) == (2, "smp: the id of a session is empty\n")
