"""The options for calls to AWS: declared once, and passed to a command as one ``AwsSettings``."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from click.core import ParameterSource
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

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the region, if its name is well-formed."""
        if _REGION.fullmatch(value) is None:
            self.fail(f"{value!r} is not the name of a region, such as eu-west-1", param, ctx)
        return str(value)

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

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, if it is not empty."""
        if not value:
            self.fail("the name is empty", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the profiles that begin with ``incomplete``."""
        from click.shell_completion import CompletionItem

        from session_manager_plugin.aws.profile import profile_names

        names = profile_names(ctx.ensure_object(Environment).variables)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class EndpointURL(StringParamType):
    """The URL of an API."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the URL, if a request can be sent there."""
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # the port
            usable = False
        if not usable or not value.isascii() or any(character.isspace() for character in value):
            self.fail(f"{value!r} is not a URL such as https://HOST or http://127.0.0.1:8080", param, ctx)
        return str(value)


class CertificatesFile(FileName):
    """A file of CA certificates. One that is named on the command line must be readable."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name of the file. Raises ``UsageError``."""
        if ctx is not None and param is not None and not ctx.resilient_parsing:
            source = ctx.get_parameter_source(param.name or "")
            if source is ParameterSource.COMMANDLINE:
                try:
                    Path(value).open("rb").close()
                except (OSError, ValueError) as error:
                    reason = getattr(error, "strerror", None) or error
                    raise UsageError(f"the CA bundle {value} cannot be read: {reason}") from None
        return str(value)


_REGION = re.compile(r"(?![0-9]+$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
"""The names that botocore accepts: a label of a host name that is not a number."""
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
        type=EndpointURL(),
        metavar="URL",
        help="Endpoint of the Systems Manager API, instead of the region's. Example: http://127.0.0.1:8080.",
    ),
    click.option(
        "--ca-bundle",
        type=CertificatesFile(),
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
