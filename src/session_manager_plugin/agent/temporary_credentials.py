"""Temporary credentials that the sandbox issues: of just-in-time access and of roles."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field

from session_manager_plugin.agent.api import Caller
from session_manager_plugin.utils.logging import register_secret


@dataclass(frozen=True, slots=True)
class TemporaryCredentials:
    """Temporary credentials, and their owner."""

    caller: Caller
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    expires_at: float
    """Seconds since the Unix epoch."""

    @property
    def fields(self) -> dict[str, str]:
        """The members of a response of AWS that hold them, except for the time of expiry."""
        return {
            "AccessKeyId": self.access_key_id,
            "SecretAccessKey": self.secret_access_key,
            "SessionToken": self.session_token,
        }


def issue_credentials(caller: Caller, expires_at: float) -> TemporaryCredentials:
    """Return new credentials of ``caller``, which appear in no log."""
    key_id = "ASIA" + base64.b32encode(secrets.token_bytes(10)).decode()
    issued = TemporaryCredentials(caller, key_id, secrets.token_urlsafe(30), secrets.token_urlsafe(90), expires_at)
    for secret in issued.fields.values():
        register_secret(secret)
    return issued
