"""From the name of an RDS database to its endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from session_manager_plugin.aws.aws_errors import error_code
from session_manager_plugin.aws.paging import call_service
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.threads import in_thread
from session_manager_plugin.errors import ConnectError, SessionManagerError


async def resolve_database(settings: AwsSettings, name: str) -> tuple[str, int]:
    """Return host and port of the RDS instance ``name``, or else of the cluster of that name (its writer).

    Raises ``ConnectError`` if there is neither, or it has no endpoint yet, and the exceptions of ``aws_failure``.
    """
    return await asyncio.wrap_future(in_thread(lambda: _resolve(settings, name)))


def _resolve(settings: AwsSettings, name: str) -> tuple[str, int]:
    instance = _describe(
        settings,
        "DescribeDBInstances",
        "DBInstanceNotFound",
        lambda client: client.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"],
    )
    if instance is not None:
        endpoint = instance.get("Endpoint") or {}
        return _endpoint(name, instance.get("DBInstanceStatus"), endpoint.get("Address"), endpoint.get("Port"))
    cluster = _describe(
        settings,
        "DescribeDBClusters",
        "DBClusterNotFoundFault",
        lambda client: client.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"],
    )
    if cluster is not None:
        return _endpoint(name, cluster.get("Status"), cluster.get("Endpoint"), cluster.get("Port"))
    raise ConnectError(f"there is no RDS instance or cluster {name}; check the name, --region and --profile")


def _describe(
    settings: AwsSettings, operation: str, not_found: str, describe: Callable[[Any], list[Mapping[str, Any]]]
) -> Mapping[str, Any] | None:
    """Return the only description; None if there is no such database."""
    try:
        found: list[Mapping[str, Any]] = call_service(settings, "rds", operation, describe)
    except SessionManagerError as error:
        if isinstance(error.__cause__, Exception) and error_code(error.__cause__) == not_found:
            return None
        raise
    return found[0] if found else None


def _endpoint(name: str, status: object, host: object, port: object) -> tuple[str, int]:
    if not host or not port:
        raise ConnectError(f"the database {name} has no endpoint; its status is {status}")
    return str(host), int(str(port))
