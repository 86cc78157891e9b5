"""Version gates: features that one end uses depending on the version in the other end's handshake message.

Each end decides from the other's version alone, and does not announce its choice. The agent compares versions with
``agent_compare``, the official client with ``plugin_version_greater``. The latter returns False for an unexpected
format; the official client then uses basic forwarding while the agent uses smux (reference defect U22).

Our client compares like the official one. For an unexpected format it compares the first dotted number in the text,
with missing parts as 0 ("3.3", "v3.2.1-rc1"). A text without a number counts as newer than every gate: all versions
older than the gates have the regular format, so an irregular one is from a later build, and such an agent chooses smux
for our version.
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final

MUX_AFTER: Final = "3.0.196.0"
KEEPALIVE_UP_TO: Final = "3.1.1511.0"
TERMINATE_FLAG_AFTER: Final = "2.3.722.0"
SEPARATE_OUTPUTS_FROM: Final = "3.1.1511.0"
CLIENT_MUX_FROM: Final = "1.1.70"
CLIENT_KEEPALIVE_UP_TO: Final = "1.2.331.0"
CLIENT_OUTDATED_UP_TO: Final = "1.2.295"

# Both official ends parse numbers of up to 64 bits.
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_DOTTED_NUMBER: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})*")
_SEMANTIC: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})(?:-([0-9A-Za-z.-]*))?(?:\+[0-9A-Za-z.-]*)?")


# Decisions of the client.


def agent_supports_mux(agent_version: str) -> bool:
    """Return whether LocalPortForwarding uses smux with this agent rather than basic forwarding."""
    return _agent_newer(agent_version, MUX_AFTER)


def agent_wants_keepalive(agent_version: str) -> bool:
    """Return whether this agent ends a silent smux session. Newer agents rely on the service's idle timeout."""
    return not _agent_newer(agent_version, KEEPALIVE_UP_TO)


def agent_supports_terminate_flag(agent_version: str) -> bool:
    """Return whether this agent ends a basic port session on the flag TerminateSession. With smux every agent does."""
    return _agent_newer(agent_version, TERMINATE_FLAG_AFTER)


def agent_supports_separate_outputs(agent_version: str) -> bool:
    """Return whether this agent can keep the two outputs of a command apart, and sends its exit status."""
    return agent_version == SEPARATE_OUTPUTS_FROM or _agent_newer(agent_version, SEPARATE_OUTPUTS_FROM)


def plugin_version_greater(this: str, other: str) -> bool:
    """Return whether ``this`` is newer, as the official client compares (``src/version/versionutil.go``).

    Also returns False if the texts have different numbers of parts between dots, or a part up to the first difference
    is not a decimal integer.
    """
    these, others = this.split("."), other.split(".")
    if len(these) != len(others):
        return False
    for left, right in zip(these, others, strict=True):
        if not (_INTEGER.fullmatch(left) and _INTEGER.fullmatch(right)):
            return False
        if int(left) != int(right):
            return int(left) > int(right)
    return False


def _agent_newer(agent_version: str, than: str) -> bool:
    if plugin_version_greater(agent_version, than):
        return True
    number = _DOTTED_NUMBER.search(agent_version)
    if number is None:
        return True
    pairs = zip_longest(number[0].split("."), than.split("."), fillvalue="0")
    return next((int(left) > int(right) for left, right in pairs if int(left) != int(right)), False)


# Decisions of the agent.


def client_supports_mux(client_version: str) -> bool:
    """Return whether the agent uses smux for LocalPortForwarding rather than basic forwarding."""
    return agent_compare(client_version, CLIENT_MUX_FROM) >= 0


def client_wants_keepalive(client_version: str) -> bool:
    """Return whether the agent's smux keepalive is on. It ends a session in which the client sends nothing."""
    return agent_compare(client_version, CLIENT_KEEPALIVE_UP_TO) <= 0


def client_is_outdated(client_version: str) -> bool:
    """Return whether the agent asks the user to update the client."""
    return agent_compare(client_version, CLIENT_OUTDATED_UP_TO) <= 0


def agent_compare(this: str, other: str) -> int:
    """Return -1, 0 or 1 if ``this`` is older than ``other``, equal or newer, as the agent compares
    (``agent/versionutil``).

    Two semantic versions (three numbers, optionally a pre-release) are compared by the rules of semver.org. Others are
    compared part by part: two numbers as numbers, otherwise as text. If one is a prefix of the other, the shorter is
    older.
    """
    semantic = _SEMANTIC.fullmatch(this), _SEMANTIC.fullmatch(other)
    if semantic[0] and semantic[1]:
        left_key, right_key = _precedence(semantic[0]), _precedence(semantic[1])
        return (left_key > right_key) - (left_key < right_key)
    these, others = this.split("."), other.split(".")
    for left, right in zip(these, others, strict=False):
        if _INTEGER.fullmatch(left) and _INTEGER.fullmatch(right):
            order = (int(left) > int(right)) - (int(left) < int(right))
        else:
            order = (left > right) - (left < right)
        if order:
            return order
    return (len(these) > len(others)) - (len(these) < len(others))


def _precedence(version: re.Match[str]) -> tuple[object, ...]:
    """Return a sort key for the order of semver.org: a pre-release before its release, numbers before words."""
    *numbers, prerelease = version.groups()
    identifiers = [
        (0, int(part), "") if _INTEGER.fullmatch(part) else (1, 0, part) for part in (prerelease or "").split(".")
    ]
    return ([int(number) for number in numbers], not prerelease, identifiers)
