"""Signatures of opening requests, as the sandbox verifies them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from session_manager_plugin.agent.http_messages import HttpRequest, RequestReader
from session_manager_plugin.agent.signature import SignatureVerifier

SIGNED_AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
VERIFIER = SignatureVerifier(
    "AKIDEXAMPLE",
    "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "",
    "us-east-1",
    "service",
    required=True,
    now=lambda: SIGNED_AT,
)
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, "
    "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
)
"""Of the case get-vanilla in AWS's Signature Version 4 test suite, whose keys and times these are."""


def request(authorization: str, *headers: str, path: str = "/", date: str = "20150830T123600Z") -> HttpRequest:
    reader = RequestReader()
    lines = [
        f"GET {path} HTTP/1.1",
        "Host:example.amazonaws.com",
        f"X-Amz-Date:{date}",
        f"Authorization: {authorization}",
    ]
    reader.feed("\r\n".join([*lines, *headers, "", ""]).encode())
    read = reader.next_request()
    assert read is not None
    return read


def test_a_right_signature() -> None:
    assert VERIFIER.refusal(request(AUTHORIZATION, "Upgrade: websocket", "User-Agent: not signed")) is None


@pytest.mark.parametrize("minutes", [-5, 5])
def test_clocks_may_differ_by_five_minutes(minutes: int) -> None:
    now = SIGNED_AT + 60 * minutes
    late = SIGNED_AT + 61 * minutes
    assert replace(VERIFIER, now=lambda: now).refusal(request(AUTHORIZATION)) is None
    refusal = replace(VERIFIER, now=lambda: late).refusal(request(AUTHORIZATION))
    assert refusal is not None
    assert refusal.startswith("Signature expired" if minutes > 0 else "Signature not yet current")


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (request(AUTHORIZATION, path="/other"), "does not match"),
        (request(AUTHORIZATION, path="/?a=b"), "does not match"),
        (request(f"{AUTHORIZATION[:-1]}0"), "does not match"),
        (request(AUTHORIZATION, date="20150830T123601Z"), "does not match"),
        (request(AUTHORIZATION, date="today"), "Date must be in ISO-8601"),
        (request(AUTHORIZATION.replace("AKIDEXAMPLE", "AKIDOTHER")), "security token .* is invalid"),
        (request(AUTHORIZATION, "X-Amz-Security-Token: of another key"), "security token .* is invalid"),
        (request(AUTHORIZATION.replace("us-east-1", "eu-west-1")), "should be scoped to 20150830/us-east-1/service"),
        (request(AUTHORIZATION.replace("/service/", "/ssm/")), "should be scoped to"),
        (request(AUTHORIZATION.replace("host;", "")), "must be a 'SignedHeader'"),
        (request(AUTHORIZATION[:-1]), "Authorization header requires"),
        (request("Bearer token"), "Missing Authentication Token"),
        (request(""), "Missing Authentication Token"),
    ],
)
def test_wrong_signatures(refused: HttpRequest, said: str) -> None:
    refusal = VERIFIER.refusal(refused)
    assert refusal is not None
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(refusal)


def test_a_session_token_has_to_be_there_and_to_be_signed() -> None:
    verifier = replace(VERIFIER, session_token="the session token")
    assert verifier.refusal(request(AUTHORIZATION)) == "The security token included in the request is invalid."
    refusal = verifier.refusal(request(AUTHORIZATION, "X-Amz-Security-Token: the session token"))
    assert refusal is not None
    assert "must be a 'SignedHeader'" in refusal


def test_an_unsigned_request_where_no_signature_is_required() -> None:
    verifier = replace(VERIFIER, required=False)
    assert verifier.refusal(request("Bearer token")) is None
    assert verifier.refusal(request(AUTHORIZATION, path="/other")) is not None
