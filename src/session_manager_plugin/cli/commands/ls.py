"""``smp ls``: targets, and sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from session_manager_plugin.cli.aws_options import aws_options
from session_manager_plugin.cli.click_options import command
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import ConnectError, SessionManagerError, UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.listing import Row
    from session_manager_plugin.cli.signals import Interruption

_EXAMPLES = """
smp ls
smp ls --tag role=db --name 'prod-*'
smp ls --all --json | jq -r 'select(.online | not) | .id'
smp ls | cut -f 1                            the ids alone
smp ls --sessions
"""


@command(
    "ls",
    examples=_EXAMPLES,
    groups={
        "Targets": ("tags", "name", "offline_too"),
        "Sessions": ("sessions", "history"),
        "AWS": (),
        "Output": ("as_json",),
    },
)
@click.option(
    "--tag",
    "tags",
    metavar="KEY=VALUE",
    multiple=True,
    help="List targets with this tag; can be repeated. All of them have to match. Example: role=db.",
)
@click.option(
    "--name", metavar="PATTERN", help="List targets whose name matches, with *, ? and [...]. Example: 'web-*'."
)
@click.option("--all", "offline_too", is_flag=True, help="List targets that are offline too.")
@click.option("--sessions", is_flag=True, help="List your active sessions instead of targets.")
@click.option("--history", is_flag=True, help="List your sessions that are over.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line.")
@aws_options
def ls(
    environment: Environment,
    *,
    tags: tuple[str, ...],
    name: str | None,
    offline_too: bool,
    sessions: bool,
    history: bool,
    as_json: bool,
    settings: AwsSettings,
) -> int:
    """List the targets that are online, or your sessions.

    A table at a terminal. In a pipe a line each, with tabs between the fields: id, name, platform, ip, agent version,
    online, last ping; of a session id, target, started, owner, document, status, reason. --json names the fields.

    Needs ssm:DescribeInstanceInformation, and ec2:DescribeInstances for names; ssm:DescribeSessions for sessions.
    """
    from session_manager_plugin.aws.targets import unnamed_sentence
    from session_manager_plugin.cli.listing import Column, write_rows
    from session_manager_plugin.cli.render import tell, tell_note
    from session_manager_plugin.cli.signals import run

    if (sessions or history) and (tags or name or offline_too):
        raise UsageError("--tag, --name and --all select targets, not sessions")

    problems: list[SessionManagerError] = []

    async def main(_interruption: Interruption) -> list[Row]:
        if sessions or history:
            return await _session_rows(settings, history=history)
        return await _target_rows(settings, tags, name, offline_too=offline_too, unnamed=problems.append)

    rows = run(main)
    if problems:
        sentence = unnamed_sentence(problems[0])
        if name is not None:
            raise ConnectError(sentence) from problems[0]
        tell_note(environment, sentence)
    if sessions or history:
        columns = [
            Column("id", "Session"),
            Column("target", "Target", 1),
            Column("started", "Started", 2),
            Column("status", "Status", 3),
            Column("document", "Document", 5, folds_at=30),
            Column("reason", "Reason", 4, folds_at=20),
        ]
        nothing = "no session of yours is over" if history else "you have no active session"
    else:
        columns = [
            Column("name", "Name", cut_at=24),
            Column("id", "Id"),
            Column("platform", "Platform", 3, folds_at=24),
            Column("ip", "IP", 2),
            Column("agent_version", "Agent", 4),
            *([Column("online", "Online", 1)] if offline_too else []),
            Column("last_ping", "Last ping", 5),
        ]
        nothing = "no target matches" if offline_too else "no target that is online matches; --all lists offline ones"
    if not rows and not as_json and not environment.quiet:
        tell(environment, nothing, error=False)
    if rows:
        write_rows(environment, rows, columns, as_json=as_json)
    return 0


async def _target_rows(
    settings: AwsSettings,
    tags: tuple[str, ...],
    pattern: str | None,
    *,
    offline_too: bool,
    unnamed: Callable[[SessionManagerError], None],
) -> list[Row]:
    from fnmatch import fnmatchcase

    from session_manager_plugin.aws.targets import list_targets, parse_tag

    filters: dict[str, list[str]] = {}
    for key, value in map(parse_tag, tags):
        if f"tag:{key}" in filters:
            return []  # a tag has one value
        filters[f"tag:{key}"] = [value]
    targets = await list_targets(settings, filters, unnamed=unnamed)
    return [
        {
            "id": each.id,
            "name": each.name,
            "platform": each.platform,
            "ip": each.ip,
            "agent_version": each.agent_version,
            "online": each.online,
            "last_ping": each.last_ping,
        }
        for each in sorted(targets, key=lambda each: (each.name == "", each.name, each.id))
        if (each.online or offline_too) and (pattern is None or fnmatchcase(each.name, pattern))
    ]


async def _session_rows(settings: AwsSettings, *, history: bool) -> list[Row]:
    import asyncio

    from session_manager_plugin.aws.session_list import list_own_sessions
    from session_manager_plugin.aws.threads import in_thread

    found = await asyncio.wrap_future(in_thread(lambda: list_own_sessions(settings, history=history)))
    return [
        {
            "id": each.id,
            "target": each.target,
            "started": each.started,
            "owner": each.owner,
            "document": each.document,
            "status": each.status,
            "reason": each.reason,
        }
        for each in found
    ]
