"""STS's GetCallerIdentity and AssumeRole."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from session_manager_plugin.agent.api import Caller, Operation, string
from session_manager_plugin.agent.inventory import Inventory
from session_manager_plugin.agent.temporary_credentials import TemporaryCredentials, issue_credentials
from session_manager_plugin.errors import ApiError

WRONG_CODE = "000000"
"""The MFA code that is refused; any other one of six digits is accepted."""
_ROLE_ARN = re.compile(r"arn:aws:iam::(?P<account>[0-9]{12}):role/(?:[^/]+/)*(?P<name>[^/]+)")
_DURATION = "3600"
"""Seconds for which the credentials of a role are valid, unless the request says otherwise."""


class Identity:
    """Answers for the sandbox's user and for temporary credentials. Any role may be assumed, also with an MFA code.
    Calls ``issued`` with new credentials; ``now`` returns seconds since the Unix epoch."""

    def __init__(
        self,
        inventory: Callable[[], Inventory],
        issued: Callable[[TemporaryCredentials], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._inventory = inventory
        self._issued = issued
        self._now = now

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {"sts:GetCallerIdentity": self.get_caller_identity, "sts:AssumeRole": self.assume_role}

    def get_caller_identity(self, _fields: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """GetCallerIdentity."""
        return {"Arn": caller.arn, "UserId": "AIDASANDBOXSANDBOX", "Account": self._inventory().account}

    def assume_role(self, fields: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """AssumeRole. Raises ``ApiError``."""
        role_arn, session_name = string(fields, "RoleArn"), string(fields, "RoleSessionName")
        role = _ROLE_ARN.fullmatch(role_arn)
        if role is None:
            raise ApiError("ValidationError", f"{role_arn} is invalid")
        if "SerialNumber" in fields:
            code = string(fields, "TokenCode")
            if re.fullmatch(r"[0-9]{6}", code) is None or code == WRONG_CODE:
                raise ApiError("AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code. ")
        arn = f"arn:aws:sts::{role['account']}:assumed-role/{role['name']}/{session_name}"
        duration = fields.get("DurationSeconds", _DURATION)
        if not str(duration).isdecimal():
            raise ApiError("ValidationError", "DurationSeconds is no number")
        credentials = issue_credentials(Caller(arn, caller.targets), self._now() + int(duration))
        self._issued(credentials)
        expiration = datetime.fromtimestamp(credentials.expires_at, UTC).isoformat()
        return {
            "AssumedRoleUser": {"Arn": arn, "AssumedRoleId": f"AROASANDBOXSANDBOX:{session_name}"},
            "Credentials": {**credentials.fields, "Expiration": expiration},
        }
