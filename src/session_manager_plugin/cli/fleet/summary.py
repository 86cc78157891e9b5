"""What became of all targets, in a few lines, and in one exit status."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from session_manager_plugin.aws.run_command import ERROR_OUTPUT_LIMIT, OUTPUT_LIMIT
from session_manager_plugin.cli.exit_status import Exit, ExitStatus
from session_manager_plugin.cli.fleet.names import fold_names
from session_manager_plugin.cli.fleet.results import FleetResult

MOST_REASONS = 20
"""Lines about failures; further ones are counted."""


class Summary:
    """Counts results, and keeps the names of those that failed by reason."""

    def __init__(self) -> None:
        self.succeeded = 0
        self.truncated = 0
        self.replaced = 0
        self._failed: dict[str, list[str]] = defaultdict(list)
        self._highest = 0
        self._is_interrupted = False

    def add(self, result: FleetResult) -> None:
        """Count a result."""
        self.truncated += result.truncated
        self.replaced += result.replaced
        self._is_interrupted = self._is_interrupted or result.is_interrupted
        if result.succeeded:
            self.succeeded += 1
            return
        reason = result.error or f"exit status {result.status}"
        self._failed[reason].append(result.target.label)
        self._highest = max(self._highest, result.status)

    @property
    def failed(self) -> int:
        """How many have failed."""
        return sum(len(labels) for labels in self._failed.values())

    def lines(self, total: int, seconds: float) -> Sequence[str]:
        """Return the lines to show: a reason each, those of most targets first, and the sum."""
        reasons = sorted(self._failed.items(), key=lambda item: (-len(item[1]), item[0]))
        lines = [f"{fold_names(labels)}: {reason}" for reason, labels in reasons[:MOST_REASONS]]
        if len(reasons) > MOST_REASONS:
            more = sum(len(labels) for _, labels in reasons[MOST_REASONS:])
            lines.append(f"and {more} more, for {len(reasons) - MOST_REASONS} other reasons; --json names them all")
        counts = [f"{self.succeeded} succeeded"]
        if self.failed:
            counts.append(f"{self.failed} failed")
        if not_run := total - self.succeeded - self.failed:
            counts.append(f"{not_run} not run")
        lines.append(f"{_targets(total)}: {', '.join(counts)}, in {seconds:.1f} s")
        return lines

    def losses(self) -> Sequence[str]:
        """Return the lines to show about outputs that are not those of the commands."""
        lines = []
        if self.truncated:
            lines.append(
                f"the output of {_targets(self.truncated)} ends early: Run Command keeps {OUTPUT_LIMIT:,} characters, "
                f"and {ERROR_OUTPUT_LIMIT:,} of standard error"
            )
        if self.replaced:
            lines.append(
                f"the output of {_targets(self.replaced)} contains U+FFFD, which Run Command writes in place of bytes "
                "that are not UTF-8"
            )
        return lines

    def is_complete(self, total: int) -> bool:
        """Whether the command has ended on all targets by itself, or because of a signal that was passed on to it."""
        return not self._is_interrupted and self.succeeded + self.failed == total

    def exit(self, total: int) -> Exit:
        """Return how the program ends: with the highest status."""
        if not self.failed and self.succeeded < total:
            return Exit(ExitStatus.FAILURE, failed=True)
        return Exit(self._highest)


def _targets(count: int) -> str:
    return f"{count} target{'s' * (count != 1)}"
