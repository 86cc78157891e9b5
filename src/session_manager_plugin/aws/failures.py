"""Why AWS did not do what was asked, in one sentence: the cause, and what to do.

It knows botocore's exceptions by their names: importing them would take longer than everything else together.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from session_manager_plugin.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectError,
    SessionManagerError,
)
from session_manager_plugin.utils.logging import redact
from session_manager_plugin.utils.proxy_url import environments_fault
from session_manager_plugin.utils.text import without_ssl_codes

_NO_LOGIN = frozenset(
    {
        "UnauthorizedSSOTokenError",
        "SSOTokenLoadError",
        "SSOError",
        "TokenRetrievalError",
        "PendingAuthorizationExpiredError",
    }
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException"})
_UNKNOWN = frozenset({"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "AuthFailure"})
_UNSIGNED = frozenset({"SignatureDoesNotMatch", "InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"})
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"})
_BUSY = frozenset(
    {"ThrottlingException", "Throttling", "TooManyRequestsException", "InternalServerError", "ServiceUnavailable"}
)
_OTHERS = {
    "TargetNotConnected": (
        "check the target's id and the region; it has to run, and its SSM agent needs a way to ssmmessages and a role "
        "(AmazonSSMManagedInstanceCore; for ECS a task role, and enableExecuteCommand); smp probe looks closer"
    ),
    "InvalidTarget": "check the target's id; it begins with i-, mi- or ecs:",
    "DoesNotExistException": "the session is over; start a new one",
    "InvalidDocument": "check the document's name and the region",
    "NotFoundException": "check the key's id in the session's preferences, and the region",
    "DisabledException": "have the key enabled, or choose another one in the session's preferences",
    "KMSInvalidStateException": "have the key enabled, or choose another one in the session's preferences",
    "InvalidCiphertextException": "check that --target is the session's own target",
}


class Explanation(NamedTuple):
    """What went wrong, what to do, and the exception for it."""

    what: str
    advice: str
    """Empty where nothing is known."""
    failure: type[SessionManagerError]
    retryable: bool = False
    """Only of a `ConnectError`."""


def aws_failure(error: Exception, doing: str, *, permission: str, profile: str | None) -> SessionManagerError:
    """The exception to raise for `error` of botocore.

    `doing` begins the sentence, as "KMS gives no data key of K"; `permission` is what the credentials need for it, as
    "kms:GenerateDataKey for that key". `profile` is the one that was asked for, if there was one.
    """
    if isinstance(error, SessionManagerError):
        return error
    what, advice, failure, retryable = explain(error, permission=permission, profile=profile)
    sentence = f"{doing}: {what}; {advice}" if advice else f"{doing}: {what}"
    return ConnectError(sentence, retryable=retryable) if failure is ConnectError else failure(sentence)


def explain(error: Exception, *, permission: str, profile: str | None) -> Explanation:
    """What an exception of botocore means. `permission` and `profile` are those of `aws_failure`."""
    profile = profile or os.environ.get("AWS_PROFILE")
    option = f" --profile {profile}" if profile else ""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = _text(error)
    if "ClientError" in kinds:
        return _refusal(error, permission, option)
    if kinds & _NO_LOGIN:
        return Explanation("the SSO login has expired or was never made", f"run aws sso login{option}", AccessDenied)
    if kinds & {"LoginTokenLoadError", "LoginRefreshRequired"}:
        return Explanation("the login has expired or was never made", f"run aws login{option}", AccessDenied)
    if kinds & {"NoCredentialsError", "CredentialRetrievalError"}:
        return Explanation(
            "there are no AWS credentials" if "NoCredentialsError" in kinds else text,
            f"set AWS_PROFILE, give --profile, or run aws configure{option} or aws sso login{option}",
            ConfigurationError,
        )
    if "PartialCredentialsError" in kinds:
        return Explanation(text, "set the missing one too, or remove the others", ConfigurationError)
    if "ProfileNotFound" in kinds:
        return Explanation(text, "aws configure list-profiles shows those that there are", ConfigurationError)
    if kinds & {"ConfigParseError", "ConfigNotFound"}:
        return Explanation(text, "repair the AWS config file", ConfigurationError)
    if "NoRegionError" in kinds:
        return Explanation("the region is not known", "give --region, or set AWS_REGION", ConfigurationError)
    if "JSONDecodeError" in kinds:
        return Explanation(
            "a credential process or a cache file of the AWS CLI holds no JSON",
            f"run aws sts get-caller-identity{option} to see which",
            ConfigurationError,
        )
    return _network_failure(error, kinds) or Explanation(
        text, f"aws sts get-caller-identity{option} shows whether the credentials work", ConfigurationError
    )


def _network_failure(error: Exception, kinds: set[str]) -> Explanation | None:
    text = _text(error)
    if "SSLError" in kinds:
        return Explanation(text, "if a proxy inspects TLS here, give its CA in AWS_CA_BUNDLE", ConnectError)
    # A proxy's URL that makes no sense has no exception of its own.
    if ("ProxyConnectionError" in kinds or type(error).__name__ == "HTTPClientError") and (
        fault := environments_fault()
    ):
        what, _, advice = fault.partition("; ")
        return Explanation(what, advice, ConfigurationError)
    if "ProxyConnectionError" in kinds:
        return Explanation(text, "check HTTPS_PROXY and NO_PROXY", ConnectError, retryable=True)
    if kinds & {"HTTPClientError", "ConnectionError"}:
        return Explanation(
            text, "check the network, the proxy (HTTPS_PROXY) and the region", ConnectError, retryable=True
        )
    return None


def error_code(error: Exception) -> str:
    """Return the service's name for the reason why it refused a call; empty for another error."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def refuses_credentials(error: Exception) -> bool:
    """Whether a service refused the credentials themselves: others may be accepted."""
    return error_code(error) in _EXPIRED | _UNKNOWN


def _refusal(error: Any, permission: str, option: str) -> Explanation:
    answer = error.response.get("Error", {})
    code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
    what = redact(f"{code}: {message}".rstrip(": ").rstrip("."))
    if code in _DENIED:
        return Explanation(what, f"these credentials need the permission {permission}", AccessDenied)
    if code in _EXPIRED:
        return Explanation(
            what,
            f"the credentials have expired: run aws sso login{option}, or get new ones where you got them",
            AccessDenied,
        )
    if code in _UNKNOWN:
        advice = "AWS does not know these credentials: check the access key, and its partition"
        return Explanation(what, advice, AccessDenied)
    if code in _UNSIGNED:
        return Explanation(what, "check this machine's clock, and the secret key", AccessDenied)
    if code in _BUSY:
        return Explanation(what, "AWS is busy: try again in a minute", ConnectError, retryable=True)
    return Explanation(what, _OTHERS.get(code, ""), ConnectError)


def _text(error: Exception) -> str:
    """What botocore says, without secrets, OpenSSL's codes and the full stop."""
    return without_ssl_codes(redact(str(error))).rstrip(".")
