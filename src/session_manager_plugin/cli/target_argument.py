"""The argument TARGET of commands: completed by the Tab key, and chosen from a list where it is missing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from click.types import StringParamType

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import ConnectError, UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.managed_instances import Instances, ManagedInstance
    from session_manager_plugin.aws.settings import AwsSettings
    from session_manager_plugin.cli.signals import Interruption

_HEADINGS = ("Name", "Id", "Platform", "IP", "Agent", "Last ping")


class TargetName(StringParamType):
    """A target in any of its forms."""

    name = "target"


def chosen_target(environment: Environment, settings: AwsSettings) -> str:
    """The id of the online target that a person chooses from a list.

    Raises `UsageError` where nobody can be asked, `KeyboardInterrupt` if none is chosen, `ConnectError` if none is
    online, and what reading the list raises.
    """
    if not environment.is_interactive or environment.is_dumb:
        raise UsageError("no TARGET: give an id, a name, an address or tag:KEY=VALUE; smp ls lists them")
    from session_manager_plugin.cli.signals import run

    async def main(_interruption: Interruption) -> str | None:
        return await _pick(environment, settings)

    chosen = run(main)
    if chosen is None:
        raise KeyboardInterrupt
    return chosen


async def _pick(environment: Environment, settings: AwsSettings) -> str | None:
    from session_manager_plugin.aws.targets import ONLINE, find_all
    from session_manager_plugin.aws.threads import in_thread

    loop = asyncio.get_running_loop()

    def show(instances: Instances) -> None:
        picker.add({each.id: _cells(each) for each in instances if each.online})

    def received(page: Instances) -> None:
        loop.call_soon_threadsafe(show, page)

    loading = asyncio.wrap_future(in_thread(lambda: find_all(settings, ONLINE, received=received)))
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
            picker.note = ""
            show(future.result())

    loading.add_done_callback(loaded)
    return await picker.choose()


def _cells(instance: ManagedInstance) -> tuple[str, ...]:
    ping = f"{instance.last_ping.astimezone():%Y-%m-%d %H:%M:%S}" if instance.last_ping else ""
    return (instance.name, instance.id, instance.platform, instance.ip, instance.agent_version, ping)
