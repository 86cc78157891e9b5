"""Why AWS did not do what was asked, in one sentence: the cause, and what to do.

It knows botocore's exceptions by their names: importing them would take longer than everything else together.
"""

from __future__ import annotations

import os
from typing import Any

from session_manager_plugin.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectError,
    SessionManagerError,
)
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


def aws_failure(error: Exception, doing: str, *, permission: str, profile: str | None) -> SessionManagerError:
    """The exception to raise for `error` of botocore.

    `doing` begins the sentence, as "KMS gives no data key of K"; `permission` is what the credentials need for it, as
    "kms:GenerateDataKey for that key". `profile` is the one that was asked for, if there was one.
    """
    profile = profile or os.environ.get("AWS_PROFILE")
    option = f" --profile {profile}" if profile else ""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, SessionManagerError):
        return error
    if "ClientError" in kinds:
        return _refusal(error, doing, permission, option)
    if kinds & _NO_LOGIN:
        return AccessDenied(f"{doing}: the SSO login has expired or was never made; run aws sso login{option}")
    if kinds & {"NoCredentialsError", "CredentialRetrievalError"}:
        reason = "there are no AWS credentials" if "NoCredentialsError" in kinds else str(error)
        return ConfigurationError(
            f"{doing}: {reason}; set AWS_PROFILE, give --profile, or run aws configure{option} or aws sso login{option}"
        )
    if "PartialCredentialsError" in kinds:
        return ConfigurationError(f"{doing}: {error}; set the missing one too, or remove the others")
    if "ProfileNotFound" in kinds:
        return ConfigurationError(f"{doing}: {error}; aws configure list-profiles shows those that there are")
    if "NoRegionError" in kinds:
        return ConfigurationError(f"{doing}: the region is not known; give --region, or set AWS_REGION")
    if "JSONDecodeError" in kinds:
        return ConfigurationError(
            f"{doing}: a credential process or a cache file of the AWS CLI holds no JSON; "
            f"run aws sts get-caller-identity{option} to see which"
        )
    if kinds & {"SSLError"}:
        return ConnectError(
            f"{doing}: {without_ssl_codes(str(error))}; if a proxy inspects TLS here, give its CA in AWS_CA_BUNDLE"
        )
    if "ProxyConnectionError" in kinds:
        return ConnectError(f"{doing}: {error}; check HTTPS_PROXY and NO_PROXY", retryable=True)
    if kinds & {"HTTPClientError", "ConnectionError"}:
        return ConnectError(
            f"{doing}: {error}; check the network, the proxy (HTTPS_PROXY) and the region", retryable=True
        )
    return ConfigurationError(
        f"{doing}: {error}; aws sts get-caller-identity{option} shows whether the credentials work"
    )


def _refusal(error: Any, doing: str, permission: str, option: str) -> SessionManagerError:
    answer = error.response.get("Error", {})
    code, message = str(answer.get("Code", "")), str(answer.get("Message", ""))
    told = f"{doing}: {code}: {message}".rstrip(": ").rstrip(".")
    if code in _DENIED:
        return AccessDenied(f"{told}; these credentials need the permission {permission}")
    if code in _EXPIRED:
        return AccessDenied(
            f"{told}; the credentials have expired: run aws sso login{option}, or get new ones where you got them"
        )
    if code in _UNKNOWN:
        return AccessDenied(f"{told}; AWS does not know these credentials: check the access key, and its partition")
    if code in _UNSIGNED:
        return AccessDenied(f"{told}; check this machine's clock, and the secret key")
    if code in _BUSY:
        return ConnectError(f"{told}; AWS is busy: try again in a minute", retryable=True)
    return ConnectError(f"{told}; {_OTHERS[code]}" if code in _OTHERS else told)
