"""Version gates: what one end does depending on the version that the other announced in the handshake.

Both ends decide by themselves, from the other's version alone, and never say what they chose. The agent compares in
one way (``agent_compare``), the official client in another (``plugin_version_greater``), which gives up on a text it
does not expect: it then falls back to basic forwarding with an agent that speaks smux (reference defect U22).

Our client compares as the official one does, and where that gives up by the first dotted number in the text, parts
that are missing counted as 0 ("3.3", "v3.2.1-rc1"). A text without a number counts as newer than every gate. The
versions from before the gates are all of the regular form, so an irregular one is of a later build, and smux is what
such an agent chooses for our version.
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

# Neither end parses a number of more digits than fit into 64 bits.
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_DOTTED_NUMBER: Final = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})*")
_SEMANTIC: Final = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})(?:-([0-9A-Za-z.-]*))?(?:\+[0-9A-Za-z.-]*)?")


# The client, about the agent.


def agent_supports_mux(agent_version: str) -> bool:
    """Return whether LocalPortForwarding uses smux with this agent, not basic forwarding."""
    return _agent_newer(agent_version, MUX_AFTER)


def agent_wants_keepalive(agent_version: str) -> bool:
    """Return whether this agent ends a silent smux session; newer ones leave that to the service's idle timeout."""
    return not _agent_newer(agent_version, KEEPALIVE_UP_TO)


def agent_supports_terminate_flag(agent_version: str) -> bool:
    """Return whether this agent ends a basic port session on the TerminateSession flag; with smux it is always sent."""
    return _agent_newer(agent_version, TERMINATE_FLAG_AFTER)


def agent_supports_separate_outputs(agent_version: str) -> bool:
    """Return whether this agent can keep the two outputs of a command apart, and sends its exit status."""
    return agent_version == SEPARATE_OUTPUTS_FROM or _agent_newer(agent_version, SEPARATE_OUTPUTS_FROM)


def plugin_version_greater(this: str, other: str) -> bool:
    """Return whether ``this`` is newer, as the official client compares (``src/version/versionutil.go``).

    False when it gives up: the texts have not equally many parts between dots, or a part is not a decimal integer
    (parts after the first difference are not looked at).
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


# The agent, about the client.


def client_supports_mux(client_version: str) -> bool:
    """Return whether the agent uses smux for LocalPortForwarding, not basic forwarding."""
    return agent_compare(client_version, CLIENT_MUX_FROM) >= 0


def client_wants_keepalive(client_version: str) -> bool:
    """Return whether the agent's smux keep-alive is on: it ends a session in which the client sends nothing."""
    return agent_compare(client_version, CLIENT_KEEPALIVE_UP_TO) <= 0


def client_is_outdated(client_version: str) -> bool:
    """Return whether the agent asks the user to update the client."""
    return agent_compare(client_version, CLIENT_OUTDATED_UP_TO) <= 0


def agent_compare(this: str, other: str) -> int:
    """Return -1, 0 or 1: ``this`` is older than ``other``, equal, newer, as the agent compares (``agent/versionutil``).

    Two semantic versions (three numbers, perhaps a pre-release) by the rules of semver.org. Else part by part: as
    numbers when both are, else as text; if equal so far, the one with more parts is the newer.
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
