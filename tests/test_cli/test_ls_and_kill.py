"""`smp ls` and `smp kill` against the sandbox, by the real botocore."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.default_inventory import DEFAULT_INVENTORY
from session_manager_plugin.agent.inventory import Instance, Inventory, Permissions
from session_manager_plugin.agent.session import EndReason
from tests.support.fake_gateway import served
from tests.test_cli.conftest import Run, SandboxThread, Smp

WEB = "i-0a1b2c3d4e5f60001"
List = Callable[..., Run]


@pytest.fixture
def call(smp: Smp, sandbox: SandboxThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> List:
    """Calls `smp` with the sandbox's endpoint."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return lambda *arguments: smp(*arguments, "--endpoint-url", sandbox.endpoint_url)


def names(run: Run) -> list[str]:
    """The second field of each line."""
    assert run.status == 0
    return [line.split("\t")[1] for line in run.out.decode().splitlines()]


def test_online_targets(call: List) -> None:
    assert names(call("ls")) == ["local", "office", "web-1", "web-2"]
    assert "batch-1" in names(call("ls", "--all"))
    assert names(call("ls", "--tag", "role=web", "--name", "*-2")) == ["web-2"]


def test_none(call: List) -> None:
    run = call("ls", "--tag", "role=web", "--tag", "role=db")
    assert (run.status, run.out) == (0, b"")
    assert run.err == "smp: no target that is online matches; --all lists offline ones\n"


def test_json(call: List) -> None:
    (line,) = call("ls", "--json", "--name", "web-1").out.splitlines()
    fields = json.loads(line)
    assert list(fields) == ["id", "name", "platform", "ip", "agent_version", "online", "last_ping"]
    assert (fields["id"], fields["ip"], fields["online"]) == (WEB, "10.0.1.11", True)


@pytest.fixture
def unnamed(smp: Smp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[List]:
    """Calls `smp` with a sandbox whose user may not ask EC2 for names."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    database = Instance(id="i-0a1b2c3d4e5f60009", name="db-1", tags={"role": "db"})
    inventory = Inventory(
        instances=(*DEFAULT_INVENTORY.instances, database), permissions=Permissions(denied=("ec2:*",))
    )
    with served(Sandbox(inventory=inventory)) as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield lambda *arguments: smp(*arguments, "--endpoint-url", running.endpoint_url)


CAUSE = re.compile(r"smp: the names of instances are not known: [^\n]* needs ec2:DescribeInstances; [^\n]*\n")


def test_unknown_names_are_explained_once(unnamed: List) -> None:
    for command in (("ls", "--json"), ("ls", "-v"), ("ssh-config", "--all"), ("ssh-config", "tag:role=db")):
        run = unnamed(*command)
        assert run.status == 0
        assert len(CAUSE.findall(run.err)) == 1
        assert run.err.count("are not known") == 1
        assert all(json.loads(line)["id"] for line in run.out.splitlines() if command[1] == "--json")
    assert unnamed("ls", "-q").err == unnamed("ssh-config", WEB).err == ""


def test_targets_cannot_be_selected_by_unknown_names(unnamed: List) -> None:
    run = unnamed("ls", "--all", "--name", "web-*")
    assert (run.status, run.out) == (255, b"")
    assert CAUSE.fullmatch(run.err)


def test_sessions_and_their_end(call: List, sandbox: SandboxThread) -> None:
    first, second = sandbox.start(), sandbox.start()
    lines = [json.loads(line) for line in call("ls", "--sessions", "--json").out.splitlines()]
    assert {each["id"] for each in lines} == {first.session_id, second.session_id}
    assert list(lines[0]) == ["id", "target", "started", "owner", "document", "status", "reason"]
    run = call("kill", first.session_id, "nobody-0123456789abcdef0")
    assert run.status == 255
    assert f"session {first.session_id} terminated" in run.err
    assert "session nobody-0123456789abcdef0 does not exist" in run.err
    assert sandbox.end_of(first.session_id) is EndReason.TERMINATED
    assert call("kill", "--mine").err == f"smp: session {second.session_id} terminated\n"
    assert sandbox.end_of(second.session_id) is EndReason.TERMINATED
    assert call("ls", "--sessions").err == "smp: you have no active session\n"
    assert first.session_id in call("ls", "--history").out.decode()


@pytest.mark.parametrize(
    "arguments", [("kill",), ("kill", "--mine", "a-1"), ("ls", "--sessions", "--all"), ("ls", "--tag", "x")]
)
def test_usage(call: List, arguments: tuple[str, ...]) -> None:
    assert call(*arguments).status == 2


@pytest.mark.parametrize(
    "name",
    [
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_CA_BUNDLE",
        "AWS_DEFAULTS_MODE",
        "AWS_METADATA_SERVICE_TIMEOUT",
        "AWS_ENDPOINT_URL_SSM",
    ],
)
def test_an_empty_variable_is_as_if_unset(call: List, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    assert names(call("ls", "--name", "web-1")) == ["web-1"]


def test_an_empty_region(call: List, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")
    run = call("ls")
    assert run.status == 255
    assert "the region is not known; give --region, or set AWS_REGION" in run.err
