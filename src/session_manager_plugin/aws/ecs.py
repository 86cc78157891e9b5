"""Containers of ECS as targets: from ``ecs:CLUSTER/SERVICE-or-TASK[/CONTAINER]`` to ``ecs:CLUSTER_TASK_RUNTIMEID``.

Every function here blocks; call it in a thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from session_manager_plugin.aws.paging import call_service, read_pages
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import AmbiguousTarget, ConnectError, UsageError

_FORM = re.compile(r"ecs:(?P<cluster>[^/]+)/(?P<name>[^/]+)(?:/(?P<container>[^/]+))?")
_TASK_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DESCRIBED_AT_ONCE = 100
"""Tasks in one call of DescribeTasks; the service allows no more."""
_AGENT = "ExecuteCommandAgent"


def resolve_ecs(settings: AwsSettings, text: str) -> str:
    """Return the target id of a running container.

    Raises ``AmbiguousTarget`` for several tasks or containers, ``UsageError`` for another form, ``ConnectError`` if
    there is none, and the exceptions of ``aws_failure``.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(f"{text!r} is not ecs:CLUSTER/SERVICE-or-TASK[/CONTAINER]")
    cluster, name, container = match.group("cluster", "name", "container")
    is_task = _TASK_ID.fullmatch(name) is not None
    arns = [name] if is_task else _tasks_of_service(settings, cluster, name)
    tasks = [each for each in _describe(settings, cluster, arns) if each.get("lastStatus") == "RUNNING"]
    if not tasks:
        what = f"task {name}" if is_task else f"service {name}"
        raise ConnectError(
            f"{what} has no running task in the cluster {cluster}; check the names, --region and --profile"
        )
    if len(tasks) > 1:
        tail = f"/{container}" if container else ""
        raise AmbiguousTarget(
            f"service {name} runs {len(tasks)} tasks; choose one",
            [f"ecs:{cluster}/{_id_of(each)}{tail} started {each.get('startedAt', '')}" for each in tasks],
        )
    return _container(cluster, tasks[0], container)


def container_name(settings: AwsSettings, target: str) -> str:
    """Return the name of the container that is the target ``ecs:CLUSTER_TASK_RUNTIMEID``.

    Raises ``ConnectError`` if there is none, and the exceptions of ``aws_failure``.
    """
    cluster, task_id, runtime_id = split_target(target)
    for task in _describe(settings, cluster, [task_id]):
        for container in task.get("containers", []):
            if container.get("runtimeId") == runtime_id:
                return str(container["name"])
    raise ConnectError(f"{target} is no container of a running task; check the ids, --region and --profile")


def split_target(target: str) -> tuple[str, str, str]:
    """Return cluster, task id and runtime id of ``ecs:CLUSTER_TASK_RUNTIMEID``; the cluster may hold underscores."""
    cluster, task_id, runtime_id = target.removeprefix("ecs:").rsplit("_", 2)
    return cluster, task_id, runtime_id


def _tasks_of_service(settings: AwsSettings, cluster: str, service: str) -> list[str]:
    arns: list[str] = []
    request = {"cluster": cluster, "serviceName": service, "desiredStatus": "RUNNING"}
    read_pages(settings, "ecs", "ListTasks", request, lambda answer: arns.extend(answer.get("taskArns", [])))
    return list(dict.fromkeys(arns))


def _describe(settings: AwsSettings, cluster: str, arns: list[str]) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = []
    for start in range(0, len(arns), _DESCRIBED_AT_ONCE):
        some = arns[start : start + _DESCRIBED_AT_ONCE]
        answer = call_service(
            settings,
            "ecs",
            "DescribeTasks",
            lambda client, some=some: client.describe_tasks(cluster=cluster, tasks=some),  # type: ignore[misc]
        )
        tasks += answer.get("tasks", [])
    return tasks


def _container(cluster: str, task: Mapping[str, Any], name: str | None) -> str:
    task_id = _id_of(task)
    if not task.get("enableExecuteCommand", True):
        raise ConnectError(
            f"task {task_id} was started without ECS Exec; run aws ecs update-service --enable-execute-command "
            "--force-new-deployment, or run-task --enable-execute-command"
        )
    containers = [each for each in task.get("containers", []) if each.get("runtimeId")]
    if name is not None:
        containers = [each for each in containers if each["name"] == name]
    if not containers:
        there = ", ".join(each["name"] for each in task.get("containers", [])) or "none"
        raise ConnectError(f"task {task_id} runs no container {name or ''}".rstrip() + f"; its containers: {there}")
    if len(containers) > 1:
        raise AmbiguousTarget(
            f"task {task_id} runs {len(containers)} containers; choose one",
            [f"ecs:{cluster}/{task_id}/{each['name']}" for each in containers],
        )
    chosen = containers[0]
    agents = {each["name"]: each.get("lastStatus") for each in chosen.get("managedAgents", [])}
    if agents.get(_AGENT, "RUNNING") != "RUNNING":
        raise ConnectError(
            f"the agent of container {chosen['name']} in task {task_id} is {agents[_AGENT]}; check the task role's "
            "ssmmessages permissions and the task's way to ssmmessages"
        )
    return f"ecs:{cluster}_{task_id}_{chosen['runtimeId']}"


def _id_of(task: Mapping[str, Any]) -> str:
    return str(task["taskArn"]).rpartition("/")[2]
