"""The account's instances and sessions as botocore sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.call_rate import CallRate
from session_manager_plugin.agent.inventory import Instance, Inventory, Permissions
from session_manager_plugin.errors import ApiError
from tests.support.botocore_clients import AwsClients
from tests.support.raw_client import RawClient

LAST_PING = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
INVENTORY = Inventory(
    instances=(
        Instance(id="i-1", name="web-1", tags={"env": "prod"}, private_ip="10.0.0.1", private_dns="ip-10-0-0-1.x"),
        Instance(id="i-2", name="web-2", tags={"env": "prod"}, online=False, last_ping=LAST_PING),
        Instance(id="i-3", name="win <&>", platform="Windows", agent_version="3.1.0.0", public_ip="1.2.3.4"),
        Instance(id="i-4", state="stopped", managed=False),
        Instance(id="mi-5", name="office", denied_documents=("AWS-StartSSH*",)),
    )
)
SSH = "AWS-StartSSHSession"


def ids(answer: dict[str, Any]) -> list[str]:
    """The instances of an answer, of either service."""
    if "Reservations" in answer:
        return [each["InstanceId"] for reservation in answer["Reservations"] for each in reservation["Instances"]]
    return [each["InstanceId"] for each in answer["InstanceInformationList"]]


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


# DescribeInstanceInformation.


async def test_managed_instances(aws: AwsClients) -> None:
    answer = await aws("ssm", "describe_instance_information")
    assert ids(answer) == ["i-1", "i-2", "i-3", "mi-5"]
    web, offline, windows, office = answer["InstanceInformationList"]
    assert (web["PingStatus"], web["PlatformType"], web["IPAddress"]) == ("Online", "Linux", "10.0.0.1")
    assert web["ComputerName"] == "ip-10-0-0-1.x"
    assert datetime.now(UTC) - web["LastPingDateTime"] < timedelta(minutes=5)
    assert (offline["PingStatus"], offline["LastPingDateTime"]) == ("ConnectionLost", LAST_PING)
    assert (windows["PlatformType"], windows["AgentVersion"]) == ("Windows", "3.1.0.0")
    assert (office["ResourceType"], office["Name"]) == ("ManagedInstance", "office")


@pytest.mark.parametrize(
    ("key", "values", "found"),
    [
        ("InstanceIds", ["i-1", "mi-5", "i-9"], ["i-1", "mi-5"]),
        ("PingStatus", ["Online"], ["i-1", "i-3", "mi-5"]),
        ("PlatformTypes", ["Windows"], ["i-3"]),
        ("AgentVersion", ["3.1.0.0"], ["i-3"]),
        ("ResourceType", ["ManagedInstance"], ["mi-5"]),
        ("tag:env", ["prod"], ["i-1", "i-2"]),
        ("tag:Name", ["web-1", "office"], ["i-1", "mi-5"]),
        ("tag-key", ["env"], ["i-1", "i-2"]),
    ],
)
async def test_filters_of_managed_instances(aws: AwsClients, key: str, values: Sequence[str], found: list[str]) -> None:
    answer = await aws("ssm", "describe_instance_information", Filters=[{"Key": key, "Values": values}])
    assert ids(answer) == found


async def test_all_filters_of_managed_instances_have_to_pass(aws: AwsClients) -> None:
    filters = [{"key": "PingStatus", "valueSet": ["Online"]}, {"key": "PlatformTypes", "valueSet": ["Linux"]}]
    answer = await aws("ssm", "describe_instance_information", InstanceInformationFilterList=filters)
    assert ids(answer) == ["i-1", "mi-5"]


async def test_pages_of_many_instances(sandbox: Sandbox, aws: AwsClients) -> None:
    many = [f"i-{number:017x}" for number in range(123)]
    sandbox.inventory = Inventory(instances=tuple(Instance(id=each) for each in many))
    pages = await aws.pages("ssm", "describe_instance_information", 50)
    assert [len(page["InstanceInformationList"]) for page in pages] == [50, 50, 23]
    assert [each for page in pages for each in ids(page)] == many
    pages = await aws.pages("ec2", "describe_instances", 100)
    assert [len(page["Reservations"]) for page in pages] == [100, 23]
    assert [each for page in pages for each in ids(page)] == many


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "code"),
    [
        ("ssm", "describe_instance_information", {"NextToken": "x"}, "InvalidNextToken"),
        ("ssm", "describe_instance_information", {"MaxResults": 51}, "ValidationException"),
        ("ssm", "describe_instance_information", {"Filters": [{"Key": "No", "Values": ["x"]}]}, "InvalidFilterKey"),
        ("ssm", "describe_sessions", {"State": "Active", "NextToken": "x"}, "InvalidNextToken"),
        ("ssm", "describe_sessions", {"State": "Old"}, "ValidationException"),
        ("ssm", "describe_sessions", {"State": "Active", "Filters": [{"key": "No", "value": "x"}]}, "InvalidFilterKey"),
        (
            "ssm",
            "describe_sessions",
            {"State": "Active", "Filters": [{"key": "InvokedAfter", "value": "now"}]},
            "ValidationException",
        ),
        ("ec2", "describe_instances", {"InstanceIds": ["i-1", "i-9"]}, "InvalidInstanceID.NotFound"),
        ("ec2", "describe_instances", {"InstanceIds": ["i-1"], "MaxResults": 5}, "InvalidParameterCombination"),
        ("ec2", "describe_instances", {"MaxResults": 4}, "InvalidParameterValue"),
        ("ec2", "describe_instances", {"NextToken": "x"}, "InvalidParameterValue"),
        ("ec2", "describe_instances", {"Filters": [{"Name": "no", "Values": ["x"]}]}, "InvalidParameterValue"),
        ("ec2", "describe_vpcs", {}, "UnknownOperationException"),
        ("rds", "describe_events", {}, "UnknownOperationException"),
    ],
)
async def test_refusals(aws: AwsClients, service: str, operation: str, parameters: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        await aws(service, operation, **parameters)
    assert code_of(caught) == code
    assert caught.value.response["Error"]["Message"]


# DescribeInstances.


async def test_ec2_instances(aws: AwsClients) -> None:
    answer = await aws("ec2", "describe_instances")
    assert ids(answer) == ["i-1", "i-2", "i-3", "i-4"]
    web, _, windows, stopped = [reservation["Instances"][0] for reservation in answer["Reservations"]]
    assert web["Tags"] == [{"Key": "Name", "Value": "web-1"}, {"Key": "env", "Value": "prod"}]
    assert (web["PrivateIpAddress"], web["PrivateDnsName"], web["State"]["Name"]) == (
        "10.0.0.1",
        "ip-10-0-0-1.x",
        "running",
    )
    assert "PublicIpAddress" not in web
    assert (windows["Platform"], windows["PublicIpAddress"]) == ("windows", "1.2.3.4")
    assert windows["Tags"][0]["Value"] == "win <&>"
    assert stopped["State"] == {"Code": 80, "Name": "stopped"}
    assert answer["Reservations"][0]["OwnerId"] == INVENTORY.account


@pytest.mark.parametrize(
    ("name", "values", "found"),
    [
        ("tag:Name", ["web-*"], ["i-1", "i-2"]),
        ("tag:Name", ["web-?", "win*"], ["i-1", "i-2", "i-3"]),
        ("tag:Name", ["web\\-\\*", "web-\\?"], []),
        ("tag:Name", ["w\\eb-*"], ["i-1", "i-2"]),
        ("tag:Name", ["[w]eb-1"], []),
        ("tag:env", ["prod"], ["i-1", "i-2"]),
        ("tag-key", ["env"], ["i-1", "i-2"]),
        ("private-ip-address", ["10.0.0.1"], ["i-1"]),
        ("private-dns-name", ["ip-10-0-0-1.x"], ["i-1"]),
        ("ip-address", ["1.2.3.4"], ["i-3"]),
        ("instance-state-name", ["running"], ["i-1", "i-2", "i-3"]),
        ("instance-id", ["i-4", "i-9"], ["i-4"]),
    ],
)
async def test_filters_of_ec2_instances(aws: AwsClients, name: str, values: Sequence[str], found: list[str]) -> None:
    answer = await aws("ec2", "describe_instances", Filters=[{"Name": name, "Values": values}])
    assert ids(answer) == found


async def test_ec2_instances_by_id(aws: AwsClients) -> None:
    assert ids(await aws("ec2", "describe_instances", InstanceIds=["i-2", "i-1"])) == ["i-1", "i-2"]


# Sessions.


async def test_a_session_with_an_instance(sandbox: Sandbox, aws: AwsClients) -> None:
    started = await aws("ssm", "start_session", Target="i-1", Reason="to look at it")
    async with RawClient() as client:
        await client.open(started["StreamUrl"], started["TokenValue"])
        await client.send_input(b"echo $((40+2)); exit\n")
        await client.read_until(b"42\r\n")
        assert await client.until_closed() == ""
    assert sandbox.session(started["SessionId"]).reason == "to look at it"


@pytest.mark.parametrize("target", ["i-2", "i-4", "i-9", "local", "web-1"])
async def test_only_what_is_connected_is_a_target(aws: AwsClients, target: str) -> None:
    with pytest.raises(ClientError) as caught:
        await aws("ssm", "start_session", Target=target)
    assert code_of(caught) == "TargetNotConnected"
    assert caught.value.response["Error"]["Message"] == f"{target} is not connected."


async def test_sessions_are_described(sandbox: Sandbox, aws: AwsClients) -> None:
    first = (await aws("ssm", "start_session", Target="i-1", Reason="because"))["SessionId"]
    second = (await aws("ssm", "start_session", Target="i-3"))["SessionId"]
    sessions = (await aws("ssm", "describe_sessions", State="Active"))["Sessions"]
    assert [each["SessionId"] for each in sessions] == [second, first]
    assert sessions[1]["Target"] == "i-1"
    assert sessions[1]["Owner"] == (await aws("sts", "get_caller_identity"))["Arn"] == INVENTORY.user_arn
    assert sessions[1]["Reason"] == "because"
    assert sessions[1]["Status"] == "Connecting"
    assert "EndDate" not in sessions[1]
    assert (await aws("ssm", "describe_sessions", State="History"))["Sessions"] == []
    await aws("ssm", "terminate_session", SessionId=first)
    (over,) = (await aws("ssm", "describe_sessions", State="History"))["Sessions"]
    assert (over["SessionId"], over["Status"]) == (first, "Terminated")
    assert over["EndDate"] >= over["StartDate"]
    (active,) = (await aws("ssm", "describe_sessions", State="Active"))["Sessions"]
    assert active["SessionId"] == second


@pytest.mark.parametrize(
    ("key", "value", "count"),
    [
        ("Target", "i-1", 2),
        ("Target", "i-2", 0),
        ("Owner", INVENTORY.user_arn, 3),
        ("Owner", "arn:aws:iam::1:user/x", 0),
        ("Status", "Connecting", 3),
        ("InvokedAfter", "2026-01-01T00:00:00Z", 3),
        ("InvokedAfter", "2026-01-01T00:00:00", 3),
        ("InvokedBefore", "2026-01-01T00:00:00Z", 0),
        ("AccessType", "Standard", 3),
    ],
)
async def test_filters_and_pages_of_sessions(
    sandbox: Sandbox, aws: AwsClients, key: str, value: str, count: int
) -> None:
    for target in ("i-1", "i-1", "i-3"):
        await sandbox.start_session(target=target)
    pages = await aws.pages("ssm", "describe_sessions", 2, State="Active", Filters=[{"key": key, "value": value}])
    assert sum(len(page["Sessions"]) for page in pages) == count


async def test_the_agents_version_is_the_instances() -> None:
    inventory = Inventory(instances=(Instance(id="i-1", agent_version="3.3.4851.0"),))
    async with Sandbox(inventory=inventory) as sandbox, RawClient() as client:
        document = "AWS-StartPortForwardingSessionToRemoteHost"
        started = await sandbox.start_session(document, {"host": ["127.1"], "portNumber": ["9"]})
        await client.open(started.stream_url, started.token)
        assert await client.until_closed() == "Forwarding to IP address 127.1 is forbidden."


async def test_the_default_inventory_has_the_target_local() -> None:
    async with Sandbox() as sandbox, AwsClients(sandbox) as aws:
        assert sandbox.targets[0] == "local"
        assert "local" in ids(await aws("ssm", "describe_instance_information"))
        filters = [{"Name": "tag:Name", "Values": ["local"]}]
        assert ids(await aws("ec2", "describe_instances", Filters=filters)) == ["local"]
        for target in sandbox.targets:
            assert (await aws("ssm", "start_session", Target=target))["TokenValue"]


async def test_an_inventory_with_nothing_online_has_the_target_local() -> None:
    async with Sandbox(inventory=Inventory(instances=(Instance(id="i-1", online=False),))) as sandbox:
        assert sandbox.targets == ("local",)


async def test_an_inventory_that_is_replaced_may_have_no_target() -> None:
    async with Sandbox(targets=["i-1"]) as sandbox:
        sandbox.inventory = Inventory(instances=(Instance(id="i-1", online=False),))
        assert not sandbox.targets
        with pytest.raises(ApiError, match="is connected"):
            await sandbox.start_session()
        sandbox.inventory = Inventory(instances=(Instance(id="i-0"), Instance(id="i-1")))
        assert sandbox.targets == ("i-1", "i-0")


# Permissions and throttling.


async def test_actions_that_are_denied(sandbox: Sandbox, aws: AwsClients) -> None:
    sandbox.inventory = replace(sandbox.inventory, permissions=Permissions(denied=("*:Describe*", "sts:*")))
    with pytest.raises(ClientError) as caught:
        await aws("ssm", "describe_instance_information")
    assert code_of(caught) == "AccessDeniedException"
    assert caught.value.response["Error"]["Message"] == (
        f"User: {INVENTORY.user_arn} is not authorized to perform: ssm:DescribeInstanceInformation on resource: "
        "arn:aws:ssm:us-east-1:111122223333:* because no identity-based policy allows the "
        "ssm:DescribeInstanceInformation action"
    )
    with pytest.raises(ClientError) as caught:
        await aws("ec2", "describe_instances")
    assert code_of(caught) == "UnauthorizedOperation"
    assert caught.value.response["Error"]["Message"] == (
        f"You are not authorized to perform this operation. User: {INVENTORY.user_arn} is not authorized to perform: "
        "ec2:DescribeInstances because no identity-based policy allows the ec2:DescribeInstances action"
    )
    assert (await aws("sts", "get_caller_identity"))["Account"] == "111122223333"  # nobody can deny it


async def test_documents_that_are_denied(sandbox: Sandbox, aws: AwsClients) -> None:
    with pytest.raises(ClientError) as caught:
        await aws("ssm", "start_session", Target="mi-5", DocumentName=SSH)
    assert code_of(caught) == "AccessDeniedException"
    assert f"on resource: arn:aws:ssm:us-east-1::document/{SSH} because" in caught.value.response["Error"]["Message"]
    assert (await aws("ssm", "start_session", Target="i-1", DocumentName=SSH))["TokenValue"]

    sandbox.inventory = replace(sandbox.inventory, permissions=Permissions(denied_documents=("*",)))
    shell = "arn:aws:ssm:us-east-1:111122223333:document/SSM-SessionManagerRunShell"
    with pytest.raises(ClientError, match="document/SSM-SessionManagerRunShell because"):
        await aws("ssm", "start_session", Target="i-1", DocumentName=shell)
    assert (await aws("ssm", "start_session", Target="i-1"))["TokenValue"]  # a shell, without naming its document


async def test_start_session_is_throttled() -> None:
    async with Sandbox(start_rate=0.001) as sandbox, AwsClients(sandbox) as aws:
        await aws("ssm", "start_session", Target="local")
        with pytest.raises(ClientError, match="Rate exceeded") as caught:
            await aws("ssm", "start_session", Target="local")
        assert code_of(caught) == "ThrottlingException"


async def test_each_operation_is_throttled_and_counted() -> None:
    async with Sandbox(api_rate=0.001) as sandbox, AwsClients(sandbox) as aws:
        await aws("ssm", "describe_sessions", State="Active")
        await aws("ssm", "describe_instance_information")
        with pytest.raises(ClientError, match="Rate exceeded"):
            await aws("ssm", "describe_sessions", State="Active")
        for _ in range(2):
            await aws("ssm", "start_session", Target="local")
        assert sandbox.api_calls["ssm:DescribeSessions"] == 2
        assert sandbox.throttled_calls == {"ssm:DescribeSessions": 1}


def test_the_start_rate_by_the_clock() -> None:
    now = 100.0
    rate = CallRate(2, lambda: now)
    assert [rate.take() for _ in range(3)] == [True, True, False]
    now += 0.5
    assert [rate.take() for _ in range(2)] == [True, False]
    now += 60
    assert [rate.take() for _ in range(3)] == [True, True, False]
    assert all(CallRate(0, lambda: now).take() for _ in range(100))
    with pytest.raises(ValueError, match="from 0 on"):
        CallRate(-1, lambda: now)
