"""EC2 Instance Connect's SendSSHPublicKey."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from session_manager_plugin.agent.api import Caller, Operation, string
from session_manager_plugin.agent.inventory import Inventory
from session_manager_plugin.errors import ApiError

KEY_LIFETIME = 60.0
"""Seconds for which a public key is valid."""

_KEY_TYPES = ("ssh-rsa ", "ssh-ed25519 ", "ecdsa-sha2-")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key in OpenSSH's format that ``user`` may log in with until ``expires_at`` (the sandbox's clock)."""

    instance_id: str
    user: str
    key: str
    expires_at: float


class InstanceConnect:
    """Keeps the public keys. The sandbox runs no sshd: a test installs them for its own."""

    def __init__(self, inventory: Callable[[], Inventory], now: Callable[[], float] = time.monotonic) -> None:
        self._inventory = inventory
        self._now = now
        self._keys: list[PublicKey] = []

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {"ec2-instance-connect:SendSSHPublicKey": self.send_ssh_public_key}

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """The keys that have not expired."""
        now = self._now()
        self._keys = [key for key in self._keys if key.expires_at > now]
        return tuple(self._keys)

    def send_ssh_public_key(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """SendSSHPublicKey. Raises ``ApiError``."""
        instance_id, key = string(fields, "InstanceId"), string(fields, "SSHPublicKey").strip()
        instance = self._inventory().instance(instance_id)
        if instance is None or not instance.is_ec2:
            raise ApiError("EC2InstanceNotFoundException", f"Instance {instance_id} was not found.")
        if instance.state != "running":
            raise ApiError("EC2InstanceStateInvalidException", f"Instance {instance_id} is not in a running state.")
        if not key.startswith(_KEY_TYPES) or len(key.split()) < 2:
            raise ApiError("InvalidArgsException", "The SSH public key is not in OpenSSH format.")
        user = string(fields, "InstanceOSUser")
        self._keys.append(PublicKey(instance_id, user, key, self._now() + KEY_LIFETIME))
        return {"RequestId": str(uuid.uuid4()), "Success": True}
