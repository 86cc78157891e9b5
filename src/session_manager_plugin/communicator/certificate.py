"""Facts about a server's certificate, even if it was refused."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from websockets.exceptions import WebSocketException

from session_manager_plugin.communicator.http_answer import NotHTTP
from session_manager_plugin.communicator.opening import Opening, TunnelRefused
from session_manager_plugin.communicator.route import Route

if TYPE_CHECKING:
    from cryptography import x509

LOOK_TIMEOUT = 5.0
"""Seconds for fetching a refused certificate. If that fails, the error is reported with fewer facts."""


@dataclass(frozen=True)
class Certificate:
    """Facts about an X.509 certificate."""

    issuer: str
    names: tuple[str, ...]
    """The DNS names and addresses for which the certificate is valid."""
    not_before: datetime
    not_after: datetime

    @classmethod
    def parse(cls, der: bytes) -> Certificate:
        """Parse a certificate. Raises ``ValueError``."""
        from cryptography import x509

        certificate = x509.load_der_x509_certificate(der)
        names: list[str] = []
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names += extension.get_values_for_type(x509.DNSName)
            names += [_address(address) for address in extension.get_values_for_type(x509.IPAddress)]
        except x509.ExtensionNotFound:
            names += _values(certificate.subject, x509.OID_COMMON_NAME)
        return cls(
            _issuer_name(certificate),
            tuple(names),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )

    def expiry(self, now: datetime) -> str:
        """Return a text such as ``expires 2030-01-31 (in 40 days)``."""
        days = (self.not_after - now) // timedelta(days=1)
        if self.not_after <= now:
            return f"expired {self.not_after:%Y-%m-%d %H:%M} UTC"
        return f"expires {self.not_after:%Y-%m-%d} (in {days} day{'' if days == 1 else 's'})"


def now_utc() -> datetime:
    """Return the current time of this machine."""
    return datetime.now(UTC)


async def look_at_certificate(route: Route, *, timeout: float = LOOK_TIMEOUT) -> Certificate | None:
    """Return the certificate that the server presents, or None if it cannot be fetched.

    Makes a second connection along the same route, accepts any certificate, and closes it without sending data.
    ``timeout`` is in seconds.
    """
    opening = Opening(route, _trusting_anything())
    failures = (OSError, ImportError, NotHTTP, TunnelRefused, WebSocketException, ValueError)
    with contextlib.suppress(*failures):
        async with asyncio.timeout(timeout):
            link = await opening.open()
        der = link.tls.getpeercert(binary_form=True)
        link.abort()
        return Certificate.parse(der or b"")
    return None


def _trusting_anything() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _issuer_name(certificate: x509.Certificate) -> str:
    """Return ``Common Name (Organization)`` of the issuer, or as much of that as exists."""
    from cryptography import x509

    issuer = certificate.issuer
    common = _values(issuer, x509.OID_COMMON_NAME)
    organization = _values(issuer, x509.OID_ORGANIZATION_NAME)
    if common and organization:
        return f"{common[0]} ({organization[0]})"
    return (common or organization or [issuer.rfc4514_string() or "an unnamed issuer"])[0]


def _values(name: x509.Name, oid: x509.ObjectIdentifier) -> list[str]:
    values = [part.value for part in name.get_attributes_for_oid(oid)]
    return [value if isinstance(value, str) else value.decode(errors="replace") for value in values]


def _address(address: object) -> str:
    assert isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
    return str(address)
