"""The default inventory of a sandbox: a few resources of each kind."""

from __future__ import annotations

from session_manager_plugin.agent.inventory import (
    Cluster,
    Container,
    Database,
    DatabaseCluster,
    Instance,
    Inventory,
    Service,
    Task,
)

DEFAULT_INVENTORY = Inventory(
    instances=(
        Instance(
            id="i-0a1b2c3d4e5f60001",
            name="web-1",
            tags={"env": "prod", "role": "web"},
            private_ip="10.0.1.11",
            private_dns="ip-10-0-1-11.ec2.internal",
        ),
        Instance(
            id="i-0a1b2c3d4e5f60002",
            name="web-2",
            tags={"env": "prod", "role": "web"},
            private_ip="10.0.1.12",
            private_dns="ip-10-0-1-12.ec2.internal",
        ),
        Instance(
            id="i-0a1b2c3d4e5f60003",
            name="batch-1",
            tags={"env": "test", "role": "batch"},
            private_ip="10.0.2.21",
            private_dns="ip-10-0-2-21.ec2.internal",
            online=False,
        ),
        Instance(
            id="mi-0a1b2c3d4e5f60004",
            name="office",
            platform_name="Debian GNU/Linux",
            platform_version="13",
            private_ip="192.168.1.10",
        ),
    ),
    clusters=(
        Cluster(
            name="shop",
            services=(Service(name="api"),),
            tasks=(
                Task(
                    id="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
                    service="api",
                    family="api",
                    containers=(
                        Container(name="app", runtime_id="0a1b2c3d4e5f60718293a4b5c6d7e8f9-0265927825"),
                        Container(name="proxy", runtime_id="0a1b2c3d4e5f60718293a4b5c6d7e8f9-1527056392"),
                    ),
                ),
            ),
        ),
    ),
    databases=(Database(id="orders", endpoint="127.0.0.1"),),
    database_clusters=(DatabaseCluster(id="catalogue", endpoint="127.0.0.1", reader_endpoint="127.0.0.1"),),
)
"""The inventory of a sandbox that is created without one, in addition to its targets."""
