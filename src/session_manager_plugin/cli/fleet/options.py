"""What `smp exec` was asked to do on many targets."""

from __future__ import annotations

from dataclasses import dataclass

from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import UsageError
from session_manager_plugin.execution.remote_command import RemoteCommand, Via
from session_manager_plugin.utils.link_options import LinkOptions


@dataclass(frozen=True, kw_only=True)
class FleetRun:
    """A command, the targets to run it on, and how."""

    names: tuple[str, ...]
    tags: tuple[str, ...]
    command: RemoteCommand
    via: Via | None
    """None for Run Command."""
    fanout: int
    batch: str
    """A number, or a percentage of all targets; empty for all at once."""
    max_errors: int | None
    """After more failures no target begins; None for no limit."""
    timeout: float | None
    """Seconds for each target; None for no limit."""
    reason: str
    folds: bool
    as_json: bool
    aws: AwsSettings
    link: LinkOptions


def batch_size(text: str, total: int) -> int:
    """Return the targets of a batch; 0 for all. Raises ``UsageError``."""
    number = text.removesuffix("%")
    if not text:
        return 0
    if not number.isdecimal() or int(number) == 0 or (number != text and int(number) > 100):
        raise UsageError(f"--batch {text}: give a number from 1 on, or a percentage")
    return int(number) if number == text else max(1, total * int(number) // 100)
