"""The contents of a sandbox's AWS account: instances, containers, databases, and the permissions of its user.

An inventory is read from a TOML file (docs/sandbox.md describes the keys) or built from these classes. Its instances
and containers are not real machines: every session runs on this machine.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

NO_TAGS: Mapping[str, str] = {}


class InventoryError(ValueError):
    """An invalid inventory. The text names the table and the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """An EC2 instance, or a managed instance from elsewhere if its id begins with ``mi-``."""

    id: str
    name: str = ""
    """The ``Name`` tag."""
    tags: Mapping[str, str] = field(default_factory=lambda: NO_TAGS)
    """The other tags."""
    platform: Literal["Linux", "Windows", "MacOS"] = "Linux"
    platform_name: str = "Amazon Linux"
    platform_version: str = "2023"
    private_ip: str = ""
    public_ip: str = ""
    private_dns: str = ""
    availability_zone: str = "us-east-1a"
    state: Literal["pending", "running", "stopping", "stopped"] = "running"
    """Its state in EC2. Only a running instance is online."""
    managed: bool = True
    """Whether its agent has ever registered with Systems Manager."""
    online: bool = True
    """Whether its agent is connected."""
    last_ping: datetime | None = None
    """When the agent last reported. None means now, or an hour ago if the agent is offline."""
    agent_version: str = ""
    """Decides the abilities of the agent. If empty, the version of the sandbox is used."""
    documents: tuple[str, ...] = ("*",)
    """Patterns of documents that are allowed for this instance."""
    denied_documents: tuple[str, ...] = ()
    """Patterns of documents that are denied for this instance."""
    request_access: bool = False
    """Whether a session requires just-in-time access: StartAccessRequest, then GetAccessToken."""

    @property
    def all_tags(self) -> dict[str, str]:
        """All tags, ``Name`` included."""
        return {"Name": self.name, **self.tags} if self.name else dict(self.tags)

    @property
    def is_ec2(self) -> bool:
        """Whether it is an EC2 instance."""
        return not self.id.startswith(("mi-", "ecs:"))

    @property
    def is_connected(self) -> bool:
        """Whether sessions with this instance can be started."""
        return self.managed and self.online and self.state == "running"

    def last_ping_at(self, now: datetime) -> datetime:
        """Return when the agent last reported."""
        if self.last_ping is not None:
            return self.last_ping if self.last_ping.tzinfo else self.last_ping.replace(tzinfo=UTC)
        return now if self.is_connected else datetime.fromtimestamp(now.timestamp() - 3600, UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of an ECS task."""

    name: str
    runtime_id: str
    status: Literal["PENDING", "RUNNING", "STOPPED"] = "RUNNING"
    online: bool = True
    """Whether its agent (ExecuteCommandAgent) is connected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An ECS task."""

    id: str
    containers: tuple[Container, ...]
    service: str = ""
    """The name of the service that runs the task, if any."""
    family: str = "task"
    status: Literal["PENDING", "RUNNING", "STOPPED"] = "RUNNING"
    execute_command: bool = True
    """Whether the task was started with enableExecuteCommand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An ECS service."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """An ECS cluster."""

    name: str
    services: tuple[Service, ...] = ()
    tasks: tuple[Task, ...] = ()

    def target(self, task: Task, container: Container) -> str:
        """Return the target of StartSession for a container: ``ecs:CLUSTER_TASK_RUNTIME``."""
        return f"ecs:{self.name}_{task.id}_{container.runtime_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """An RDS instance."""

    id: str
    endpoint: str
    port: int = 5432
    engine: str = "postgres"
    cluster: str = ""
    """The id of the cluster it is a member of, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseCluster:
    """An RDS cluster."""

    id: str
    endpoint: str
    reader_endpoint: str = ""
    port: int = 5432
    engine: str = "aurora-postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """The permissions of the user of the sandbox's credentials."""

    denied: tuple[str, ...] = ()
    """Patterns of denied actions: ``ssm:TerminateSession``, ``ecs:*``."""
    denied_documents: tuple[str, ...] = ()
    """Patterns of documents that are denied for all targets."""
    access_request: Literal["Approved", "Rejected", "Revoked", "Expired", "Pending"] = "Approved"
    """The final state of a request for just-in-time access."""
    pending_polls: int = 0
    """How many calls of GetAccessToken report the request as pending before that."""

    def allows(self, action: str) -> bool:
        """Whether the user may call ``action``, an IAM action such as ``ssm:StartSession``."""
        return not matches(action, self.denied)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Everything in one account and region. Raises ``InventoryError`` if two things have the same id."""

    account: str = "111122223333"
    user: str = "alice"
    instances: tuple[Instance, ...] = ()
    clusters: tuple[Cluster, ...] = ()
    databases: tuple[Database, ...] = ()
    database_clusters: tuple[DatabaseCluster, ...] = ()
    permissions: Permissions = field(default_factory=Permissions)

    def __post_init__(self) -> None:
        _check_unique("instances", (instance.id for instance in self.instances))
        _check_unique("clusters", (cluster.name for cluster in self.clusters))
        _check_unique("databases", (database.id for database in self.databases))
        _check_unique("database_clusters", (cluster.id for cluster in self.database_clusters))

    @property
    def user_arn(self) -> str:
        """The ARN of the user, as returned by STS."""
        return f"arn:aws:iam::{self.account}:user/{self.user}"

    def instance(self, instance_id: str) -> Instance | None:
        """Return the instance with this id, or None."""
        return next((instance for instance in self.instances if instance.id == instance_id), None)

    def container(self, target: str) -> tuple[Cluster, Task, Container] | None:
        """Return the container that ``target`` (``ecs:CLUSTER_TASK_RUNTIME``) names, or None."""
        return next(
            (
                (cluster, task, container)
                for cluster in self.clusters
                for task in cluster.tasks
                for container in task.containers
                if cluster.target(task, container) == target
            ),
            None,
        )

    def with_targets(self, targets: Sequence[str]) -> Inventory:
        """Return a copy with an instance for each id of ``targets`` that is missing. If the id does not have AWS's
        form, it is also the instance's name."""
        known = {instance.id for instance in self.instances}
        added = tuple(
            Instance(
                id=target,
                name="" if target.startswith(("i-", "mi-", "ecs:")) else target,
                private_ip="127.0.0.1",
                private_dns="localhost",
            )
            for target in dict.fromkeys(targets)
            if target not in known and self.container(target) is None
        )
        return dataclasses.replace(self, instances=added + self.instances)


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns (``*`` and ``?``, case-sensitive) matches the whole of ``text``."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def load_inventory(path: str | Path) -> Inventory:
    """Read an inventory from a TOML file. Raises ``InventoryError``, and ``OSError``."""
    return parse_inventory(Path(path).read_bytes())


def parse_inventory(toml: bytes) -> Inventory:
    """Parse an inventory in TOML. Raises ``InventoryError``."""
    try:
        return _build(Inventory, tomllib.loads(toml.decode()), "")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InventoryError(f"not TOML: {error}") from None


def _check_unique(table: str, ids: Iterable[str]) -> None:
    if repeated := [name for name, count in Counter(ids).items() if count > 1]:
        raise InventoryError(f"{table}: duplicate id {repeated[0]!r}")


def _build(kind: type[T], table: object, where: str) -> T:
    """Build the dataclass ``kind`` from a TOML table. ``where`` names the table in errors."""
    if not isinstance(table, dict):
        raise InventoryError(f"{where}: not a table")
    prefix = f"{where}." if where else ""
    hints = get_type_hints(kind)
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]
    names = [each.name for each in fields]
    if unknown := sorted(table.keys() - set(names)):
        raise InventoryError(f"{prefix}{unknown[0]}: unknown key; expected one of {', '.join(names)}")
    for each in fields:
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and each.name not in table:
            raise InventoryError(f"{prefix}{each.name}: missing")
    return kind(**{name: _convert(hints[name], value, f"{prefix}{name}") for name, value in table.items()})


def _convert(hint: Any, value: object, where: str) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)  # type: ignore[arg-type]
    if origin is tuple:
        if not isinstance(value, list):
            raise InventoryError(f"{where}: not a list")
        return tuple(_convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value, 1))
    if origin is Literal:
        if value not in arguments:
            raise InventoryError(f"{where}: expected one of {', '.join(map(str, arguments))}")
        return value
    if origin is Mapping:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise InventoryError(f"{where}: not a table of strings")
        return value
    kinds = arguments if isinstance(hint, UnionType) else (hint,)
    if type(value) not in kinds:  # bool is a subclass of int
        expected = {str: "a string", bool: "true or false", int: "a whole number", datetime: "a date and time"}
        raise InventoryError(f"{where}: not {expected[kinds[0]]}")
    return value
