"""``smp probe``: checks connectivity stage by stage, and reports which stage fails and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options_that_ask_nothing
from session_manager_plugin.cli.click_options import Seconds, WholeNumber, command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.exit_status import ExitStatus, Signalled
from session_manager_plugin.cli.session_options import gateway_options, sign_option
from session_manager_plugin.cli.target_argument import TargetName
from session_manager_plugin.errors import UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.aws.systems_manager import StartedSession
    from session_manager_plugin.cli.signals import Interruption

MAX_COUNT = 100_000

_EXAMPLES = """
smp probe                                    the endpoints of your region
smp probe i-0123456789abcdef0                a session there as well
smp probe --url "$URL" --token-file token --count 20
smp probe --json | jq '.checks[] | select(.verdict == "fail")'
"""


@command(
    "probe",
    examples=_EXAMPLES,
    groups={"Session": ("url", "token_file", "count"), "AWS": ("region", "profile", "proxy"), "Output": ("as_json",)},
)
@click.argument("target", required=False, type=TargetName(), default="", metavar="[TARGET]")
@click.option(
    "--url",
    metavar="URL",
    help="Stream URL of a session that was started. An endpoint needs --session-id too. Without a token "
    "its websocket is the last thing that is checked.",
)
@click.option(
    "--token",
    metavar="TOKEN",
    help="Token of that session, which is used up; other users of this machine can see it in ps. --token - reads it "
    "from the first line of standard input. It can also be in the variable SMP_TOKEN.",
)
@gateway_options
@sign_option
@click.option(
    "--target",
    "session_target",
    metavar="TARGET",
    default="",
    help="Target of the session of --url, which its key is bound to if it is encrypted with KMS. Example: "
    "i-0123456789abcdef0.",
)
@click.option(
    "--count",
    type=WholeNumber(0, MAX_COUNT),
    default=5,
    show_default=True,
    metavar="N",
    help="Number of pings in a session. About five a second are sent; 0 sends none. Example: 100.",
)
@click.option(
    "--connect-timeout",
    type=Seconds(zero=False),
    default=10.0,
    show_default=True,
    envvar="SMP_CONNECT_TIMEOUT",
    show_envvar=True,
    help="Seconds for each stage (DNS, TCP, proxy, TLS, websocket) and for each call of the API. Example: 3.",
)
@click.option(
    "--dial",
    metavar="HOST[:PORT]",
    help="Connect there for the session (without one: for ssmmessages), by TCP or through the proxy, instead of to the "
    "host of the URL, whose name stays the one that is sent and checked. Examples: 10.0.0.5, [::1]:8443.",
)
@aws_options_that_ask_nothing
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end. docs/probe.md describes it.")
def probe(
    environment: Environment,
    *,
    target: str,
    url: str | None,
    token: str | None,
    token_file: str | None,
    session_id: str | None,
    session_target: str,
    count: int,
    bearer: str,
    sign: str,
    insecure: bool,
    connect_timeout: float,
    dial: str | None,
    settings: AwsSettings,
    as_json: bool,
) -> int:
    """Check what a session needs, stage by stage.

    Region and credentials; names, TCP, the proxy, TLS and the clock; and with a TARGET (as for smp start) or the --url
    and token of a session also websocket, token, handshake, agent and latency, and the permissions to start, resume and
    terminate a session. Without either it checks the endpoints that a client needs in your region, and whether AWS
    accepts your credentials. Meanwhile it asks the AWS CLI for its version.

    A session that the probe starts is terminated at the end. Nothing is asked for. Each check passes, warns, fails, or
    is skipped because an earlier one failed or it does not apply; skipped ones are shown with -v. A failure comes with
    advice. The exit status is 1 if a check failed, else 0.
    """
    from contextlib import nullcontext

    from session_manager_plugin.cli.commands.connect import parse_dial
    from session_manager_plugin.cli.probe.checks import Report
    from session_manager_plugin.cli.probe.runner import Request
    from session_manager_plugin.cli.probe.runner import probe as run_probe
    from session_manager_plugin.cli.probe.view import TableView, view_of
    from session_manager_plugin.cli.signals import run
    from session_manager_plugin.cli.token import find_token
    from session_manager_plugin.utils.link_options import Bearer, NetworkOptions, Sign

    if url is not None and target:
        raise UsageError("give a TARGET or --url, not both; the target of --url's session is --target")
    if url is None and (token is not None or token_file is not None or session_id or session_target):
        raise UsageError("--token, --token-file, --session-id and --target belong to --url")
    found = find_token(environment, token, token_file)
    if token is not None and found is None:
        raise UsageError("--token - reads a pipe or a file, not a terminal: nothing is asked for here")
    request = Request(
        NetworkOptions(Bearer(bearer), settings.proxy, settings.ca_bundle, parse_dial(dial), Sign(sign)),
        timeout=connect_timeout,
        count=count,
        settings=settings,
        variables=environment.variables,
        stream=None if url is None else _stream(url, session_id, found or "", insecure=insecure),
        target=target or session_target,
    )
    report = Report()
    view = view_of(report, environment, as_json=as_json)
    report.changed = view.changed

    async def main(interruption: Interruption) -> None:
        live = interruption.drawing(view.lines) if isinstance(view, TableView) else nullcontext()
        with environment.queued_messages(), live:
            await run_probe(request, report)

    try:
        run(main)
    except BaseException as error:
        if not as_json and environment.is_output_writable:  # an interrupt does not wait for a reader
            view.finish()
            if isinstance(error, Signalled):
                error.is_told = True  # the last line is that of the report
        raise
    view.finish()
    return ExitStatus.SUCCESS if report.ok else ExitStatus.CHECK_FAILED


def _stream(url: str, session_id: str | None, token: str, *, insecure: bool) -> StartedSession:
    """Return the session of ``--url``. Raises ``InvalidURL``."""
    from urllib.parse import urlsplit

    from session_manager_plugin.aws.systems_manager import StartedSession
    from session_manager_plugin.communicator.stream_url import complete_stream_url
    from session_manager_plugin.errors import InvalidURL
    from session_manager_plugin.utils.hosts import is_loopback

    stream_url, known_id = complete_stream_url(url, session_id, token)
    parts = urlsplit(stream_url)
    if parts.scheme == "ws" and token and not insecure and not is_loopback(parts.hostname or ""):
        raise InvalidURL(
            f"refusing ws:// to {parts.hostname}: the token would travel unencrypted; use wss://, or --insecure"
        )
    return StartedSession(known_id, stream_url, token)
