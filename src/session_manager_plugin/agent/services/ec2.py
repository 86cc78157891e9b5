"""EC2's DescribeInstances."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any

from session_manager_plugin.agent.api import Caller, Operation
from session_manager_plugin.agent.inventory import Instance, Inventory, matches
from session_manager_plugin.agent.query_protocol import numbered, numbered_strings
from session_manager_plugin.agent.services.pages import page
from session_manager_plugin.errors import ApiError

MAX_PAGE_SIZE = 1000

_LAUNCHED_AT = datetime(2026, 1, 1, tzinfo=UTC)
_STATES = {"pending": 0, "running": 16, "stopping": 64, "stopped": 80}
"""The states of an instance with their codes (API Reference, InstanceState)."""
_FACTS: dict[str, Callable[[Instance], str]] = {
    "instance-id": lambda instance: instance.id,
    "instance-state-name": lambda instance: instance.state,
    "instance-state-code": lambda instance: str(_STATES[instance.state]),
    "private-ip-address": lambda instance: instance.private_ip,
    "network-interface.addresses.private-ip-address": lambda instance: instance.private_ip,
    "ip-address": lambda instance: instance.public_ip,
    "private-dns-name": lambda instance: instance.private_dns,
    "network-interface.private-dns-name": lambda instance: instance.private_dns,
    "availability-zone": lambda instance: instance.availability_zone,
    "platform": lambda instance: "windows" if instance.platform == "Windows" else "",
}
"""The values that each filter compares. ``*`` and ``?`` in a filter's value are wildcards."""


def _pattern(value: str) -> str:
    """Return the pattern of ``matches`` for a filter's value, where a character behind a backslash is no wildcard."""

    def literal(found: re.Match[str]) -> str:
        character = found[1] or "["
        return f"[{character}]" if character in "*?[" else character

    return re.sub(r"\\(.)|\[", literal, value)


class Ec2:
    """Answers for the EC2 instances of the inventory."""

    def __init__(self, inventory: Callable[[], Inventory]) -> None:
        self._inventory = inventory

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {"ec2:DescribeInstances": self.describe_instances}

    def describe_instances(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """DescribeInstances: one reservation for each instance. Raises ``ApiError``."""
        inventory = self._inventory()
        ids = numbered_strings(fields.get("InstanceId"))
        if ids and fields.get("MaxResults") is not None:
            text = "The parameter instancesSet cannot be used with the parameter maxResults"
            raise ApiError("InvalidParameterCombination", text)
        instances = [instance for instance in inventory.instances if instance.is_ec2]
        if missing := sorted(set(ids) - {instance.id for instance in instances}):
            one = len(missing) == 1
            text = f"The instance ID{'' if one else 's'} '{', '.join(missing)}' do{'es' if one else ''} not exist"
            raise ApiError("InvalidInstanceID.NotFound", text)
        found = [instance for instance in instances if not ids or instance.id in ids]
        for each in numbered(fields.get("Filter")):
            name, values = str(each.get("Name", "")), numbered_strings(each.get("Value"))
            facts = _facts(name)
            patterns = [_pattern(value) for value in values]
            found = [instance for instance in found if any(matches(fact, patterns) for fact in facts(instance))]
        items, token = page(
            found,
            fields.get("NextToken"),
            fields.get("MaxResults"),
            least=5,
            most=MAX_PAGE_SIZE,
            invalid_size="InvalidParameterValue",
            invalid_token="InvalidParameterValue",
        )
        reservations = [_reservation(instance, inventory.account) for instance in items]
        return {"reservationSet": {"item": reservations}, "nextToken": token}


def _facts(name: str) -> Callable[[Instance], Collection[str]]:
    """Return the function whose values a filter compares; one match is enough. Raises ``ApiError``."""
    if name in _FACTS:
        return lambda instance: [_FACTS[name](instance)]
    if name == "tag-key":
        return lambda instance: instance.all_tags
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda instance: [value for tag, value in instance.all_tags.items() if tag == key]
    raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")


def _reservation(instance: Instance, account: str) -> dict[str, Any]:
    tags = [{"key": key, "value": value} for key, value in instance.all_tags.items()]
    description = {
        "instanceId": instance.id,
        "imageId": "ami-0a1b2c3d4e5f60718",
        "instanceState": {"code": _STATES[instance.state], "name": instance.state},
        "privateDnsName": instance.private_dns,
        "dnsName": "",
        "instanceType": "t3.micro",
        "launchTime": _LAUNCHED_AT.isoformat(),
        "placement": {"availabilityZone": instance.availability_zone},
        "platform": "windows" if instance.platform == "Windows" else None,
        "platformDetails": "Windows" if instance.platform == "Windows" else "Linux/UNIX",
        "privateIpAddress": instance.private_ip or None,
        "ipAddress": instance.public_ip or None,
        "tagSet": {"item": tags},
    }
    return {
        "reservationId": f"r-{instance.id.removeprefix('i-')}",
        "ownerId": account,
        "instancesSet": {"item": [description]},
    }
