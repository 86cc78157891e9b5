"""`smp start`: from a target's name to a session."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import (
    command,
    connection_options,
    escape_option,
    record_options,
    sign_option,
    status_option,
    stdin_eof_option,
)
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.target_argument import TargetName

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.exit_status import Exit
    from session_manager_plugin.cli.session import Ending
    from session_manager_plugin.cli.signals import Interruption

_EXAMPLES = """
smp start web-1                              a shell on the instance with this name
smp start      (choose from a list)
smp start tag:role=db --region eu-west-1
smp start ecs:shop/api/app                   a shell in a container
smp start web-1 --request 'disk full, INC-17'      (just-in-time access)
smp start i-0123456789abcdef0 --document-name AWS-StartInteractiveCommand --parameters command='top -d 5'
"""


@command(
    "start",
    examples=_EXAMPLES,
    groups={
        "Session": ("document_name", "parameters", "reason", "request"),
        "AWS": ("region", "profile", "endpoint_url"),
        "Terminal": ("status", "escape_char", "record"),
    },
)
@click.argument("target", required=False, type=TargetName(), metavar="[TARGET]")
@click.option(
    "--document-name",
    metavar="NAME",
    default="",
    help="Session document, by name or ARN; without it a shell, which needs no permission for a document. "
    "Example: AWS-StartInteractiveCommand.",
)
@click.option(
    "--parameters",
    metavar="PARAMETERS",
    multiple=True,
    help="Parameters of the document: KEY=VALUE, a JSON object or file://PATH of one; can be repeated. "
    "Example: portNumber=5432.",
)
@click.option("--reason", metavar="TEXT", default="", help="Reason, which AWS keeps with the session.")
@click.option(
    "--request",
    metavar="REASON",
    help="Ask for just-in-time access first, and wait until it is approved. Ctrl-C stops waiting.",
)
@aws_options
@status_option
@escape_option
@record_options
@stdin_eof_option
@connection_options
@sign_option
def start(
    environment: Environment,
    *,
    target: str | None,
    document_name: str,
    parameters: tuple[str, ...],
    reason: str,
    request: str | None,
    settings: AwsSettings,
    status: str,
    escape_char: str,
    record: str | None,
    record_input: bool,
    stdin_eof: str,
    connect_timeout: float,
    keepalive: float,
    reconnect_timeout: float,
    sign: str,
) -> Exit:
    """Start a session with a target: a shell, unless another document is named.

    TARGET is the id of an instance (i-..., mi-...), its Name tag, private DNS name or private IP address;
    tag:KEY=VALUE; or ecs:CLUSTER/SERVICE-or-TASK[/CONTAINER]. A name has to match one online instance: several are
    listed. Without TARGET, at a terminal, it is chosen from a list.

    A connection that is lost is restored, and the session goes on. A session that is left is terminated.

    In a pipe the output is the session's and nothing else; messages of smp go to standard error.
    """
    from session_manager_plugin.aws.systems_manager import SystemsManager
    from session_manager_plugin.cli.access_request import requested_access
    from session_manager_plugin.cli.document_parameters import parse_parameters
    from session_manager_plugin.cli.exit_status import exit_of_outcome
    from session_manager_plugin.cli.recording_options import recorder
    from session_manager_plugin.cli.render import tell, tell_ending
    from session_manager_plugin.cli.signals import run
    from session_manager_plugin.cli.target_argument import chosen_target
    from session_manager_plugin.session.document_names import forwards_port, needs_handshake
    from session_manager_plugin.terminal.escapes import parse_escape_character

    escape_character = parse_escape_character(escape_char)
    values = parse_parameters(parameters)
    open_recording = recorder(environment, record, keeps_input=record_input)
    named = target if target is not None else chosen_target(environment, settings)

    async def main(interruption: Interruption) -> Ending:
        import asyncio

        from session_manager_plugin.aws.targets import is_target_id, resolve_target

        with environment.queued_messages():
            target_id = named if is_target_id(named) else await resolve_target(settings, named)
            allowed = settings if request is None else await requested_access(environment, settings, target_id, request)
            systems_manager = SystemsManager(allowed)
            starting = asyncio.ensure_future(systems_manager.start_session(target_id, document_name, values, reason))
            await asyncio.sleep(0)  # the request is on its way while the rest is imported
            from session_manager_plugin.aws.signing import OpeningSigner
            from session_manager_plugin.cli.session import join, status_mode
            from session_manager_plugin.communicator import LinkOptions, Sign
            from session_manager_plugin.library import connect
            from session_manager_plugin.session.handler_options import StdinEof
            from session_manager_plugin.session.notices import PlainNotices
            from session_manager_plugin.session.port import LocalEnd

            started = await starting
            local_end = LocalEnd.of_request(values) if forwards_port(document_name) else None
            session = connect(
                started.stream_url,
                started.token,
                link=LinkOptions(
                    proxy=settings.proxy,
                    ca_bundle=settings.ca_bundle,
                    sign=Sign(sign),
                    keepalive=keepalive,
                    connect_timeout=connect_timeout,
                    reconnect_timeout=reconnect_timeout,
                ),
                aws=allowed,
                target=target_id,
                handshake_required=needs_handshake(document_name),
                signer=OpeningSigner(
                    allowed,
                    tell=lambda sentence: None if environment.quiet else tell(environment, sentence, error=False),
                ),
            )
            return await join(
                session,
                environment,
                interruption,
                status=status_mode(environment, status),
                stdin_eof=StdinEof(stdin_eof),
                notices=PlainNotices(partial(tell, environment, error=False)),
                bind=None if local_end is None else local_end.bind,
                escape_character=escape_character,
                open_recording=open_recording,
                terminate=partial(systems_manager.try_to_terminate, started.session_id),
            )

    ending = run(main)
    tell_ending(environment, ending)
    return exit_of_outcome(ending.outcome)
