"""How to reach AWS: one value for all requests of a program. Importing this module does not import botocore."""

from __future__ import annotations

from dataclasses import dataclass, field

from session_manager_plugin.aws.credentials import CredentialCache
from session_manager_plugin.aws.kept_clients import KeptClients


@dataclass(frozen=True)
class AwsSettings:
    """Region, credentials, endpoint, certificates and proxy of every request to AWS: SSM, KMS, STS, SSO.

    What is None comes from botocore's usual places: environment variables, then the profile. Settings that are shared
    by many calls find their credentials once; a copy with other values finds its own.
    """

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    """Of the Systems Manager API only; other services have their own, as in ``AWS_ENDPOINT_URL_KMS``."""
    ca_bundle: str | None = None
    """File of CA certificates in PEM form. Without it and botocore's own settings SSL_CERT_FILE is used."""
    proxy: str | None = field(default=None, repr=False)
    """URL of an HTTP proxy; it may hold a password. Loopback is never proxied. botocore cannot use a SOCKS proxy:
    requests then use HTTPS_PROXY or none, and an error of the network says so."""
    credentials: CredentialCache = field(init=False, repr=False, compare=False, default_factory=CredentialCache)
    kept_clients: KeptClients = field(init=False, repr=False, compare=False, default_factory=KeptClients)
