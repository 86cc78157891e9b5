"""What botocore finds on this machine, for who wants to know: region, credentials, endpoints; and a session to try.

Every call blocks; run it in a thread. Nothing here ever prompts. Exceptions are botocore's own unless said otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from session_manager_plugin.aws.services import create_session
from session_manager_plugin.errors import ConfigurationError

SERVICES = ("ssm", "ssmmessages", "kms", "sts")
"""What a client needs: the API, the message gateway, keys of encrypted sessions, credentials of roles."""
CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 20.0
TERMINATE_TIMEOUT = 1.5
"""Seconds, of a client that may be about to leave."""
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


@dataclass(frozen=True)
class Settings:
    """What the command line says; None is botocore's usual place."""

    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    ca_bundle: str | None = None


def find_region(settings: Settings) -> Region | None:
    """The region: `--region`, AWS_REGION, AWS_DEFAULT_REGION, the profile's; None when there is none."""
    if settings.region:
        return Region(settings.region, "--region")
    for name in _REGION_VARIABLES:
        if value := os.environ.get(name):
            return Region(value, name)
    session = create_session(settings.profile)
    configured = session.get_config_variable("region")
    return Region(configured, f"profile {session.profile or 'default'}") if configured else None


def find_credentials(settings: Settings) -> Credentials | None:
    """The credentials that calls would be signed with, refreshed if they need it; None when there are none."""
    session = create_session(settings.profile)
    if settings.region:
        session.set_config_variable("region", settings.region)
    credentials = session.get_credentials()
    if credentials is None:
        return None
    frozen = credentials.get_frozen_credentials()  # here a role is assumed, or an expired login found out
    source = _SOURCES.get(credentials.method, credentials.method or "an unknown place")
    return Credentials(str(frozen.access_key), source, None if credentials.method == "env" else session.profile)


def find_endpoints(settings: Settings, region: str, services: Sequence[str] = SERVICES) -> dict[str, str]:
    """The URL of each service, by botocore's resolver, variables and config file.

    `settings.endpoint_url` is the one of `ssm`. Raises `ConfigurationError` for a service without a known endpoint.
    """
    session = create_session(settings.profile)
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


@dataclass(frozen=True)
class StartedSession:
    """What StartSession gave."""

    session_id: str
    stream_url: str = field(repr=False)
    token: str = field(repr=False)


class SessionApi:
    """Starts a session and terminates it. `proxies` are botocore's; an empty dict is none, whatever the variables
    say."""

    def __init__(self, settings: Settings, region: str, proxies: dict[str, str]) -> None:
        self._settings = settings
        self._region = region
        self._proxies = proxies

    def start(self, target: str) -> StartedSession:
        """Start a plain session on `target`."""
        client = self._client(CONNECT_TIMEOUT, READ_TIMEOUT, attempts=2)
        try:
            answer = client.start_session(Target=target)
        finally:
            client.close()
        return StartedSession(answer["SessionId"], answer["StreamUrl"], answer["TokenValue"])

    def terminate(self, session_id: str) -> None:
        """Terminate it."""
        client = self._client(TERMINATE_TIMEOUT, TERMINATE_TIMEOUT, attempts=1)
        try:
            client.terminate_session(SessionId=session_id)
        finally:
            client.close()

    def _client(self, connect_timeout: float, read_timeout: float, *, attempts: int) -> Any:
        from botocore.config import Config

        config = Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            proxies=self._proxies,
        )
        session = create_session(self._settings.profile)
        if self._settings.ca_bundle:
            session.set_config_variable("ca_bundle", self._settings.ca_bundle)
        return session.create_client(
            "ssm", region_name=self._region, endpoint_url=self._settings.endpoint_url, config=config
        )
