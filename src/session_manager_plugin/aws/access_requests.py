"""Just-in-time access: requests that have to be approved, and their credentials (protocol reference 13.2).

Every function here blocks; call it in a thread.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from session_manager_plugin.aws.paging import call_service
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import AccessDenied
from session_manager_plugin.utils.logging import register_secret

_PENDING = "Pending"


def request_access(settings: AwsSettings, target: str, reason: str) -> str:
    """Request access to ``target``, an instance's id. Returns the id of the request."""
    answer = call_service(
        settings,
        "ssm",
        "StartAccessRequest",
        lambda client: client.start_access_request(Reason=reason, Targets=[{"Key": "InstanceIds", "Values": [target]}]),
    )
    return str(answer["AccessRequestId"])


def granted_settings(settings: AwsSettings, request_id: str) -> AwsSettings | None:
    """Return settings with the credentials of an approved request, or None while it is pending.

    Each new lookup fetches the credentials again. Raises ``AccessDenied`` if the request was rejected or revoked, or
    has expired.
    """
    credentials = _fetch(settings, request_id)
    if credentials is None:
        return None
    granted = dataclasses.replace(settings)
    granted.credentials.use(lambda: _fetch(settings, request_id))
    return granted


def _fetch(settings: AwsSettings, request_id: str) -> Any:
    from botocore.credentials import Credentials

    answer = call_service(
        settings, "ssm", "GetAccessToken", lambda client: client.get_access_token(AccessRequestId=request_id)
    )
    status = answer.get("AccessRequestStatus", "")
    if status == _PENDING:
        return None
    fields = answer.get("Credentials")
    if not fields:
        raise AccessDenied(f"the access request {request_id} was {status.lower() or 'refused'}")
    for secret in (fields["SecretAccessKey"], fields["SessionToken"]):
        register_secret(secret)
    return Credentials(
        fields["AccessKeyId"], fields["SecretAccessKey"], fields["SessionToken"], method="just-in-time access"
    )
