"""The credentials and endpoints that botocore finds on this machine, and whether AWS accepts the credentials.

Every function blocks; call it in a thread. Nothing prompts. Exceptions are botocore's unless stated otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from session_manager_plugin.aws import botocore_session
from session_manager_plugin.aws.botocore_session import CallLimits, call, create_session
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import ConfigurationError

SERVICES = ("ssm", "ssmmessages", "kms", "sts")
"""The services of a session: API, message gateway, keys of encrypted sessions, credentials of roles."""
LEAST_RESULTS = 5
"""The least ``MaxResults`` of DescribeInstanceInformation (API Reference)."""
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
"""By botocore's names of its credential providers."""


@dataclass(frozen=True)
class Credentials:
    """Facts about credentials, without secrets."""

    key_id: str
    source: str
    """The credential provider."""
    profile: str | None
    """The profile; None if the credentials do not come from one."""


def find_credentials(settings: AwsSettings) -> Credentials | None:
    """Return facts about the credentials that sign calls, refreshed if necessary; None if there are none."""
    credentials = botocore_session.find_credentials(settings)
    if credentials is None:
        return None
    frozen = credentials.get_frozen_credentials()  # assumes a role, or detects an expired login
    source = _SOURCES.get(credentials.method, credentials.method or "an unknown place")
    profile = None if credentials.method == "env" else create_session(settings).profile
    return Credentials(str(frozen.access_key), source, profile)


def find_identity(settings: AwsSettings, timeout: float) -> str:
    """Return the ARN of the caller, as STS knows it. ``timeout`` is in seconds, for connecting and for the response."""
    limits = CallLimits(timeout, timeout, 1)
    return str(call(settings, "sts", limits, lambda client: client.get_caller_identity()["Arn"]))


def try_to_list_targets(settings: AwsSettings, timeout: float) -> None:
    """Ask for one page of targets. ``timeout`` is in seconds, for connecting and for the response."""
    call(
        settings,
        "ssm",
        CallLimits(timeout, timeout, 1),
        lambda client: client.describe_instance_information(MaxResults=LEAST_RESULTS),
    )


def find_endpoints(settings: AwsSettings, region: str, services: Sequence[str] = SERVICES) -> dict[str, str]:
    """Return the URL of each service by its name, from the settings, the environment, the config file or botocore.

    Raises ``ConfigurationError`` for a service without a known endpoint.
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
                aws_access_key_id="unused",  # avoids a lookup of credentials
                aws_secret_access_key="unused",
            )
            endpoints[service] = str(client.meta.endpoint_url)
            client.close()
        else:
            endpoints[service] = _endpoint_without_a_model(session, service, region)
    return endpoints


def _endpoint_without_a_model(session: Any, service: str, region: str) -> str:
    """Return the URL of a service without a model in botocore, such as the message gateway."""
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
