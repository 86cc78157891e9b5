"""Explaining why a data channel could not be opened: what happened, to which host, what to do.

Each cause is a ``Finding``. ``connect_failure`` converts it to an exception, ``smp probe`` to a verdict with advice.
"""

from __future__ import annotations

import errno
import json
import socket
import ssl
from datetime import datetime
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI, ProxyError, WebSocketException

from session_manager_plugin.communicator.certificate import Certificate, now_utc
from session_manager_plugin.communicator.http_answer import Answer, NotHTTP, answer_of
from session_manager_plugin.communicator.opening import Stage, TunnelRefused
from session_manager_plugin.communicator.opening_signature import OpeningSignature
from session_manager_plugin.errors import (
    ConfigurationError,
    ConnectError,
    InvalidURL,
    ProxyRefused,
    Refused,
    SessionManagerError,
)
from session_manager_plugin.utils.logging import redact_url
from session_manager_plugin.utils.setting_names import SMP_SETTINGS, SettingNames
from session_manager_plugin.utils.text import ssl_text

_RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
SIGNING_PERMISSION = "ssmmessages:OpenDataChannel"
"""The permission that the credentials need to sign an opening request."""
_MAX_BODY_SIZE = 8192
_MAX_TEXT_LENGTH = 300
# OpenSSL's verification errors (X509_V_ERR in x509_vfy.h).
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = frozenset({62, 64})
"""The codes for a wrong host name and for a wrong address."""
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
"""OpenSSL's reasons for bytes that are not TLS records."""
_UNSIGNED = "missing authentication token"
"""AWS's answer to an unsigned request if a signature is required."""
_TLS_RECORD = (b"\x15\x03", b"\x16\x03")
"""The first bytes of a TLS alert and of a TLS handshake."""
_LEGACY_SCHEMES = {"negotiate": "Negotiate", "kerberos": "Kerberos", "ntlm": "NTLM"}
"""Authentication schemes of HTTP proxies that this package does not implement."""
_LOG_IN = "log in with a browser if this network wants that first (a captive portal)"
_NAMES_SHOWN = 5
_BEGINNING_SHOWN = 40


OPENING_ERRORS = (OSError, ImportError, NotHTTP, WebSocketException)
"""The exceptions that the stages of an opening raise and ``explain`` accepts, apart from ``TunnelRefused``."""


class Finding(NamedTuple):
    """What happened, and what to do."""

    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}" if self.advice else self.what


def connect_failure(
    error: Exception,
    host: str,
    *,
    via: str,
    timeout: float,
    stage: Stage = Stage.TCP,
    certificate: Certificate | None = None,
    signature: OpeningSignature | None = None,
    has_credentials: bool = False,
    names: SettingNames = SMP_SETTINGS,
) -> SessionManagerError:
    """Return the exception to raise for an ``error`` of opening a websocket. For the arguments see ``explain``."""
    if isinstance(error, SessionManagerError):
        return error
    finding = explain(
        error,
        host,
        via=via,
        timeout=timeout,
        stage=stage,
        certificate=certificate,
        signature=signature,
        has_credentials=has_credentials,
        names=names,
    )
    match error:
        case InvalidURI():
            return InvalidURL(str(finding))
        case InvalidStatus(response=response):
            return _refused(Refused, f"{finding.what}: {finding.advice}", host, response.status_code)
        case TunnelRefused(answer=answer):
            return _refused(ProxyRefused, str(finding), host, answer.status)
        case ImportError():
            return ConfigurationError(str(finding))
    return ConnectError(str(finding), host=host, retryable=_is_retryable(error))


def _refused(kind: type[Refused], sentence: str, host: str, status: int) -> Refused:
    return kind(sentence, host=host, status=status, retryable=status in _RETRYABLE_STATUS)


def _is_retryable(error: Exception) -> bool:
    match error:
        case NotHTTP():
            return error.cut_short or not error.beginning
        case ProxyError() | ssl.SSLEOFError():
            return True
        case ssl.SSLError():
            return False
    return isinstance(error, OSError)


def explain(
    error: Exception,
    host: str,
    *,
    via: str,
    timeout: float,
    stage: Stage,
    certificate: Certificate | None = None,
    signature: OpeningSignature | None = None,
    has_credentials: bool = False,
    names: SettingNames = SMP_SETTINGS,
) -> Finding:
    """Explain an ``error`` that occurred in ``stage`` while opening a websocket to ``host`` (``name:port``).

    ``via`` is the proxy or address dialled instead of ``host``, or empty; ``timeout`` is in seconds. ``certificate`` is
    the refused certificate, if it could be fetched; ``signature`` is that of the request, None if it was not to
    be signed; ``has_credentials``: the proxy's URL contains a user and a password.
    """
    dialled = via or host
    asked = via if stage is Stage.PROXY else host
    match error:
        case InvalidURI():
            return Finding(f"invalid stream URL for {host}: {redact_url(error.msg)}")
        case InvalidStatus(response=response):
            return websocket_refused(answer_of(response), host, signature, names)
        case TunnelRefused(answer=answer):
            return tunnel_refused(answer, host, via, has_credentials=has_credentials, names=names)
        case NotHTTP():
            return not_http(error, asked, "http or https" if stage is Stage.PROXY else "ws or wss")
        case ProxyError():
            return Finding(f"{via} made no connection to {host}: {_text(error)}")
        case InvalidHandshake():
            return Finding(f"{host} refused the websocket: {_text(error)}")
        case TimeoutError():
            return no_answer(stage, host, via, timeout)
        case ssl.SSLCertVerificationError():
            return certificate_refused(error, asked, certificate, names)
        case ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError() | ssl.SSLEOFError():
            return connection_cut(stage, host, via)
        case ssl.SSLError():
            return tls_failed(error, asked)
        case socket.gaierror():
            return name_not_found(error, dialled)
        case OSError(errno=errno.ECONNREFUSED):
            return Finding(f"{dialled} refused the connection: nothing listens there, or a firewall rejects it")
        case ImportError():
            return Finding("SOCKS proxies need an extra package: install python-session-manager-plugin[socks]")
        case OSError():
            return Finding(f"no connection to {_through(host, via)}: {os_text(error)}")
        case UnicodeError():
            return Finding(f"{dialled} is not a legal host name")
    return Finding(f"no connection to {_through(host, via)}: {type(error).__name__}: {_text(error)}")


# Responses with a status.


def websocket_refused(
    answer: Answer, host: str, signature: OpeningSignature | None = None, names: SettingNames = SMP_SETTINGS
) -> Finding:
    """Explain a response with a status other than 101. ``signature`` is that of the request."""
    what = f"{host} refused the websocket with status {_named(answer.status)}{refusal_text(answer)}"
    match answer.status:
        case status if 300 <= status < 400:
            return _redirect(what, answer.headers.get("location", ""), host)
        case 401 | 403:
            return Finding(what, _refusal_advice(answer, signature, names))
        case 404:
            return Finding(what, "check the path of the URL and the session id")
        case HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED:
            return Finding(what, "this network wants a login first (a captive portal): log in with a browser")
        case status if status in _RETRYABLE_STATUS:
            return Finding(what, "the service is busy or not there; try again")
        case status if 200 <= status < 300 and "html" in answer.headers.get("content-type", "").lower():
            return Finding(f"{what} and a web page", f"check the URL, or {_LOG_IN}")
    return Finding(what, "check the URL")


def _refusal_advice(answer: Answer, signature: OpeningSignature | None, names: SettingNames) -> str:
    if answer.status == HTTPStatus.FORBIDDEN and signature is not None and signature.sent:
        return f"the AWS credentials are wrong or expired, or lack the permission {SIGNING_PERMISSION}"
    if _UNSIGNED in refusal_text(answer).lower():
        if signature is None:
            return f"this host requires a signed request: give {names.sign}, and AWS credentials"
        return f"the request was not signed ({signature.obstacle}), and this host requires that"
    advice = "the token may be expired or used already, or the session ended; start a new session"
    if signature is not None and signature.obstacle:
        return f"the request was not signed ({signature.obstacle}), which the service may require; or {advice}"
    return advice


def refusal_text(answer: Answer) -> str:
    """Return the reason in the body of a response with status 401 or 403, as `` (TEXT)``, or an empty string.

    AWS sends a JSON object with a ``message``; other servers send a line of plain text.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    text = answer.body[:_MAX_BODY_SIZE].decode(errors="replace")
    if answer.status not in (401, 403):
        return ""
    if kind.endswith("json"):
        try:
            told = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        fields = {name.lower(): value for name, value in told.items()} if isinstance(told, dict) else {}
        text = str(fields.get("message", ""))
    elif kind != "text/plain":
        return ""
    shown = _printable(redact_url(text.strip().partition("\n")[0][:_MAX_TEXT_LENGTH])).rstrip(".")
    return f" ({shown})" if shown else ""


def _redirect(what: str, location: str, host: str) -> Finding:
    advice = "redirects are not followed, because the first message carries the token; use the final URL"
    try:
        target = urlsplit(location).hostname or ""
    except ValueError:
        target = ""
    if not target or target == urlsplit(f"//{host}").hostname:
        return Finding(what, advice)
    return Finding(f"{what}, a redirect to {_printable(target)}", f"{advice}, or {_LOG_IN}")


def tunnel_refused(answer: Answer, host: str, proxy: str, *, has_credentials: bool, names: SettingNames) -> Finding:
    """Explain a response to CONNECT with a status other than 2xx. ``proxy`` reads ``the proxy HOST:PORT``."""
    what = f"{proxy} refused the connection to {host} with status {_named(answer.status)}"
    match answer.status:
        case 401 | 407:  # tinyproxy answers 401 to a wrong password
            return Finding(what, _authentication_advice(answer, has_credentials=has_credentials, names=names))
        case 403:
            return Finding(what, "have the host allowed by whoever runs the proxy, or except it with NO_PROXY")
        case 500 | 502 | 503 | 504:
            return Finding(what, "the proxy cannot reach it: check the host, or try again")
        case HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED:
            return Finding(what, "the proxy wants a login first (a captive portal): log in with a browser")
        case status if 300 <= status < 400:
            return Finding(f"{what}, a redirect", f"check the proxy's host and port, or {_LOG_IN}")
    return Finding(what, "ask whoever runs the proxy what this status means")


def _authentication_advice(answer: Answer, *, has_credentials: bool, names: SettingNames) -> str:
    offered = {part.split()[0].lower() for part in answer.headers.get("proxy-authenticate", "").split(",") if part}
    legacy = [name for scheme, name in _LEGACY_SCHEMES.items() if scheme in offered]
    if legacy and "basic" not in offered:
        return (
            f"the proxy wants {' or '.join(legacy)}, which {names.program} cannot do: run a local proxy that can "
            f"(px, cntlm) and name it with {names.proxy}"
        )
    if has_credentials:
        return "the proxy does not accept the user and password in its URL: correct them (percent-encoded)"
    return "put user and password into the proxy's URL, before its host: USER:PASSWORD@HOST"


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


# No response, or not HTTP.


def not_http(error: NotHTTP, place: str, schemes: str) -> Finding:
    """Explain a response that is not HTTP. ``schemes`` are the schemes that the URL of ``place`` may have."""
    beginning = error.beginning.lstrip()
    check = f"check the host, the port and the scheme ({schemes})"
    if not beginning:
        return Finding(f"{place} closed the connection without an answer", check)
    if beginning.startswith(_TLS_RECORD):
        return Finding(f"{place} speaks TLS on this port", check)
    if beginning[:1] == b"<":
        return Finding(f"{place} answered with a web page without an HTTP header", f"{check}, or {_LOG_IN}")
    shown = _printable(redact_url(beginning.splitlines()[0][:_BEGINNING_SHOWN].decode("latin-1")))
    if beginning.startswith(b"HTTP/"):
        return Finding(f"{place} sent an HTTP answer that is incomplete or malformed ({shown})", check)
    return Finding(f"{place} does not speak HTTP: it answered {shown!r}", check)


def no_answer(stage: Stage, host: str, via: str, timeout: float) -> Finding:
    """Explain that there was no answer within ``timeout`` seconds."""
    within = f"within {timeout:g} seconds"
    match stage:
        case Stage.NAME:
            return Finding(
                f"DNS did not answer {within} when asked for {via or host}",
                "check the DNS server, the network, the VPN",
            )
        case Stage.PROXY:
            return Finding(
                f"{via} did not answer the request to connect to {host} {within}",
                "check the proxy's port, and that it is an HTTP proxy, or ask whoever runs it",
            )
        case Stage.TLS:
            return Finding(
                f"{host} did not answer the TLS handshake {within}",
                "a firewall that filters by name may swallow it, or the MTU is too small",
            )
        case Stage.WEBSOCKET:
            return Finding(
                f"{host} did not answer the request for a websocket {within}",
                "something on the way, a proxy for one, may not let websockets through: ask whoever runs it",
            )
    return Finding(f"{via or host} did not answer {within}", "check the network, the proxy and the firewall")


def connection_cut(stage: Stage, host: str, via: str) -> Finding:
    """Explain a connection that was reset or closed before the websocket was open."""
    match stage:
        case Stage.PROXY:
            return Finding(f"{via} cut the connection", "ask whoever runs the proxy whether it allows this host")
        case Stage.TLS:
            return Finding(
                f"the connection to {_through(host, via)} was cut during the TLS handshake",
                "a firewall that filters by name may forbid this host: have it allowed",
            )
    return Finding(f"the connection to {_through(host, via)} was cut", "check the network and the firewall")


def name_not_found(error: socket.gaierror, place: str) -> Finding:
    """Explain a name without an address, or a DNS that does not answer."""
    reason = error.strerror or str(error)
    if error.errno == getattr(socket, "EAI_AGAIN", None):
        return Finding(f"DNS does not answer for {place}: {reason}", "check the DNS server, the network and the VPN")
    return Finding(f"the name of {place} was not found: {reason}", "check the URL, DNS and the VPN")


# TLS.


def certificate_refused(
    error: ssl.SSLCertVerificationError,
    place: str,
    certificate: Certificate | None,
    names: SettingNames,
    now: datetime | None = None,
) -> Finding:
    """Explain a refused certificate of ``place``. ``certificate`` is that certificate, if it could be fetched."""
    code = error.verify_code
    if code in _WRONG_NAME:
        held = f"for {_listed(certificate.names)}, not for it" if certificate is not None else ssl_text(error)
        issued = f" (issued by {_printable(certificate.issuer)})" if certificate is not None else ""
        advice = "check the host of the URL, and what it resolves to"
        if names.dial:
            advice += f", or use {names.dial} to connect by another address"
        return Finding(f"the certificate of {place} is {held}{issued}", advice)
    facts = ""
    if certificate is not None:
        facts = f" (it was issued by {_printable(certificate.issuer)}"
        if code == _EXPIRED:
            facts += f" and {certificate.expiry(now or now_utc())}"
        elif code == _NOT_YET_VALID:
            facts += f" and begins {certificate.not_before:%Y-%m-%d %H:%M} UTC"
        facts += ")"
    what = f"the certificate of {place} is not trusted: {ssl_text(error)}{facts}"
    if code == _EXPIRED:
        return Finding(what, "check this machine's clock, or have whoever runs the host renew it")
    if code == _NOT_YET_VALID:
        return Finding(what, "check this machine's clock")
    return Finding(what, f"if a proxy inspects TLS here, give its CA with {names.ca_bundle}")


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return _printable(", ".join(names[:_NAMES_SHOWN]) + more) or "no name"


def tls_failed(error: ssl.SSLError, place: str) -> Finding:
    """Explain a failed TLS handshake with ``place``, except for a refused certificate."""
    if getattr(error, "reason", None) in _NOT_TLS:
        return Finding(
            f"{place} does not speak TLS on this port: it answered in plain text",
            f"is this a TLS port? check the port and the scheme, or {_LOG_IN}",
        )
    return Finding(f"TLS with {place} failed: {ssl_text(error)}", "check the port, and what inspects TLS on the way")


# Texts.


def _through(host: str, via: str) -> str:
    return f"{host} through {via}" if via else host


def os_text(error: OSError) -> str:
    """Return the operating system's text for an error."""
    return error.strerror or _text(error)


def _text(error: Exception) -> str:
    return _printable(redact_url(str(error)) or type(error).__name__)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
