"""What a command came to on one of many targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from session_manager_plugin.cli.exit_status import ExitStatus, Signalled
from session_manager_plugin.cli.render import error_sentence
from session_manager_plugin.errors import CommandTimedOut
from session_manager_plugin.session.outcome import FAILURE, Outcome
from session_manager_plugin.session.protocols import Streams
from session_manager_plugin.utils.text import printable

TIMED_OUT = int(ExitStatus.TIMED_OUT)


class FleetTarget(NamedTuple):
    """One target."""

    id: str
    label: str
    """What it is called in the output: its name, or its id."""


@dataclass(frozen=True)
class FleetResult:
    """A target on which the command has ended, or could not be run."""

    target: FleetTarget
    status: int
    """0 to 255. If the command did not run to its end: 128 + n if signal n has killed it, 124 if the time was over,
    255 for any other reason."""
    seconds: float
    error: str = ""
    """A sentence: why the command did not run to its end, or what is missing of its output. Empty if neither."""
    truncated: bool = False
    """Whether its output ends early because the service keeps no more of it."""
    replaced: bool = False
    """Whether its output contains U+FFFD, which the service writes in place of bytes that are not UTF-8."""
    is_interrupted: bool = False
    """Whether a signal to this program has ended its session, or its command by Run Command."""

    @property
    def succeeded(self) -> bool:
        """Whether the command has run to its end, with status 0."""
        return not self.status and not self.error


def result_of(target: FleetTarget, outcome: Outcome, trouble: str, seconds: float) -> FleetResult:
    """Return the result of a session. ``trouble`` says why the status of a normal outcome is not the command's own."""
    if outcome.is_normal:
        return FleetResult(target, outcome.status or 0, seconds, trouble)
    return FleetResult(
        target,
        TIMED_OUT if isinstance(outcome.error, CommandTimedOut) else FAILURE,
        seconds,
        _sentence(outcome),
        is_interrupted=isinstance(outcome.error, Signalled),
    )


def _sentence(outcome: Outcome) -> str:
    """Return what went wrong, in the same words for all targets with which the same did."""
    if isinstance(outcome.error, Signalled):
        return f"ended {outcome.error}"
    if outcome.error is not None:
        return error_sentence(outcome.error) or "the reader of the output has closed it"
    if outcome.text:
        return f"the session was closed by the far end: {printable(outcome.text)}"
    return outcome.incomplete


class Sink(Protocol):
    """Shows the outputs of all targets."""

    def streams(self, target: FleetTarget) -> Streams:
        """Return where the output of one target's command goes."""

    def finished(self, result: FleetResult) -> None:
        """The command has ended on a target; its output is complete."""

    def close(self) -> None:
        """Every target has ended: write what was kept until now."""
