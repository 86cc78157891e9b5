"""``smp connect``: a session whose stream URL and token are known."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from session_manager_plugin.cli.aws_options import aws_options_that_ask_nothing
from session_manager_plugin.cli.click_options import command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.session_options import gateway_options, link_options, terminal_options
from session_manager_plugin.errors import UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.exit_status import Exit
    from session_manager_plugin.cli.process import Process
    from session_manager_plugin.cli.run_options import TerminalOptions
    from session_manager_plugin.cli.session import Ending
    from session_manager_plugin.utils.link_options import LinkOptions

_DIAL = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:/\[\]@?#]+))(?::(?P<port>[0-9]{1,5}))?")

_EXAMPLES = """
smp connect --url "$URL" --token-file token
smp connect --url "$URL"                     (asks for the token)
smp connect --url "$URL" --token - < token   (the rest of the input is the session's)
smp connect --url "$URL" --token-file token --log-file smp.log -v
smp connect --url wss://gateway.example --session-id ID --token-file token
"""


@command(
    "connect",
    examples=_EXAMPLES,
    groups={
        "Session": ("url", "token_file"),
        "AWS": ("region", "profile"),
        "Terminal": ("status", "record"),
    },
)
@click.option(
    "--url",
    metavar="URL",
    help="Stream URL of the session. It is used as it is; an endpoint (wss://HOST, https://HOST, HOST) needs "
    "--session-id too. Asked for at a terminal if not given.",
)
@click.option(
    "--token",
    metavar="TOKEN",
    help="Token of the session; other users of this machine can see it in ps. --token - reads it from the first line "
    "of standard input, and the rest of the input is the session's. Asked for at a terminal if not given in any way.",
)
@gateway_options
@click.option(
    "--dial",
    metavar="HOST[:PORT]",
    help="Connect there, by TCP or through the proxy, instead of to the host of the URL, whose name stays the one "
    "that is sent and checked. For VPC endpoints and tunnels. Examples: 10.0.0.5, [::1]:8443.",
)
@click.option(
    "--target",
    metavar="TARGET",
    default="",
    help="Target of the session, which its key is bound to if it is encrypted with KMS. Example: i-0123456789abcdef0.",
)
@aws_options_that_ask_nothing
@link_options
@terminal_options
def connect(
    environment: Environment,
    *,
    url: str | None,
    token: str | None,
    token_file: str | None,
    session_id: str | None,
    bearer: str,
    insecure: bool,
    dial: str | None,
    target: str,
    settings: AwsSettings,
    link: LinkOptions,
    options: TerminalOptions,
) -> Exit:
    """Join a session whose stream URL and token you have.

    StartSession of an AWS SDK returns them, and smp sandbox prints them. The token can also be in the variable
    SMP_TOKEN. At a terminal smp asks for what is missing.

    The session may be a shell, a command, a forwarded port, or a byte stream for ssh. A lost connection is restored,
    and the session continues where it was. With --region, --profile, --endpoint-url or
    AWS_ENDPOINT_URL_SSM a session that you leave is terminated too.

    Standard output is the session's only. Messages of smp go to standard error.
    """
    from session_manager_plugin.aws.session_services import SessionServices
    from session_manager_plugin.aws.signing import OpeningSigner
    from session_manager_plugin.cli.exit_status import exit_of_outcome
    from session_manager_plugin.cli.process import run_process
    from session_manager_plugin.cli.render import tell_ending, tell_note
    from session_manager_plugin.cli.session import run_terminal_session
    from session_manager_plugin.cli.token import check_token, find_token
    from session_manager_plugin.communicator import Bearer, complete_stream_url
    from session_manager_plugin.library import connect as open_session

    link = dataclasses.replace(link, bearer=Bearer(bearer), dial=parse_dial(dial), insecure=insecure)
    variables = environment.variables
    endpoint = settings.endpoint_url or variables.get("AWS_ENDPOINT_URL_SSM") or variables.get("AWS_ENDPOINT_URL")
    can_call = bool(settings.region or settings.profile or endpoint)
    found = find_token(environment, token, token_file)
    stream_url = url or _ask(environment, "Stream URL", "no stream URL: give --url")
    _, known_id = complete_stream_url(stream_url, session_id, "")  # reports a wrong URL before asking for the token
    secret = found or check_token(
        _ask(environment, "Token", "no token: give --token-file, SMP_TOKEN or --token -", hidden=True)
    )

    url_region = _region_of(stream_url)
    if not settings.region:
        settings = dataclasses.replace(settings, region=url_region)
    services = SessionServices(settings, known_id, target)
    can_resume = bool(known_id and (can_call or url_region))
    if known_id and can_call:
        options = dataclasses.replace(options, terminate=services.terminate)

    async def main(process: Process) -> Ending:
        session = open_session(
            stream_url,
            secret,
            session_id=session_id,
            link=link,
            key_service=services,
            resume_service=services if can_resume else None,
            signer=OpeningSigner(settings, tell=partial(tell_note, environment)),
        )
        return await run_terminal_session(session, process, options)

    ending = run_process(environment, main)
    tell_ending(environment, ending)
    return exit_of_outcome(ending.outcome)


def parse_dial(text: str | None) -> tuple[str, int | None] | None:
    """Return host and port of ``HOST``, ``HOST:PORT``, ``[IPV6]`` or ``[IPV6]:PORT``. Raises ``UsageError``."""
    if text is None:
        return None
    match = _DIAL.fullmatch(text)
    port = int(match["port"]) if match is not None and match["port"] else None
    if match is None or port == 0 or (port or 0) > 65535:
        raise UsageError(f"--dial: {text!r} is not HOST or HOST:PORT; an IPv6 address goes in brackets: [::1]:443")
    return match["ipv6"] or match["host"], port


def _ask(environment: Environment, question: str, otherwise: str, *, hidden: bool = False) -> str:
    """Return the answer typed at the terminal. Raises ``UsageError`` without a terminal, and without an answer."""
    answer = ""
    if environment.is_interactive:
        from session_manager_plugin.cli.exit_status import Signalled
        from session_manager_plugin.terminal.prompt import ask

        with contextlib.suppress(EOFError):
            answer = ask(question, signalled=Signalled, hidden=hidden)
    if not answer:
        raise UsageError(otherwise)
    return answer


def _region_of(url: str) -> str | None:
    """Return the region in the host name of ``url``, if that is a host of AWS."""
    from session_manager_plugin.communicator.aws_hosts import aws_service
    from session_manager_plugin.communicator.stream_url import websocket_scheme

    service = aws_service(urlsplit(websocket_scheme(url)).hostname or "")
    return None if service is None else service.region
