"""``smp start``: from a target's name to a session."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.session_options import link_options, terminal_options
from session_manager_plugin.cli.target_argument import TargetName
from session_manager_plugin.errors import UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.exit_status import Exit
    from session_manager_plugin.cli.process import Process
    from session_manager_plugin.cli.run_options import TerminalOptions
    from session_manager_plugin.cli.session import Ending
    from session_manager_plugin.session.port import LocalEnd
    from session_manager_plugin.utils.link_options import LinkOptions

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
        "Session": ("document_name", "parameters", "request"),
        "AWS": ("region", "profile"),
        "Terminal": ("status", "record"),
    },
)
@click.argument("target", required=False, type=TargetName(), metavar="[TARGET]")
@click.option(
    "--document-name",
    metavar="NAME",
    default="",
    help="Session document, by name or ARN. Without it a shell, which needs no permission for a document. "
    "Example: AWS-StartInteractiveCommand.",
)
@click.option(
    "--parameters",
    metavar="KEY=VALUE",
    multiple=True,
    help="Parameters of the document; can be repeated. Also a JSON object, or file://PATH of one. "
    "Example: portNumber=5432.",
)
@click.option("--reason", metavar="TEXT", default="", help="Reason, which AWS keeps with the session.")
@click.option(
    "--request",
    metavar="REASON",
    help="Ask for just-in-time access first. Waits until it is approved; Ctrl-C stops waiting.",
)
@aws_options
@link_options
@terminal_options
def start(
    environment: Environment,
    *,
    target: str | None,
    document_name: str,
    parameters: tuple[str, ...],
    reason: str,
    request: str | None,
    settings: AwsSettings,
    link: LinkOptions,
    options: TerminalOptions,
) -> Exit:
    """Start a session with a target: a shell, unless another document is named.

    TARGET is the id of an instance (i-..., mi-...), its Name tag, private DNS name or private IP address;
    tag:KEY=VALUE; or ecs:CLUSTER/SERVICE-or-TASK[/CONTAINER]. A name has to match one online instance: several are
    listed. Without TARGET, at a terminal, it is chosen from a list.

    A connection that is lost is restored, and the session goes on. A session that is left is terminated.

    In a pipe the output is the session's and nothing else; messages of smp go to standard error.
    """
    import asyncio
    from contextlib import ExitStack

    from session_manager_plugin.aws.systems_manager import SystemsManager
    from session_manager_plugin.aws.targets import is_target_id, resolve_target
    from session_manager_plugin.cli.access_request import requested_access
    from session_manager_plugin.cli.document_parameters import parse_parameters
    from session_manager_plugin.cli.exit_status import exit_of_outcome
    from session_manager_plugin.cli.explained_wait import explained_wait
    from session_manager_plugin.cli.garbage import collection_paused
    from session_manager_plugin.cli.process import run_process
    from session_manager_plugin.cli.render import tell_ending, tell_note
    from session_manager_plugin.cli.target_argument import chosen_target, target_label
    from session_manager_plugin.session.document_names import SHELL, needs_handshake

    if request is not None and not request.strip():
        raise UsageError("--request: the reason is empty")
    values = parse_parameters(parameters)
    chosen = None if target is not None else chosen_target(environment, settings)
    named = target or (chosen.id if chosen is not None else "")
    known_name = named if chosen is None else chosen.name or chosen.id

    async def main(process: Process) -> Ending:
        with ExitStack() as cleaning:
            with collection_paused(), explained_wait(environment, f"looking for {named}"):
                target_id = named if is_target_id(named) else await resolve_target(settings, named)
            local_end = _local_end(document_name, values)
            listener = None if local_end is None else cleaning.enter_context(local_end.bind())
            allowed = settings
            if request is not None:
                allowed = await requested_access(process, settings, target_id, request)
            with collection_paused():
                systems_manager = SystemsManager(allowed, throttled=partial(tell_note, environment))
                starting = asyncio.ensure_future(
                    systems_manager.start_session(target_id, document_name, values, reason)
                )
                await asyncio.sleep(0)  # the request is on its way while the rest is imported
                from session_manager_plugin.aws.signing import OpeningSigner
                from session_manager_plugin.cli.session import run_terminal_session
                from session_manager_plugin.library import connect

                with explained_wait(environment, f"waiting for AWS to start a session with {known_name}"):
                    started = await starting
                session = connect(
                    started.stream_url,
                    started.token,
                    link=link,
                    aws=allowed,
                    target=target_id,
                    handshake_required=needs_handshake(document_name),
                    signer=OpeningSigner(allowed, tell=partial(tell_note, environment)),
                )
            run_options = dataclasses.replace(
                options,
                label=target_label(environment, settings, known_name),
                target=target_label(
                    environment, settings, known_name if known_name == target_id else f"{known_name} ({target_id})"
                ),
                is_shell=not document_name or document_name == SHELL,
                listener=listener,
                terminate=partial(systems_manager.try_to_terminate, started.session_id),
            )
            return await run_terminal_session(session, process, run_options)

    ending = run_process(environment, main)
    tell_ending(environment, ending)
    return exit_of_outcome(ending.outcome)


def _local_end(document: str, parameters: Mapping[str, Sequence[str]]) -> LocalEnd | None:
    """Return the local end of a session that forwards a port, to be bound before the session is started."""
    from session_manager_plugin.session.document_names import forwards_port

    if not forwards_port(document):
        return None
    from session_manager_plugin.session.port import LocalEnd

    return LocalEnd.of_request(parameters)
