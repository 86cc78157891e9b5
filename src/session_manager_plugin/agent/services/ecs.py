"""ECS's clusters, services and tasks, and ExecuteCommand.

As in ECS, every name may be given as an ARN. The texts of errors are those of the service, as the AWS CLI shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from session_manager_plugin.agent.api import Caller, Operation, optional_string, string, strings
from session_manager_plugin.agent.documents import ECS_EXEC_DOCUMENT
from session_manager_plugin.agent.inventory import Cluster, Container, Inventory, Task
from session_manager_plugin.agent.services.pages import page
from session_manager_plugin.agent.services.sessions import SessionService, session_output
from session_manager_plugin.errors import ApiError

DEFAULT_CLUSTER = "default"
"""The cluster of a request that names none."""
MAX_PAGE_SIZE = 100


class Ecs:
    """Answers for the clusters of the inventory."""

    def __init__(self, inventory: Callable[[], Inventory], region: str, sessions: SessionService) -> None:
        self._inventory = inventory
        self._region = region
        self._sessions = sessions

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {
            "ecs:ListClusters": self.list_clusters,
            "ecs:DescribeClusters": self.describe_clusters,
            "ecs:ListServices": self.list_services,
            "ecs:DescribeServices": self.describe_services,
            "ecs:ListTasks": self.list_tasks,
            "ecs:DescribeTasks": self.describe_tasks,
            "ecs:ExecuteCommand": self.execute_command,
        }

    def list_clusters(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """ListClusters. Raises ``ApiError``."""
        return _list("clusterArns", [self._cluster_arn(each) for each in self._inventory().clusters], fields)

    def describe_clusters(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """DescribeClusters. Raises ``ApiError``."""
        clusters, failures = [], []
        for wanted in strings(fields, "clusters") or [DEFAULT_CLUSTER]:
            cluster = next((each for each in self._inventory().clusters if each.name == _name(wanted)), None)
            if cluster is None:
                failures.append({"arn": self._arn(f"cluster/{_name(wanted)}"), "reason": "MISSING"})
                continue
            running = [task for task in cluster.tasks if task.status == "RUNNING"]
            clusters.append(
                {
                    "clusterArn": self._cluster_arn(cluster),
                    "clusterName": cluster.name,
                    "status": "ACTIVE",
                    "runningTasksCount": len(running),
                    "activeServicesCount": len(cluster.services),
                }
            )
        return {"clusters": clusters, "failures": failures}

    def list_services(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """ListServices. Raises ``ApiError``."""
        cluster = self._cluster(fields)
        return _list("serviceArns", [self._service_arn(cluster, each.name) for each in cluster.services], fields)

    def describe_services(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """DescribeServices. Raises ``ApiError``."""
        cluster = self._cluster(fields)
        known = {service.name for service in cluster.services}
        wanted = [_name(each) for each in strings(fields, "services")]
        return {
            "services": [
                {
                    "serviceArn": self._service_arn(cluster, name),
                    "serviceName": name,
                    "clusterArn": self._cluster_arn(cluster),
                    "status": "ACTIVE",
                    "runningCount": len([task for task in cluster.tasks if task.service == name]),
                }
                for name in wanted
                if name in known
            ],
            "failures": [
                {"arn": self._service_arn(cluster, name), "reason": "MISSING"} for name in wanted if name not in known
            ],
        }

    def list_tasks(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """ListTasks. Raises ``ApiError``."""
        cluster = self._cluster(fields)
        service, family = optional_string(fields, "serviceName"), optional_string(fields, "family")
        if service and _name(service) not in {each.name for each in cluster.services}:
            raise ApiError("ServiceNotFoundException", "Service not found.")
        stopped = optional_string(fields, "desiredStatus") == "STOPPED"
        arns = [
            self._task_arn(cluster, task)
            for task in cluster.tasks
            if (task.status == "STOPPED") == stopped
            and (not service or task.service == _name(service))
            and (not family or task.family == family)
        ]
        return _list("taskArns", arns, fields)

    def describe_tasks(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """DescribeTasks. Raises ``ApiError``."""
        cluster = self._cluster(fields)
        tasks = {task.id: task for task in cluster.tasks}
        wanted = [_name(each) for each in strings(fields, "tasks")]
        if not wanted:
            raise ApiError("InvalidParameterException", "Tasks cannot be empty.")
        return {
            "tasks": [self._task(cluster, tasks[each]) for each in wanted if each in tasks],
            "failures": [
                {"arn": self._arn(f"task/{cluster.name}/{each}"), "reason": "MISSING"}
                for each in wanted
                if each not in tasks
            ],
        }

    def execute_command(self, fields: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """ExecuteCommand: starts a session that runs the command. Raises ``ApiError``."""
        cluster = self._cluster(fields)
        wanted, command = _name(string(fields, "task")), string(fields, "command")
        task = next((each for each in cluster.tasks if each.id == wanted), None)
        if task is None:
            raise ApiError("InvalidParameterException", "The referenced task was not found.")
        container = _container(task, optional_string(fields, "container"))
        if fields.get("interactive") is not True:
            raise ApiError("InvalidParameterException", "Interactive is the only mode supported currently.")
        if not (task.execute_command and container.online):
            raise ApiError(
                "InvalidParameterException",
                "The execute command failed because execute command was not enabled when the task was run or the "
                "execute command agent isn’t running. Wait and try again or run a new task with execute command "
                "enabled and try again.",
            )
        if task.status != "RUNNING" or container.status != "RUNNING":
            raise ApiError("TargetNotConnectedException", "The execute command failed: the container is not running.")
        target, parameters = cluster.target(task, container), {"command": [command]}
        started = session_output(self._sessions.start(target, ECS_EXEC_DOCUMENT, parameters, caller=caller))
        return {
            "clusterArn": self._cluster_arn(cluster),
            "taskArn": self._task_arn(cluster, task),
            "containerArn": self._container_arn(cluster, task, container),
            "containerName": container.name,
            "interactive": True,
            "session": {
                "sessionId": started["SessionId"],
                "streamUrl": started["StreamUrl"],
                "tokenValue": started["TokenValue"],
            },
        }

    def _cluster(self, fields: dict[str, Any]) -> Cluster:
        name = _name(optional_string(fields, "cluster") or DEFAULT_CLUSTER)
        for cluster in self._inventory().clusters:
            if cluster.name == name:
                return cluster
        raise ApiError("ClusterNotFoundException", "Cluster not found.")

    def _task(self, cluster: Cluster, task: Task) -> dict[str, Any]:
        agent = {True: "RUNNING", False: "STOPPED"}
        return {
            "taskArn": self._task_arn(cluster, task),
            "clusterArn": self._cluster_arn(cluster),
            "taskDefinitionArn": self._arn(f"task-definition/{task.family}:1"),
            "group": f"service:{task.service}" if task.service else f"family:{task.family}",
            "desiredStatus": "STOPPED" if task.status == "STOPPED" else "RUNNING",
            "lastStatus": task.status,
            "launchType": "FARGATE",
            "enableExecuteCommand": task.execute_command,
            "containers": [
                {
                    "containerArn": self._container_arn(cluster, task, container),
                    "taskArn": self._task_arn(cluster, task),
                    "name": container.name,
                    "runtimeId": container.runtime_id,
                    "lastStatus": container.status,
                    "managedAgents": [{"name": "ExecuteCommandAgent", "lastStatus": agent[container.online]}]
                    if task.execute_command
                    else [],
                }
                for container in task.containers
            ],
        }

    def _cluster_arn(self, cluster: Cluster) -> str:
        return self._arn(f"cluster/{cluster.name}")

    def _service_arn(self, cluster: Cluster, name: str) -> str:
        return self._arn(f"service/{cluster.name}/{name}")

    def _task_arn(self, cluster: Cluster, task: Task) -> str:
        return self._arn(f"task/{cluster.name}/{task.id}")

    def _container_arn(self, cluster: Cluster, task: Task, container: Container) -> str:
        return self._arn(f"container/{cluster.name}/{task.id}/{container.runtime_id}")

    def _arn(self, resource: str) -> str:
        return f"arn:aws:ecs:{self._region}:{self._inventory().account}:{resource}"


def _container(task: Task, name: str) -> Container:
    """Return the container of a request, which may omit the name if the task has only one."""
    if name:
        found = [container for container in task.containers if container.name == name]
        if not found:
            raise ApiError("InvalidParameterException", f"The container {name} was not found in the task.")
        return found[0]
    if len(task.containers) != 1:
        raise ApiError("InvalidParameterException", "A container name is required for a task of several containers.")
    return task.containers[0]


def _list(member: str, arns: Sequence[str], fields: dict[str, Any]) -> dict[str, Any]:
    items, token = page(
        arns,
        fields.get("nextToken"),
        fields.get("maxResults"),
        least=1,
        most=MAX_PAGE_SIZE,
        invalid_size="InvalidParameterException",
        invalid_token="InvalidParameterException",
    )
    answer: dict[str, Any] = {member: items}
    return answer if token is None else {**answer, "nextToken": token}


def _name(name_or_arn: str) -> str:
    return name_or_arn.rpartition("/")[2]
