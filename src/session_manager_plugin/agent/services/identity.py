"""STS's GetCallerIdentity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from session_manager_plugin.agent.api import Caller, Operation
from session_manager_plugin.agent.inventory import Inventory


class Identity:
    """Answers for the sandbox's user and for temporary credentials."""

    def __init__(self, inventory: Callable[[], Inventory]) -> None:
        self._inventory = inventory

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {"sts:GetCallerIdentity": self.get_caller_identity}

    def get_caller_identity(self, _fields: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """GetCallerIdentity."""
        return {"Arn": caller.arn, "UserId": "AIDASANDBOXSANDBOX", "Account": self._inventory().account}
