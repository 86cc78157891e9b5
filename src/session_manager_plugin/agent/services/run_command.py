"""Systems Manager's Run Command: SendCommand, ListCommandInvocations, GetCommandInvocation and CancelCommand.

The only document is AWS-RunShellScript. As in AWS, at most ``MaxConcurrency`` instances run a command at a time, and
after more than ``MaxErrors`` failures it is not sent to further instances.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from session_manager_plugin.agent.api import Caller, Operation, optional_string, string, strings, structures
from session_manager_plugin.agent.inventory import Inventory
from session_manager_plugin.agent.scripts import run_script
from session_manager_plugin.agent.services.pages import page
from session_manager_plugin.errors import ApiError

DOCUMENT = "AWS-RunShellScript"
MAX_IDS = 50
MAX_PAGE_SIZE = 50
MAX_DETAILS_LENGTH = 2_500
"""Characters of output in ListCommandInvocations."""

_PLUGIN = "aws:runShellScript"
_DEFAULT_TIMEOUT = 3600.0
_UNFINISHED = ("Pending", "InProgress", "Cancelling")


@dataclass(slots=True)
class _Invocation:
    """A command on one instance."""

    instance_id: str
    instance_name: str
    status: str = "Pending"
    details: str = "Pending"
    response_code: int = -1
    stdout: str = ""
    stderr: str = ""
    task: asyncio.Task[None] | None = None

    def finish(self, status: str, details: str = "") -> None:
        self.status, self.details = status, details or status


@dataclass(slots=True)
class _Command:
    """A command on all its instances."""

    id: str
    comment: str
    script: str
    directory: str
    timeout: float
    max_errors: int
    requested_at: float
    invocations: dict[str, _Invocation]
    free: asyncio.Semaphore
    errors: int = 0
    stopped: bool = False


class RunCommand:
    """Runs the commands on this machine. Await ``close`` at the end."""

    def __init__(self, inventory: Callable[[], Inventory], region: str) -> None:
        self._inventory = inventory
        self._region = region
        self._commands: dict[str, _Command] = {}

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {
            "ssm:SendCommand": self.send,
            "ssm:ListCommandInvocations": self.list_invocations,
            "ssm:GetCommandInvocation": self.get_invocation,
            "ssm:CancelCommand": self.cancel,
        }

    async def close(self) -> None:
        """End every command. Returns when none of their processes is left."""
        tasks = [each.task for command in self._commands.values() for each in command.invocations.values() if each.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def send(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """SendCommand. Raises ``ApiError``."""
        document = string(fields, "DocumentName").rpartition("document/")[2]
        if document != DOCUMENT:
            raise ApiError("InvalidDocument", f"The sandbox has only the document {DOCUMENT}.")
        parameters = fields.get("Parameters") or {}
        if not isinstance(parameters, dict) or not strings(parameters, "commands"):
            raise ApiError("InvalidParameters", "The parameter commands is required.")
        instance_ids = self._select(strings(fields, "InstanceIds"), structures(fields, "Targets"))
        count = len(instance_ids)
        names = {instance.id: instance.name for instance in self._inventory().instances}
        command = _Command(
            str(uuid.uuid4()),
            optional_string(fields, "Comment"),
            "\n".join(strings(parameters, "commands")),
            _first(parameters, "workingDirectory"),
            _seconds(_first(parameters, "executionTimeout")),
            _share(optional_string(fields, "MaxErrors") or "0", count),
            time.time(),
            {each: _Invocation(each, names[each]) for each in instance_ids},
            asyncio.Semaphore(max(1, _share(optional_string(fields, "MaxConcurrency") or "50", count))),
        )
        self._commands[command.id] = command
        for invocation in command.invocations.values():
            invocation.task = asyncio.create_task(self._run(command, invocation))
        return {"Command": self._description(command)}

    def list_invocations(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """ListCommandInvocations. Raises ``ApiError``."""
        command_id, instance_id = optional_string(fields, "CommandId"), optional_string(fields, "InstanceId")
        commands = [self._command(command_id)] if command_id else list(self._commands.values())
        filters = [(string(each, "key"), string(each, "value")) for each in structures(fields, "Filters")]
        if unknown := [key for key, _ in filters if key != "Status"]:
            raise ApiError("InvalidFilterKey", f"The filter key {unknown[0]} is not valid.")
        found = [
            (command, invocation)
            for command in commands
            for invocation in command.invocations.values()
            if (not instance_id or invocation.instance_id == instance_id)
            and all(invocation.status == value for _, value in filters)
        ]
        items, token = page(found, fields.get("NextToken"), fields.get("MaxResults"), least=1, most=MAX_PAGE_SIZE)
        details = fields.get("Details") is True
        answer: dict[str, Any] = {"CommandInvocations": [_summary(*each, details=details) for each in items]}
        return answer if token is None else {**answer, "NextToken": token}

    def get_invocation(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """GetCommandInvocation. Raises ``ApiError``."""
        command = self._command(string(fields, "CommandId"))
        invocation = command.invocations.get(string(fields, "InstanceId"))
        if invocation is None:
            raise ApiError("InvocationDoesNotExist", "")
        return {
            "CommandId": command.id,
            "InstanceId": invocation.instance_id,
            "Comment": command.comment,
            "DocumentName": DOCUMENT,
            "PluginName": _PLUGIN,
            "ResponseCode": invocation.response_code,
            "Status": invocation.status,
            "StatusDetails": invocation.details,
            "StandardOutputContent": invocation.stdout,
            "StandardErrorContent": invocation.stderr,
        }

    def cancel(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """CancelCommand, for all instances or for some. Raises ``ApiError``."""
        command = self._command(string(fields, "CommandId"))
        wanted = strings(fields, "InstanceIds") or list(command.invocations)
        for invocation in (command.invocations[each] for each in wanted if each in command.invocations):
            if invocation.status in _UNFINISHED and invocation.task is not None:
                # A task that has not begun does not run when it is cancelled.
                invocation.finish("Cancelled" if invocation.status == "Pending" else "Cancelling")
                invocation.task.cancel()
        return {}

    async def _run(self, command: _Command, invocation: _Invocation) -> None:
        try:
            async with command.free:
                if command.stopped:
                    invocation.finish("Cancelled", "Terminated")
                    return
                invocation.finish("InProgress")
                environment = {"AWS_SSM_INSTANCE_ID": invocation.instance_id, "AWS_SSM_REGION_NAME": self._region}
                result = await run_script(command.script, command.directory, environment, command.timeout)
        except asyncio.CancelledError:
            invocation.finish("Cancelled")
            return
        except OSError as error:
            invocation.stderr = str(error)
            invocation.finish("Failed")
        else:
            invocation.stdout, invocation.stderr = result.stdout, result.stderr
            if result.status is None:
                invocation.finish("TimedOut", "ExecutionTimedOut")
            else:
                invocation.response_code = result.status
                invocation.finish("Failed" if result.status else "Success")
        if invocation.status != "Success":
            command.errors += 1
            command.stopped = command.errors > command.max_errors

    def _command(self, command_id: str) -> _Command:
        try:
            return self._commands[command_id]
        except KeyError:
            raise ApiError("InvalidCommandId", f"Command {command_id} does not exist.") from None

    def _select(self, ids: Sequence[str], criteria: Sequence[dict[str, Any]]) -> list[str]:
        """Return the ids of the instances to run a command on. Raises ``ApiError``."""
        connected = {instance.id: instance for instance in self._inventory().instances if instance.is_connected}
        if len(ids) > MAX_IDS or bool(ids) == bool(criteria):
            raise ApiError("ValidationException", f"InstanceIds, at most {MAX_IDS}, or Targets is required")
        if len(set(ids)) < len(ids):
            raise ApiError("DuplicateInstanceId", "")
        if unknown := [each for each in ids if each not in connected]:
            account = self._inventory().account
            text = f"Instances [[{', '.join(unknown)}]] not in a valid state for account {account}"
            raise ApiError("InvalidInstanceId", text)
        selected = list(ids or connected)
        for each in criteria:
            key, values = string(each, "Key"), strings(each, "Values")
            if key == "InstanceIds":
                selected = [found for found in selected if found in values]
            elif key.startswith("tag:"):
                tag = key.removeprefix("tag:")
                selected = [found for found in selected if connected[found].all_tags.get(tag) in values]
            else:
                raise ApiError("ValidationException", f"{key} is not a target key; use InstanceIds or tag:KEY")
        return selected

    def _description(self, command: _Command) -> dict[str, Any]:
        return {
            "CommandId": command.id,
            "DocumentName": DOCUMENT,
            "Comment": command.comment,
            "RequestedDateTime": command.requested_at,
            "InstanceIds": list(command.invocations)[:MAX_IDS],
            "Status": "Pending",
            "StatusDetails": "Pending",
            "TargetCount": len(command.invocations),
            "CompletedCount": 0,
            "ErrorCount": 0,
        }


def _summary(command: _Command, invocation: _Invocation, *, details: bool) -> dict[str, Any]:
    output = (
        f"{invocation.stdout}\n----------ERROR-------\n{invocation.stderr}" if invocation.stderr else invocation.stdout
    )
    plugin = {
        "Name": _PLUGIN,
        "Status": invocation.status,
        "StatusDetails": invocation.details,
        "ResponseCode": invocation.response_code,
        "Output": output[:MAX_DETAILS_LENGTH],
    }
    return {
        "CommandId": command.id,
        "InstanceId": invocation.instance_id,
        "InstanceName": invocation.instance_name,
        "Comment": command.comment,
        "DocumentName": DOCUMENT,
        "RequestedDateTime": command.requested_at,
        "Status": invocation.status,
        "StatusDetails": invocation.details,
        "CommandPlugins": [plugin] if details else [],
    }


def _first(parameters: dict[str, Any], name: str) -> str:
    return next(iter(strings(parameters, name)), "")


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() else _DEFAULT_TIMEOUT


def _share(text: str, count: int) -> int:
    """``MaxConcurrency`` or ``MaxErrors``: a number, or a percentage of all instances. Raises ``ApiError``."""
    number = text.removesuffix("%")
    if not number.isdecimal():
        raise ApiError("ValidationException", f"{text} is neither a number nor a percentage")
    return int(number) if number == text else count * int(number) // 100
