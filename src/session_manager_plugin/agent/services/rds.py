"""RDS's DescribeDBInstances and DescribeDBClusters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from session_manager_plugin.agent.api import Caller, Operation
from session_manager_plugin.agent.inventory import Database, DatabaseCluster, Inventory
from session_manager_plugin.agent.query_protocol import numbered, numbered_strings
from session_manager_plugin.agent.services.pages import page
from session_manager_plugin.errors import ApiError

T = TypeVar("T")

_INSTANCE_FACTS: dict[str, Callable[[Database], str]] = {
    "db-instance-id": lambda database: database.id,
    "db-cluster-id": lambda database: database.cluster,
    "engine": lambda database: database.engine,
}
_CLUSTER_FACTS: dict[str, Callable[[DatabaseCluster], str]] = {
    "db-cluster-id": lambda cluster: cluster.id,
    "engine": lambda cluster: cluster.engine,
}


class Rds:
    """Answers for the databases of the inventory."""

    def __init__(self, inventory: Callable[[], Inventory], region: str) -> None:
        self._inventory = inventory
        self._region = region

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {
            "rds:DescribeDBInstances": self.describe_instances,
            "rds:DescribeDBClusters": self.describe_clusters,
        }

    def describe_instances(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """DescribeDBInstances. Raises ``ApiError``."""
        found: Sequence[Database] = self._inventory().databases
        if wanted := str(fields.get("DBInstanceIdentifier", "")).lower():
            found = [database for database in found if database.id.lower() == wanted]
            if not found:
                raise ApiError("DBInstanceNotFound", f"DBInstance {wanted} not found.")
        items, marker = _page(_filtered(found, _INSTANCE_FACTS, fields), fields)
        descriptions = [
            {
                "DBInstanceIdentifier": database.id,
                "DBInstanceArn": self._arn(f"db:{database.id}"),
                "DBClusterIdentifier": database.cluster or None,
                "DBInstanceStatus": "available",
                "Engine": database.engine,
                "Endpoint": {"Address": database.endpoint, "Port": database.port},
            }
            for database in items
        ]
        return {"DBInstances": {"DBInstance": descriptions}, "Marker": marker}

    def describe_clusters(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """DescribeDBClusters. Raises ``ApiError``."""
        inventory = self._inventory()
        found: Sequence[DatabaseCluster] = inventory.database_clusters
        if wanted := str(fields.get("DBClusterIdentifier", "")).lower():
            found = [cluster for cluster in found if cluster.id.lower() == wanted]
            if not found:
                raise ApiError("DBClusterNotFoundFault", f"DBCluster {wanted} not found.")
        items, marker = _page(_filtered(found, _CLUSTER_FACTS, fields), fields)
        descriptions = [
            {
                "DBClusterIdentifier": cluster.id,
                "DBClusterArn": self._arn(f"cluster:{cluster.id}"),
                "Status": "available",
                "Engine": cluster.engine,
                "Endpoint": cluster.endpoint,
                "ReaderEndpoint": cluster.reader_endpoint or None,
                "Port": cluster.port,
                "DBClusterMembers": {
                    "DBClusterMember": [
                        {"DBInstanceIdentifier": database.id}
                        for database in inventory.databases
                        if database.cluster == cluster.id
                    ]
                },
            }
            for cluster in items
        ]
        return {"DBClusters": {"DBCluster": descriptions}, "Marker": marker}

    def _arn(self, resource: str) -> str:
        return f"arn:aws:rds:{self._region}:{self._inventory().account}:{resource}"


def _filtered(items: Sequence[T], facts: dict[str, Callable[[T], str]], fields: dict[str, Any]) -> Sequence[T]:
    """Return the items that pass every filter of a request. Raises ``ApiError``."""
    filters = fields.get("Filters")
    for each in numbered(filters.get("Filter") if isinstance(filters, dict) else None):
        name, values = str(each.get("Name", "")), each.get("Values")
        wanted = numbered_strings(values.get("Value") if isinstance(values, dict) else None)
        if name not in facts:
            raise ApiError("InvalidParameterValue", f"Unrecognized filter name: {name}")
        items = [item for item in items if facts[name](item) in wanted]
    return items


def _page(items: Sequence[T], fields: dict[str, Any]) -> tuple[Sequence[T], str | None]:
    return page(
        items,
        fields.get("Marker"),
        fields.get("MaxRecords"),
        least=20,
        most=100,
        invalid_size="InvalidParameterValue",
        invalid_token="InvalidParameterValue",
    )
