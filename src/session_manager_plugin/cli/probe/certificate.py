"""What a server's certificate says, in the words of a probe."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from session_manager_plugin.communicator.refused_certificate import issuer_name

EXPIRY_WARNING = timedelta(days=14)


@dataclass(frozen=True)
class Certificate:
    """The facts of an X.509 certificate that a connection depends on."""

    issuer: str
    names: tuple[str, ...]
    """DNS names and addresses it is for."""
    not_before: datetime
    not_after: datetime

    @classmethod
    def parse(cls, der: bytes) -> Certificate:
        """Read a certificate. Raises `ValueError` for what is none."""
        from cryptography import x509

        certificate = x509.load_der_x509_certificate(der)
        names: list[str] = []
        try:
            extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names += extension.get_values_for_type(x509.DNSName)
            names += [_address(address) for address in extension.get_values_for_type(x509.IPAddress)]
        except x509.ExtensionNotFound:
            names += [_text(part.value) for part in certificate.subject.get_attributes_for_oid(x509.OID_COMMON_NAME)]
        return cls(
            issuer_name(certificate),
            tuple(names),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )

    def expiry(self, now: datetime) -> str:
        """As in `expires 2030-01-31 (in 40 days)`."""
        days = (self.not_after - now) // timedelta(days=1)
        if self.not_after <= now:
            return f"expired {self.not_after:%Y-%m-%d %H:%M} UTC"
        return f"expires {self.not_after:%Y-%m-%d} (in {days} day{'' if days == 1 else 's'})"


def now_utc() -> datetime:
    """This machine's time."""
    return datetime.now(UTC)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")


def _address(address: object) -> str:
    assert isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
    return str(address)
