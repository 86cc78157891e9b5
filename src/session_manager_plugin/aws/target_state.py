"""Why no session can be started with an instance: what Systems Manager and EC2 know about it.

Every function here blocks; call it in a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from session_manager_plugin.aws.managed_instances import ManagedInstance, find_by_ids, find_in_ec2
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import ConnectError, SessionManagerError

RUNNING, _STOPPED = "running", "stopped"
"""States of an instance in EC2 (API Reference, InstanceState)."""
_CHECK = "check the id, --region and --profile"


def explain_not_connected(settings: AwsSettings, instance_id: str) -> ConnectError | None:
    """Return the error for an instance with which StartSession could start no session; None if nothing is known."""
    try:
        managed = find_by_ids(settings, [instance_id])
    except SessionManagerError:
        managed = None
    if managed:
        return explain_instance(settings, managed[0])
    state = _state_in_ec2(settings, instance_id)
    if state not in (None, "", RUNNING):
        return ConnectError(not_running(instance_id, state or "", instance_id))
    if managed is None:
        return None
    if state == RUNNING:
        return ConnectError(unmanaged(instance_id))
    what = "there is" if state == "" else "Systems Manager knows"
    return ConnectError(f"{what} no instance {instance_id} here; {_CHECK}")


def explain_instance(settings: AwsSettings, instance: ManagedInstance) -> ConnectError:
    """Return the error for a managed instance that is offline, or that is online but not connected for sessions."""
    state = _state_in_ec2(settings, instance.id)
    if state not in (None, "", RUNNING):
        return ConnectError(not_running(_called(instance), state or "", instance.id))
    if not instance.online:
        return ConnectError(offline_sentence([instance]))
    return ConnectError(
        f"{_called(instance)} is online{_reported(instance)}, but its SSM agent has no connection for sessions; it "
        "needs a role with ssmmessages:* (AmazonSSMManagedInstanceCore) and a way to the endpoint of ssmmessages"
    )


def offline_sentence(instances: Sequence[ManagedInstance]) -> str:
    """Return what to say about instances that are all offline."""
    offline = "; ".join(f"{_called(each)} is offline{_since(each)}" for each in instances[:3])
    return f"{offline}; check that it runs and that its SSM agent has a network"


def unmanaged(instance: str) -> str:
    """Return what to say about an instance that Systems Manager does not know."""
    return (
        f"{instance} is not managed by Systems Manager; its SSM agent must run, with a role "
        "(AmazonSSMManagedInstanceCore) and a way to the endpoints of ssm and ssmmessages"
    )


def _state_in_ec2(settings: AwsSettings, instance_id: str) -> str | None:
    """Return the state of an instance; empty if there is no such instance, None if that is not known."""
    if not instance_id.startswith("i-"):
        return None
    try:
        described = find_in_ec2(settings, {"instance-id": [instance_id]})
    except SessionManagerError:
        return None
    return str(described.get(instance_id, {}).get("State", {}).get("Name", ""))


def not_running(called: str, state: str, instance_id: str) -> str:
    """Return what to say about an instance in another ``state`` than running."""
    if state == _STOPPED:
        return f"{called} is stopped; start it: aws ec2 start-instances --instance-ids {instance_id}"
    return f"{called} is {state}"


def _called(instance: ManagedInstance) -> str:
    return f"{instance.name} ({instance.id})" if instance.name else instance.id


def _since(instance: ManagedInstance) -> str:
    return f" since {_time(instance)}" if instance.last_ping is not None else ""


def _reported(instance: ManagedInstance) -> str:
    return f" (last report {_time(instance)})" if instance.last_ping is not None else ""


def _time(instance: ManagedInstance) -> str:
    assert instance.last_ping is not None
    return f"{instance.last_ping.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
