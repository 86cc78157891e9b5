"""The targets of a command on many: named, read from a file, or chosen by their tags."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from session_manager_plugin.aws.managed_instances import ManagedInstance
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.targets import (
    ONLINE,
    choose,
    is_found_by_name,
    is_target_id,
    list_targets,
    matches,
    parse_tag,
    resolve_target,
)
from session_manager_plugin.cli.fleet.results import FleetResult, FleetTarget
from session_manager_plugin.errors import SessionManagerError, UsageError
from session_manager_plugin.session.outcome import FAILURE
from session_manager_plugin.utils.text import printable

FEW = 3
"""Names that are looked up one by one; for more of them all instances are listed once."""


class FleetTargets(NamedTuple):
    """The targets, and those that cannot be found."""

    found: list[FleetTarget]
    missing: list[FleetResult]


def read_target_file(path: str, stdin: int) -> list[str]:
    """Return the targets of a file, one a line; empty lines and what follows a ``#`` do not count. ``-`` is standard
    input. Raises ``UsageError`` if it cannot be read, or names no target."""
    try:
        with open(stdin if path == "-" else path, encoding="utf-8", closefd=path != "-") as file:
            lines = [line.partition("#")[0].strip() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"the file of targets {path} cannot be read: {reason}") from error
    if not any(lines):
        raise UsageError(f"the file of targets {path} names no target")
    return [line for line in lines if line]


async def find_targets(settings: AwsSettings, names: Sequence[str], tags: Sequence[str]) -> FleetTargets:
    """Return the targets of ``names``, and the online ones that have all ``tags`` (``KEY=VALUE``), each once.

    Raises ``UsageError`` for a wrong tag and what listing the instances raises.
    """
    names = list(dict.fromkeys(names))
    found: dict[str, str] = {}
    missing: list[FleetResult] = []
    resolved = await _resolve(settings, names)
    for name in names:
        target = resolved[name]
        if isinstance(target, SessionManagerError):
            missing.append(FleetResult(FleetTarget(name, printable(name)), FAILURE, 0.0, str(target)))
        else:
            found.setdefault(target, printable(name))
    if tags:
        filters = {f"tag:{key}": [value] for key, value in map(parse_tag, tags)}
        if len(filters) < len(tags):
            raise UsageError("--tag names a key twice, and a tag has one value")
        tagged = [each for each in await list_targets(settings, {**filters, **ONLINE}) if each.online]
        for instance in sorted(tagged, key=lambda each: (each.name, each.id)):
            found.setdefault(instance.id, printable(instance.name) or instance.id)
    uses = Counter(found.values())
    targets = [FleetTarget(id, sys.intern(label if uses[label] == 1 else id)) for id, label in found.items()]
    return FleetTargets(targets, missing)


async def _resolve(settings: AwsSettings, names: Iterable[str]) -> dict[str, str | SessionManagerError]:
    resolved: dict[str, str | SessionManagerError] = {name: name for name in names if is_target_id(name)}
    others = [name for name in names if name not in resolved]
    listed = [name for name in others if is_found_by_name(name)]
    if len(listed) > FEW:
        problems: list[SessionManagerError] = []
        instances = await list_targets(settings, unnamed=problems.append)
        if not problems:  # else Systems Manager finds each by its Name tag
            resolved.update((name, _chosen(name, instances)) for name in listed)
    alone = [name for name in others if name not in resolved]
    few = asyncio.Semaphore(FEW)

    async def resolve(name: str) -> str | SessionManagerError:
        async with few:
            try:
                return await resolve_target(settings, name)
            except SessionManagerError as error:
                return error

    resolved.update(zip(alone, await asyncio.gather(*map(resolve, alone)), strict=True))
    return resolved


def _chosen(name: str, instances: Iterable[ManagedInstance]) -> str | SessionManagerError:
    try:
        return choose(name, [each for each in instances if matches(each, name)]).id
    except SessionManagerError as error:
        return error
