"""``protocol/versions.py``: both comparisons, and every gate just below and at its version."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from session_manager_plugin import PLUGIN_VERSION
from session_manager_plugin.protocol.versions import (
    agent_compare,
    agent_supports_mux,
    agent_supports_separate_outputs,
    agent_supports_terminate_flag,
    agent_wants_keepalive,
    client_is_outdated,
    client_supports_mux,
    client_wants_keepalive,
    plugin_version_greater,
)
from tests.support.vectors import load_vectors

COMPARISONS = load_vectors("payload_json_agent.json")["version_compare"]

LIKE_VERSIONS = st.text(alphabet="0123456789.-+av", max_size=14)


# The agent's comparison.


@pytest.mark.parametrize("record", COMPARISONS, ids=lambda record: f"{record['this']} {record['other']}")
def test_the_agents_comparison_is_the_recorded_one(record: dict[str, Any]) -> None:
    assert agent_compare(record["this"], record["other"]) == record["sign"]
    assert agent_compare(record["other"], record["this"]) == -record["sign"]


@pytest.mark.parametrize(
    "ascending",
    [
        # The order that semver.org gives as its example.
        ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0"],
        ["1.2.3-4", "1.2.3-x", "1.2.3", "1.2.10-rc.1"],
        # Not semantic versions.
        ["1.0.0", "1.0.0.0", "1.0.0.1", "1.0.1"],
        ["2", "10", "10.0"],
        ["1.9", "1.10", "1.10.a", "1.10.b"],
    ],
)
def test_the_agent_orders(ascending: list[str]) -> None:
    for older, newer in pairwise(ascending):
        assert agent_compare(older, newer) == -1
        assert agent_compare(newer, older) == 1


@pytest.mark.parametrize(
    ("this", "other"), [("3.0.0+one", "3.0.0+other"), ("1.0.02", "1.0.2"), ("1.01.0.0", "1.1.0.0")]
)
def test_the_agent_finds_equal(this: str, other: str) -> None:
    assert agent_compare(this, other) == agent_compare(other, this) == 0


@given(st.text(max_size=20) | LIKE_VERSIONS, st.text(max_size=20) | LIKE_VERSIONS)
def test_the_agents_comparison_takes_any_text(this: str, other: str) -> None:
    assert agent_compare(this, other) == -agent_compare(other, this)
    assert agent_compare(this, this) == 0


# The official client's comparison.


@pytest.mark.parametrize(
    ("this", "other"),
    [
        ("3.0.0.1", "3.0.0.0"),
        ("4.0.0.0", "3.0.0.0"),
        ("3.0.100.0", "3.0.99.9"),
        ("3.0.0197.0", "3.0.196.0"),
        ("4.x.0.0", "3.0.196.0"),  # what follows the first difference is not looked at
    ],
)
def test_the_official_client_calls_greater(this: str, other: str) -> None:
    assert plugin_version_greater(this, other)
    assert not plugin_version_greater(other, this)


@pytest.mark.parametrize(
    ("this", "other"),
    [
        ("3.4.5.2", "3.4.5.2"),
        ("", "3.0.0.0"),
        ("3.0.0.0", ""),
        ("", ""),
        ("random", "random"),
        ("4.1", "3.0.0.0"),
        ("4.1.2.4.1", "3.0.0.0"),
        ("4,0.0.0", "3.0.2.0"),
        ("v4.0.0.0", "3.0.0.0"),
        ("4.0.0.0\n", "4.0.0.-1"),
        ("3.0.197-rc1.0", "3.0.196.0"),
        ("3.0.99999999999999999999.0", "3.0.196.0"),
        ("3.0.²97.0", "3.0.196.0"),
    ],
)
def test_the_official_client_calls_neither_greater(this: str, other: str) -> None:
    assert not plugin_version_greater(this, other)
    assert not plugin_version_greater(other, this)


# The client's gates.

AGENT_GATES = [
    (agent_supports_mux, "3.0.196.0", "3.0.196.1"),
    (agent_supports_mux, "2.99.1000.0", "3.0.222.0"),
    (agent_supports_terminate_flag, "2.3.722.0", "2.3.722.1"),
    (agent_supports_terminate_flag, "2.3.614.0", "2.3.756.0"),
    (lambda version: not agent_wants_keepalive(version), "3.1.1511.0", "3.1.1511.1"),
    (lambda version: not agent_wants_keepalive(version), "3.1.1446.0", "3.1.1575.0"),
]


@pytest.mark.parametrize(("gate", "closed", "opened"), AGENT_GATES)
def test_a_gate_on_the_agents_version(gate: Callable[[str], bool], closed: str, opened: str) -> None:
    assert not gate(closed)
    assert gate(opened)
    assert gate("3.3.987.0")


@pytest.mark.parametrize("version", ["3.3", "3.3.987", "3.3.987.0.1", "v3.3.987.0", "ssm 4", "", "unknown"])
def test_u22_an_unusual_version_does_not_mean_basic_forwarding(version: str) -> None:
    """U22: the reference takes any text of another form for an agent without smux, which such an agent then speaks.

    It would be back with ``return plugin_version_greater(agent_version, than)`` in ``_agent_newer``.
    """
    assert not plugin_version_greater(version, "3.0.196.0")
    assert agent_supports_mux(version)
    assert agent_supports_terminate_flag(version)
    assert not agent_wants_keepalive(version)


@pytest.mark.parametrize("version", ["3.3.987.0-rc1", "3.1.1512.dev", "3.2.x.y", "4..."])
def test_what_follows_the_first_difference_does_not_matter(version: str) -> None:
    assert agent_supports_mux(version)
    assert not agent_wants_keepalive(version)


@pytest.mark.parametrize("version", ["3.0", "3.0.196", "3.0.196.0.0", "v2.3.1", "2", "3.0.196.0-1", "1.0.0.0"])
def test_an_unusual_version_that_names_an_old_agent_is_an_old_agent(version: str) -> None:
    assert not agent_supports_mux(version)
    assert agent_wants_keepalive(version)


@given(st.text(max_size=20) | LIKE_VERSIONS)
@example("3.+2.0.0")
def test_no_agent_is_refused_what_the_official_client_grants(version: str) -> None:
    assert agent_supports_mux(version) >= plugin_version_greater(version, "3.0.196.0")
    assert agent_supports_terminate_flag(version) >= plugin_version_greater(version, "2.3.722.0")
    assert not (agent_wants_keepalive(version) and plugin_version_greater(version, "3.1.1511.0"))


def test_an_endless_number_is_no_error() -> None:
    version = "9" * 10_000
    assert agent_supports_mux(f"{version}.0.0.0")
    assert agent_supports_mux(version)
    assert agent_compare(version, "1.1.70") == 1


# The agent's gates.


@pytest.mark.parametrize(
    ("version", "mux", "keepalive", "outdated"),
    [
        ("0.0.1", False, True, True),
        ("1.1.69.0", False, True, True),
        ("1.1.70", True, True, True),
        ("1.1.70.0", True, True, True),
        ("1.2.0.0", True, True, True),
        ("1.2.295", True, True, True),
        ("1.2.295.0", True, True, False),
        ("1.2.312.0", True, True, False),
        ("1.2.331.0", True, True, False),
        ("1.2.332.0", True, False, False),
        ("2.0.0", True, False, False),
        (PLUGIN_VERSION, True, False, False),
    ],
)
def test_the_gates_on_the_clients_version(version: str, mux: bool, keepalive: bool, outdated: bool) -> None:
    assert client_supports_mux(version) == mux
    assert client_wants_keepalive(version) == keepalive
    assert client_is_outdated(version) == outdated


def test_our_version_passes_the_aws_clis_gate() -> None:
    """Above it the token comes in the environment, and there is no warning about an old plugin."""
    assert plugin_version_greater(PLUGIN_VERSION, "1.2.497.0")
    assert plugin_version_greater(PLUGIN_VERSION, "1.2.764.0")


@pytest.mark.parametrize(
    ("version", "supports"),
    [("3.1.1510.0", False), ("3.1.1511.0", True), ("3.3.0.0", True), ("2.3", False), ("next", True)],
)
def test_agents_with_separate_outputs(version: str, supports: bool) -> None:
    assert agent_supports_separate_outputs(version) is supports
