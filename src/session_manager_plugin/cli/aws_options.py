"""The options for calls to AWS: declared once, and passed to a command as one ``AwsSettings``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.types import StringParamType

from session_manager_plugin.cli.click_options import FileName
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from session_manager_plugin.aws.settings import AwsSettings


def aws_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--region``, ``--profile``, ``--endpoint-url``, ``--ca-bundle`` and ``--proxy`` to a command that calls AWS.

    The command's function receives them as its keyword argument ``settings``, an ``AwsSettings``. Its ``ca_bundle`` and
    ``proxy`` are for the websocket too. An MFA code that the profile needs is asked for first. Raises ``UsageError``
    for a proxy that cannot be used, and what finding credentials with an MFA code raises.
    """

    def with_credentials(environment: Environment, *, settings: AwsSettings, **options: Any) -> Any:
        from session_manager_plugin.cli.mfa import find_credentials_with_code

        find_credentials_with_code(environment, settings)
        return function(environment, settings=settings, **options)

    return aws_options_that_ask_nothing(functools.update_wrapper(with_credentials, function))


def aws_options_that_ask_nothing(function: Callable[..., Any]) -> Callable[..., Any]:
    """``aws_options`` for a command that may call AWS: it is not worth a question."""

    @functools.wraps(function)
    def with_settings(
        environment: Environment,
        *,
        region: str | None,
        profile: str | None,
        endpoint_url: str | None,
        ca_bundle: str | None,
        proxy: str | None,
        **options: Any,
    ) -> Any:
        from session_manager_plugin.aws.profile import ca_bundle as find_ca_bundle
        from session_manager_plugin.aws.settings import AwsSettings

        trusted = find_ca_bundle(ca_bundle, profile, environment.variables)
        settings = AwsSettings(region, profile, endpoint_url, trusted, check_proxy(proxy))
        return function(environment, settings=settings, **options)

    decorated: Callable[..., Any] = with_settings
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def check_proxy(url: str | None) -> str | None:
    """Return ``url``. Raises ``UsageError``, without the URL, which may contain a password."""
    if url is not None:
        from session_manager_plugin.communicator.proxy import parse_proxy

        try:
            parse_proxy(url, "--proxy")
        except ConfigurationError as error:
            raise UsageError(str(error)) from None
    return url


class RegionName(StringParamType):
    """An AWS region, completed from botocore's list."""

    name = "region"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the regions that begin with ``incomplete``."""
        from click.shell_completion import CompletionItem

        from session_manager_plugin.aws.region_names import region_names

        return [
            CompletionItem(name, help=where) for name, where in region_names().items() if name.startswith(incomplete)
        ]


class ProfileName(StringParamType):
    """A profile of the AWS config files."""

    name = "profile"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the profiles that begin with ``incomplete``."""
        from click.shell_completion import CompletionItem

        from session_manager_plugin.aws.profile import profile_names

        names = profile_names(ctx.ensure_object(Environment).variables)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_OPTIONS = [
    click.option(
        "--region",
        type=RegionName(),
        metavar="REGION",
        help="AWS region, instead of AWS_REGION or the profile's. Example: eu-west-1.",
    ),
    click.option(
        "--profile",
        type=ProfileName(),
        metavar="NAME",
        help="AWS profile, instead of AWS_PROFILE. It holds credentials and settings.",
    ),
    click.option(
        "--endpoint-url",
        metavar="URL",
        help="Endpoint of the Systems Manager API, instead of the region's. Example: http://127.0.0.1:8080.",
    ),
    click.option(
        "--ca-bundle",
        type=FileName(),
        metavar="FILE",
        envvar="AWS_CA_BUNDLE",
        show_envvar=True,
        help="PEM file of the certificates to trust for the websocket and for calls to AWS, instead of the platform's. "
        "Needed behind a proxy that inspects TLS.",
    ),
    click.option(
        "--proxy",
        metavar="URL",
        help="Proxy, instead of HTTPS_PROXY. It is used for the websocket and for calls to AWS. Loopback is never "
        "proxied. A SOCKS proxy is for the websocket only: calls to AWS use HTTPS_PROXY. "
        "Examples: http://user:password@proxy:3128, socks5h://localhost:1080.",
    ),
]
