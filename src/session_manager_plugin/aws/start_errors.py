"""Explaining a refusal of StartSession for the target and the document of the request."""

from __future__ import annotations

import asyncio
import re

from session_manager_plugin.aws.aws_errors import ASK, Denial, error_code, find_denial
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.threads import in_thread
from session_manager_plugin.errors import AccessDenied, ConnectError, DocumentDenied, SessionManagerError

_ACCESS_REQUESTED = re.compile(
    r"just-in-time|StartAccessRequest|access must be requested|access request", re.IGNORECASE
)


async def explain_refusal(
    settings: AwsSettings, error: SessionManagerError, target: str, document: str
) -> SessionManagerError:
    """Return the exception to raise for ``error`` of StartSession: with the permission and the resource that a denial
    names, and for a target that is not connected with what is known about it."""
    cause = error.__cause__
    if not isinstance(cause, Exception):
        return error
    text = str(cause)
    if isinstance(error, AccessDenied) and (denial := find_denial(text)):
        return _denied(denial, target, document, text)
    if error_code(cause) == "TargetNotConnected" and target.startswith(("i-", "mi-")):
        return await asyncio.wrap_future(in_thread(lambda: _not_connected(settings, target))) or error
    return error


def _denied(denial: Denial, target: str, document: str, text: str) -> AccessDenied:
    sentence = f"StartSession failed: {denial.sentence}"
    if _ACCESS_REQUESTED.search(text):
        return AccessDenied(f"{sentence}, by just-in-time access: smp start {target} --request REASON")
    if document and ":document/" in denial.resource:
        return DocumentDenied(f"{sentence}; a plain shell, without a document, does not need it")
    return AccessDenied(f"{sentence}; {ASK}")


def _not_connected(settings: AwsSettings, target: str) -> ConnectError | None:
    from session_manager_plugin.aws.target_state import explain_not_connected

    return explain_not_connected(settings, target)
