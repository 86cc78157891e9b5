"""The instances that Systems Manager manages, with their names and addresses from EC2.

Every function here blocks; call it in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from session_manager_plugin.aws.paging import read_pages
from session_manager_plugin.aws.settings import AwsSettings

PAGE_SIZE = 50
"""Instances in a response of DescribeInstanceInformation, the service's maximum."""
_EC2_PAGE_SIZE = 1000
_ID_BATCH = 50
"""Ids in one filter of DescribeInstanceInformation."""

Instances = Sequence["ManagedInstance"]


@dataclass(frozen=True, slots=True)
class ManagedInstance:
    """One managed instance, as DescribeInstanceInformation and DescribeInstances return it."""

    id: str
    """``i-…``, or ``mi-…`` for a machine outside EC2."""
    name: str = ""
    """Its ``Name`` tag, or the name of its activation; empty if it has none or EC2 denies access."""
    platform: str = ""
    """``Amazon Linux 2023``."""
    ip: str = ""
    """Private address."""
    host: str = ""
    """Private DNS name, or the computer's name."""
    agent_version: str = ""
    online: bool = False
    last_ping: datetime | None = None


def find_instances(
    settings: AwsSettings, filters: Mapping[str, Sequence[str]], *, received: Callable[[Instances], None] | None = None
) -> list[ManagedInstance]:
    """Return the managed instances that DescribeInstanceInformation finds for ``filters`` (``{"tag:Name": ["web"]}``).

    They have no ``Name`` tags yet: see ``with_names``. ``received`` is called with each page as it arrives, and may be
    called twice with the same one. Raises the exceptions of ``aws_failure``.
    """
    request: dict[str, Any] = {"MaxResults": PAGE_SIZE}
    if filters:
        request["Filters"] = [{"Key": key, "Values": list(values)} for key, values in filters.items()]
    found: dict[str, ManagedInstance] = {}

    def read(answer: Mapping[str, Any]) -> None:
        page = [_instance(each) for each in answer.get("InstanceInformationList", [])]
        found.update((each.id, each) for each in page)
        if received is not None:
            received(page)

    read_pages(settings, "ssm", "DescribeInstanceInformation", request, read)
    return list(found.values())


def find_by_ids(settings: AwsSettings, ids: Sequence[str]) -> list[ManagedInstance]:
    """Return the managed instances among ``ids``."""
    batches = [ids[start : start + _ID_BATCH] for start in range(0, len(ids), _ID_BATCH)]
    return [each for batch in batches for each in find_instances(settings, {"InstanceIds": batch})]


def find_in_ec2(settings: AwsSettings, filters: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Return EC2's descriptions of the instances with the values of ``filters``, by id.

    Raises like ``find_instances``.
    """
    request: dict[str, Any] = {
        "Filters": [{"Name": key, "Values": [_literal(value) for value in values]} for key, values in filters.items()],
        "MaxResults": _EC2_PAGE_SIZE,
    }
    found: dict[str, dict[str, Any]] = {}

    def read(answer: Mapping[str, Any]) -> None:
        for reservation in answer.get("Reservations", []):
            found.update((each["InstanceId"], each) for each in reservation.get("Instances", []))

    read_pages(settings, "ec2", "DescribeInstances", request, read)
    return found


def _literal(value: str) -> str:
    """Return a filter's value that matches ``value`` alone.

    In EC2's filters ``*`` and ``?`` are wildcards unless they are behind a backslash (EC2 User Guide, "Filter your
    resources").
    """
    return re.sub(r"[\\*?]", r"\\\g<0>", value)


def names_in_ec2(settings: AwsSettings) -> dict[str, dict[str, Any]]:
    """Return EC2's descriptions of all instances with a ``Name`` tag, by id. Raises like ``find_instances``."""
    return find_in_ec2(settings, {"tag-key": ["Name"]})


def with_names(instances: Instances, described: Mapping[str, Mapping[str, Any]]) -> list[ManagedInstance]:
    """Return the instances with the names and addresses of EC2's descriptions."""
    return [_named(each, described[each.id]) if each.id in described else each for each in instances]


def _named(instance: ManagedInstance, described: Mapping[str, Any]) -> ManagedInstance:
    name = next((tag["Value"] for tag in described.get("Tags", []) if tag["Key"] == "Name"), instance.name)
    ip = described.get("PrivateIpAddress") or instance.ip
    return replace(instance, name=name, ip=ip, host=described.get("PrivateDnsName") or instance.host)


def _instance(information: Mapping[str, Any]) -> ManagedInstance:
    platform = f"{information.get('PlatformName', '')} {information.get('PlatformVersion', '')}".strip()
    return ManagedInstance(
        information["InstanceId"],
        information.get("Name", ""),
        platform or information.get("PlatformType", ""),
        information.get("IPAddress", ""),
        information.get("ComputerName", ""),
        information.get("AgentVersion", ""),
        information.get("PingStatus") == "Online",
        information.get("LastPingDateTime"),
    )
