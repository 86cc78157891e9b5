"""Just-in-time access: Systems Manager's StartAccessRequest and GetAccessToken."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from session_manager_plugin.agent.api import Caller, Operation, string, strings, structures
from session_manager_plugin.agent.inventory import Inventory
from session_manager_plugin.agent.temporary_credentials import TemporaryCredentials, issue_credentials
from session_manager_plugin.errors import ApiError

MAX_TARGETS = 5
LIFETIME = 3600.0
"""Seconds for which temporary credentials are valid."""


@dataclass(slots=True)
class _Request:
    targets: frozenset[str]
    polls: int = 0


class AccessRequests:
    """Decides requests by the inventory's permissions at the time of the call. Calls ``issued`` with new credentials;
    ``now`` returns seconds since the Unix epoch."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        issued: Callable[[TemporaryCredentials], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._inventory = inventory
        self._issued = issued
        self._now = now
        self._requests: dict[str, _Request] = {}

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {"ssm:StartAccessRequest": self.start, "ssm:GetAccessToken": self.get_token}

    def start(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """StartAccessRequest. Raises ``ApiError``."""
        string(fields, "Reason")
        targets: set[str] = set()
        criteria = structures(fields, "Targets")
        if not 1 <= len(criteria) <= MAX_TARGETS:
            raise ApiError("ValidationException", f"Targets must have 1 to {MAX_TARGETS} elements")
        for each in criteria:
            targets.update(self._ids(string(each, "Key"), strings(each, "Values")))
        request_id = f"oi-{secrets.token_hex(6)}"
        self._requests[request_id] = _Request(frozenset(targets))
        return {"AccessRequestId": request_id}

    def get_token(self, fields: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """GetAccessToken. Raises ``ApiError``."""
        request_id = string(fields, "AccessRequestId")
        request = self._requests.get(request_id)
        if request is None:
            raise ApiError("ResourceNotFoundException", f"Access request {request_id} does not exist.")
        permissions = self._inventory().permissions
        request.polls += 1
        if request.polls <= permissions.pending_polls or permissions.access_request == "Pending":
            return {"AccessRequestStatus": "Pending"}
        if permissions.access_request != "Approved":
            return {"AccessRequestStatus": permissions.access_request}
        credentials = issue_credentials(Caller(caller.arn, request.targets), self._now() + LIFETIME)
        self._issued(credentials)
        return {
            "AccessRequestStatus": "Approved",
            "Credentials": {**credentials.fields, "ExpirationTime": credentials.expires_at},
        }

    def _ids(self, key: str, values: list[str]) -> list[str]:
        """Return the targets that a criterion selects. Raises ``ApiError``."""
        if key == "InstanceIds":
            return values
        if key.startswith("tag:"):
            tag = key.removeprefix("tag:")
            return [each.id for each in self._inventory().instances if each.all_tags.get(tag) in values]
        raise ApiError("ValidationException", f"{key} is not a target key; use InstanceIds or tag:KEY")
