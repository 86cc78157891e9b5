"""Why a data channel could not be opened, in one sentence: what happened, to which host, what to try."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import ssl
from http import HTTPStatus

from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.http11 import Response

from session_manager_plugin.communicator.opening_signature import OpeningSignature
from session_manager_plugin.errors import ConfigurationError, ConnectError, InvalidURL, Refused, SessionManagerError
from session_manager_plugin.utils.logging import redact_url

_RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
SIGNING_PERMISSION = "ssmmessages:OpenDataChannel"
"""What the credentials need that sign an opening request."""
_MAX_BODY_SIZE = 8192
_MAX_TEXT_LENGTH = 300
_CA_ADVICE = "if a proxy inspects TLS here, give its CA with --ca-bundle or AWS_CA_BUNDLE"
_CERTIFICATE_ADVICE = {
    9: "check this machine's clock",
    10: "check this machine's clock, or tell whoever runs the host",
    62: "check the host of the URL",
    64: "check the host of the URL",
}
"""By OpenSSL's verification error: not yet valid, expired, wrong host name, wrong address."""


def connect_failure(
    error: Exception,
    host: str,
    *,
    via: str,
    timeout: float,
    issuer: str = "",
    signature: OpeningSignature | None = None,
) -> SessionManagerError:
    """The exception to raise for ``error``, which opening a websocket to ``host`` (``name:port``) gave.

    ``via`` is what was dialled instead, a proxy or an address, or empty; ``timeout`` is in seconds. ``issuer`` is that
    of a certificate that was not trusted, if it is known. ``signature`` is that of the request, if one was wanted.
    """
    dialled = via or host
    through = f"{host} through {via}" if via else host
    match error:
        case SessionManagerError():
            return error
        case InvalidURI():
            return InvalidURL(f"the stream URL for {host} cannot be used: {redact_url(error.msg)}")
        case InvalidStatus():
            return _refused(error.response, host, signature)
        case InvalidProxyStatus():
            status = error.response.status_code
            return Refused(
                f"{via} refused the connection to {host} with status {status}{_advice_for_proxy(status)}",
                host=host,
                status=status,
                retryable=status in _RETRYABLE_STATUS,
            )
        case InvalidProxy():
            return ConfigurationError(f"{via} cannot be used: {redact_url(error.msg)}")
        case ProxyError():
            return ConnectError(f"{via} gave no connection to {host}: {_text(error)}", host=host, retryable=True)
        case InvalidMessage():
            return ConnectError(
                f"{host} did not answer as a websocket server does: it closed the connection or does not speak HTTP; "
                "check the host, the port and the scheme (ws or wss)",
                host=host,
                retryable=isinstance(error.__cause__, EOFError),
            )
        case InvalidHandshake():
            return ConnectError(f"{host} refused the websocket: {_text(error)}", host=host)
        case TimeoutError():
            return ConnectError(
                f"{host} did not answer within {timeout:g} seconds; check the network, the proxy and the firewall",
                host=host,
                retryable=True,
            )
        case ssl.SSLCertVerificationError():
            issued = f" (it was issued by {_printable(issuer)})" if issuer else ""
            return ConnectError(
                f"the certificate of {host} is not trusted: {error.verify_message.rstrip('.')}{issued}; "
                f"{_CERTIFICATE_ADVICE.get(error.verify_code, _CA_ADVICE)}",
                host=host,
            )
        case ssl.SSLError():
            return ConnectError(
                f"TLS with {host} failed: {error.reason or _text(error)}; is this a TLS port?", host=host
            )
        case socket.gaierror():
            return ConnectError(
                f"the name of {dialled} was not found: {error.strerror or error}; check the URL, DNS and the VPN",
                host=host,
                retryable=True,
            )
        case OSError() if _error_numbers(error) == {errno.ECONNREFUSED}:
            return ConnectError(
                f"{dialled} refused the connection: nothing listens there, or a firewall rejects it",
                host=host,
                retryable=True,
            )
        case ImportError():
            return ConfigurationError(
                "SOCKS proxies need an extra package: install python-session-manager-plugin[socks]"
            )
        case OSError():
            return ConnectError(f"no connection to {through}: {_os_text(error)}", host=host, retryable=True)
        case UnicodeError():
            return ConnectError(f"{dialled} is not a legal host name", host=host)
        case ValueError():
            return ConfigurationError(f"{via or 'the proxy setting'} cannot be used: {_text(error)}")
    return ConnectError(f"no connection to {through}: {type(error).__name__}: {_text(error)}", host=host)


def _refused(response: Response, host: str, signature: OpeningSignature | None) -> Refused:
    status = response.status_code
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    if 300 <= status < 400:
        advice = "redirects are not followed, because the first message carries the token; use the final URL"
    elif status == 403 and signature is not None and signature.sent:
        advice = f"the AWS credentials are wrong or expired, or lack the permission {SIGNING_PERMISSION}"
    elif status in (401, 403):
        advice = "the token may be expired or used already, or the session ended; start a new session"
        if signature is not None and signature.obstacle:
            advice = f"the request was not signed ({signature.obstacle}), which the service may require; or {advice}"
    elif status == 404:
        advice = "check the path of the URL and the session id"
    elif status in _RETRYABLE_STATUS:
        advice = "the service is busy or not there; try again"
    else:
        advice = "check the URL"
    return Refused(
        f"{host} refused the websocket with status {status}{phrase}{refusal_text(response)}: {advice}",
        host=host,
        status=status,
        retryable=status in _RETRYABLE_STATUS,
    )


def refusal_text(response: Response) -> str:
    """What a refusal with status 401 or 403 says in its body, as `` (TEXT)``, or nothing.

    AWS answers a JSON object with a ``message``; others a line of plain text.
    """
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    text = (response.body or b"")[:_MAX_BODY_SIZE].decode(errors="replace")
    if response.status_code not in (401, 403):
        return ""
    if kind.endswith("json"):
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        fields = {name.lower(): value for name, value in answer.items()} if isinstance(answer, dict) else {}
        text = str(fields.get("message", ""))
    elif kind != "text/plain":
        return ""
    shown = _printable(redact_url(text.strip().partition("\n")[0][:_MAX_TEXT_LENGTH])).rstrip(".")
    return f" ({shown})" if shown else ""


def _advice_for_proxy(status: int) -> str:
    match status:
        case HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return "; put user and password into the proxy's URL"
        case HTTPStatus.FORBIDDEN:
            return "; have the host allowed by whoever runs the proxy, or except it with NO_PROXY"
        case HTTPStatus.BAD_GATEWAY | HTTPStatus.SERVICE_UNAVAILABLE | HTTPStatus.GATEWAY_TIMEOUT:
            return "; the proxy cannot reach it: check the host, or try again"
    return ""


def _error_numbers(error: OSError) -> set[int]:
    """The system's error numbers. When several addresses failed, asyncio gives one error with all in its text."""
    if error.errno is not None:
        return {error.errno}
    return {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}


def _os_text(error: OSError) -> str:
    return error.strerror or "; ".join(map(os.strerror, sorted(_error_numbers(error)))) or _text(error)


def _text(error: Exception) -> str:
    return _printable(redact_url(str(error)) or type(error).__name__)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
