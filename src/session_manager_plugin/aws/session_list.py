"""The sessions of an account: listed and terminated. Every function here blocks; call it in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from session_manager_plugin.aws.aws_errors import aws_failure, error_code
from session_manager_plugin.aws.paging import call_service, read_pages
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import SessionExpired, SessionManagerError

_PAGE_SIZE = 200
"""Sessions in a response of DescribeSessions, the service's maximum."""


@dataclass(frozen=True, slots=True)
class ListedSession:
    """A session, as DescribeSessions returns it."""

    id: str
    target: str
    started: datetime | None
    owner: str
    """The ARN of the principal that has started it."""
    document: str
    status: str
    """``Connected``, ``Connecting``, ``Disconnected``, ``Terminated``, ``Terminating`` or ``Failed``."""
    reason: str


def list_own_sessions(settings: AwsSettings, *, history: bool) -> list[ListedSession]:
    """Return the caller's sessions, newest first: the active ones, or with ``history`` the ended ones.

    Raises the exceptions of ``aws_failure``.
    """
    owner = call_service(settings, "sts", "GetCallerIdentity", lambda client: client.get_caller_identity())["Arn"]
    sessions: dict[str, ListedSession] = {}

    def read(answer: Mapping[str, Any]) -> None:
        for each in answer.get("Sessions", []):
            sessions[each["SessionId"]] = ListedSession(
                each["SessionId"],
                each.get("Target", ""),
                each.get("StartDate"),
                each.get("Owner", ""),
                each.get("DocumentName", ""),
                each.get("Status", ""),
                each.get("Reason", ""),
            )

    request = {
        "State": "History" if history else "Active",
        "Filters": [{"key": "Owner", "value": owner}],
        "MaxResults": _PAGE_SIZE,
    }
    read_pages(settings, "ssm", "DescribeSessions", request, read)
    return sorted(sessions.values(), key=lambda each: each.started.timestamp() if each.started else 0, reverse=True)


def terminate_sessions(
    settings: AwsSettings, ids: Sequence[str], done: Callable[[str, SessionManagerError | None], None]
) -> None:
    """Terminate sessions. Calls ``done`` for each with the error, or None. A failure does not stop the others."""

    def work(client: Any) -> None:
        for session_id in ids:
            failure = None
            try:
                client.terminate_session(SessionId=session_id)
            except Exception as error:
                failure = _failure(settings, session_id, error)
            done(session_id, failure)

    call_service(settings, "ssm", "TerminateSession", work)


def _failure(settings: AwsSettings, session_id: str, error: Exception) -> SessionManagerError:
    if error_code(error) == "DoesNotExistException":
        return SessionExpired(f"session {session_id} does not exist")
    doing = f"session {session_id} was not terminated"
    return aws_failure(error, doing, permission="ssm:TerminateSession", profile=settings.profile)
