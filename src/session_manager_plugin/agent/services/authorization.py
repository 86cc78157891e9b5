"""Checking the caller's permissions, and the refusals in AWS's words.

The texts are those of IAM (User Guide, "Troubleshoot access denied error messages"): principal, action, resource and
the kind of policy that does not allow it.
"""

from __future__ import annotations

from collections.abc import Callable

from session_manager_plugin.agent.api import Caller
from session_manager_plugin.agent.documents import ECS_EXEC_DOCUMENT
from session_manager_plugin.agent.inventory import Instance, Inventory, matches
from session_manager_plugin.errors import ApiError

_CODES = {"ec2": "UnauthorizedOperation", "rds": "AccessDenied", "sts": "AccessDenied"}
_JUST_IN_TIME_ACTIONS = ("ssm:StartSession", "ssm:ResumeSession", "ssm:TerminateSession", "kms:*")
"""The actions that temporary credentials of just-in-time access allow."""
_UNCONDITIONAL = "sts:GetCallerIdentity"
"""The action that no policy can deny."""


class Authorization:
    """Checks actions against the inventory's permissions."""

    def __init__(self, inventory: Callable[[], Inventory], region: str) -> None:
        self._inventory = inventory
        self._region = region

    def check(self, caller: Caller, action: str) -> None:
        """Raise ``ApiError`` if ``caller`` may not call ``action`` at all."""
        if action == _UNCONDITIONAL:
            return
        allowed = self._inventory().permissions.allows(action)
        if caller.targets is not None:
            allowed = allowed and matches(action, _JUST_IN_TIME_ACTIONS)
        if not allowed:
            raise denial(caller, action, self._arn(action.partition(":")[0], "*"))

    def check_start(self, caller: Caller, target: str, document: str) -> None:
        """Raise ``ApiError`` if ``caller`` may not start a session with ``target``, or not with ``document``, which is
        empty if the request names none."""
        inventory = self._inventory()
        instance = inventory.instance(target)
        if caller.targets is not None:
            if target not in caller.targets:
                raise denial(caller, "ssm:StartSession", self._target_arn(target))
        elif instance is not None and instance.request_access:
            # AWS publishes no text for this; the second sentence is the sandbox's own.
            text = str(denial(caller, "ssm:StartSession", self._target_arn(target)))
            raise ApiError("AccessDeniedException", f"{text}. Access must be requested (StartAccessRequest).")
        if document not in ("", ECS_EXEC_DOCUMENT) and not _allows_document(inventory, instance, document):
            owner = "" if document.startswith("AWS-") else inventory.account
            resource = f"arn:aws:ssm:{self._region}:{owner}:document/{document}"
            raise denial(caller, "ssm:StartSession", resource)

    def _target_arn(self, target: str) -> str:
        if target.startswith("mi-"):
            return self._arn("ssm", f"managed-instance/{target}")
        if target.startswith("ecs:"):
            # The cluster may contain underscores; the task's and the container's runtime id do not.
            cluster, _, task = target.removeprefix("ecs:").rpartition("_")[0].rpartition("_")
            return self._arn("ecs", f"task/{cluster}/{task}")
        return self._arn("ec2", f"instance/{target}")

    def _arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self._region}:{self._inventory().account}:{resource}"


def denial(caller: Caller, action: str, resource: str) -> ApiError:
    """Return the refusal of ``action``, in the words of its service."""
    service = action.partition(":")[0]
    reason = f"because no identity-based policy allows the {action} action"
    if service == "ec2":
        text = f"You are not authorized to perform this operation. User: {caller.arn} is not authorized to perform: "
        return ApiError(_CODES[service], f"{text}{action} {reason}")
    text = f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource} {reason}"
    return ApiError(_CODES.get(service, "AccessDeniedException"), text)


def _allows_document(inventory: Inventory, instance: Instance | None, document: str) -> bool:
    if matches(document, inventory.permissions.denied_documents):
        return False
    if instance is None:
        return True
    return matches(document, instance.documents) and not matches(document, instance.denied_documents)
