"""botocore's sessions and clients, made from ``AwsSettings``. Nothing prompts unless ``CredentialCache.ask`` is set.

botocore is imported when it is needed: importing it takes longer than importing everything else together. Every
function here blocks, and is to be called in a thread.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from session_manager_plugin.aws.aws_errors import NEEDS_CODE, profile_option, refuses_credentials
from session_manager_plugin.aws.botocore_data import data_loader
from session_manager_plugin.aws.helpers import current_helpers
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.utils.proxy_url import register_environments_passwords, register_password

_CLI_CACHE = os.path.join("~", ".aws", "cli", "cache")
"""Where the AWS CLI keeps the credentials of assumed roles (awscli/customizations/assumerole.py)."""
_QUESTION = "Enter MFA code for "
"""How botocore's only question begins; the serial number of the device follows."""
_OF_TARGETS = frozenset({"ec2", "ec2-instance-connect", "ecs", "rds", "sts"})
"""The services that describe targets and databases, take keys for targets, and name their user."""
_BOTOCORE_PROXIES = ("http://", "https://")
"""How the URLs of proxies begin that botocore can use."""


KEPT_CONNECTIONS = 32
"""Connections of a client that is kept; more at once are opened and closed."""


class CallLimits(NamedTuple):
    """Limits of one call."""

    connect_timeout: float
    """Seconds, for each attempt."""
    read_timeout: float
    """Seconds, for each attempt."""
    attempts: int
    mode: str = "standard"
    """botocore's retry mode; ``adaptive`` also slows down when AWS throttles."""

    keeps_client: bool = False
    """Whether the client and its connections are kept for further calls with the same settings. A kept connection may
    be dead after an outage."""

    def as_config(self) -> dict[str, Any]:
        """Return the arguments of botocore's ``Config``."""
        return {
            "connect_timeout": self.connect_timeout,
            "read_timeout": self.read_timeout,
            "retries": {"total_max_attempts": self.attempts, "mode": self.mode},
            **({"max_pool_connections": KEPT_CONNECTIONS} if self.keeps_client else {}),
        }


PROVIDER_LIMITS = CallLimits(10.0, 20.0, 2)
"""For calls of credential providers (STS, SSO). botocore's own limits are minutes."""


def call(
    settings: AwsSettings,
    service: str,
    limits: CallLimits,
    operation: Callable[[Any], Any],
    *,
    credentials_max_age: float = math.inf,
) -> Any:
    """Return ``operation(client)`` for a client of ``service``. Raises botocore's exceptions.

    When AWS refuses the credentials as expired or unknown, they are looked up anew; if they have changed, the
    operation is tried a second time.
    """
    frozen = find_frozen_credentials(settings, max_age=credentials_max_age)
    try:
        return _call_once(settings, service, limits, operation, frozen)
    except Exception as error:
        if not refuses_credentials(error):
            raise
        settings.credentials.forget()
        newer = find_frozen_credentials(settings)
        if newer == frozen:
            raise
    return _call_once(settings, service, limits, operation, newer)


def _call_once(
    settings: AwsSettings, service: str, limits: CallLimits, operation: Callable[[Any], Any], frozen: Any
) -> Any:
    def make() -> Any:
        from botocore.config import Config

        return create_session(settings).create_client(
            service,
            endpoint_url=_endpoint(settings, service),
            config=Config(**limits.as_config()),
            aws_access_key_id=frozen.access_key,
            aws_secret_access_key=frozen.secret_key,
            aws_session_token=frozen.token,
        )

    if limits.keeps_client:
        return operation(settings.kept_clients.get((service, limits), frozen, make))
    client = make()
    try:
        return operation(client)
    finally:
        client.close()


def _endpoint(settings: AwsSettings, service: str) -> str | None:
    """Return the endpoint to use for ``service``, or None for botocore's own choice.

    An endpoint of Systems Manager on loopback is a sandbox's, which also answers for the services in ``_OF_TARGETS``.
    """
    from urllib.parse import urlsplit

    from session_manager_plugin.utils.hosts import is_loopback

    if service == "ssm":
        return settings.endpoint_url
    variables = ("AWS_ENDPOINT_URL", f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}")
    if service not in _OF_TARGETS or any(os.environ.get(name) for name in variables):
        return None
    endpoint = settings.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_SSM", "")
    return endpoint if is_loopback(urlsplit(endpoint).hostname or "") else None


def find_frozen_credentials(settings: AwsSettings, *, max_age: float = math.inf) -> Any:
    """Return key, secret and token of this moment, refreshed if necessary.

    Raises botocore's exceptions, ``NoCredentialsError`` among them.
    """
    from botocore.exceptions import NoCredentialsError

    credentials = find_credentials(settings, max_age=max_age)
    if credentials is None:
        raise NoCredentialsError
    return freeze(settings, credentials)


def freeze(settings: AwsSettings, credentials: Any) -> Any:
    """Return key, secret and token of botocore's ``credentials``, refreshed if necessary: a role is assumed, an expired
    login is detected. Raises botocore's exceptions; then the next lookup finds other credentials."""
    try:
        return credentials.get_frozen_credentials()
    except Exception:
        settings.credentials.forget()
        raise


def find_credentials(settings: AwsSettings, *, max_age: float = math.inf) -> Any:
    """Return botocore's credentials, or None. Those found at most ``max_age`` seconds ago are used again."""
    return settings.credentials.find(lambda: _look_up_credentials(settings), max_age=max_age)


def _look_up_credentials(settings: AwsSettings) -> Any:
    if settings.profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
        # The first provider of botocore's chain. It needs no session, which takes longer to make.
        from botocore.credentials import EnvProvider

        return EnvProvider().load()
    return create_session(settings).get_credentials()


def create_session(settings: AwsSettings) -> Any:
    """Return a botocore session whose every client uses the settings, those of credential providers included.

    Its credentials come from botocore's own chain and the AWS CLI's cache.
    """
    from botocore.config import Config
    from botocore.session import Session

    register_environments_passwords()
    if settings.proxy:
        register_password(settings.proxy)
    session = Session(profile=settings.profile)
    session.register_component("data_loader", data_loader())
    # All this before the credential providers are made: they keep the region and the function that makes clients.
    if region := settings.region or os.environ.get("AWS_REGION"):  # botocore knows AWS_DEFAULT_REGION only
        session.set_config_variable("region", region)
    if trusted := settings.ca_bundle or _ssl_cert_file(session):
        session.set_config_variable("ca_bundle", trusted)
    session.set_default_client_config(Config(**PROVIDER_LIMITS.as_config()))
    _use_proxy(session, settings.proxy)
    _restrict_prompts(session, settings)
    return session


def _ssl_cert_file(session: Any) -> str | None:
    """Return the file of SSL_CERT_FILE, which the websocket trusts too and botocore does not know; None if another
    setting comes before it, or if it has no content."""
    if session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE"):
        return None
    path = os.environ.get("SSL_CERT_FILE")
    try:
        return path if path and os.path.getsize(path) else None
    except OSError:  # OpenSSL ignores a missing file too
        return None


def _use_proxy(session: Any, given: str | None) -> None:
    """Have every client of ``session`` use the same proxy as a websocket to that host would.

    botocore does not know ``given`` and ALL_PROXY, and does not except loopback. It has no SOCKS proxies: where the
    websocket uses one, botocore's own choice stands, and an error of the network says so.
    """
    from botocore.config import Config
    from botocore.utils import get_environ_proxies

    from session_manager_plugin.utils.proxy_choice import choose_proxy

    create = session.create_client

    def create_client(service: str, *, config: Any = None, **options: Any) -> Any:
        client = create(service, config=config, **options)
        endpoint_url = client.meta.endpoint_url  # only a client knows its endpoint
        scheme = endpoint_url.partition("://")[0]
        choice = choose_proxy(endpoint_url, given)
        if choice.url is not None and not choice.url.lower().startswith(_BOTOCORE_PROXIES):
            explain = partial(_add_socks_note, choice.reason)
            client.meta.events.register("after-call-error", explain)
            return client
        if choice.url == get_environ_proxies(endpoint_url).get(scheme):
            return client
        client.close()
        chosen = Config(proxies={} if choice.url is None else {scheme: choice.url})
        return create(service, config=chosen if config is None else config.merge(chosen), **options)

    session.create_client = create_client


def _add_socks_note(source: str, exception: Exception, **_context: Any) -> None:
    exception.add_note(f"calls to AWS cannot use the SOCKS proxy of {source}: set HTTPS_PROXY to an HTTP proxy")


def _restrict_prompts(session: Any, settings: AwsSettings) -> None:
    """A role that needs an MFA code comes from the AWS CLI's cache, or the code is asked for by
    ``settings.credentials.ask``, or it raises; a credential process gets no terminal."""
    from botocore.utils import JSONFileCache

    def prompt(question: str) -> str:
        serial = question.removeprefix(_QUESTION).rstrip(": ")
        if settings.credentials.ask is not None:
            return settings.credentials.ask(serial)
        advice = NEEDS_CODE.replace("{option}", profile_option(settings.profile))
        raise ConfigurationError(f"the profile needs an MFA code of {serial}; {advice}")

    chain = session.get_component("credential_provider")
    cache = JSONFileCache(os.path.expanduser(_CLI_CACHE))
    assume_role = chain.get_provider("assume-role")
    assume_role.cache = cache
    assume_role._prompter = prompt
    chain.get_provider("assume-role-with-web-identity").cache = cache
    chain.get_provider("custom-process")._popen = current_helpers().start
