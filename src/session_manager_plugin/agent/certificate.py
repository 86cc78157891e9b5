"""The sandbox's TLS certificate for 127.0.0.1 and localhost, issued by an authority created for it."""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from session_manager_plugin.utils.named_errors import named_errors

VALIDITY = timedelta(days=30)
_CLOCK_SKEW = timedelta(hours=1)
_CA_USES = frozenset({"key_cert_sign", "crl_sign"})
_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class SandboxCertificate:
    """A new certificate. ``context`` is for a server; ``bundle`` is the PEM file that a client has to trust.

    The file is in a directory that only this user can read; call ``remove`` at the end. The authority's private key is
    never written to a file; the server's key is in a file of mode 0600 while OpenSSL reads it. Raises ``OSError`` if
    the files cannot be written.
    """

    def __init__(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

        now = datetime.now(UTC)
        authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "smp sandbox")])

        def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, ca: bool) -> x509.CertificateBuilder:
            uses = _CA_USES if ca else {"digital_signature"}
            return (
                x509.CertificateBuilder(issuer, subject, public_key, x509.random_serial_number())
                .not_valid_before(now - _CLOCK_SKEW)
                .not_valid_after(now + VALIDITY)
                .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
                .add_extension(x509.KeyUsage(**{use: use in uses for use in _USES}), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
                .add_extension(
                    x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
                )
            )

        authority = builder(issuer, authority_key.public_key(), ca=True).sign(authority_key, hashes.SHA256())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        certificate = (
            builder(subject, key.public_key(), ca=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(authority_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private_key = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

        self._directory = tempfile.mkdtemp(prefix="smp-sandbox-")
        try:
            self.bundle = self._write("ca.pem", authority.public_bytes(pem))
            chain = self._write("server.pem", private_key + certificate.public_bytes(pem))
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(chain)
            os.unlink(chain)
        except BaseException:
            self.remove()
            raise

    def _write(self, name: str, data: bytes) -> str:
        path = os.path.join(self._directory, name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with named_errors(path), open(descriptor, "wb") as file:
            file.write(data)
        return path

    def remove(self) -> None:
        """Remove the files."""
        shutil.rmtree(self._directory, ignore_errors=True)
