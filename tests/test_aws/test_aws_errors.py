"""The table of AWS's errors."""

from __future__ import annotations

import botocore.exceptions
import botocore.session
import pytest

from session_manager_plugin.aws.aws_errors import EXCEPTIONS, aws_failure, explain, refuses_credentials
from session_manager_plugin.errors import AccessDenied, ConnectError, SessionManagerError


def refused(code: str, message: str = "no") -> botocore.exceptions.ClientError:
    return botocore.exceptions.ClientError({"Error": {"Code": code, "Message": message}}, "ResumeSession")


@pytest.mark.parametrize(
    "error",
    [
        refused("RequestExpired"),
        refused("RequestExpiredException"),
        refused("RequestTimeTooSkewed"),
        refused("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than 2026"),
        refused("SignatureDoesNotMatch", "Signature not yet current: 20260101T000000Z is still later than 2026"),
    ],
)
def test_a_request_that_has_expired_means_the_clock(error: Exception) -> None:
    found = explain(error, permission="x", profile=None)
    assert found.failure is AccessDenied
    assert found.advice.startswith("this machine's clock is wrong")
    assert not refuses_credentials(error)


def test_the_nearest_class_counts() -> None:
    """An ``SSLError`` is a ``ConnectionError`` and an ``HTTPClientError`` too."""
    ssl = aws_failure(
        botocore.exceptions.SSLError(endpoint_url="https://x", error="odd"), "f", permission="", profile=None
    )
    network = aws_failure(
        botocore.exceptions.EndpointConnectionError(endpoint_url="https://x"), "f", permission="", profile=None
    )
    assert isinstance(ssl, ConnectError)
    assert not ssl.retryable
    assert isinstance(network, ConnectError)
    assert network.retryable


def test_braces_in_a_message_are_shown_as_they_are() -> None:
    failure = aws_failure(refused("Odd", "{option} {0}"), "ResumeSession failed", permission="", profile=None)
    assert str(failure) == "ResumeSession failed: Odd: {option} {0}"


@pytest.mark.parametrize("name", sorted(EXCEPTIONS))
def test_the_names_are_botocores(name: str) -> None:
    assert hasattr(botocore.exceptions, name) or name in ("JSONDecodeError", "OSError")


@pytest.mark.parametrize("code", ["ExpiredTokenException", "UnrecognizedClientException"])
def test_other_credentials_may_be_accepted(code: str) -> None:
    assert refuses_credentials(refused(code))
    assert not refuses_credentials(refused("AccessDeniedException"))
    assert not refuses_credentials(SessionManagerError("x"))


DENIAL = "User: alice is not authorized to perform: "


@pytest.mark.parametrize(
    ("code", "message", "what"),
    [
        (
            "AccessDeniedException",
            f"{DENIAL}ssm:A on resource: arn:aws:ssm:x:1:* because no identity-based policy allows the ssm:A action",
            "alice needs ssm:A on arn:aws:ssm:x:1:*",
        ),
        (
            "UnauthorizedOperation",
            f"You are not authorized to perform this operation. {DENIAL}ec2:B because no policy allows it",
            "alice needs ec2:B",
        ),
        (
            "AccessDeniedException",
            f"{DENIAL}kms:C on resource: arn:aws:kms:x:1:key/k with an explicit deny in a service control policy",
            "alice needs kms:C on arn:aws:kms:x:1:key/k, which a service control policy denies explicitly",
        ),
    ],
)
def test_a_denial_names_the_action_and_the_resource_once(code: str, message: str, what: str) -> None:
    error = aws_failure(refused(code, message), "Listing failed", permission="x:Y", profile=None)
    assert isinstance(error, AccessDenied)
    assert str(error) == f"Listing failed: {what}; have an administrator allow it"


def test_a_denial_in_other_words_is_shown_with_the_permission() -> None:
    error = aws_failure(refused("AccessDenied"), "Listing failed", permission="x:Y", profile=None)
    assert str(error) == "Listing failed: AccessDenied: no; these credentials need the permission x:Y"


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"region_name": "us east"}, "correct --region, AWS_REGION or the region of the profile"),
        ({"endpoint_url": "foo"}, "correct --endpoint-url, or the AWS_ENDPOINT_URL that is set"),
        ({"endpoint_url": "http://127.0.0.1:99999"}, "correct --endpoint-url, or the AWS_ENDPOINT_URL that is set"),
        ({}, "correct that value"),
    ],
)
def test_a_wrong_value_is_not_called_a_matter_of_credentials(options: dict[str, str], advice: str) -> None:
    """A region or an endpoint may come from the environment; botocore refuses them by itself."""
    session = botocore.session.Session()
    keys = {"aws_access_key_id": "AKIAX", "aws_secret_access_key": "x"}
    with pytest.raises(Exception, match=r"\w") as raised:
        session.create_client("ssm", **{"region_name": "eu-west-1", **keys, **options}).terminate_session(
            SessionId="a" if options else ""
        )
    found = explain(raised.value, permission="x", profile=None)
    assert found.advice == advice
