"""Systems Manager's StartSession, ResumeSession, TerminateSession and DescribeSessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from session_manager_plugin.agent.api import (
    Caller,
    Operation,
    StartedSession,
    optional_string,
    string,
    structures,
)
from session_manager_plugin.agent.services.pages import page
from session_manager_plugin.agent.session import EndReason, SandboxSession
from session_manager_plugin.errors import ApiError

MAX_PAGE_SIZE = 200


class SessionService(Protocol):
    """The sessions that the operations act on. Every method raises ``ApiError``."""

    def start(
        self,
        target: str,
        document: str | None,
        parameters: Mapping[str, Sequence[str]],
        *,
        caller: Caller | None = None,
        reason: str = "",
    ) -> StartedSession:
        """Start a session."""
        ...

    def resume(self, session_id: str) -> StartedSession:
        """Return a new token for a session."""
        ...

    def terminate(self, session_id: str) -> None:
        """End a session."""
        ...

    @property
    def sessions(self) -> Mapping[str, SandboxSession]:
        """Return all sessions by id, in the order of their start."""
        ...


class Sessions:
    """Answers for the sandbox's sessions."""

    def __init__(self, service: SessionService) -> None:
        self._service = service

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their IAM actions."""
        return {
            "ssm:StartSession": self.start,
            "ssm:ResumeSession": self.resume,
            "ssm:TerminateSession": self.terminate,
            "ssm:DescribeSessions": self.describe,
        }

    def start(self, fields: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """StartSession. Raises ``ApiError``."""
        parameters = fields.get("Parameters") or {}
        if not isinstance(parameters, dict) or not all(
            isinstance(values, list) and all(isinstance(value, str) for value in values)
            for values in parameters.values()
        ):
            raise ApiError("SerializationException", "Parameters is not a map of lists of strings")
        target, document = string(fields, "Target"), optional_string(fields, "DocumentName") or None
        reason = optional_string(fields, "Reason")
        return session_output(self._service.start(target, document, parameters, caller=caller, reason=reason))

    def resume(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """ResumeSession. Raises ``ApiError``."""
        return session_output(self._service.resume(string(fields, "SessionId")))

    def terminate(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """TerminateSession. Raises ``ApiError``."""
        session_id = string(fields, "SessionId")
        self._service.terminate(session_id)
        return {"SessionId": session_id}

    def describe(self, fields: dict[str, Any], _caller: Caller) -> dict[str, Any]:
        """DescribeSessions, the newest first. Raises ``ApiError``."""
        state = string(fields, "State")
        if state not in ("Active", "History"):
            raise ApiError("ValidationException", "State must be Active or History")
        filters = [_filter(string(each, "key"), string(each, "value")) for each in structures(fields, "Filters")]
        found = [
            session
            for session in reversed(list(self._service.sessions.values()))
            if session.ended.is_set() == (state == "History") and all(passes(session) for passes in filters)
        ]
        items, token = page(found, fields.get("NextToken"), fields.get("MaxResults"), least=1, most=MAX_PAGE_SIZE)
        answer: dict[str, Any] = {"Sessions": [_description(session) for session in items]}
        return answer if token is None else {**answer, "NextToken": token}


def session_output(session: StartedSession) -> dict[str, Any]:
    """Return the members of StartSession's response; without a token for an ended session."""
    output = {"SessionId": session.session_id, "StreamUrl": session.stream_url}
    return output if session.token is None else {**output, "TokenValue": session.token}


_FACTS: dict[str, Callable[[SandboxSession], str]] = {
    "Target": lambda session: session.target,
    "Owner": lambda session: session.owner,
    "Status": lambda session: _status(session),
    "SessionId": lambda session: session.session_id,
    "AccessType": lambda session: session.access_type,
}


def _filter(key: str, value: str) -> Callable[[SandboxSession], bool]:
    """Return the predicate of a filter. Raises ``ApiError``."""
    if key in _FACTS:
        return lambda session: _FACTS[key](session) == value
    if key not in ("InvokedAfter", "InvokedBefore"):
        raise ApiError("InvalidFilterKey", f"The filter key {key} is not valid.")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ApiError("ValidationException", f"{key} must be a time such as 2026-01-31T00:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if key == "InvokedAfter":
        return lambda session: session.started_at > moment
    return lambda session: session.started_at < moment


def _status(session: SandboxSession) -> str:
    if session.ended.is_set():
        return "Failed" if session.end_reason is EndReason.FAILED else "Terminated"
    if session.connected.is_set():
        return "Connected"
    return "Disconnected" if session.websockets else "Connecting"


def _description(session: SandboxSession) -> dict[str, Any]:
    description: dict[str, Any] = {
        "SessionId": session.session_id,
        "Target": session.target,
        "Status": _status(session),
        "StartDate": session.started_at.timestamp(),
        "DocumentName": session.document,
        "Owner": session.owner,
        "AccessType": session.access_type,
    }
    if session.ended_at is not None:
        description["EndDate"] = session.ended_at.timestamp()
    return {**description, "Reason": session.reason} if session.reason else description
