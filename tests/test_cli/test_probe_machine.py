"""`smp probe` on a machine where something is missing, hidden or too old."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from session_manager_plugin import PLUGIN_VERSION
from session_manager_plugin.aws import diagnosis
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.probe import machine
from session_manager_plugin.cli.probe.checks import Group, Stage
from tests.support.probe_report import Found, ProbeReport
from tests.support.waiting import DEADLINE
from tests.test_cli.probing import Prober, executable

URL = ("--url", "ws://127.0.0.1:1/v1/data-channel/x")
PLUGIN = "session-manager-plugin"
PYTHON = sys.executable


def plugin(prober: Prober) -> Found:
    """What is said of the plugin."""
    return prober(*URL).one("local", PLUGIN)


def test_the_plugin_of_this_package_is_the_first(prober: Prober) -> None:
    found = plugin(prober)
    assert found.verdict == "pass"
    assert found.detail.startswith(f"{prober.bin}/{PLUGIN} is version {PLUGIN_VERSION}, this package")


def test_the_plugin_of_this_package_is_hidden(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    other = executable(prober.home / "opt" / PLUGIN, "echo 1.2.764.0")
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
    found = plugin(prober)
    assert found.verdict == "warn"
    assert found.detail.startswith(f"{other} is version 1.2.764.0; it hides {prober.bin}/{PLUGIN}")
    assert f"put {prober.home.parent}/venv before {other.parent}" in found.advice
    assert "so old" not in found.advice
    executable(other, "echo 1.2.497.0")
    assert "so old that everybody on this machine can see the token" in plugin(prober).advice


@pytest.mark.parametrize("script", ["exit 1", "echo nothing"])
def test_a_plugin_that_does_not_work(prober: Prober, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    other = executable(prober.home / "opt" / PLUGIN, script)
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
    found = plugin(prober)
    assert found.verdict == "warn"
    assert "does not say its version" in found.detail


def test_a_plugin_that_hangs(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PROGRAM_TIMEOUT", 0.2)
    executable(prober.home.parent / "venv" / PLUGIN, "exec sleep 60")
    assert "does not say its version" in plugin(prober).detail


def test_no_plugin_and_no_aws_cli(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(prober.bin)
    monkeypatch.setenv("PATH", str(prober.bin))
    report = prober(*URL)
    found = report.one("local", PLUGIN)
    assert (found.verdict, found.detail) == ("warn", "none is on the PATH")
    assert f"put {prober.home.parent}/venv on it" in found.advice
    found = report.one("local", "aws")
    assert (found.verdict, found.detail) == ("warn", "the AWS CLI is not on the PATH")


@pytest.mark.parametrize(
    ("output", "verdict", "detail"),
    [
        ("aws-cli/2.30.1 Python/3.13", "pass", "is version 2.30.1"),
        ("aws-cli/1.46.0 Python/3.11", "pass", "is version 1.46.0"),
        ("aws-cli/2.9.19 Python/3.11", "warn", "gives the token to the plugin as an argument"),
        ("amazon web shopper", "warn", "does not say its version"),
    ],
)
def test_versions_of_the_aws_cli(prober: Prober, output: str, verdict: str, detail: str) -> None:
    executable(prober.bin / "aws", f"echo {output}")
    found = prober(*URL).one("local", "aws")
    assert found.verdict == verdict
    assert detail in found.detail


def test_the_aws_cli_holds_nothing_up(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    """``aws`` answers when the other checks are done."""
    gate = prober.home / "gate"
    os.mkfifo(gate)
    opened = os.open(gate, os.O_RDWR)
    executable(prober.bin / "aws", f"read -r _ < {gate}; echo aws-cli/2.30.1")
    skip = Group.skip

    def open_gate(group: Group, name: str, reason: str, *stages: Stage) -> None:
        skip(group, name, reason, *stages)
        if name == "session":  # the last of the other checks
            os.write(opened, b"now\n")

    monkeypatch.setattr(Group, "skip", open_gate)
    try:
        report = prober(*URL)
    finally:
        os.close(opened)
    assert report.one("local", "aws").verdict == "pass"
    assert report.json["checks"][-1]["name"] == "aws"


def test_no_region_and_no_credentials(prober: Prober) -> None:
    for arguments in ([], ["i-0123456789abcdef0"]):
        report = prober(*arguments)
        assert report.one("local", "region").verdict == "fail"
        assert "AWS_REGION" in report.one("local", "region").advice
        assert report.one("local", "credentials").verdict == "fail"
        assert "aws sso login" in report.one("local", "credentials").advice
        assert all(set(verdicts) == {"skipped"} for verdicts in report.verdicts().values())


def test_without_credentials_no_session_is_started(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    report = prober("local", "--region", "us-east-1", "--endpoint-url", "http://127.0.0.1:1")
    assert report.one("local", "credentials").verdict == "fail"
    assert report.one("channel", "StartSession").verdict == "skipped"
    assert report.one("channel", "StartSession").detail == "there are no credentials"


def test_credentials_that_do_not_come(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def find_credentials(_settings: AwsSettings) -> None:
        asked.wait(DEADLINE)

    monkeypatch.setattr(machine, "CREDENTIALS_TIMEOUT", 0.05)
    monkeypatch.setattr(diagnosis, "find_credentials", find_credentials)
    try:
        found = prober("--region", "us-east-1", "--endpoint-url", "http://127.0.0.1:1", "x").one("local", "credentials")
    finally:
        asked.set()
    assert found.verdict == "fail"
    assert found.detail == "the credential provider did not answer within 0.05 s"


def test_a_profile_that_is_not_there(prober: Prober) -> None:
    report = prober("--profile", "nobody", "--region", "us-east-1")
    assert "could not be found" in report.one("local", "credentials").detail
    assert report.one("local", "endpoints").verdict == "fail"


def test_a_session_of_somebody_needs_neither(prober: Prober) -> None:
    report = prober(*URL)
    assert report.one("local", "region").verdict == "warn"
    assert report.one("local", "credentials").verdict == "warn"
    assert "not needed for this session" in report.one("local", "credentials").detail


def test_a_program_of_many_directories_is_told_once(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{prober.bin}:{prober.bin}:{prober.home.parent}/venv:/nonexistent")
    assert plugin(prober).detail == f"{prober.bin}/{PLUGIN} is version {PLUGIN_VERSION}, this package"


@pytest.mark.slow
def test_an_sso_login_that_has_expired(prober: Prober) -> None:
    """In a process of its own: botocore looks for the home directory when it is imported."""
    (prober.home / "config").write_text(
        "[profile team]\nregion = eu-west-1\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n"
        "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.awsapps.test/start\n"
    )
    cache = prober.home / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    token = {"accessToken": "an-expired-access-token", "expiresAt": "2020-01-01T00:00:00Z"}
    (cache / f"{hashlib.sha1(b'corp').hexdigest()}.json").write_text(json.dumps(token))
    arguments = ["probe", "i-0", "--endpoint-url", "http://127.0.0.1:1", "--profile", "team", "--json"]
    done = subprocess.run(
        [PYTHON, "-m", "session_manager_plugin", *arguments], stdout=subprocess.PIPE, timeout=60, check=False
    )
    assert done.returncode == 1
    found = ProbeReport(done.stdout).one("local", "credentials")
    assert found.verdict == "fail"
    assert "expired" in found.detail
    assert found.advice == "run aws sso login --profile team"
    assert b"an-expired-access-token" not in done.stdout
