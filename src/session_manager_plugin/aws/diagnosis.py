"""What botocore finds on this machine: region, credentials, endpoints.

Every function blocks; call it in a thread. Nothing prompts. Exceptions are botocore's unless stated otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from session_manager_plugin.aws import botocore_session
from session_manager_plugin.aws.botocore_session import create_session
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import ConfigurationError

SERVICES = ("ssm", "ssmmessages", "kms", "sts")
"""What a client needs: the API, the message gateway, keys of encrypted sessions, credentials of roles."""
_REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
_SOURCES = {
    "explicit": "the command line",
    "env": "environment variables",
    "shared-credentials-file": "the shared credentials file",
    "config-file": "the config file",
    "sso": "IAM Identity Center (SSO)",
    "login": "aws login",
    "assume-role": "an assumed role",
    "assume-role-with-web-identity": "an assumed role with a web identity",
    "custom-process": "a credential process",
    "container-role": "the container's role",
    "iam-role": "the instance's role",
}
"""botocore's names of the providers, as people say them."""


@dataclass(frozen=True)
class Region:
    """A region, and where its name was found."""

    name: str
    source: str


@dataclass(frozen=True)
class Credentials:
    """Whose credentials, without anything secret."""

    key_id: str
    source: str
    profile: str | None


def find_region(settings: AwsSettings) -> Region | None:
    """The region: `--region`, AWS_REGION, AWS_DEFAULT_REGION, the profile's; None when there is none."""
    if settings.region:
        return Region(settings.region, "--region")
    for name in _REGION_VARIABLES:
        if value := os.environ.get(name):
            return Region(value, name)
    session = create_session(settings)
    configured = session.get_config_variable("region")
    return Region(configured, f"profile {session.profile or 'default'}") if configured else None


def find_credentials(settings: AwsSettings) -> Credentials | None:
    """The credentials that calls would be signed with, refreshed if they need it; None when there are none."""
    credentials = botocore_session.find_credentials(settings)
    if credentials is None:
        return None
    frozen = credentials.get_frozen_credentials()  # assumes a role, or detects an expired login
    source = _SOURCES.get(credentials.method, credentials.method or "an unknown place")
    profile = None if credentials.method == "env" else create_session(settings).profile
    return Credentials(str(frozen.access_key), source, profile)


def find_endpoints(settings: AwsSettings, region: str, services: Sequence[str] = SERVICES) -> dict[str, str]:
    """The URL of each service, by botocore's resolver, variables and config file.

    `settings.endpoint_url` is the one of `ssm`. Raises `ConfigurationError` for a service without a known endpoint.
    """
    session = create_session(settings)
    endpoints = {}
    for service in services:
        given = settings.endpoint_url if service == "ssm" else None
        if service in session.get_available_services():
            client = session.create_client(
                service,
                region_name=region,
                endpoint_url=given,
                aws_access_key_id="unused",  # so that nothing is looked up for a name
                aws_secret_access_key="unused",
            )
            endpoints[service] = str(client.meta.endpoint_url)
            client.close()
        else:
            endpoints[service] = _endpoint_without_a_model(session, service, region)
    return endpoints


def _endpoint_without_a_model(session: Any, service: str, region: str) -> str:
    """As botocore would for a service that it has no model of: the message gateway is no API."""
    if not session.get_config_variable("ignore_configured_endpoint_urls"):
        given = os.environ.get(f"AWS_ENDPOINT_URL_{service.upper()}") or os.environ.get("AWS_ENDPOINT_URL")
        if given:
            return given

    from botocore.regions import EndpointResolver

    resolved = EndpointResolver(session.get_data("endpoints")).construct_endpoint(
        service,
        region,
        use_dualstack_endpoint=bool(session.get_config_variable("use_dualstack_endpoint")),
        use_fips_endpoint=bool(session.get_config_variable("use_fips_endpoint")),
    )
    if not resolved:
        raise ConfigurationError(f"no endpoint of {service} is known in the region {region}")
    return f"https://{resolved['hostname']}"
