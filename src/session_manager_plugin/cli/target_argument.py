"""The argument TARGET of commands: its completion, and choosing it from a list if it is missing."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from click.types import StringParamType

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import ConnectError, SessionManagerError, UsageError

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem

    from session_manager_plugin.aws.managed_instances import Instances, ManagedInstance
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.signals import Interruption

_WORD = re.compile(r"[\w.@%+,/-]+", re.ASCII)
"""A name that needs no quoting in any shell. A target with another name is completed by its id."""
_HEADINGS = ("Name", "Id", "Platform", "IP", "Agent", "Last ping")


class TargetName(StringParamType):
    """A target in any of its forms, completed from the names cached on this machine.

    Outdated names are suggested too, and refreshed in the background, so that Tab does not wait for the network.
    """

    name = "target"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return names, or ids or addresses if ``incomplete`` is the beginning of one."""
        from click.shell_completion import CompletionItem

        found = _cached(ctx, incomplete)
        return [CompletionItem(word, help=found[word]) for word in sorted(found)]


class CopyName(StringParamType):
    """A file of this machine, or ``TARGET:PATH``. Files and targets are completed, but no PATH on a target."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """Return the targets that ``incomplete`` begins, each with a colon, and make the shell complete file names.

        A target is of the type ``part``: the path follows without a blank.
        """
        from click.shell_completion import CompletionItem

        from session_manager_plugin.transfer.names import parse_location

        if parse_location(incomplete) is not None:
            return []
        found = _cached(ctx, incomplete)
        targets = [word for word in sorted(found) if parse_location(f"{word}:") is not None]
        return [
            *(CompletionItem(f"{word}:", type="part", help=found[word]) for word in targets),
            CompletionItem(incomplete, type="file"),
        ]


def _cached(context: click.Context, incomplete: str) -> dict[str, str]:
    """Return the cached names, ids and addresses that begin with ``incomplete``, each with a description."""
    from session_manager_plugin.aws.name_cache import NameCache
    from session_manager_plugin.aws.settings import AwsSettings

    given = {name: context.params.get(name) for name in ("region", "profile", "endpoint_url")}
    environment = context.ensure_object(Environment)
    cache = NameCache(AwsSettings(**given), environment.variables)
    targets, is_current = cache.read()
    if not is_current and cache.begin_refresh():
        _refresh(environment, given)
    found = {}
    for target in targets:
        if _WORD.fullmatch(target.name) and target.name.startswith(incomplete):
            found[target.name] = f"{target.id} {target.platform}"
        elif target.id.startswith(incomplete):
            found[target.id] = f"{target.name} {target.platform}".strip()
        elif incomplete and target.ip.startswith(incomplete):
            found[target.ip] = f"{target.id} {target.name}".strip()
    return found


def _refresh(environment: Environment, given: Mapping[str, str | None]) -> None:
    """Start a process that refreshes the names, without waiting for it. It has no terminal, so it cannot prompt."""
    import subprocess
    import sys

    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value]
    variables = {name: value for name, value in environment.variables.items() if name != "_SMP_COMPLETE"}
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [sys.executable, "-m", "session_manager_plugin", "ls", "-q", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=variables,
            start_new_session=True,
        )


class ChosenTarget(NamedTuple):
    """A target that was chosen from the list."""

    id: str
    name: str
    """Empty if it has none, or EC2 denies access."""


def target_label(environment: Environment, settings: AwsSettings, target: str) -> str:
    """Return the text for a session with ``target`` in the status line: the target and the region, if that is known."""
    from session_manager_plugin.aws.profile import region_of

    return f"{target} {settings.region or region_of(settings.profile, environment.variables) or ''}".strip()


def chosen_target(environment: Environment, settings: AwsSettings) -> ChosenTarget:
    """Let the user choose an online target from a list.

    Raises ``UsageError`` without a terminal, click's ``Exit`` if none is chosen, ``Signalled`` after Ctrl-C,
    ``ConnectError`` if none is online, and the errors of reading the list.
    """
    if not environment.is_interactive or environment.is_dumb:
        raise UsageError("no TARGET: give an id, a name, an address or tag:KEY=VALUE; smp ls lists them")
    from click.exceptions import Exit

    from session_manager_plugin.cli.exit_status import ExitStatus
    from session_manager_plugin.cli.signals import run

    async def main(_interruption: Interruption) -> ChosenTarget | None:
        return await _pick(environment, settings)

    chosen = run(main)
    if chosen is None:
        raise Exit(ExitStatus.INTERRUPTED)  # not by SIGINT, after which a shell begins a new line
    return chosen


async def _pick(environment: Environment, settings: AwsSettings) -> ChosenTarget | None:
    import asyncio
    import signal

    from session_manager_plugin.aws.targets import ONLINE, find_all
    from session_manager_plugin.aws.threads import in_thread
    from session_manager_plugin.cli.exit_status import Signalled

    loop = asyncio.get_running_loop()

    names: dict[str, str] = {}
    problems: list[SessionManagerError] = []

    def show(instances: Instances) -> None:
        names.update((each.id, each.name) for each in instances)
        picker.add({each.id: _cells(each) for each in instances if each.online})

    def received(page: Instances) -> None:
        loop.call_soon_threadsafe(show, page)

    loading = asyncio.wrap_future(
        in_thread(lambda: find_all(settings, ONLINE, received=received, unnamed=problems.append))
    )
    from session_manager_plugin.terminal.picker import Picker  # meanwhile

    picker = Picker(_HEADINGS, color=environment.uses_color(environment.stderr))

    def loaded(future: asyncio.Future[list[ManagedInstance]]) -> None:
        if future.cancelled():
            return
        if (error := future.exception()) is not None:
            picker.close(error if isinstance(error, Exception) else None)
        elif not any(each.online for each in future.result()):
            picker.close(ConnectError("no target is online; smp ls --all lists offline ones"))
        else:
            picker.note = _unnamed_note(problems[0]) if problems else ""
            show(future.result())

    loading.add_done_callback(loaded)
    chosen = await picker.choose()
    if picker.is_interrupted:
        interrupted = Signalled(signal.SIGINT)
        interrupted.is_told = True  # the screen is to be as before
        raise interrupted
    return None if chosen is None else ChosenTarget(chosen, names[chosen])


def _unnamed_note(error: SessionManagerError) -> str:
    from session_manager_plugin.aws.aws_errors import find_denial

    denial = find_denial(str(error.__cause__))
    return f"names need {denial.action}" if denial else "no names: smp ls shows why"


def _cells(instance: ManagedInstance) -> tuple[str, ...]:
    ping = f"{instance.last_ping.astimezone():%Y-%m-%d %H:%M:%S}" if instance.last_ping else ""
    return (instance.name, instance.id, instance.platform, instance.ip, instance.agent_version, ping)
