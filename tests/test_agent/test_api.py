"""The service's calls: what they take, what they answer, how they refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from session_manager_plugin.agent.api import Api, Caller, StartedSession
from session_manager_plugin.agent.http_messages import HttpRequest, HttpResponse
from session_manager_plugin.agent.services.sessions import Sessions
from session_manager_plugin.agent.session import SandboxSession
from session_manager_plugin.errors import ApiError

KEY = "AKIASANDBOX"
CALLER = Caller("arn:aws:iam::111122223333:user/alice")
AUTHORIZATION = (
    f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/ssm/aws4_request, "
    "SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=00"
)


class FakeService:
    """Remembers its calls; refuses the target, and the session, ``gone``."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.sessions: dict[str, SandboxSession] = {}

    def start(
        self,
        target: str,
        document: str | None,
        parameters: Mapping[str, Sequence[str]],
        *,
        caller: Caller | None = None,
        reason: str = "",
    ) -> StartedSession:
        self.calls.append(("start", target, document, dict(parameters), caller, reason))
        if target == "gone":
            raise ApiError("TargetNotConnected", "gone is not connected.")
        return StartedSession("s-1", "ws://h/v1/data-channel/s-1", "secret")

    def resume(self, session_id: str) -> StartedSession:
        self.calls.append(("resume", session_id))
        return StartedSession(session_id, "ws://h/x", None if session_id == "ended" else "secret2")

    def terminate(self, session_id: str) -> None:
        self.calls.append(("terminate", session_id))
        if session_id == "gone":
            raise ApiError("DoesNotExistException", "Session gone does not exist.")


def make_api(service: FakeService) -> Api:
    return Api({KEY: CALLER}.get, Sessions(service).operations, lambda _caller, _action: None)


def call(
    service: FakeService, operation: str, body: bytes | dict[str, Any], authorization: str | None = AUTHORIZATION
) -> HttpResponse:
    headers = {"x-amz-target": f"AmazonSSM.{operation}"}
    if authorization is not None:
        headers["authorization"] = authorization
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return make_api(service).respond(HttpRequest("POST", "/", headers, b"", data))


def test_start_session() -> None:
    service = FakeService()
    fields = {"Target": "local", "DocumentName": "D", "Parameters": {"command": ["ls"]}, "Reason": "why not"}
    response = call(service, "StartSession", fields)
    assert response.status == 200
    assert response.content_type == "application/x-amz-json-1.1"
    assert json.loads(response.body) == {
        "SessionId": "s-1",
        "TokenValue": "secret",
        "StreamUrl": "ws://h/v1/data-channel/s-1",
    }
    assert service.calls == [("start", "local", "D", {"command": ["ls"]}, CALLER, "why not")]


def test_document_and_parameters_may_be_missing_or_null() -> None:
    service = FakeService()
    call(service, "StartSession", {"Target": "local"})
    call(service, "StartSession", {"Target": "local", "DocumentName": None, "Parameters": None})
    assert service.calls == [("start", "local", None, {}, CALLER, "")] * 2


def test_resume_session_gives_no_token_for_a_session_that_is_over() -> None:
    service = FakeService()
    resumed = json.loads(call(service, "ResumeSession", {"SessionId": "s-1"}).body)
    assert resumed["TokenValue"] == "secret2"
    ended = json.loads(call(service, "ResumeSession", {"SessionId": "ended"}).body)
    assert ended["SessionId"] == "ended"
    assert "TokenValue" not in ended


def test_terminate_session() -> None:
    response = call(FakeService(), "TerminateSession", {"SessionId": "s-1"})
    assert json.loads(response.body) == {"SessionId": "s-1"}


@pytest.mark.parametrize(
    ("operation", "body", "code"),
    [
        ("StartSession", {"Target": "gone"}, "TargetNotConnected"),
        ("TerminateSession", {"SessionId": "gone"}, "DoesNotExistException"),
        ("StartSession", {}, "ValidationException"),
        ("StartSession", b"", "ValidationException"),
        ("ResumeSession", {"SessionId": None}, "ValidationException"),
        ("ResumeSession", {"SessionId": 7}, "SerializationException"),
        ("StartSession", {"Target": ["local"]}, "SerializationException"),
        ("StartSession", {"Target": "local", "Parameters": {"command": "ls"}}, "SerializationException"),
        ("StartSession", {"Target": "local", "Parameters": {"command": [1]}}, "SerializationException"),
        ("StartSession", {"Target": "local", "Parameters": ["command"]}, "SerializationException"),
        ("StartSession", b"{", "SerializationException"),
        ("StartSession", b"[]", "SerializationException"),
        ("StartSession", b"\xff", "SerializationException"),
        ("NoSuchOperation", {}, "UnknownOperationException"),
        ("", {}, "UnknownOperationException"),
    ],
)
def test_refusals_have_the_services_shape(operation: str, body: bytes | dict[str, Any], code: str) -> None:
    response = call(FakeService(), operation, body)
    error = json.loads(response.body)
    assert response.status == 400
    assert error["__type"] == code
    assert error["message"]


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "MissingAuthenticationTokenException"),
        ("Bearer AKIASANDBOX/", "UnrecognizedClientException"),
        (AUTHORIZATION.replace(KEY, "AKIAOTHER"), "UnrecognizedClientException"),
        (AUTHORIZATION.replace(KEY, "ÄKIA"), "UnrecognizedClientException"),
    ],
)
def test_only_the_holder_of_the_access_key_is_served(authorization: str | None, code: str) -> None:
    service = FakeService()
    response = call(service, "StartSession", {"Target": "local"}, authorization)
    assert response.status == 400
    assert json.loads(response.body)["__type"] == code
    assert not service.calls


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/other"), ("OPTIONS", "/")])
def test_anything_else_is_not_found(method: str, path: str) -> None:
    response = make_api(FakeService()).respond(HttpRequest(method, path, {"authorization": AUTHORIZATION}, b""))
    assert response.status == 404


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(StartedSession("s-1", "ws://h/x", "secret"))
