"""Whose credentials a request was made with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from session_manager_plugin.agent.api import Caller
from session_manager_plugin.agent.callers import Callers
from session_manager_plugin.agent.http_messages import HttpRequest
from session_manager_plugin.agent.signature import SignatureVerifier
from session_manager_plugin.agent.temporary_credentials import TemporaryCredentials

REGION, SERVICE = "us-east-1", "ssmmessages"
NOW = datetime.now(UTC).timestamp()
OWN = SignatureVerifier("AKIAOWN", "own", "", REGION, SERVICE, required=True, now=lambda: NOW)
TEMPORARY = TemporaryCredentials(Caller("arn:alice", frozenset({"i-1"})), "ASIATEMP", "secret", "token", NOW + 60)


def signed(key: str, secret: str, token: str | None) -> HttpRequest:
    """A request as botocore signs it."""
    request = AWSRequest("GET", "http://127.0.0.1:80/v1/data-channel/s-1?role=publish_subscribe")
    SigV4Auth(Credentials(key, secret, token), SERVICE, REGION).add_auth(request)
    headers = {name.lower(): value for name, value in request.headers.items()}
    path = "/v1/data-channel/s-1?role=publish_subscribe"
    return HttpRequest("GET", path, {"host": "127.0.0.1", **headers}, b"")


def test_the_owner_of_an_access_key() -> None:
    callers = Callers(OWN, lambda: "arn:bob")
    assert callers.find("AKIAOWN") == Caller("arn:bob")
    assert callers.find("ASIATEMP") is None
    callers.admit(TEMPORARY)
    assert callers.find("ASIATEMP") == TEMPORARY.caller
    callers.admit(replace(TEMPORARY, access_key_id="ASIAOLD", expires_at=NOW - 1))
    assert callers.find("ASIAOLD") is None


def test_a_websocket_may_be_opened_with_temporary_credentials() -> None:
    callers = Callers(OWN, lambda: "arn:bob")
    request = signed("ASIATEMP", "secret", "token")
    assert callers.signature_refusal(request) is not None
    callers.admit(TEMPORARY)
    assert callers.signature_refusal(request) is None
    assert callers.signature_refusal(signed("ASIATEMP", "wrong", "token")) is not None
    assert callers.signature_refusal(signed("ASIATEMP", "secret", None)) is not None
    assert callers.signature_refusal(signed("AKIAOWN", "own", None)) is None


def test_secrets_are_not_shown() -> None:
    assert "token" not in repr(TEMPORARY)
    assert "secret" not in repr(TEMPORARY)
