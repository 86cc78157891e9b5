"""From names to ids, with answers of AWS that botocore's stubber checks against the service's model."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.session import Session
from botocore.stub import Stubber

from session_manager_plugin.aws import paging
from session_manager_plugin.aws.managed_instances import ManagedInstance
from session_manager_plugin.aws.name_cache import CachedTarget, NameCache
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.target_state import explain_not_connected
from session_manager_plugin.aws.targets import find_all, resolve, resolve_target
from session_manager_plugin.errors import AccessDenied, AmbiguousTarget, ConnectError, SessionManagerError, UsageError

SETTINGS = AwsSettings(region="eu-west-1")
WEB, DB, HYBRID = "i-0123456789abcdef0", "i-0fedcba9876543210", "mi-0123456789abcdef0"
TASK = "0123456789abcdef0123456789abcdef"
TASK_ARN = f"arn:aws:ecs:eu-west-1:123456789012:task/shop/{TASK}"
OTHER_TASK_ARN = TASK_ARN[:-1] + "0"
LAST_PING = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@cache
def clients() -> dict[str, Any]:
    """Clients by service; they take long to make."""
    session = Session()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    return {name: session.create_client(name, region_name="eu-west-1", **keys) for name in ("ssm", "ec2", "ecs")}


class Aws:
    """Stubbed clients of ssm, ec2 and ecs, each with the answers that are expected of it in order."""

    def __init__(self) -> None:
        self.clients = clients()
        self._stubbers = {service: Stubber(client) for service, client in self.clients.items()}
        for stubber in self._stubbers.values():
            stubber.activate()

    def expect(self, service: str, method: str, answer: dict[str, Any], **request: Any) -> None:
        """The next request to ``service`` is ``method`` with ``request``."""
        self._stubbers[service].add_response(method, answer, request)

    def refuse(self, service: str, method: str, message: str = "no") -> None:
        """The next request to ``service`` is denied."""
        self._stubbers[service].add_client_error(method, "AccessDeniedException", message)

    def information(self, instances: list[dict[str, Any]], **filters: list[str]) -> None:
        """Expect DescribeInstanceInformation."""
        request: dict[str, Any] = {"MaxResults": 50}
        if filters:
            request["Filters"] = [{"Key": key.replace("_", ":"), "Values": each} for key, each in filters.items()]
        self.expect("ssm", "describe_instance_information", {"InstanceInformationList": instances}, **request)

    def ec2(self, instances: list[dict[str, Any]], name: str, value: str) -> None:
        """Expect DescribeInstances."""
        filters = [{"Name": name, "Values": [value]}]
        answer = {"Reservations": [{"Instances": [each]} for each in instances]}
        self.expect("ec2", "describe_instances", answer, Filters=filters, MaxResults=1000)

    def check(self) -> None:
        """All answers were asked for."""
        for stubber in self._stubbers.values():
            stubber.deactivate()
            stubber.assert_no_pending_responses()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Aws]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    stubbed = Aws()

    def call(_settings: AwsSettings, service: str, _limits: object, work: Callable[[Any], Any]) -> Any:
        return work(stubbed.clients[service])

    monkeypatch.setattr(paging, "call", call)
    yield stubbed
    stubbed.check()


def instance(id: str, *, online: bool = True, **fields: Any) -> dict[str, Any]:
    """An entry of DescribeInstanceInformation."""
    return {"InstanceId": id, "PingStatus": "Online" if online else "ConnectionLost", **fields}


@pytest.mark.parametrize("target", [WEB, HYBRID, "i-01234567", f"ecs:shop_{TASK}_{TASK}-0123456789"])
async def test_an_id_is_used_without_a_call(aws: Aws, target: str) -> None:
    assert await resolve_target(SETTINGS, target) == target


async def test_a_name(aws: Aws) -> None:
    aws.information([instance(WEB)], tag_Name=["web"])
    assert await resolve_target(SETTINGS, "web") == WEB


def test_an_online_instance_is_preferred_to_its_predecessor_of_the_same_name(aws: Aws) -> None:
    aws.information([instance(DB, online=False), instance(WEB)], tag_Name=["web"])
    assert resolve(SETTINGS, "web") == WEB


def test_several_are_listed(aws: Aws) -> None:
    aws.information([instance(WEB, IPAddress="10.0.0.1"), instance(DB)], tag_Name=["web"])
    with pytest.raises(AmbiguousTarget, match="2 online targets match web; give an id") as raised:
        resolve(SETTINGS, "web")
    assert raised.value.matches == (f"{WEB} web 10.0.0.1", f"{DB} web")
    assert isinstance(raised.value, UsageError)


def test_an_offline_one(aws: Aws) -> None:
    aws.information([instance(WEB, online=False, LastPingDateTime=LAST_PING)], tag_Name=["web"])
    with pytest.raises(ConnectError, match=rf"web \({WEB}\) is offline since 2026-01-02 03:04:05 UTC"):
        resolve(SETTINGS, "web")


def test_one_that_is_stopped(aws: Aws) -> None:
    aws.information([instance(WEB, online=False, LastPingDateTime=LAST_PING)], tag_Name=["web"])
    aws.ec2([{"InstanceId": WEB, "State": {"Name": "stopped"}}], "instance-id", WEB)
    with pytest.raises(ConnectError, match=rf"web \({WEB}\) is stopped; start it: aws ec2 .*--instance-ids {WEB}"):
        resolve(SETTINGS, "web")


def test_a_name_of_an_instance_that_is_not_managed(aws: Aws) -> None:
    aws.information([], tag_Name=["raw"])
    aws.information([instance(DB)])
    aws.ec2([], "tag-key", "Name")
    described = {"InstanceId": WEB, "Tags": [{"Key": "Name", "Value": "raw"}], "State": {"Name": "running"}}
    aws.ec2([described], "tag:Name", "raw")
    with pytest.raises(ConnectError, match=rf"raw \({WEB}\) is not managed by Systems Manager; its SSM agent must run"):
        resolve(SETTINGS, "raw")


def test_a_name_with_wildcards_of_ec2_is_taken_literally(aws: Aws) -> None:
    aws.information([], tag_Name=["web-*?\\"])
    aws.information([instance(DB)])
    aws.ec2([], "tag-key", "Name")
    aws.ec2([], "tag:Name", "web-\\*\\?\\\\")
    with pytest.raises(ConnectError, match="no target matches web-"):
        resolve(SETTINGS, "web-*?\\")


def test_a_name_that_may_not_be_looked_up(aws: Aws) -> None:
    denial = "User: x is not authorized to perform: ssm:DescribeInstanceInformation on resource: *"
    aws.refuse("ssm", "describe_instance_information", denial)
    with pytest.raises(AccessDenied, match=r"x needs ssm:DescribeInstanceInformation .*or give the target's id, which"):
        resolve(SETTINGS, "web")


@pytest.mark.parametrize(
    ("managed", "state", "sentence"),
    [
        (
            [instance(WEB, LastPingDateTime=LAST_PING)],
            "running",
            "is online .last report 2026-01-02 03:04:05 UTC., but",
        ),
        ([instance(WEB, online=False, LastPingDateTime=LAST_PING)], "running", "is offline since 2026-01-02 03:04:05"),
        ([instance(WEB, online=False)], "stopped", "is stopped; start it: aws ec2 start-instances"),
        ([], "terminated", "is terminated"),
        ([], "running", "is not managed by Systems Manager; its SSM agent must run"),
        ([], None, f"there is no instance {WEB} here; check the id, --region and --profile"),
    ],
)
def test_a_target_that_is_not_connected(
    aws: Aws, managed: list[dict[str, Any]], state: str | None, sentence: str
) -> None:
    aws.information(managed, InstanceIds=[WEB])
    aws.ec2([] if state is None else [{"InstanceId": WEB, "State": {"Name": state}}], "instance-id", WEB)
    assert re.search(sentence, str(explain_not_connected(SETTINGS, WEB)))


def test_nothing_is_known_about_a_target_that_may_not_be_looked_up(aws: Aws) -> None:
    for service, method in (("ssm", "describe_instance_information"), ("ec2", "describe_instances")):
        aws.refuse(service, method)
    assert explain_not_connected(SETTINGS, WEB) is None


def test_a_tag(aws: Aws) -> None:
    aws.information([instance(WEB)], tag_role=["front=end"])
    assert resolve(SETTINGS, "tag:role=front=end") == WEB


def test_a_private_address(aws: Aws) -> None:
    aws.ec2([{"InstanceId": WEB, "PrivateIpAddress": "10.0.0.1"}], "private-ip-address", "10.0.0.1")
    aws.information([instance(WEB)], InstanceIds=[WEB])
    assert resolve(SETTINGS, "10.0.0.1") == WEB


def test_an_address_without_the_permission_to_ask_ec2(aws: Aws) -> None:
    aws.refuse("ec2", "describe_instances")
    aws.information([instance(WEB, IPAddress="10.0.0.1"), instance(DB, IPAddress="10.0.0.2")])
    aws.refuse("ec2", "describe_instances")
    assert resolve(SETTINGS, "10.0.0.1") == WEB


def test_an_instance_that_is_not_managed(aws: Aws) -> None:
    aws.ec2([{"InstanceId": WEB}], "private-ip-address", "10.0.0.1")
    aws.information([], InstanceIds=[WEB])
    with pytest.raises(ConnectError, match=f"{WEB} is not managed by Systems Manager"):
        resolve(SETTINGS, "10.0.0.1")


def test_a_private_dns_name(aws: Aws) -> None:
    name = "ip-10-0-0-1.eu-west-1.compute.internal"
    aws.information([], tag_Name=[name])
    aws.ec2([{"InstanceId": WEB}], "private-dns-name", name)
    aws.information([instance(WEB)], InstanceIds=[WEB])
    assert resolve(SETTINGS, name) == WEB


def test_a_computer_outside_ec2(aws: Aws) -> None:
    aws.information([], tag_Name=["press"])
    aws.information([instance(WEB), instance(HYBRID, ComputerName="PRESS.example.org")])
    aws.ec2([], "tag-key", "Name")
    assert resolve(SETTINGS, "press") == HYBRID


def test_a_name_that_nothing_has(aws: Aws) -> None:
    aws.information([], tag_Name=["wbe-1"])
    aws.information([instance(WEB)])
    aws.ec2([{"InstanceId": WEB, "Tags": [{"Key": "Name", "Value": "web-1"}]}], "tag-key", "Name")
    with pytest.raises(ConnectError, match=r"no target matches wbe-1; did you mean web-1\?"):
        resolve(SETTINGS, "wbe-1")


def test_a_refusal_names_the_permission(aws: Aws) -> None:
    aws.refuse("ssm", "describe_instance_information")
    with pytest.raises(AccessDenied, match="ssm:DescribeInstanceInformation"):
        resolve(SETTINGS, "web")


@pytest.mark.parametrize("target", ["", "tag:", "tag:=x", "tag:role", "ecs:", "ecs:shop", "ecs:a/b/c/d"])
def test_no_target(aws: Aws, target: str) -> None:
    with pytest.raises(UsageError):
        resolve(SETTINGS, target)


def test_all_pages_are_read_and_kept_for_completion(aws: Aws, tmp_path: Path) -> None:
    first: dict[str, Any] = {"InstanceInformationList": [instance(WEB, PlatformName="Debian")], "NextToken": "more"}
    aws.expect("ssm", "describe_instance_information", first, MaxResults=50)
    second: dict[str, Any] = {"InstanceInformationList": [instance(DB, online=False)]}
    aws.expect("ssm", "describe_instance_information", second, MaxResults=50, NextToken="more")
    tags = [{"Key": "Name", "Value": "web"}, {"Key": "role", "Value": "x"}]
    aws.ec2([{"InstanceId": WEB, "Tags": tags, "PrivateIpAddress": "10.0.0.1"}], "tag-key", "Name")
    assert find_all(SETTINGS) == [
        ManagedInstance(WEB, "web", "Debian", "10.0.0.1", online=True),
        ManagedInstance(DB),
    ]
    assert NameCache(SETTINGS).read() == ([CachedTarget(WEB, "web", "10.0.0.1", "Debian")], True)
    (file,) = tmp_path.rglob("*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert NameCache(AwsSettings(region="us-east-1")).read() == ([], False)


def task(arn: str, *containers: str, **fields: Any) -> dict[str, Any]:
    """An entry of DescribeTasks, with containers of these names."""
    made = [{"name": name, "runtimeId": f"{TASK}-{index}"} for index, name in enumerate(containers)]
    return {"taskArn": arn, "lastStatus": "RUNNING", "enableExecuteCommand": True, "containers": made, **fields}


def service(aws: Aws, tasks: list[dict[str, Any]]) -> None:
    """Expect the calls for the service ``api`` of the cluster ``shop``."""
    arns = [each["taskArn"] for each in tasks]
    aws.expect("ecs", "list_tasks", {"taskArns": arns}, cluster="shop", serviceName="api", desiredStatus="RUNNING")
    if tasks:
        aws.expect("ecs", "describe_tasks", {"tasks": tasks}, cluster="shop", tasks=arns)


def test_a_service_of_ecs(aws: Aws) -> None:
    service(aws, [task(TASK_ARN, "app")])
    assert resolve(SETTINGS, "ecs:shop/api") == f"ecs:shop_{TASK}_{TASK}-0"


def test_a_container_of_a_task(aws: Aws) -> None:
    aws.expect("ecs", "describe_tasks", {"tasks": [task(TASK_ARN, "app", "log")]}, cluster="shop", tasks=[TASK])
    assert resolve(SETTINGS, f"ecs:shop/{TASK}/log") == f"ecs:shop_{TASK}_{TASK}-1"


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ([], "service api has no running task in the cluster shop"),
        ([task(TASK_ARN, "app"), task(OTHER_TASK_ARN, "app")], "service api runs 2 tasks; choose one"),
        ([task(TASK_ARN, "app", "log")], f"runs 2 containers; choose one: ecs:shop/{TASK}/app, ecs:shop/{TASK}/log"),
        ([task(TASK_ARN, "app", enableExecuteCommand=False)], "was started without ECS Exec"),
        (
            [
                task(
                    TASK_ARN,
                    containers=[
                        {
                            "name": "app",
                            "runtimeId": "r",
                            "managedAgents": [{"name": "ExecuteCommandAgent", "lastStatus": "STOPPED"}],
                        }
                    ],
                )
            ],
            "the agent of container app .* is STOPPED",
        ),
    ],
)
def test_what_cannot_be_reached_in_ecs(aws: Aws, tasks: list[dict[str, Any]], sentence: str) -> None:
    service(aws, tasks)
    with pytest.raises(SessionManagerError, match=sentence):
        resolve(SETTINGS, "ecs:shop/api")
