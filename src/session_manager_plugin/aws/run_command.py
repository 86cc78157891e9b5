"""The calls of Run Command, the engine of Systems Manager that runs a script on many instances."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from session_manager_plugin.aws.aws_errors import error_code
from session_manager_plugin.aws.botocore_session import CallLimits
from session_manager_plugin.aws.paging import call_service
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.threads import in_thread
from session_manager_plugin.errors import SessionManagerError

DOCUMENT = "AWS-RunShellScript"
MAX_IDS = 50
"""Instances in one call of SendCommand."""
OUTPUT_LIMIT, ERROR_OUTPUT_LIMIT = 24_000, 8_000
"""Characters of standard output and standard error that GetCommandInvocation returns."""
LIMITS = CallLimits(10.0, 20.0, 10, mode="adaptive", keeps_client=True)
CANCEL_LIMITS = CallLimits(1.5, 1.5, 1, keeps_client=True)
"""The program is about to end, and cancels many commands at once."""
_SUMMARY_LIMIT = 2_500
"""Characters of the output in ListCommandInvocations; from there on it may have been cut."""
_ERROR_OUTPUT = "----------ERROR-------"
"""Separates standard error from standard output there."""
_UNFINISHED = ("Pending", "InProgress", "Delayed", "Cancelling")
_INSTANCE_ID = re.compile(r"m?i-[0-9a-f]{8,17}")


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command on one instance."""

    instance_id: str
    status: str
    details: str
    """The status in detail: ``ExecutionTimedOut``."""
    code: int
    """The exit status of the script; -1 if there is none."""
    output: str | None
    """Standard output, when that is all the output; None if ``get_outputs`` has to be called."""

    @property
    def is_finished(self) -> bool:
        """Whether the command has ended."""
        return self.status not in _UNFINISHED


class RunCommand:
    """Sends a script to instances and follows it. All calls share a client, and with it botocore's adaptive rate.

    Every method raises ``AccessDenied``, ``ConfigurationError`` or ``ConnectError``.
    """

    def __init__(self, settings: AwsSettings) -> None:
        self._settings = settings

    async def send(
        self,
        instance_ids: Sequence[str],
        script: str,
        *,
        max_concurrency: int,
        max_errors: int | None = None,
        timeout: float | None = None,
        comment: str = "",
    ) -> str:
        """Send ``script``, lines for ``sh``, to at most ``MAX_IDS`` instances; return the command's id.

        ``max_concurrency`` instances run it at once. After more than ``max_errors`` failures it is sent to no further
        one; None is without a limit. ``timeout`` is in seconds.
        """
        parameters = {"commands": [script]}
        if timeout is not None:
            parameters["executionTimeout"] = [str(max(1, round(timeout)))]
        request: dict[str, Any] = {
            "DocumentName": DOCUMENT,
            "InstanceIds": list(instance_ids),
            "Parameters": parameters,
            "MaxConcurrency": str(max_concurrency),
            "MaxErrors": "100%" if max_errors is None else str(max_errors),
        }
        if comment:
            request["Comment"] = comment[:100]
        answer = await self._call("SendCommand", lambda client: client.send_command(**request))
        command_id: str = answer["Command"]["CommandId"]
        return command_id

    async def list_invocations(self, command_id: str) -> list[Invocation]:
        """Return the invocations of a command, one for each of its instances."""
        request: dict[str, Any] = {"CommandId": command_id, "Details": True, "MaxResults": MAX_IDS}
        found = []
        while True:
            answer = await self._call(
                "ListCommandInvocations",
                lambda client, page=dict(request): client.list_command_invocations(**page),  # type: ignore[misc]
            )
            found += [_invocation(each) for each in answer.get("CommandInvocations", [])]
            if not answer.get("NextToken"):
                return found
            request["NextToken"] = answer["NextToken"]

    async def get_outputs(self, command_id: str, instance_id: str) -> tuple[str, str]:
        """Return standard output and standard error of an invocation, each up to its limit."""
        answer = await self._call(
            "GetCommandInvocation",
            lambda client: client.get_command_invocation(CommandId=command_id, InstanceId=instance_id),
        )
        return answer.get("StandardOutputContent", ""), answer.get("StandardErrorContent", "")

    async def cancel(self, command_id: str) -> None:
        """Cancel a command on the instances where it has not ended. One attempt."""
        await self._call("CancelCommand", lambda client: client.cancel_command(CommandId=command_id), CANCEL_LIMITS)

    async def _call(self, operation: str, work: Callable[[Any], Any], limits: CallLimits = LIMITS) -> dict[str, Any]:
        def call() -> dict[str, Any]:
            answer: dict[str, Any] = call_service(self._settings, "ssm", operation, work, limits=limits)
            return answer

        return await asyncio.wrap_future(in_thread(call))


def refused_instances(error: SessionManagerError) -> set[str]:
    """Return the instances because of which SendCommand was refused, if it was because of instances."""
    cause = error.__cause__
    if not isinstance(cause, Exception) or error_code(cause) != "InvalidInstanceId":
        return set()
    return set(_INSTANCE_ID.findall(str(cause)))


def _invocation(answer: dict[str, Any]) -> Invocation:
    plugins = answer.get("CommandPlugins") or []
    plugin = plugins[0] if plugins else {}
    output = plugin.get("Output", "")
    is_whole = len(plugins) == 1 and len(output) < _SUMMARY_LIMIT and _ERROR_OUTPUT not in output
    return Invocation(
        answer["InstanceId"],
        answer["Status"],
        answer.get("StatusDetails", ""),
        plugin.get("ResponseCode", -1),
        output if is_whole else None,
    )
