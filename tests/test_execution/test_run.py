"""``library.run`` with a sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from session_manager_plugin import AwsSettings, CompletedSession, Via, run, run_many
from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.inventory import Instance, Inventory
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.aws.botocore_session import CallLimits
from session_manager_plugin.aws.kept_clients import KeptClients
from session_manager_plugin.aws.systems_manager import START_ONCE, TERMINATE_MANY
from session_manager_plugin.errors import CommandTimedOut, DocumentDenied, UsageError
from tests.support.sandbox_credentials import use_credentials
from tests.support.waiting import DEADLINE, wait_until

NEW, OLD, DENIED = "i-0a1b2c3d4e5f60001", "i-0a1b2c3d4e5f60002", "i-0a1b2c3d4e5f60003"
INVENTORY = Inventory(
    instances=(
        Instance(id=NEW, name="new"),
        Instance(id=OLD, name="old", agent_version="3.1.1510.0"),
        Instance(id=DENIED, name="denied", denied_documents=("AWS-StartNonInteractiveCommand",)),
    )
)
SCRIPT = ["sh", "-c", "echo out; echo err >&2; exit 3"]


def serve(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AwsSettings:
    use_credentials(sandbox, monkeypatch)
    return AwsSettings(endpoint_url=sandbox.endpoint_url)


async def test_both_outputs_and_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(DEADLINE), Sandbox(inventory=INVENTORY) as sandbox:
        aws = serve(sandbox, monkeypatch)
        assert await run("new", SCRIPT, aws=aws) == CompletedSession(3, b"out\n", b"err\n")
        assert await run(NEW, "printf '%s' $((6 * 7))", aws=aws) == CompletedSession(0, b"42", b"")
        assert all(session.end_reason is EndReason.EXITED for session in sandbox.sessions.values())


@pytest.mark.parametrize("target", [OLD, DENIED])
async def test_a_shell_where_the_document_cannot_be_used(monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    async with asyncio.timeout(DEADLINE), Sandbox(inventory=INVENTORY) as sandbox:
        aws = serve(sandbox, monkeypatch)
        assert await run(target, SCRIPT, aws=aws) == CompletedSession(3, b"out\nerr\n", b"")
        assert all(session.ended.is_set() for session in sandbox.sessions.values())


async def test_no_other_way_when_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(DEADLINE), Sandbox(inventory=INVENTORY) as sandbox:
        with pytest.raises(DocumentDenied, match=r"ssm:StartSession on .*AWS-StartNonInteractiveCommand"):
            await run(DENIED, SCRIPT, via=Via.DOCUMENT, aws=serve(sandbox, monkeypatch))


async def test_input(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 30
    async with asyncio.timeout(DEADLINE), Sandbox(inventory=INVENTORY) as sandbox:
        aws = serve(sandbox, monkeypatch)
        assert (await run(NEW, ["cat"], input=data, via=Via.SHELL, aws=aws)).stdout == data
        with pytest.raises(UsageError, match=r"via=Via\.SHELL"):
            await run(NEW, ["cat"], input=data, aws=aws)
        with pytest.raises(UsageError, match="no exit status: use start"):
            await run(NEW, ["top"], via=Via.TERMINAL, aws=aws)


@pytest.mark.parametrize(
    "arguments",
    [
        {"target": b"web-1"},
        {"target": None},
        {"command": [b"uptime"]},
        {"via": "shell"},
        {"timeout": "5"},
        {"input": "text", "via": Via.SHELL},
    ],
    ids=repr,
)
async def test_arguments_of_a_wrong_type(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r" is a | must be "):
        await run(**{"target": NEW, "command": "uptime", **arguments})


async def test_many_targets_that_are_none() -> None:
    everything: list[Any] = ["web-1", [NEW, b"web-1"]]
    for targets in everything:
        with pytest.raises(TypeError, match="target"):
            await anext(run_many(targets, "uptime"))
    with pytest.raises(UsageError, match="fanout must be 1 or more, not 0"):
        await anext(run_many([NEW], "uptime", fanout=0))


async def test_all_sessions_are_terminated_by_one_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a client for each takes longer than a program that ends has."""
    made: list[CallLimits] = []
    kept = KeptClients.get

    def get(self: KeptClients, key: Any, credentials: object, make: Callable[[], Any]) -> Any:
        def count() -> Any:
            made.append(key[1])
            return make()

        return kept(self, key, credentials, count)

    monkeypatch.setattr(KeptClients, "get", get)
    async with asyncio.timeout(DEADLINE), Sandbox(inventory=INVENTORY) as sandbox:
        running = run_many([NEW] * 3, ["sleep", "600"], aws=serve(sandbox, monkeypatch))
        first = asyncio.ensure_future(anext(running))
        await wait_until(lambda: sum(bool(each.program_pid) for each in sandbox.sessions.values()) == 3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await running.aclose()
        assert all(session.ended.is_set() for session in sandbox.sessions.values())
    assert made == [START_ONCE, TERMINATE_MANY]


@pytest.mark.parametrize("via", [Via.DOCUMENT, Via.SHELL])
async def test_a_killed_command(monkeypatch: pytest.MonkeyPatch, via: Via) -> None:
    async with asyncio.timeout(DEADLINE), Sandbox(inventory=INVENTORY) as sandbox:
        aws = serve(sandbox, monkeypatch)
        killed, ended = [await run(NEW, command, via=via, aws=aws) for command in ("echo out; kill -9 $$", "exit 137")]
        assert killed == CompletedSession(255 if via is Via.DOCUMENT else 137, b"out\n", b"")
        assert ended == CompletedSession(137, b"", b"")
        assert (killed.is_killed, ended.is_killed) == (True, False)


async def test_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(DEADLINE), Sandbox(inventory=INVENTORY) as sandbox:
        with pytest.raises(CommandTimedOut, match=r"did not end within 1\.5 s"):
            await run(NEW, ["sleep", "600"], timeout=1.5, aws=serve(sandbox, monkeypatch))
        await wait_until(lambda: all(session.ended.is_set() for session in sandbox.sessions.values()))


async def test_a_cancelled_call_leaves_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(DEADLINE), Sandbox(inventory=INVENTORY) as sandbox:
        running = asyncio.ensure_future(run(NEW, ["sleep", "600"], aws=serve(sandbox, monkeypatch)))
        await wait_until(lambda: sandbox.sessions)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [session.end_reason for session in sandbox.sessions.values()] == [EndReason.TERMINATED]


async def test_many_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(DEADLINE), Sandbox(inventory=INVENTORY, start_rate=2.0) as sandbox:
        aws = serve(sandbox, monkeypatch)
        completed = {each.target: each async for each in run_many(["new", OLD, "nobody"], SCRIPT, aws=aws)}
    assert completed["new"] == CompletedSession(3, b"out\n", b"err\n")
    assert completed[OLD] == CompletedSession(3, b"out\nerr\n", b"")
    assert completed["nobody"].status == 255
    assert "no target matches nobody" in str(completed["nobody"].error)
