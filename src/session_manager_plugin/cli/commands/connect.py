"""`smp connect`: a session whose stream URL and token are there already."""

from __future__ import annotations

import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.options import Choice, Seconds, command, status_option
from session_manager_plugin.errors import UsageError

if TYPE_CHECKING:
    from session_manager_plugin.cli.session import Ending, Terminate
    from session_manager_plugin.cli.signals import Interruption

PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_DIAL = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/\[\]@?#]+))(?::(?P<port>[0-9]{1,5}))?")

_EXAMPLES = """
smp connect --url 'wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/...' --token-file token
echo 'uname -a; exit' | SMP_TOKEN=... smp connect --url ...
smp connect --url wss://gateway.example --session-id ID     (asks for the token)
"""


@command("connect", examples=_EXAMPLES)
@click.option("--url", metavar="URL", help="The stream URL, or an endpoint together with --session-id.")
@click.option("--token", metavar="TOKEN", help="The token; others on this machine can see it there. - reads a line.")
@click.option("--token-file", metavar="FILE", help="A file that holds the token.")
@click.option("--session-id", metavar="ID", help="The session's id, if the URL does not hold it.")
@click.option(
    "--bearer",
    type=Choice("auto", "always", "never"),
    default="auto",
    show_default=True,
    help="Send the token in an Authorization header too; auto does so to hosts that are not AWS's.",
)
@click.option("--insecure", is_flag=True, help="Allow ws:// to another machine: the token travels unencrypted.")
@click.option(
    "--connect-timeout",
    type=Seconds(zero=False),
    default=30.0,
    show_default=True,
    envvar="SMP_CONNECT_TIMEOUT",
    show_envvar=True,
    help="For DNS, TCP, proxy, TLS and websocket together.",
)
@click.option(
    "--keepalive",
    type=Seconds(zero=True),
    default=15.0,
    show_default=True,
    envvar="SMP_KEEPALIVE",
    show_envvar=True,
    help="Between two pings; 0 sends none.",
)
@click.option(
    "--ca-bundle",
    metavar="FILE",
    envvar="AWS_CA_BUNDLE",
    show_envvar=True,
    help="Certificates to trust instead of the platform's.",
)
@click.option("--proxy", metavar="URL", help="Proxy to use instead of HTTPS_PROXY's; loopback is never proxied.")
@click.option("--dial", metavar="HOST[:PORT]", help="Connect there; URL, TLS name and Host header stay.")
@click.option("--target", metavar="TARGET", default="", help="Of the session; needed when it is encrypted by KMS.")
@click.option("--region", help="Of the session. With one of these three, a session that is left is terminated too.")
@click.option("--profile", help="Whose credentials terminate the session.")
@click.option("--endpoint-url", metavar="URL", help="Of the Systems Manager API.")
@status_option
@click.option(
    "--stdin-eof",
    type=Choice("eot", "close", "ignore"),
    default="eot",
    show_default=True,
    help="What the end of an input that is no terminal does: type Ctrl-D, end the session, nothing.",
)
def connect(
    environment: Environment,
    *,
    url: str | None,
    token: str | None,
    token_file: str | None,
    session_id: str | None,
    bearer: str,
    insecure: bool,
    connect_timeout: float,
    keepalive: float,
    ca_bundle: str | None,
    proxy: str | None,
    dial: str | None,
    target: str,
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
    status: str,
    stdin_eof: str,
) -> int | BaseException:
    """Join a session whose stream URL and token you have.

    They come from the StartSession call of an AWS SDK, or from smp sandbox. The token can also be in the variable
    SMP_TOKEN. What is missing is asked for at a terminal.

    In a pipe the output is the session's and nothing else.
    """
    from session_manager_plugin.aws.kms import KmsKeyService
    from session_manager_plugin.cli.render import tell, tell_ending
    from session_manager_plugin.cli.session import join, wants_bar
    from session_manager_plugin.cli.signals import run
    from session_manager_plugin.cli.token import check_token, find_token
    from session_manager_plugin.communicator import Bearer, NetworkOptions, complete_stream_url
    from session_manager_plugin.library import connect as open_session
    from session_manager_plugin.session.notices import PlainNotices
    from session_manager_plugin.session.shell import StdinEof

    network = NetworkOptions(Bearer(bearer), parse_proxy(proxy), ca_bundle, parse_dial(dial))
    found = find_token(environment, token, token_file)
    stream_url = url or _ask(environment, "Stream URL", "no stream URL: give --url")
    _, known_id = complete_stream_url(stream_url, session_id, "")  # a wrong one is told before the token is asked for
    secret = found or check_token(
        _ask(environment, "Token", "no token: give --token-file, SMP_TOKEN or --token -", hidden=True)
    )

    async def main(interruption: Interruption) -> Ending:
        session = open_session(
            stream_url,
            secret,
            session_id=session_id,
            connect_timeout=connect_timeout,
            keepalive=keepalive,
            network=network,
            insecure=insecure,
            key_service=KmsKeyService(known_id, target, region=region, profile=profile),
        )
        return await join(
            session,
            environment,
            interruption,
            bar=wants_bar(environment, status),
            stdin_eof=StdinEof(stdin_eof),
            notices=PlainNotices(partial(tell, environment, error=False)),
            terminate=_terminate(session.session_id, region, profile, endpoint_url),
        )

    ending = run(main)
    tell_ending(environment, ending)
    return ending.status if ending.error is None else ending.error


def parse_dial(text: str | None) -> tuple[str, int | None] | None:
    """Host and port of `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`. Raises `UsageError`."""
    if text is None:
        return None
    match = _DIAL.fullmatch(text)
    port = int(match["port"]) if match is not None and match["port"] else None
    if match is None or port == 0 or (port or 0) > 65535:
        raise UsageError(f"--dial: {text!r} is not HOST or HOST:PORT; an IPv6 address goes in brackets: [::1]:443")
    return match["ipv6"] or match["host"], port


def parse_proxy(text: str | None) -> str | None:
    """The URL itself. Raises `UsageError`, without repeating it: it may hold a password."""
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        usable = parts.scheme in PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"--proxy takes a URL with a host, of one of the kinds {', '.join(PROXY_SCHEMES)}")
    return text


def _ask(environment: Environment, question: str, otherwise: str, *, hidden: bool = False) -> str:
    """The answer of the person at the terminal; where there is none, and for no answer, a `UsageError`."""
    answer = ""
    if environment.is_interactive:
        from session_manager_plugin.terminal.prompt import ask

        with contextlib.suppress(EOFError):
            answer = ask(question, hidden=hidden)
    if not answer:
        raise UsageError(otherwise)
    return answer


def _terminate(session_id: str, region: str | None, profile: str | None, endpoint_url: str | None) -> Terminate | None:
    """What terminates the session, if the user has said how to get there."""
    if not session_id or not (region or profile or endpoint_url):
        return None
    from session_manager_plugin.aws.services import terminate_session

    return partial(terminate_session, session_id, region=region, profile=profile, endpoint_url=endpoint_url)
