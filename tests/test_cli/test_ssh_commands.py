"""`smp ssh-config` and `smp ssh-proxy` against the sandbox, by the real botocore."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.commands.ssh_config import pinned_options
from session_manager_plugin.cli.own_command import absolute_command
from session_manager_plugin.errors import UsageError
from tests.test_cli.conftest import Run, SandboxThread, Smp

WEB, WEB_2, BATCH = "i-0a1b2c3d4e5f60001", "i-0a1b2c3d4e5f60002", "i-0a1b2c3d4e5f60003"
Call = Callable[..., Run]


@pytest.fixture
def call(smp: Smp, sandbox: SandboxThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls `smp` with the sandbox's endpoint."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return lambda *arguments: smp(*arguments, "--endpoint-url", sandbox.endpoint_url)


def hosts(text: str) -> list[str]:
    """What follows Host in each block."""
    return [line.removeprefix("Host ") for line in text.splitlines() if line.startswith("Host ")]


def test_blocks_are_printed(call: Call, sandbox: SandboxThread) -> None:
    run = call("ssh-config", "web-1", BATCH, "10.0.1.12")
    assert (run.status, run.err) == (0, "")
    text = run.out.decode()
    assert hosts(text) == [f"batch-1 {BATCH}", f"web-1 {WEB}", f"web-2 {WEB_2}"]
    assert f"ssh-proxy {WEB} %p --region=us-east-1 --endpoint-url={sandbox.endpoint_url}\n" in text


def test_accounts_of_credentials_in_the_environment_are_told_apart(
    smp: Smp, sandbox: SandboxThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--all`` removes the targets that are gone, not those of another account."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", sandbox.endpoint_url)
    file = tmp_path / "smp" / "ssh_config"
    identity = "session_manager_plugin.aws.diagnosis.find_identity"
    monkeypatch.setattr(identity, lambda _settings, _timeout: "arn:aws:iam::111122223333:user/alice")
    assert smp("ssh-config", "--write", "--all").status == 0
    text = file.read_text()
    assert '"origin": "--region=us-east-1 \'account 111122223333\'"' in text
    other = text.replace(WEB, "i-0b1b2c3d4e5f60001").replace("account 111122223333", "account 444455556666")
    file.write_text(text + other.partition("\n\n")[2])
    before = hosts(file.read_text())
    assert smp("ssh-config", "--write", "--all").status == 0
    after = hosts(file.read_text())
    assert "web-1 i-0b1b2c3d4e5f60001" in after
    assert f"web-1.{WEB} {WEB}" in after
    assert len(after) <= len(before)


def test_the_account_is_not_needed(
    smp: Smp, sandbox: SandboxThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ENDPOINT_URL", sandbox.endpoint_url)

    def refuse(*_arguments: object) -> str:
        raise ConnectionError

    monkeypatch.setattr("session_manager_plugin.aws.diagnosis.find_identity", refuse)
    assert smp("ssh-config", "--write", "web-1").status == 0
    assert '"origin": "--region=us-east-1"' in (tmp_path / "smp" / "ssh_config").read_text()


def test_all_targets_and_a_file_of_our_own(call: Call, tmp_path: Path) -> None:
    file = tmp_path / ".config" / "smp" / "ssh_config"
    first = call("ssh-config", "--write", WEB_2, "--user", "bob")
    assert (first.status, first.out.decode()) == (0, f"Include {file}\n")
    assert first.err == f"smp: {file} has web-2\nsmp: put this line at the top of ~/.ssh/config:\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert call("ssh-config", "--write", "web-1").status == 0
    assert hosts(file.read_text()) == [f"web-2 {WEB_2}", f"web-1 {WEB}"]
    assert "User bob" in file.read_text()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "config").write_text(f"  Include   {file}\nHost *\n")
    run = call("ssh-config", "--write", "--all")
    assert (run.status, run.out) == (0, b"")
    assert run.err == f"smp: {file} has batch-1, local, office, web-1, web-2\n"
    assert len(hosts(file.read_text())) == 5
    assert "User bob" not in file.read_text()


def test_targets_of_two_accounts(call: Call, tmp_path: Path) -> None:
    """Blocks of one stay when those of the other are replaced; a name that both have means what it meant."""
    file = tmp_path / ".config" / "smp" / "ssh_config"
    other = f'# smp {{"id": "{BATCH[:-1]}9", "origin": "--profile=other"}}\nHost web-1 {BATCH[:-1]}9\n'
    file.parent.mkdir(parents=True)
    file.write_text(other)
    assert call("ssh-config", "--write", "--all").status == 0
    assert other in file.read_text()
    assert f"Host web-1.{WEB} {WEB}\n" in file.read_text()


def test_a_new_key_for_each_connection(call: Call, tmp_path: Path) -> None:
    text = call("ssh-config", "web-1", "--push-key").out.decode()
    assert f"    IdentityFile {tmp_path}/.local/state/smp/ssh/{WEB}.%r\n    IdentitiesOnly yes\n" in text
    assert text.endswith(" --user='%r' --push-key\n")


def test_a_key_of_the_user(call: Call, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA bob\n")
    argument = os.path.relpath(tmp_path / "key.pub")
    of_an_agent = call("ssh-config", "web-1", "--push-key", argument).out.decode()
    assert f"    IdentityFile {tmp_path}/key.pub\n" in of_an_agent
    assert of_an_agent.endswith(f" --user='%r' --push-key={tmp_path}/key.pub\n")
    (tmp_path / "key").touch()
    assert f"    IdentityFile {tmp_path}/key\n" in call("ssh-config", "web-1", "--push-key", argument).out.decode()
    refused = call("ssh-config", "web-1", "--push-key", str(tmp_path / "key"))
    assert (refused.status, refused.out) == (2, b"")


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (("ssh-config",), 2, "give targets, or --all"),
        (("ssh-config", "--push-key", "web-1"), 2, "'web-1' is the file of --push-key, which comes last without one"),
        (("ssh-config", "web-1", "--all"), 2, "give targets, or --all, not both"),
        (("ssh-config", "ecs:shop/api/app"), 2, "ecs:shop/api/app is a container, not an instance"),
        (("ssh-config", "i-00000000"), 255, "no target has the id i-00000000"),
        (("ssh-config", "web-1", "--user", "a b"), 2, "cannot be the name of a user"),
        (("ssh-proxy", "web-1", "--push-key"), 2, "--push-key needs --user, which is %r in a ProxyCommand"),
        (("ssh-proxy", "web-1", "--user", "bob", "--push-key", "/nonexistent"), 2, "cannot be read"),
        (("ssh-proxy", "office", "--user", "bob", "--push-key"), 2, "for EC2 instances (i-...) only"),
        (("ssh-proxy", "web-1", "70000"), 2, "70000"),
        (("ssh-proxy", "batch-1"), 255, "batch-1 (i-0a1b2c3d4e5f60003) is offline since"),
    ],
)
def test_what_cannot_be_done(call: Call, arguments: tuple[str, ...], status: int, sentence: str) -> None:
    run = call(*arguments)
    assert (run.status, run.out) == (status, b"")
    assert sentence in run.err


def test_ids_need_no_permission(smp: Smp) -> None:
    run = smp("ssh-config", WEB, "--region", "eu-west-1", "--endpoint-url", "http://127.0.0.1:9")
    assert hosts(run.out.decode()) == [WEB]


def test_options_are_those_of_this_moment(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[profile team]\nregion = eu-north-1\n")
    variables = {"AWS_CONFIG_FILE": str(config), "AWS_PROFILE": "team", "AWS_ENDPOINT_URL_SSM": "https://ssm.example"}
    found = pinned_options(AwsSettings(ca_bundle="ca.pem", proxy="http://proxy:3128"), variables)
    assert found == [
        "--region=eu-north-1",
        "--profile=team",
        "--endpoint-url=https://ssm.example",
        f"--ca-bundle={os.path.abspath('ca.pem')}",
        "--proxy=http://proxy:3128",
    ]
    keys = {**variables, "AWS_ACCESS_KEY_ID": "AKIAUNUSED"}
    assert pinned_options(AwsSettings("us-east-1"), keys) == [
        "--region=us-east-1",
        "--endpoint-url=https://ssm.example",
    ]
    with pytest.raises(UsageError, match="visible in ps; set HTTPS_PROXY") as raised:
        pinned_options(AwsSettings(proxy="http://bob:geheim@proxy:3128"), {})
    assert "geheim" not in str(raised.value)


def test_how_this_program_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "smp"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["smp", "ssh-config"])
    assert absolute_command() == [str(script)]
    monkeypatch.setattr(sys, "argv", ["/somewhere/__main__.py"])
    assert absolute_command() == [sys.executable, "-P", "-m", "session_manager_plugin"]
