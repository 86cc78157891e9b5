"""EC2 Instance Connect: a public key with which sshd of an instance accepts a user for a minute."""

from __future__ import annotations

import re

from session_manager_plugin.aws.paging import call_service
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import UsageError

KEY_LIFETIME = 60.0
"""Seconds that a key is accepted after it was sent; a connection made with it lasts longer."""
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9@._-]{0,30}[A-Za-z0-9$_-]?")
"""The names that the API accepts (botocore's model, ``InstanceOSUser``)."""


def check_login(target: str, user: str) -> None:
    """Raise ``UsageError`` unless EC2 Instance Connect can serve ``target``, an id, and ``user``."""
    if _INSTANCE.fullmatch(target) is None:
        raise UsageError(f"EC2 Instance Connect takes keys for EC2 instances (i-...) only, and {target} is none")
    if _USER.fullmatch(user) is None:
        raise UsageError(f"EC2 Instance Connect does not take {user!r} for the name of a user")


def send_public_key(settings: AwsSettings, target: str, user: str, key: str) -> None:
    """Allow ``user`` to log in at the EC2 instance ``target`` with ``key`` for ``KEY_LIFETIME`` seconds. Blocks.

    ``key`` is a public key in OpenSSH's format. Raises the exceptions of ``aws_failure``.
    """
    call_service(
        settings,
        "ec2-instance-connect",
        "SendSSHPublicKey",
        lambda client: client.send_ssh_public_key(InstanceId=target, InstanceOSUser=user, SSHPublicKey=key),
    )
