"""The inventory: what its TOML may say, and what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from session_manager_plugin.agent.default_inventory import DEFAULT_INVENTORY
from session_manager_plugin.agent.inventory import (
    Instance,
    Inventory,
    InventoryError,
    Permissions,
    load_inventory,
    parse_inventory,
)
from tools.docs import ROOT

EVERYTHING = b"""
account = "999988887777"
user = "bob"

[[instances]]
id = "i-0123456789abcdef0"
name = "web-1"
tags = { env = "prod" }
private_ip = "10.0.0.1"
agent_version = "3.1.0.0"
online = false
last_ping = 2026-01-02T03:04:05Z
documents = ["AWS-Start*"]
denied_documents = ["AWS-StartSSHSession"]

[[clusters]]
name = "shop"
[[clusters.services]]
name = "api"
[[clusters.tasks]]
id = "abc"
service = "api"
[[clusters.tasks.containers]]
name = "app"
runtime_id = "abc-1"

[[databases]]
id = "orders"
endpoint = "db.example"
[[database_clusters]]
id = "catalogue"
endpoint = "writer.example"

[permissions]
denied = ["ecs:*"]
"""


def test_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "account.toml"
    path.write_bytes(EVERYTHING)
    inventory = load_inventory(path)
    assert inventory.user_arn == "arn:aws:iam::999988887777:user/bob"
    (instance,) = inventory.instances
    assert instance.all_tags == {"Name": "web-1", "env": "prod"}
    assert instance.last_ping_at(datetime.now(UTC)) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert not instance.is_connected
    found = inventory.container("ecs:shop_abc_abc-1")
    assert found is not None
    assert found[2].name == "app"
    assert inventory.databases[0].port == 5432
    assert not inventory.permissions.allows("ecs:ListTasks")
    assert inventory.permissions.allows("ssm:StartSession")


def test_the_documented_file() -> None:
    page = (ROOT / "docs" / "sandbox.md").read_text()
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    inventory = parse_inventory(toml.encode())
    assert inventory.databases[0].cluster == inventory.database_clusters[0].id
    for kind in (Instance, Permissions, Inventory):
        for each in fields(kind):
            assert re.search(rf"^\[*{each.name}\b", toml, re.MULTILINE), f"{each.name} is not in the example"


@pytest.mark.parametrize(
    ("toml", "reason"),
    [
        (b"x", "not TOML"),
        (b"\xff", "not TOML"),
        (b"instance = []", "instance: unknown key"),
        (b"instances = 3", "instances: not a list"),
        (b"instances = [3]", r"instances\[1\]: not a table"),
        (b"[[instances]]\nid = 'a'\n[[instances]]\nname = 'b'", r"instances\[2\]\.id: missing"),
        (b"[[instances]]\nid = 7", r"instances\[1\]\.id: not a string"),
        (b"[[instances]]\nid = 'a'\nonline = 1", r"instances\[1\]\.online: not true or false"),
        (b"[[instances]]\nid = 'a'\nplatform = 'BSD'", "expected one of Linux, Windows, MacOS"),
        (b"[[instances]]\nid = 'a'\nlast_ping = 'today'", "not a date and time"),
        (b"[[instances]]\nid = 'a'\ntags = { a = 1 }", "not a table of strings"),
        (b"[[databases]]\nid = 'a'\nendpoint = 'b'\nport = true", "port: not a whole number"),
        (b"[[instances]]\nid = 'a'\n[[instances]]\nid = 'a'", "instances: duplicate id 'a'"),
    ],
)
def test_faults_are_named_with_their_place(toml: bytes, reason: str) -> None:
    with pytest.raises(InventoryError, match=reason):
        parse_inventory(toml)


def test_targets_are_added_once() -> None:
    inventory = Inventory(instances=(Instance(id="i-1"),)).with_targets(["local", "i-1", "mi-2", "local"])
    assert [(each.id, each.name) for each in inventory.instances] == [("local", "local"), ("mi-2", ""), ("i-1", "")]


def test_an_instance_that_is_offline_was_last_heard_of_before_now() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    assert Instance(id="a").last_ping_at(now) == now
    assert Instance(id="a", online=False).last_ping_at(now) == now - timedelta(hours=1)
    assert Instance(id="a", last_ping=datetime(2026, 1, 1)).last_ping_at(now) == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("change", [{"online": False}, {"managed": False}, {"state": "stopped"}])
def test_only_a_running_managed_instance_is_connected(change: dict[str, bool]) -> None:
    assert Instance(id="a").is_connected
    assert not Instance(id="a", **change).is_connected  # type: ignore[arg-type]


def test_the_default_inventory_has_something_of_everything() -> None:
    assert any(not instance.is_connected for instance in DEFAULT_INVENTORY.instances)
    assert any(not instance.is_ec2 for instance in DEFAULT_INVENTORY.instances)
    assert DEFAULT_INVENTORY.clusters
    assert DEFAULT_INVENTORY.databases
    assert DEFAULT_INVENTORY.database_clusters
