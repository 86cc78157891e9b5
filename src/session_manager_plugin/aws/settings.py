"""The settings for requests to AWS, as one value. Importing this module does not import botocore."""

from __future__ import annotations

from dataclasses import dataclass, field

from session_manager_plugin.aws.credentials import CredentialCache
from session_manager_plugin.aws.kept_clients import KeptClients


@dataclass(frozen=True)
class AwsSettings:
    """Region, credentials, endpoint, certificates and proxy of every request to AWS: SSM, KMS, STS, SSO.

    Values that are None come from botocore's usual sources: environment variables, then the profile. Credentials are
    looked up once for all calls with the same object; a copy with other values looks up its own.
    """

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    """Endpoint of the Systems Manager API only. Other services have their own, as in ``AWS_ENDPOINT_URL_KMS``."""
    ca_bundle: str | None = None
    """File of CA certificates in PEM form. By default botocore's settings are used, then SSL_CERT_FILE."""
    proxy: str | None = field(default=None, repr=False)
    """URL of an HTTP proxy, which may contain a password. Loopback is never proxied. botocore cannot use a SOCKS proxy:
    requests then use HTTPS_PROXY or no proxy, and network errors mention that."""
    credentials: CredentialCache = field(init=False, repr=False, compare=False, default_factory=CredentialCache)
    kept_clients: KeptClients = field(init=False, repr=False, compare=False, default_factory=KeptClients)
