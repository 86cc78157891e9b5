"""ECS, RDS, EC2 Instance Connect and just-in-time access as botocore sees them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.inventory import (
    Cluster,
    Container,
    Database,
    DatabaseCluster,
    Instance,
    Inventory,
    Permissions,
    Service,
    Task,
)
from session_manager_plugin.agent.services.instance_connect import InstanceConnect
from tests.support.botocore_clients import AwsClients
from tests.support.raw_client import RawClient

APP = Container(name="app", runtime_id="t1-1")
INVENTORY = Inventory(
    instances=(
        Instance(id="i-0123456789", tags={"env": "prod"}, request_access=True),
        Instance(id="i-9876543210"),
        Instance(id="i-5555555555", state="stopped"),
    ),
    clusters=(
        Cluster(
            name="shop",
            services=(Service(name="api"), Service(name="idle")),
            tasks=(
                Task(id="t1", service="api", family="api", containers=(APP,)),
                Task(
                    id="t2",
                    containers=(
                        Container(name="a", runtime_id="t2-1"),
                        Container(name="b", runtime_id="t2-2", online=False),
                    ),
                ),
                Task(id="t3", containers=(Container(name="a", runtime_id="t3-1"),), execute_command=False),
                Task(id="t4", status="STOPPED", containers=(Container(name="a", runtime_id="t4-1"),)),
            ),
        ),
        Cluster(name="default"),
    ),
    databases=(Database(id="orders", endpoint="orders.x"), Database(id="m-1", endpoint="m.x", cluster="catalogue")),
    database_clusters=(DatabaseCluster(id="catalogue", endpoint="w.x", reader_endpoint="r.x"),),
)
ARN = "arn:aws:ecs:us-east-1:111122223333"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBTYN0vvm2TwjB2LCuG8v3yZBNHzYkl2HwDEPzYkYjVB comment"


# ECS.


async def test_clusters_and_services(aws: AwsClients) -> None:
    assert (await aws("ecs", "list_clusters"))["clusterArns"] == [f"{ARN}:cluster/shop", f"{ARN}:cluster/default"]
    described = await aws("ecs", "describe_clusters", clusters=["shop", f"{ARN}:cluster/gone"])
    assert [(each["clusterName"], each["runningTasksCount"]) for each in described["clusters"]] == [("shop", 3)]
    assert described["failures"] == [{"arn": f"{ARN}:cluster/gone", "reason": "MISSING"}]
    assert (await aws("ecs", "list_services"))["serviceArns"] == []
    services = (await aws("ecs", "list_services", cluster="shop"))["serviceArns"]
    assert services == [f"{ARN}:service/shop/api", f"{ARN}:service/shop/idle"]
    described = await aws("ecs", "describe_services", cluster="shop", services=[services[0], "gone"])
    assert [(each["serviceName"], each["runningCount"]) for each in described["services"]] == [("api", 1)]
    assert described["failures"][0]["reason"] == "MISSING"


@pytest.mark.parametrize(
    ("parameters", "tasks"),
    [
        ({}, ["t1", "t2", "t3"]),
        ({"serviceName": "api"}, ["t1"]),
        ({"serviceName": f"{ARN}:service/shop/idle"}, []),
        ({"family": "api"}, ["t1"]),
        ({"desiredStatus": "STOPPED"}, ["t4"]),
    ],
)
async def test_tasks(aws: AwsClients, parameters: dict[str, Any], tasks: list[str]) -> None:
    pages = await aws.pages("ecs", "list_tasks", 2, cluster="shop", **parameters)
    assert [arn for page in pages for arn in page["taskArns"]] == [f"{ARN}:task/shop/{each}" for each in tasks]


async def test_tasks_are_described(aws: AwsClients) -> None:
    answer = await aws(
        "ecs", "describe_tasks", cluster=f"{ARN}:cluster/shop", tasks=["t1", f"{ARN}:task/shop/t3", "t9"]
    )
    first, second = answer["tasks"]
    assert (first["lastStatus"], first["group"], first["enableExecuteCommand"]) == ("RUNNING", "service:api", True)
    assert [(each["name"], each["runtimeId"]) for each in first["containers"]] == [("app", "t1-1")]
    assert first["containers"][0]["managedAgents"][0]["lastStatus"] == "RUNNING"
    assert second["enableExecuteCommand"] is False
    assert answer["failures"] == [{"arn": f"{ARN}:task/shop/t9", "reason": "MISSING"}]


async def test_execute_command_runs_the_command(sandbox: Sandbox, aws: AwsClients) -> None:
    sandbox.inventory = replace(sandbox.inventory, permissions=Permissions(denied_documents=("*",)))
    answer = await aws("ecs", "execute_command", cluster="shop", task="t1", command="echo hello", interactive=True)
    assert (answer["containerName"], answer["taskArn"]) == ("app", f"{ARN}:task/shop/t1")
    async with RawClient() as client:
        await client.open(answer["session"]["streamUrl"], answer["session"]["tokenValue"])
        await client.read_until(b"hello\r\n")
    assert sandbox.session(answer["session"]["sessionId"]).target == "ecs:shop_t1_t1-1"


async def test_a_container_is_a_target_of_start_session(sandbox: Sandbox, aws: AwsClients) -> None:
    assert "ecs:shop_t1_t1-1" in sandbox.targets
    assert (await aws("ssm", "start_session", Target="ecs:shop_t1_t1-1"))["TokenValue"]
    for target in ("ecs:shop_t2_t2-2", "ecs:shop_t3_t3-1", "ecs:shop_t4_t4-1", "ecs:shop_t1_t1-9"):
        assert target not in sandbox.targets
        with pytest.raises(ClientError, match="TargetNotConnected"):
            await aws("ssm", "start_session", Target=target)


# RDS.


async def test_databases(aws: AwsClients) -> None:
    orders, member = (await aws("rds", "describe_db_instances"))["DBInstances"]
    assert (orders["DBInstanceIdentifier"], orders["Endpoint"]) == ("orders", {"Address": "orders.x", "Port": 5432})
    assert member["DBClusterIdentifier"] == "catalogue"
    (found,) = (await aws("rds", "describe_db_instances", DBInstanceIdentifier="Orders"))["DBInstances"]
    assert found["DBInstanceIdentifier"] == "orders"
    filters = [{"Name": "db-cluster-id", "Values": ["catalogue"]}]
    (found,) = (await aws("rds", "describe_db_instances", Filters=filters))["DBInstances"]
    assert found["DBInstanceIdentifier"] == "m-1"
    (cluster,) = (await aws("rds", "describe_db_clusters", DBClusterIdentifier="catalogue"))["DBClusters"]
    assert (cluster["Endpoint"], cluster["ReaderEndpoint"], cluster["Port"]) == ("w.x", "r.x", 5432)
    assert [each["DBInstanceIdentifier"] for each in cluster["DBClusterMembers"]] == ["m-1"]


async def test_pages_of_databases(sandbox: Sandbox, aws: AwsClients) -> None:
    many = tuple(Database(id=f"db-{number}", endpoint="x") for number in range(45))
    sandbox.inventory = Inventory(databases=many)
    pages = await aws.pages("rds", "describe_db_instances", 20)
    assert [len(page["DBInstances"]) for page in pages] == [20, 20, 5]


# EC2 Instance Connect.


async def test_a_public_key_is_kept(sandbox: Sandbox, aws: AwsClients) -> None:
    answer = await aws(
        "ec2-instance-connect", "send_ssh_public_key", InstanceId="i-9876543210", InstanceOSUser="bob", SSHPublicKey=KEY
    )
    assert answer["Success"] is True
    (key,) = sandbox.public_keys
    assert (key.instance_id, key.user, key.key) == ("i-9876543210", "bob", KEY)


def test_a_public_key_expires() -> None:
    now = 100.0
    service = InstanceConnect(lambda: INVENTORY, lambda: now)
    fields = {"InstanceId": "i-9876543210", "InstanceOSUser": "bob", "SSHPublicKey": KEY}
    service.send_ssh_public_key(fields, None)  # type: ignore[arg-type]
    now += 59
    assert len(service.keys) == 1
    now += 1
    assert not service.keys


# Roles.

ROLE = {"RoleArn": "arn:aws:iam::123456789012:role/path/admin", "RoleSessionName": "alice"}


async def test_a_role(sandbox: Sandbox, aws: AwsClients) -> None:
    answer = await aws("sts", "assume_role", **ROLE, SerialNumber="arn:aws:iam::1:mfa/alice", TokenCode="123456")
    assert answer["Credentials"]["Expiration"] > datetime.now(UTC)
    async with AwsClients(sandbox, answer["Credentials"]) as role:
        identity = await role("sts", "get_caller_identity")
        assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"]
        assert identity["Arn"] == "arn:aws:sts::123456789012:assumed-role/admin/alice"
        assert (await role("ssm", "start_session", Target="i-9876543210"))["TokenValue"]


# Refusals.

EXECUTE = {"cluster": "shop", "command": "ls", "interactive": True}
PUSH = {"InstanceOSUser": "bob", "SSHPublicKey": KEY}


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "code"),
    [
        ("sts", "assume_role", {**ROLE, "SerialNumber": "arn:aws:iam::1:mfa/a", "TokenCode": "000000"}, "AccessDenied"),
        ("sts", "assume_role", {**ROLE, "RoleArn": "arn:aws:iam::1:user/alice"}, "ValidationError"),
        ("ecs", "list_tasks", {"cluster": "gone"}, "ClusterNotFoundException"),
        ("ecs", "list_tasks", {"cluster": "shop", "serviceName": "gone"}, "ServiceNotFoundException"),
        ("ecs", "list_tasks", {"cluster": "shop", "nextToken": "x"}, "InvalidParameterException"),
        ("ecs", "describe_tasks", {"cluster": "shop", "tasks": []}, "InvalidParameterException"),
        ("ecs", "execute_command", {**EXECUTE, "task": "t9"}, "InvalidParameterException"),
        ("ecs", "execute_command", {**EXECUTE, "task": "t2"}, "InvalidParameterException"),
        ("ecs", "execute_command", {**EXECUTE, "task": "t2", "container": "b"}, "InvalidParameterException"),
        ("ecs", "execute_command", {**EXECUTE, "task": "t1", "container": "x"}, "InvalidParameterException"),
        ("ecs", "execute_command", {**EXECUTE, "task": "t3"}, "InvalidParameterException"),
        ("ecs", "execute_command", {**EXECUTE, "task": "t4"}, "TargetNotConnectedException"),
        ("ecs", "execute_command", {**EXECUTE, "task": "t1", "interactive": False}, "InvalidParameterException"),
        ("rds", "describe_db_instances", {"DBInstanceIdentifier": "gone"}, "DBInstanceNotFound"),
        ("rds", "describe_db_clusters", {"DBClusterIdentifier": "gone"}, "DBClusterNotFoundFault"),
        ("rds", "describe_db_clusters", {"Filters": [{"Name": "no", "Values": ["x"]}]}, "InvalidParameterValue"),
        ("rds", "describe_db_clusters", {"MaxRecords": 19}, "InvalidParameterValue"),
        (
            "ec2-instance-connect",
            "send_ssh_public_key",
            {**PUSH, "InstanceId": "i-0000000000"},
            "EC2InstanceNotFoundException",
        ),
        (
            "ec2-instance-connect",
            "send_ssh_public_key",
            {**PUSH, "InstanceId": "i-5555555555"},
            "EC2InstanceStateInvalidException",
        ),
        (
            "ec2-instance-connect",
            "send_ssh_public_key",
            {**PUSH, "InstanceId": "i-9876543210", "SSHPublicKey": "x" * 80},
            "InvalidArgsException",
        ),
        ("ssm", "get_access_token", {"AccessRequestId": "oi-0123456789ab"}, "ResourceNotFoundException"),
        (
            "ssm",
            "start_access_request",
            {"Reason": "r", "Targets": [{"Key": "x", "Values": []}]},
            "ValidationException",
        ),
    ],
)
async def test_refusals(aws: AwsClients, service: str, operation: str, parameters: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError) as caught:
        await aws(service, operation, **parameters)
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["Error"]["Message"]


async def test_the_refusal_of_a_databases_description(sandbox: Sandbox, aws: AwsClients) -> None:
    sandbox.inventory = replace(sandbox.inventory, permissions=Permissions(denied=("rds:*", "ecs:List*")))
    with pytest.raises(ClientError) as caught:
        await aws("rds", "describe_db_instances")
    assert caught.value.response["Error"]["Code"] == "AccessDenied"
    assert "arn:aws:rds:us-east-1:111122223333:*" in caught.value.response["Error"]["Message"]
    with pytest.raises(ClientError, match="AccessDeniedException"):
        await aws("ecs", "list_clusters")


# Just-in-time access.


async def request_access(aws: AwsClients, *targets: str) -> str:
    criteria = [{"Key": "InstanceIds", "Values": list(targets)}]
    answer = await aws("ssm", "start_access_request", Reason="an incident", Targets=criteria)
    return str(answer["AccessRequestId"])


async def test_a_session_by_just_in_time_access(sandbox: Sandbox, aws: AwsClients) -> None:
    with pytest.raises(ClientError, match="Access must be requested") as caught:
        await aws("ssm", "start_session", Target="i-0123456789")
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"

    sandbox.inventory = replace(sandbox.inventory, permissions=Permissions(pending_polls=1))
    request_id = await request_access(aws, "i-0123456789")
    pending = await aws("ssm", "get_access_token", AccessRequestId=request_id)
    assert (pending["AccessRequestStatus"], "Credentials" in pending) == ("Pending", False)
    approved = await aws("ssm", "get_access_token", AccessRequestId=request_id)
    assert approved["AccessRequestStatus"] == "Approved"

    async with AwsClients(sandbox, approved["Credentials"]) as temporary:
        started = await temporary("ssm", "start_session", Target="i-0123456789")
        with pytest.raises(ClientError, match="is not authorized to perform: ssm:StartSession"):
            await temporary("ssm", "start_session", Target="i-9876543210")
        with pytest.raises(ClientError, match="is not authorized to perform: ssm:DescribeSessions"):
            await temporary("ssm", "describe_sessions", State="Active")
    (session,) = (await aws("ssm", "describe_sessions", State="Active"))["Sessions"]
    assert (session["SessionId"], session["AccessType"]) == (started["SessionId"], "JustInTime")


@pytest.mark.parametrize("status", ["Rejected", "Revoked", "Expired", "Pending"])
async def test_a_request_that_is_not_approved(sandbox: Sandbox, aws: AwsClients, status: Any) -> None:
    sandbox.inventory = replace(sandbox.inventory, permissions=Permissions(access_request=status))
    answer = await aws("ssm", "get_access_token", AccessRequestId=await request_access(aws, "i-0123456789"))
    assert answer["AccessRequestStatus"] == status
    assert "Credentials" not in answer


async def test_access_by_tag(sandbox: Sandbox, aws: AwsClients) -> None:
    criteria = [{"Key": "tag:env", "Values": ["prod"]}]
    request = await aws("ssm", "start_access_request", Reason="an incident", Targets=criteria)
    answer = await aws("ssm", "get_access_token", AccessRequestId=request["AccessRequestId"])
    async with AwsClients(sandbox, answer["Credentials"]) as temporary:
        assert (await temporary("ssm", "start_session", Target="i-0123456789"))["TokenValue"]
