"""What a refusal of StartSession means for the target and the document of the request."""

from __future__ import annotations

import asyncio
import re

from session_manager_plugin.aws.aws_errors import error_code
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.threads import in_thread
from session_manager_plugin.errors import AccessDenied, ConnectError, DocumentDenied, SessionManagerError

_DENIAL = re.compile(r"(?:User: (?P<user>\S+) is )?not authorized to perform: (?P<action>\S+) on resource: (?P<on>\S+)")
_ACCESS_REQUESTED = re.compile(
    r"just-in-time|StartAccessRequest|access must be requested|access request", re.IGNORECASE
)


async def explain_refusal(
    settings: AwsSettings, error: SessionManagerError, target: str, document: str
) -> SessionManagerError:
    """Return the exception to raise for ``error`` of StartSession: with the permission and the resource that a denial
    names, and for a target that is not connected with the time since when."""
    cause = error.__cause__
    if not isinstance(cause, Exception):
        return error
    text = str(cause)
    if isinstance(error, AccessDenied) and (denial := _DENIAL.search(text)):
        return _denied(denial, target, document, text)
    if error_code(cause) == "TargetNotConnected" and target.startswith(("i-", "mi-")):
        return await asyncio.wrap_future(in_thread(lambda: _offline(settings, target))) or error
    return error


def _denied(denial: re.Match[str], target: str, document: str, text: str) -> AccessDenied:
    resource = denial["on"].rstrip(".,")
    sentence = f"StartSession failed: {denial['user'] or 'the caller'} needs {denial['action']} on {resource}"
    if _ACCESS_REQUESTED.search(text):
        return AccessDenied(f"{sentence}, by just-in-time access: smp start {target} --request REASON")
    if document and ":document/" in resource:
        return DocumentDenied(f"{sentence}; a plain shell, without a document, does not need it")
    return AccessDenied(sentence)


def _offline(settings: AwsSettings, target: str) -> SessionManagerError | None:
    from session_manager_plugin.aws.managed_instances import find_by_ids
    from session_manager_plugin.aws.targets import offline_sentence

    try:
        found = find_by_ids(settings, [target])
    except SessionManagerError:
        return None
    if not found:
        return ConnectError(
            f"{target} is not managed by Systems Manager in this account and region; check the id, --region and "
            "--profile, and that its SSM agent runs with a role (AmazonSSMManagedInstanceCore)"
        )
    return None if found[0].online else ConnectError(offline_sentence(found))
