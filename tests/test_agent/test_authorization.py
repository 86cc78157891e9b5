"""The refusals of the sandbox name the resource as AWS does."""

from __future__ import annotations

import pytest

from session_manager_plugin.agent.api import Caller
from session_manager_plugin.agent.inventory import Inventory
from session_manager_plugin.agent.services.authorization import Authorization
from session_manager_plugin.errors import ApiError

TASK = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("target", "resource"),
    [
        (f"ecs:shop_{TASK}_{TASK}-42", f"ecs:eu-west-1:111122223333:task/shop/{TASK}"),
        (f"ecs:my_shop_{TASK}_{TASK}-42", f"ecs:eu-west-1:111122223333:task/my_shop/{TASK}"),
        (f"ecs:_a__b__{TASK}_{TASK}-42", f"ecs:eu-west-1:111122223333:task/_a__b_/{TASK}"),
        ("i-1", "ec2:eu-west-1:111122223333:instance/i-1"),
        ("mi-1", "ssm:eu-west-1:111122223333:managed-instance/mi-1"),
    ],
)
def test_the_resource_of_a_target(target: str, resource: str) -> None:
    inventory = Inventory(account="111122223333")
    caller = Caller("arn:aws:iam::111122223333:user/alice", targets=frozenset({"i-2"}))
    with pytest.raises(ApiError, match=r"ssm:StartSession on resource: ") as raised:
        Authorization(lambda: inventory, "eu-west-1").check_start(caller, target, "")
    assert f" arn:aws:{resource} " in str(raised.value)
