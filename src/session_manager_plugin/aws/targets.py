"""Resolving a target as given by the user to the id for StartSession.

A target is an id (``i-…``, ``mi-…``, ``ecs:CLUSTER_TASK_RUNTIMEID``), which is used unchanged; a ``Name`` tag, a
private DNS name or a private IP address; ``tag:KEY=VALUE``; or ``ecs:CLUSTER/SERVICE-or-TASK[/CONTAINER]``.
"""

from __future__ import annotations

import asyncio
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from session_manager_plugin.aws.aws_errors import find_denial
from session_manager_plugin.aws.ecs import resolve_ecs
from session_manager_plugin.aws.managed_instances import (
    Instances,
    ManagedInstance,
    find_by_ids,
    find_in_ec2,
    find_instances,
    names_in_ec2,
    with_names,
)
from session_manager_plugin.aws.name_cache import NameCache
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.target_state import (
    RUNNING,
    explain_instance,
    not_running,
    offline_sentence,
    unmanaged,
)
from session_manager_plugin.aws.threads import in_thread
from session_manager_plugin.errors import AccessDenied, AmbiguousTarget, ConnectError, SessionManagerError, UsageError
from session_manager_plugin.utils.logging import get_logger

_ID = re.compile(r"m?i-[0-9a-f]{8,17}|ecs:[^/]+_[^/]+_[^/]+")
ONLINE = {"PingStatus": ["Online"]}
"""The filter of DescribeInstanceInformation for targets with which a session can be started."""
_TAG = "tag:"
_ECS = "ecs:"
_OUTSIDE_EC2 = "mi-"


async def resolve_target(settings: AwsSettings, text: str) -> str:
    """Return the id of the target that ``text`` names. An id is returned unchanged, without a call.

    Raises ``AmbiguousTarget`` if several online targets match, ``UsageError`` for a text that names none in any form,
    ``ConnectError`` if none matches or it is offline, and the exceptions of ``aws_failure``.
    """
    if is_target_id(text):
        return text
    return await asyncio.wrap_future(in_thread(lambda: resolve(settings, text)))


def unnamed_sentence(error: SessionManagerError) -> str:
    """Return the sentence for a list without names, which EC2 has refused with ``error``."""
    return f"the names of instances are not known: {error}"


def _log_unnamed(error: SessionManagerError) -> None:
    get_logger(__name__).warning("%s", unnamed_sentence(error))


async def list_targets(
    settings: AwsSettings,
    filters: Mapping[str, Sequence[str]] | None = None,
    *,
    unnamed: Callable[[SessionManagerError], None] = _log_unnamed,
) -> list[ManagedInstance]:
    """Return the managed instances that ``filters`` of DescribeInstanceInformation match, with their names.

    If EC2 does not return the names of instances, ``unnamed`` is called with the error, in another thread. It is not
    called for machines outside EC2 alone: Systems Manager has their names. A list without filters is also cached for
    completion. Raises the exceptions of ``aws_failure``.
    """
    return await asyncio.wrap_future(in_thread(lambda: find_all(settings, filters, unnamed=unnamed)))


async def describe_targets(
    settings: AwsSettings, texts: Sequence[str], *, unnamed: Callable[[SessionManagerError], None] = _log_unnamed
) -> list[ManagedInstance]:
    """Return the instances that ``texts`` name, each once, with their ``Name`` tags if EC2 allows access.

    An id is looked up for its name only, and may be offline. ``unnamed`` is that of ``list_targets``, for instances
    that are not given by id. Raises ``UsageError`` for a container, and as ``resolve_target``.
    """
    return await asyncio.wrap_future(in_thread(lambda: _described(settings, texts, unnamed)))


def is_target_id(text: str) -> bool:
    """Whether ``text`` is an id for StartSession."""
    return _ID.fullmatch(text) is not None


def resolve(settings: AwsSettings, text: str) -> str:
    """Do the same as ``resolve_target``, blocking."""
    if is_target_id(text):
        return text
    if text.startswith(_ECS):
        return resolve_ecs(settings, text)
    if not text:
        raise UsageError("the target is empty")
    try:
        found = _find(settings, text)
    except AccessDenied as error:
        if find_denial(str(error.__cause__)) is None:
            raise
        raise AccessDenied(f"{error}, or give the target's id, which is not looked up") from error.__cause__
    if len(found) == 1 and not found[0].online:
        raise explain_instance(settings, found[0])
    return choose(text, found).id


def _described(
    settings: AwsSettings, texts: Sequence[str], unnamed: Callable[[SessionManagerError], None]
) -> list[ManagedInstance]:
    found: dict[str, ManagedInstance] = {}
    for text in texts:
        if text.startswith(_ECS):
            raise UsageError(f"{text} is a container, not an instance")
        one = _instance_of_id(settings, text) if is_target_id(text) else choose(text, _find(settings, text))
        found[one.id] = one
    nameless = [each.id for each in found.values() if not each.name and each.id.startswith("i-")]
    try:
        described = find_in_ec2(settings, {"instance-id": nameless}) if nameless else {}
    except SessionManagerError as error:
        (_log_unnamed if set(nameless) <= set(texts) else unnamed)(error)
        described = {}
    return with_names(list(found.values()), described)


def _instance_of_id(settings: AwsSettings, target: str) -> ManagedInstance:
    try:
        found = find_by_ids(settings, [target])
    except SessionManagerError as error:
        get_logger(__name__).warning("nothing is known about %s: %s", target, error)
        return ManagedInstance(target)
    if not found:
        raise ConnectError(f"no target has the id {target}; smp ls --all lists them, and check --region and --profile")
    return found[0]


def find_all(
    settings: AwsSettings,
    filters: Mapping[str, Sequence[str]] | None = None,
    *,
    received: Callable[[Instances], None] | None = None,
    unnamed: Callable[[SessionManagerError], None] = _log_unnamed,
) -> list[ManagedInstance]:
    """``list_targets``, blocking. ``received`` is that of ``find_instances``, with the names that are known by then."""
    names = in_thread(lambda: names_in_ec2(settings))  # concurrently

    def named(page: Instances) -> None:
        if received is not None:
            has_names = names.done() and names.exception() is None
            received(with_names(page, names.result()) if has_names else page)

    instances = find_instances(settings, filters or {}, received=named)
    try:
        instances = with_names(instances, names.result())
    except SessionManagerError as error:
        if not all(each.id.startswith(_OUTSIDE_EC2) for each in instances):
            unnamed(error)
    if not filters or filters == ONLINE:
        NameCache(settings).write(instances)
    return instances


def is_found_by_name(text: str) -> bool:
    """Whether ``text`` is a name or an address: no id, tag or container."""
    return not is_target_id(text) and not text.startswith((_TAG, _ECS))


def matches(instance: ManagedInstance, text: str) -> bool:
    """Whether ``text`` is the name or an address of an instance."""
    return text in (instance.name, instance.ip) or _is_host(text, instance.host)


def parse_tag(text: str) -> tuple[str, str]:
    """Return key and value of ``KEY=VALUE``. Raises ``UsageError``."""
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise UsageError(f"{text!r} is not KEY=VALUE")
    return key, value


def choose(text: str, found: Sequence[ManagedInstance]) -> ManagedInstance:
    """Return the only online instance of those found for ``text``. Raises like ``resolve_target``."""
    online = [each for each in found if each.online]
    if len(online) == 1:
        return online[0]
    if online:
        matches = [describe(each) for each in sorted(online, key=lambda each: (each.name, each.id))]
        raise AmbiguousTarget(f"{len(online)} online targets match {text}; give an id", matches)
    if found:
        raise ConnectError(offline_sentence(found))
    raise ConnectError(f"no target matches {text}; smp ls --all lists them, and check --region and --profile")


def describe(instance: ManagedInstance) -> str:
    """Return a line that begins with the id, followed by name, platform and address."""
    return " ".join(part for part in (instance.id, instance.name, instance.ip, instance.platform) if part)


def _find(settings: AwsSettings, text: str) -> list[ManagedInstance]:
    """Return the managed instances that ``text`` matches, offline ones included."""
    if text.startswith(_TAG):
        key, value = parse_tag(text.removeprefix(_TAG))
        found = find_instances(settings, {f"tag:{key}": [value]})
        return _with_known_names(settings, found) if len(found) > 1 else found
    filters = _address_filter(text)
    if filters is None and (found := find_instances(settings, {"tag:Name": [text]})):
        return [replace(each, name=text) for each in found]
    if (filters or "." in text) and (found := _find_by_address(settings, filters or {"private-dns-name": [text]})):
        return found
    # There is no filter for the name of an activation, a computer's name, or an address outside EC2.
    everything = find_all(settings)
    found = [each for each in everything if matches(each, text)]
    if not found and (described := _named_in_ec2(settings, text)):
        raise _not_managed(described)
    if not found and (near := difflib.get_close_matches(text, [each.name for each in everything if each.name], n=1)):
        raise ConnectError(f"no target matches {text}; did you mean {near[0]}?")
    return found


def _with_known_names(settings: AwsSettings, instances: Instances) -> list[ManagedInstance]:
    try:
        return with_names(instances, names_in_ec2(settings))
    except SessionManagerError as error:
        _log_unnamed(error)
        return list(instances)


def _address_filter(text: str) -> dict[str, list[str]] | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return {"private-ip-address" if address.version == 4 else "ipv6-address": [text]}


def _find_by_address(settings: AwsSettings, filters: Mapping[str, Sequence[str]]) -> list[ManagedInstance]:
    try:
        described = find_in_ec2(settings, filters)
    except SessionManagerError as error:
        get_logger(__name__).warning("EC2 could not be asked for an address: %s", error)
        return []
    found = with_names(find_by_ids(settings, list(described)), described) if described else []
    if described and not found:
        raise _not_managed(described)
    return found


def _named_in_ec2(settings: AwsSettings, name: str) -> dict[str, dict[str, Any]]:
    """Return EC2's descriptions of the instances with this name; nothing if EC2 may not be asked."""
    try:
        return find_in_ec2(settings, {"tag:Name": [name]})
    except SessionManagerError:
        return {}


def _not_managed(described: Mapping[str, Mapping[str, Any]]) -> ConnectError:
    """Return the error for instances that EC2 knows and Systems Manager does not."""
    instance_id, instance = next(iter(described.items()))
    name = next((tag["Value"] for tag in instance.get("Tags", []) if tag["Key"] == "Name"), "")
    called = f"{name} ({instance_id})" if name else instance_id
    state = instance.get("State", {}).get("Name", "")
    return ConnectError(unmanaged(called) if state in ("", RUNNING) else not_running(called, state, instance_id))


def _is_host(text: str, host: str) -> bool:
    """Whether ``text`` is ``host`` or its first label."""
    text, host = text.lower().rstrip("."), host.lower().rstrip(".")
    return bool(host) and (text == host or text == host.partition(".")[0])
