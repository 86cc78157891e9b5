"""Systems Manager's DescribeInstanceInformation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from session_manager_plugin.agent.api import Caller, Operation, string, strings, structures
from session_manager_plugin.agent.inventory import Instance, Inventory
from session_manager_plugin.agent.services.pages import page
from session_manager_plugin.errors import ApiError

MAX_PAGE_SIZE = 50

_FACTS: dict[str, Callable[[Instance, str], str]] = {
    "InstanceIds": lambda instance, _version: instance.id,
    "AgentVersion": lambda instance, version: instance.agent_version or version,
    "PingStatus": lambda instance, _version: _ping_status(instance),
    "PlatformTypes": lambda instance, _version: instance.platform,
    "ResourceType": lambda instance, _version: _resource_type(instance),
}
"""The values that each filter compares."""


class ManagedInstances:
    """Answers for the managed instances of the inventory. ``agent_version`` is the default version of an agent."""

    def __init__(self, inventory: Callable[[], Inventory], agent_version: str) -> None:
        self._inventory = inventory
        self._agent_version = agent_version

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {"ssm:DescribeInstanceInformation": self.describe}

    def describe(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """DescribeInstanceInformation. Raises ``ApiError``."""
        filters = [(string(each, "Key"), strings(each, "Values")) for each in structures(fields, "Filters")]
        old_filters = structures(fields, "InstanceInformationFilterList")
        if filters and old_filters:
            raise ApiError("ValidationException", "Filters and InstanceInformationFilterList cannot be used together")
        filters += [(string(each, "key"), strings(each, "valueSet")) for each in old_filters]
        tests = [self._filter(key, values) for key, values in filters]
        found = [
            instance
            for instance in self._inventory().instances
            if instance.managed and all(passes(instance) for passes in tests)
        ]
        items, token = page(found, fields.get("NextToken"), fields.get("MaxResults"), least=5, most=MAX_PAGE_SIZE)
        now = datetime.now(UTC)
        answer: dict[str, Any] = {"InstanceInformationList": [self._information(instance, now) for instance in items]}
        return answer if token is None else {**answer, "NextToken": token}

    def _filter(self, key: str, values: Sequence[str]) -> Callable[[Instance], bool]:
        """Return the predicate of a filter. Raises ``ApiError``."""
        if key in _FACTS:
            return lambda instance: _FACTS[key](instance, self._agent_version) in values
        if key == "tag-key":
            return lambda instance: any(value in instance.all_tags for value in values)
        if key.startswith("tag:"):
            return lambda instance: instance.all_tags.get(key.removeprefix("tag:")) in values
        raise ApiError("InvalidFilterKey", f"The filter key {key} is not valid.")

    def _information(self, instance: Instance, now: datetime) -> dict[str, Any]:
        # The real service returns a Name only for managed instances outside EC2.
        name = {} if instance.is_ec2 else {"Name": instance.name}
        return {
            "InstanceId": instance.id,
            "PingStatus": _ping_status(instance),
            "LastPingDateTime": instance.last_ping_at(now).timestamp(),
            "AgentVersion": instance.agent_version or self._agent_version,
            "IsLatestVersion": not instance.agent_version,
            "PlatformType": instance.platform,
            "PlatformName": instance.platform_name,
            "PlatformVersion": instance.platform_version,
            "ResourceType": _resource_type(instance),
            **name,
            "IPAddress": instance.private_ip,
            "ComputerName": instance.private_dns or instance.name,
        }


def _ping_status(instance: Instance) -> str:
    return "Online" if instance.is_connected else "ConnectionLost"


def _resource_type(instance: Instance) -> str:
    return "EC2Instance" if instance.is_ec2 else "ManagedInstance"
