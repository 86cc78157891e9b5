"""Explaining errors of AWS: a table from botocore's exceptions and AWS's error codes to our exceptions.

botocore's exceptions are identified by the names of their classes, because importing them takes longer than importing
everything else.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from session_manager_plugin.aws.profile import login_profile, selected_profile
from session_manager_plugin.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectError,
    SessionManagerError,
    UsageError,
)
from session_manager_plugin.utils.logging import redact
from session_manager_plugin.utils.proxy_url import environments_fault
from session_manager_plugin.utils.text import without_ssl_codes


class _Row(NamedTuple):
    failure: type[SessionManagerError]
    """The exception to raise."""
    advice: str
    """What to do. ``{option}`` stands for `` --profile NAME``, ``{login}`` for that of the profile to log in with,
    ``{permission}`` for the permission that is needed."""
    what: str = ""
    """What happened, in place of botocore's text."""
    retryable: bool = False
    """Whether a ``ConnectError`` may pass by itself."""


_SSO_LOGIN = _Row(AccessDenied, "run aws sso login{login}", "the SSO login has expired or was never made")
_LOGIN = _Row(AccessDenied, "run aws login{login}", "the login has expired or was never made")
_CREDENTIALS = "set AWS_PROFILE, give --profile, or run aws configure{option} or aws sso login{option}"
NEEDS_CODE = "run smp ls{option} at a terminal, which asks for it"
_CONFIG_FILE = _Row(ConfigurationError, "repair the AWS config file")
_NETWORK = _Row(ConnectError, "check the network, the proxy (HTTPS_PROXY) and the region", retryable=True)
EXCEPTIONS = {
    "ConfigNotFound": _CONFIG_FILE,
    "ConfigParseError": _CONFIG_FILE,
    "ConnectionError": _NETWORK,
    "CredentialRetrievalError": _Row(ConfigurationError, _CREDENTIALS),
    "HTTPClientError": _NETWORK,
    "InvalidConfigError": _CONFIG_FILE,
    "InvalidRegionError": _Row(ConfigurationError, "correct --region, AWS_REGION or the region of the profile"),
    "JSONDecodeError": _Row(
        ConfigurationError,
        "run aws sts get-caller-identity{option} to see which",
        "a credential process or a cache file of the AWS CLI holds no JSON",
    ),
    "LoginInsufficientPermissions": _Row(AccessDenied, "the user of the login needs signin:CreateOAuth2Token"),
    "LoginRefreshRequired": _LOGIN,
    "LoginTokenLoadError": _LOGIN,
    "MissingDependencyException": _Row(
        ConfigurationError,
        "install python-session-manager-plugin[login]",
        "profiles of aws login need an extra package",
    ),
    "NoCredentialsError": _Row(ConfigurationError, _CREDENTIALS, "there are no AWS credentials"),
    "NoRegionError": _Row(ConfigurationError, "give --region, or set AWS_REGION", "the region is not known"),
    "OSError": _Row(ConfigurationError, "check the credential_process and the files of the profile"),
    "ParamValidationError": _Row(UsageError, "correct that value"),
    "PartialCredentialsError": _Row(ConfigurationError, "set the missing one too, or remove the others"),
    "ProfileNotFound": _Row(ConfigurationError, "run aws configure list-profiles to see the profiles"),
    "ProxyConnectionError": _Row(ConnectError, "check HTTPS_PROXY and NO_PROXY", retryable=True),
    "RefreshWithMFAUnsupportedError": _Row(ConfigurationError, NEEDS_CODE, "the profile needs an MFA code"),
    "SSLError": _Row(ConnectError, "if a proxy inspects TLS here, set AWS_CA_BUNDLE to the file of its CA"),
    "SSOError": _SSO_LOGIN,
    "SSOTokenLoadError": _SSO_LOGIN,
    "TokenRetrievalError": _SSO_LOGIN,
    "UnauthorizedSSOTokenError": _SSO_LOGIN,
}
"""By the name of the exception's class, or of the nearest base class in this table."""
_CREDENTIAL_PROCESS = "Error when retrieving credentials from custom-process: "
_WRONG_ENDPOINT = _Row(ConfigurationError, "correct --endpoint-url, or the AWS_ENDPOINT_URL that is set")
TEXTS = {
    _CREDENTIAL_PROCESS: _Row(ConfigurationError, "check the credential_process of the profile"),
    "Invalid endpoint: ": _WRONG_ENDPOINT,
    "Port out of range": _WRONG_ENDPOINT,
    "Credentials were refreshed, but the refreshed credentials are still expired": _Row(
        AccessDenied, "renew them where they come from", "the credentials of the profile have expired"
    ),
}
"""By the beginning of the text, for exceptions whose class does not say enough."""
_UNEXPLAINED = _Row(ConfigurationError, "run aws sts get-caller-identity{option} to see whether the credentials work")

_BUSY = _Row(ConnectError, "AWS is busy: try again in a minute", retryable=True)
_THROTTLED = _Row(ConnectError, "too many requests in this account: try again in a minute", retryable=True)
_CLOCK = _Row(AccessDenied, "this machine's clock is wrong: set it, best by NTP")
_DENIED = _Row(AccessDenied, "these credentials need the permission {permission}")
_EXPIRED_CREDENTIALS = _Row(
    AccessDenied, "the credentials have expired: run aws sso login{login}, or renew them where they come from"
)
_UNKNOWN_CREDENTIALS = _Row(
    AccessDenied, "AWS does not know these credentials: check the access key, and its partition"
)
_WRONG_CODE = _Row(AccessDenied, "try again with the next one", "the MFA code is wrong, or was used already")
_WRONG_SIGNATURE = _Row(AccessDenied, "check the secret key, and this machine's clock")
_KEY_NOT_USABLE = _Row(ConnectError, "have the key enabled, or choose another one in the session's preferences")
_NOT_CONNECTED = _Row(
    ConnectError,
    "check the target's id and the region; the target must be running, and its SSM agent needs access to "
    "ssmmessages and a role (AmazonSSMManagedInstanceCore; for ECS a task role, and enableExecuteCommand); "
    "run smp probe to check this machine",
)
CODES = {
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "AuthException": _DENIED,
    "AuthFailure": _UNKNOWN_CREDENTIALS,
    "ClusterNotFoundException": _Row(ConnectError, "check the cluster's name, --region and --profile"),
    "DisabledException": _KEY_NOT_USABLE,
    "DoesNotExistException": _Row(ConnectError, "the session is over; start a new one"),
    "EC2InstanceNotFoundException": _Row(ConnectError, "check the instance's id, --region and --profile"),
    "EC2InstanceStateInvalidException": _Row(ConnectError, "start the instance"),
    "ExpiredToken": _EXPIRED_CREDENTIALS,
    "ExpiredTokenException": _EXPIRED_CREDENTIALS,
    "IncompleteSignature": _WRONG_SIGNATURE,
    "InternalServerError": _BUSY,
    "InvalidAccessKeyId": _UNKNOWN_CREDENTIALS,
    "InvalidCiphertextException": _Row(ConnectError, "check that --target is the session's own target"),
    "InvalidClientTokenId": _UNKNOWN_CREDENTIALS,
    "InvalidDocument": _Row(ConnectError, "check the document's name and the region"),
    "InvalidSignatureException": _WRONG_SIGNATURE,
    "InvalidTarget": _Row(ConnectError, "check the target's id; it begins with i-, mi- or ecs:"),
    "KMSInvalidStateException": _KEY_NOT_USABLE,
    "NotFoundException": _Row(ConnectError, "check the key's id in the session's preferences, and the region"),
    "RequestLimitExceeded": _THROTTLED,
    "RequestExpired": _CLOCK,
    "RequestExpiredException": _CLOCK,
    "RequestTimeTooSkewed": _CLOCK,
    "ServiceNotFoundException": _Row(ConnectError, "check the names of the cluster and of the service or task"),
    "ServiceUnavailable": _BUSY,
    "SignatureDoesNotMatch": _WRONG_SIGNATURE,
    "TargetNotConnected": _NOT_CONNECTED,
    "TargetNotConnectedException": _NOT_CONNECTED,
    "Throttling": _THROTTLED,
    "ThrottlingException": _THROTTLED,
    "TooManyRequestsException": _THROTTLED,
    "UnauthorizedOperation": _DENIED,
    "UnrecognizedClientException": _UNKNOWN_CREDENTIALS,
}
"""By the error code in a service's response."""
_REFUSED = _Row(ConnectError, "")
ASK = "have an administrator allow it"
"""What to do about a denial."""
_DENIAL = re.compile(
    r"(?:User: (?P<user>\S+) is )?not authorized to perform: (?P<action>[\w*-]+:[\w*-]+)"
    r"(?: on resource: (?P<resource>\S+))?"
)
_EXPLICIT = re.compile(r"explicit deny in an? (?P<policy>[a-z -]*policy)")
"""IAM User Guide, Troubleshoot access denied error messages."""
_SIGNATURE_TIMES = ("Signature expired", "Signature not yet current")
"""The beginnings of AWS's texts for a signature with a wrong time."""


class Explanation(NamedTuple):
    """What happened, what to do, and the exception to raise."""

    what: str
    advice: str
    """What to do; empty if unknown."""
    failure: type[SessionManagerError]
    retryable: bool = False
    """Whether a ``ConnectError`` may pass by itself."""


def aws_failure(error: Exception, doing: str, *, permission: str, profile: str | None) -> SessionManagerError:
    """Return the exception to raise for an ``error`` of botocore. An exception of ours is returned unchanged.

    ``doing`` begins the sentence: "ResumeSession failed". ``permission`` is the required permission:
    "kms:GenerateDataKey for that key". ``profile`` is the requested profile, or None.
    """
    if isinstance(error, SessionManagerError):
        return error
    what, advice, failure, retryable = explain(error, permission=permission, profile=profile)
    sentence = f"{doing}: {what}; {advice}" if advice else f"{doing}: {what}"
    return ConnectError(sentence, retryable=retryable) if failure is ConnectError else failure(sentence)


def explain(error: Exception, *, permission: str, profile: str | None) -> Explanation:
    """Explain an exception of botocore. ``permission`` and ``profile`` are those of ``aws_failure``.

    If the exception is not a service's response and has a note, the note replaces the advice.
    """
    code = error_code(error)
    if code and CODES.get(code) is _DENIED and (denial := find_denial(_message(error))) is not None:
        return Explanation(denial.sentence, ASK, AccessDenied)
    if not code and (fault := _proxy_fault(error)) is not None:
        return fault
    row = _row_of_code(code, _message(error)) if code else _row_of_exception(error)
    text = f"{code}: {_message(error)}".rstrip(": ") if code else _text_of(error)
    notes = getattr(error, "__notes__", ()) if not code else ()
    advice = "; ".join(notes) or _fill(row.advice, permission, profile)
    return Explanation(row.what or redact(text).rstrip(".\n "), advice, row.failure, row.retryable)


def profile_option(profile: str | None) -> str:
    """Return `` --profile NAME`` for a command line; empty for the default profile. None is that of the environment."""
    return _option(selected_profile(profile, os.environ))


def _option(name: str | None) -> str:
    return f" --profile {shlex.quote(name)}" if name else ""


def _fill(advice: str, permission: str, profile: str | None) -> str:
    if "{login}" in advice:
        advice = advice.replace("{login}", _option(login_profile(profile, os.environ)))
    return advice.replace("{option}", profile_option(profile)).replace("{permission}", permission)


class Denial(NamedTuple):
    """What a refusal by IAM names."""

    user: str
    """ARN of the caller; empty if it is not named."""
    action: str
    resource: str
    """ARN; empty if it is not named."""
    policy: str
    """The kind of policy that denies it explicitly ("service control policy"); empty if none allows it."""

    @property
    def sentence(self) -> str:
        """What is missing."""
        resource = f" on {self.resource}" if self.resource else ""
        policy = f", which a {self.policy} denies explicitly" if self.policy else ""
        return f"{self.user or 'the caller'} needs {self.action}{resource}{policy}"


def find_denial(text: str) -> Denial | None:
    """Return what the text of a refusal names, or None if it has another form."""
    found = _DENIAL.search(text)
    if found is None:
        return None
    explicit = _EXPLICIT.search(text)
    user, action, resource = found.group("user", "action", "resource")
    return Denial(user or "", action, (resource or "").rstrip(".,"), explicit["policy"] if explicit else "")


def error_code(error: Exception) -> str:
    """Return the error code of a service's response; empty for another error."""
    return _answer(error, "Code")


def is_throttled(answer: Mapping[str, Any]) -> bool:
    """Whether the answer of a service says that there were too many requests."""
    return CODES.get(answer.get("Error", {}).get("Code", "")) is _THROTTLED


def is_caused_by_throttling(error: SessionManagerError) -> bool:
    """Whether a call failed because there were too many requests; ``error`` is that of ``aws_failure``."""
    return isinstance(error.__cause__, Exception) and CODES.get(error_code(error.__cause__)) is _THROTTLED


def refuses_credentials(error: Exception) -> bool:
    """Whether a service has refused the credentials themselves, so that other credentials may be accepted."""
    return CODES.get(error_code(error)) in (_EXPIRED_CREDENTIALS, _UNKNOWN_CREDENTIALS)


def _message(error: Exception) -> str:
    return _answer(error, "Message")


def _answer(error: Exception, key: str) -> str:
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get(key, "")) if isinstance(response, dict) else ""


def _row_of_code(code: str, message: str) -> _Row:
    if message.startswith("MultiFactorAuthentication failed"):
        return _WRONG_CODE
    row = CODES.get(code, _REFUSED)
    return _CLOCK if row is _WRONG_SIGNATURE and message.startswith(_SIGNATURE_TIMES) else row


def _row_of_exception(error: Exception) -> _Row:
    text = str(error)
    for beginning, row in TEXTS.items():
        if text.startswith(beginning):
            return row
    names = (kind.__name__ for kind in type(error).__mro__)
    return next((EXCEPTIONS[name] for name in names if name in EXCEPTIONS), _UNEXPLAINED)


def _text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    text = str(error)
    if text.startswith(_CREDENTIAL_PROCESS):
        return f"the credential process failed: {text.removeprefix(_CREDENTIAL_PROCESS)}"
    return without_ssl_codes(text)


def _proxy_fault(error: Exception) -> Explanation | None:
    """Explain a wrong URL of the environment's proxy, for an error that it may have caused: botocore has no exception
    for that."""
    if type(error).__name__ not in ("HTTPClientError", "ProxyConnectionError"):
        return None
    fault = environments_fault()
    if fault is None:
        return None
    what, _, advice = fault.partition("; ")
    return Explanation(what, advice, ConfigurationError)
