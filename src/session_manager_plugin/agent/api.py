"""The AWS JSON 1.1 calls of Systems Manager that a session needs: StartSession, ResumeSession,
TerminateSession.

Pure: an HTTP request in, an HTTP response out; what the calls do is a ``SessionService``'s business. Errors
have the service's own codes and shape, so that SDKs raise their modelled exceptions.

Whoever can start a session runs programs as the sandbox's user, and loopback is open to every user of the
machine. So the access key id is random and has to be the sandbox's, which makes it the secret; the signature
is not verified.
"""

from __future__ import annotations

import hmac
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from session_manager_plugin.agent.http_messages import HttpRequest, HttpResponse, text_response
from session_manager_plugin.errors import ApiError

_CONTENT_TYPE = "application/x-amz-json-1.1"
_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 .*\bCredential=([^/,\s]+)/")


@dataclass(frozen=True, slots=True)
class StartedSession:
    """What StartSession and ResumeSession answer. The token opens one websocket; None when the session has
    ended and cannot be resumed, which is how the service says so."""

    session_id: str
    stream_url: str
    token: str | None = field(repr=False)


class SessionService(Protocol):
    """What the calls act upon. Every method raises ``ApiError``."""

    def start(self, target: str, document: str | None, parameters: Mapping[str, Sequence[str]]) -> StartedSession:
        """Make a session."""
        ...

    def resume(self, session_id: str) -> StartedSession:
        """A new token for a session."""
        ...

    def terminate(self, session_id: str) -> None:
        """End a session."""
        ...


Operation = Callable[[dict[str, Any]], dict[str, Any]]
"""Answers the JSON object of a request; raises ``ApiError``."""


class Api:
    """Answers the requests of ``access_key_id``'s owner: Session Manager's, and further ``operations`` by the value of
    their X-Amz-Target header."""

    def __init__(
        self, service: SessionService, access_key_id: str, operations: Mapping[str, Operation] | None = None
    ) -> None:
        self._service = service
        self._access_key_id = access_key_id
        self._operations: dict[str, Operation] = {
            "AmazonSSM.StartSession": self._start_session,
            "AmazonSSM.ResumeSession": self._resume_session,
            "AmazonSSM.TerminateSession": self._terminate_session,
            **(operations or {}),
        }

    def respond(self, request: HttpRequest) -> HttpResponse:
        """The answer to one request; refusals are answers too, so it never raises."""
        if request.method != "POST" or request.path != "/":
            return text_response(
                HTTPStatus.NOT_FOUND, "This is a Session Manager sandbox for AWS SDKs and the AWS CLI."
            )
        try:
            self._authenticate(request.headers.get("authorization", ""))
            name = request.headers.get("x-amz-target", "")
            if name not in self._operations:
                raise ApiError("UnknownOperationException", f"the sandbox has no operation {name[:64]!r}")
            return _json_response(HTTPStatus.OK, self._operations[name](_parse_input(request.body)))
        except ApiError as error:
            return _json_response(HTTPStatus.BAD_REQUEST, {"__type": error.code, "message": str(error)})

    def _authenticate(self, authorization: str) -> None:
        if not authorization:
            raise ApiError("MissingAuthenticationTokenException", "Request is missing Authentication Token")
        credential = _CREDENTIAL.match(authorization)
        if credential is None or not hmac.compare_digest(credential[1].encode(), self._access_key_id.encode()):
            raise ApiError("UnrecognizedClientException", "The security token included in the request is invalid.")

    def _start_session(self, fields: dict[str, Any]) -> dict[str, Any]:
        parameters = fields.get("Parameters") or {}
        if not isinstance(parameters, dict) or not all(
            isinstance(values, list) and all(isinstance(value, str) for value in values)
            for values in parameters.values()
        ):
            raise ApiError("SerializationException", "Parameters is not a map of lists of strings")
        document = _string(fields, "DocumentName") if fields.get("DocumentName") is not None else None
        return _session_output(self._service.start(_string(fields, "Target"), document, parameters))

    def _resume_session(self, fields: dict[str, Any]) -> dict[str, Any]:
        return _session_output(self._service.resume(_string(fields, "SessionId")))

    def _terminate_session(self, fields: dict[str, Any]) -> dict[str, Any]:
        session_id = _string(fields, "SessionId")
        self._service.terminate(session_id)
        return {"SessionId": session_id}


def _parse_input(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise ApiError("SerializationException", "the request's body is not JSON") from None
    if not isinstance(fields, dict):
        raise ApiError("SerializationException", "the request's body is not a JSON object")
    return fields


def _string(fields: dict[str, Any], key: str) -> str:
    value = fields.get(key)
    if value is None:
        raise ApiError("ValidationException", f"{key} must not be null")
    if not isinstance(value, str):
        raise ApiError("SerializationException", f"{key} is not a string")
    return value


def _session_output(session: StartedSession) -> dict[str, Any]:
    output = {"SessionId": session.session_id, "StreamUrl": session.stream_url}
    return output if session.token is None else {**output, "TokenValue": session.token}


def _json_response(status: HTTPStatus, value: dict[str, Any]) -> HttpResponse:
    body = json.dumps(value).encode()
    return HttpResponse(status, body, _CONTENT_TYPE, {"x-amzn-RequestId": str(uuid.uuid4())})
