"""Verifies AWS signatures (SigV4 in headers) of requests without a body, as the message gateway does.

Implements the canonical request of the IAM User Guide ("Create a signed AWS API request"), without the library that our
client signs with: tests would not detect an error of the library if both used it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, quote

from session_manager_plugin.agent.http_messages import HttpRequest

MAX_CLOCK_SKEW = timedelta(minutes=5)
_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM} Credential=(?P<key>[^/,\s]+)/(?P<scope>[^,\s]+), *SignedHeaders=(?P<headers>[^,\s]+), *"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_TIMESTAMP = "%Y%m%dT%H%M%SZ"
_INVALID = "The security token included in the request is invalid."


@dataclass(frozen=True)
class SignatureVerifier:
    """Verifies signatures made with one key. The texts of refusals are those of AWS."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(repr=False)
    """Empty for credentials without a session token."""
    region: str
    service: str
    required: bool
    """Whether unsigned requests are refused too."""
    now: Callable[[], float] = time.time
    """Seconds since the Unix epoch."""

    def refusal(self, request: HttpRequest) -> str | None:
        """Return why ``request`` is refused, or None."""
        headers = request.headers
        authorization = headers.get("authorization", "")
        if not authorization.startswith(_ALGORITHM):
            return "Missing Authentication Token" if self.required else None
        given = _AUTHORIZATION.fullmatch(authorization)
        if given is None:
            return "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature'."
        if not _same(given["key"], self.access_key_id):
            return _INVALID
        if not _same(headers.get("x-amz-security-token", ""), self.session_token):
            return _INVALID
        names = given["headers"].split(";")
        needed = {"host", "x-amz-date"} | ({"x-amz-security-token"} if self.session_token else set())
        if names != sorted(names) or not needed <= set(names):
            return f"{', '.join(sorted(needed))} must be a 'SignedHeader' in the AWS Authorization."
        timestamp = headers.get("x-amz-date", "")
        if (late := self._skew(timestamp)) is not None:
            return late
        scope = f"{timestamp[:8]}/{self.region}/{self.service}/aws4_request"
        if given["scope"] != scope:
            return f"Credential should be scoped to {scope}, not to {given['scope']}."
        if not _same(given["signature"], self._signature(scope, timestamp, _canonical(request, names))):
            return (
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method."
            )
        return None

    def _skew(self, timestamp: str) -> str | None:
        """Return why the time of a signature is refused, or None."""
        try:
            signed_at = datetime.strptime(timestamp, _TIMESTAMP).replace(tzinfo=UTC)
        except ValueError:
            return "Date must be in ISO-8601 'basic format'."
        now = datetime.fromtimestamp(self.now(), UTC)
        earliest, latest = now - MAX_CLOCK_SKEW, now + MAX_CLOCK_SKEW
        if signed_at < earliest:
            return (
                f"Signature expired: {timestamp} is now earlier than {earliest:{_TIMESTAMP}} "
                f"({now:{_TIMESTAMP}} - 5 min.)"
            )
        if signed_at > latest:
            return (
                f"Signature not yet current: {timestamp} is still later than {latest:{_TIMESTAMP}} "
                f"({now:{_TIMESTAMP}} + 5 min.)"
            )
        return None

    def _signature(self, scope: str, timestamp: str, canonical_request: str) -> str:
        key = f"AWS4{self.secret_access_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        digest = hashlib.sha256(canonical_request.encode()).hexdigest()
        return hmac.new(key, "\n".join([_ALGORITHM, timestamp, scope, digest]).encode(), "sha256").hexdigest()


def _canonical(request: HttpRequest, names: list[str]) -> str:
    path, _, query = request.path.partition("?")
    pairs = sorted((_encode(name), _encode(value)) for name, value in parse_qsl(query, keep_blank_values=True))
    return "\n".join(
        [
            request.method,
            quote(path, safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(request.body).hexdigest(),
        ]
    )


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
