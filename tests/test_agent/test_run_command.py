"""Run Command in the sandbox, as botocore sees it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.inventory import Instance, Inventory
from session_manager_plugin.agent.scripts import MAX_STDERR_LENGTH, MAX_STDOUT_LENGTH, run_script
from tests.support.botocore_clients import AwsClients
from tests.support.raw_client import DEADLINE
from tests.support.waiting import wait_until
from tests.test_agent.processes import is_alive

INVENTORY = Inventory(
    instances=(
        Instance(id="i-1", name="web-1", tags={"env": "prod"}),
        Instance(id="i-2", name="web-2", tags={"env": "prod"}),
        Instance(id="i-3", name="off", tags={"env": "prod"}, online=False),
        Instance(id="i-4", tags={"env": "test"}),
    )
)


async def send(aws: AwsClients, *commands: str, **parameters: Any) -> str:
    request = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": list(commands)}}
    return str((await aws("ssm", "send_command", **request, **parameters))["Command"]["CommandId"])


async def invocations(aws: AwsClients, command_id: str, *, details: bool = False) -> list[dict[str, Any]]:
    """The invocations of a command, once all have finished."""
    async with asyncio.timeout(DEADLINE):
        while True:
            answer = await aws("ssm", "list_command_invocations", CommandId=command_id, Details=details)
            found: list[dict[str, Any]] = answer["CommandInvocations"]
            if not any(each["Status"] in ("Pending", "InProgress", "Cancelling") for each in found):
                return found


async def test_a_command_on_two_instances(aws: AwsClients) -> None:
    command_id = await send(
        aws, "echo out $AWS_SSM_INSTANCE_ID; echo err >&2", "exit 3", InstanceIds=["i-1", "i-2"], Comment="why"
    )
    found = await invocations(aws, command_id, details=True)
    assert [(each["InstanceId"], each["InstanceName"], each["Status"]) for each in found] == [
        ("i-1", "web-1", "Failed"),
        ("i-2", "web-2", "Failed"),
    ]
    assert found[0]["CommandPlugins"][0]["Output"] == "out i-1\n\n----------ERROR-------\nerr\n"
    answer = await aws("ssm", "get_command_invocation", CommandId=command_id, InstanceId="i-2")
    assert (answer["StandardOutputContent"], answer["StandardErrorContent"]) == ("out i-2\n", "err\n")
    assert (answer["ResponseCode"], answer["Status"], answer["Comment"]) == (3, "Failed", "why")


async def test_a_command_by_tag_reaches_what_is_connected(aws: AwsClients) -> None:
    command_id = await send(aws, "true", Targets=[{"Key": "tag:env", "Values": ["prod"]}])
    found = await invocations(aws, command_id)
    assert [(each["InstanceId"], each["Status"]) for each in found] == [("i-1", "Success"), ("i-2", "Success")]


async def test_a_cancelled_command_leaves_no_process(aws: AwsClients, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command_id = await send(aws, f"echo $$ > {pid_file}; sleep 1000", InstanceIds=["i-1"])
    await wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    await aws("ssm", "cancel_command", CommandId=command_id)
    (found,) = await invocations(aws, command_id)
    assert (found["Status"], found["StatusDetails"]) == ("Cancelled", "Cancelled")
    assert not is_alive(int(pid_file.read_text()))


async def test_no_further_instance_after_too_many_errors(aws: AwsClients) -> None:
    command_id = await send(aws, "exit 1", InstanceIds=["i-1", "i-2", "i-4"], MaxConcurrency="1", MaxErrors="34%")
    found = await invocations(aws, command_id)
    assert [each["StatusDetails"] for each in found] == ["Failed", "Failed", "Terminated"]


async def test_a_sandbox_that_is_closed_ends_its_commands(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    async with Sandbox(inventory=INVENTORY) as sandbox, AwsClients(sandbox) as aws:
        await send(aws, f"echo $$ > {pid_file}; sleep 1000", InstanceIds=["i-1"])
        await wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    assert not is_alive(int(pid_file.read_text()))


async def test_pages_and_filters_of_invocations(aws: AwsClients) -> None:
    command_id = await send(aws, 'test "$AWS_SSM_INSTANCE_ID" = i-2', InstanceIds=["i-1", "i-2", "i-4"], MaxErrors="9")
    await invocations(aws, command_id)
    pages = await aws.pages("ssm", "list_command_invocations", 2, CommandId=command_id)
    assert [len(page["CommandInvocations"]) for page in pages] == [2, 1]
    filters = [{"key": "Status", "value": "Success"}]
    answer = await aws("ssm", "list_command_invocations", Filters=filters)
    assert [each["InstanceId"] for each in answer["CommandInvocations"]] == ["i-2"]


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("send_command", {"InstanceIds": ["i-1"], "DocumentName": "Other"}, "InvalidDocument"),
        ("send_command", {"InstanceIds": ["i-1"], "Parameters": {}}, "InvalidParameters"),
        ("send_command", {"InstanceIds": ["i-3"]}, "InvalidInstanceId"),
        ("send_command", {"InstanceIds": ["i-1", "i-1"]}, "DuplicateInstanceId"),
        ("send_command", {"InstanceIds": ["i-1"], "MaxErrors": "many"}, "ValidationException"),
        ("send_command", {}, "ValidationException"),
        ("send_command", {"Targets": [{"Key": "x", "Values": []}]}, "ValidationException"),
        ("list_command_invocations", {"CommandId": "0" * 36}, "InvalidCommandId"),
        ("list_command_invocations", {"Filters": [{"key": "No", "value": "x"}]}, "InvalidFilterKey"),
        ("get_command_invocation", {"CommandId": "0" * 36, "InstanceId": "i-1"}, "InvalidCommandId"),
        ("cancel_command", {"CommandId": "0" * 36}, "InvalidCommandId"),
    ],
)
async def test_refusals(aws: AwsClients, operation: str, parameters: dict[str, Any], code: str) -> None:
    if operation == "send_command":
        parameters = {"DocumentName": "AWS-RunShellScript", "Parameters": {"commands": ["true"]}, **parameters}
    with pytest.raises(ClientError) as caught:
        await aws("ssm", operation, **parameters)
    assert caught.value.response["Error"]["Code"] == code


async def test_an_instance_that_a_command_was_not_for(aws: AwsClients) -> None:
    command_id = await send(aws, "true", InstanceIds=["i-1"])
    with pytest.raises(ClientError, match="InvocationDoesNotExist"):
        await aws("ssm", "get_command_invocation", CommandId=command_id, InstanceId="i-2")


async def test_outputs_end_at_run_commands_limits() -> None:
    result = await run_script("yes | head -c 300000; yes | head -c 300000 >&2; kill -TERM $$", "/", {}, DEADLINE)
    assert result.status == 128 + 15
    assert (len(result.stdout), len(result.stderr)) == (MAX_STDOUT_LENGTH, MAX_STDERR_LENGTH)


async def test_a_script_that_takes_too_long() -> None:
    result = await run_script("echo early; sleep 1000", "", {}, 0.5)
    assert (result.status, result.stdout) == (None, "early\n")


async def test_a_directory_that_is_not_there(aws: AwsClients) -> None:
    parameters = {"commands": ["true"], "workingDirectory": ["/nonexistent"]}
    request = {"DocumentName": "AWS-RunShellScript", "InstanceIds": ["i-1"], "Parameters": parameters}
    command_id = (await aws("ssm", "send_command", **request))["Command"]["CommandId"]
    (found,) = await invocations(aws, command_id)
    assert found["Status"] == "Failed"
