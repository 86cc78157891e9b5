"""The results of a probe: checks with verdicts, and the report.

A report consists of groups: this machine, one for each host, the AWS CLI. Groups may run concurrently; the report
always shows them in the same order.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from session_manager_plugin.utils.logging import PRINTED, get_logger, redact
from session_manager_plugin.utils.text import printable


class Verdict(Enum):
    """The result of a check."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


class Stage(Enum):
    """The stage of a check, in the order of a connection."""

    LOCAL = "local"
    DNS = "dns"
    TCP = "tcp"
    PROXY = "proxy"
    TLS = "tls"
    WEBSOCKET = "websocket"
    CHANNEL = "channel"
    LATENCY = "latency"


@dataclass(frozen=True)
class Check:
    """One finished check. Its texts contain no secrets and no control characters."""

    stage: Stage
    name: str
    verdict: Verdict
    ms: float | None
    """The duration in milliseconds; None for a skipped check."""
    detail: str
    advice: str = ""
    """One sentence about what to do; empty if nothing needs to be done."""
    label: str = ""
    """The name below the title of the group, where the host needs no repetition; empty for ``name``."""

    def as_json(self) -> dict[str, Any]:
        """Return the check as an object of the report."""
        return {
            "stage": self.stage.value,
            "name": self.name,
            "verdict": self.verdict.value,
            "ms": None if self.ms is None else round(self.ms, 3),
            "detail": self.detail,
            "advice": self.advice or None,
        }


@dataclass(frozen=True)
class Latency:
    """The number of pings sent, and the times of those answered, in milliseconds."""

    count: int
    times: Sequence[float]

    @property
    def lost(self) -> int:
        """The number of pings without an answer."""
        return self.count - len(self.times)

    @property
    def mean(self) -> float:
        """The mean time. At least one ping must have been answered."""
        return sum(self.times) / len(self.times)

    @property
    def deviation(self) -> float:
        """ping(8)'s mdev: the root of the mean of squares minus the square of the mean."""
        return math.sqrt(max(0.0, sum(time * time for time in self.times) / len(self.times) - self.mean**2))

    def as_json(self) -> dict[str, Any]:
        """Return an object of the report. Without any answer the times are null."""
        times: list[float | None] = [None] * 4
        if self.times:
            times = [round(value, 3) for value in (min(self.times), self.mean, max(self.times), self.deviation)]
        return {
            "count": self.count,
            "lost": self.lost,
            **dict(zip(("min_ms", "avg_ms", "max_ms", "mdev_ms"), times, strict=True)),
        }

    def __str__(self) -> str:
        """Return the text that ping(8) would print."""
        loss = f"{100 * self.lost / self.count:.4g}% loss"
        text = f"{self.count} sent, {len(self.times)} received, {loss}"
        if not self.times:
            return text
        values = (min(self.times), self.mean, max(self.times), self.deviation)
        return f"{text}, rtt min/avg/max/mdev = {'/'.join(f'{value:.3f}' for value in values)} ms"


class Running:
    """A check in progress. The last verdict wins."""

    def __init__(self, stage: Stage, name: str, label: str = "") -> None:
        self.stage = stage
        self.name = clean(name)
        self.label = clean(label)
        self._begun = 0.0
        self._verdict: tuple[Verdict, str, str] | None = None
        self._ms: float | None = None

    def start(self) -> None:
        """Start the time."""
        self._begun = time.monotonic()

    def passed(self, detail: str) -> None:
        """The check passes."""
        self._say(Verdict.PASS, detail, "")

    def warned(self, detail: str, advice: str) -> None:
        """The check passes, or is not required, but something should be changed."""
        self._say(Verdict.WARN, detail, advice)

    def failed(self, detail: str, advice: str) -> None:
        """The check fails."""
        self._say(Verdict.FAIL, detail, advice)

    def skipped(self, detail: str) -> None:
        """There is nothing to check."""
        self._say(Verdict.SKIPPED, detail, "")

    def took(self, seconds: float) -> None:
        """Set the duration, if it is not the time from the start to the verdict."""
        self._ms = 1000 * seconds

    def _say(self, verdict: Verdict, detail: str, advice: str) -> None:
        if self._ms is None:
            self._ms = 1000 * (time.monotonic() - self._begun)
        self._verdict = verdict, detail, advice

    def check(self) -> Check | None:
        """The finished check; None while there is no verdict."""
        if self._verdict is None:
            return None
        verdict, detail, advice = self._verdict
        ms = None if verdict is Verdict.SKIPPED else self._ms
        return Check(self.stage, self.name, verdict, ms, clean(detail), clean(advice), self.label)


@dataclass
class Group:
    """Consecutive checks of one host, or of this machine."""

    changed: Callable[[], None] = field(repr=False)
    title: str = ""
    is_endpoint: bool = False
    """Whether the group is one of several endpoints. Those that fail for the same reason are shown as one."""
    is_printed: bool = False
    """Whether the checks are printed as lines, which the log on standard error must not repeat."""
    checks: list[Check] = field(default_factory=list)
    running: list[Running] = field(default_factory=list)
    done: bool = False

    @contextlib.contextmanager
    def check(self, stage: Stage, name: str, label: str = "") -> Iterator[Running]:
        """Run a check during the block. Without a verdict it is not reported."""
        running = Running(stage, name, label)
        self.running.append(running)
        self.changed()
        running.start()  # drawing takes longer than some checks
        try:
            yield running
        finally:
            self.running.remove(running)
            if (check := running.check()) is not None:
                self.add(check)
            self.changed()

    def add(self, check: Check) -> None:
        """Add a finished check."""
        get_logger(__name__).info(
            "%s %s: %s: %s",
            *(check.stage.value, check.verdict.value, check.name, check.detail),
            extra={PRINTED: self.is_printed},
        )
        self.checks.append(check)

    def skip(self, name: str, reason: str, *stages: Stage) -> None:
        """Report that these stages are skipped."""
        for stage in stages:
            self.add(Check(stage, clean(name), Verdict.SKIPPED, None, clean(reason)))
        self.changed()

    @property
    def has_failed(self) -> bool:
        """Whether one of its checks failed."""
        return any(check.verdict is Verdict.FAIL for check in self.checks)

    def finish(self) -> None:
        """No further checks follow."""
        self.done = True
        self.changed()


@dataclass
class Report:
    """All checks of a probe. Calls ``changed`` after every change."""

    changed: Callable[[], None] = lambda: None
    groups: list[Group] = field(default_factory=list)
    latency: Latency | None = None
    is_printed: bool = False
    """Whether the checks of the groups that follow are printed as lines."""

    def group(self, title: str = "", *, is_endpoint: bool = False) -> Group:
        """Return a new group, after the others."""
        group = self.background_group(title)
        group.is_endpoint = is_endpoint
        self.add(group)
        return group

    def background_group(self, title: str) -> Group:
        """Return a new group that is no part of the report until ``add``."""
        return Group(lambda: self.changed(), clean(title), is_printed=self.is_printed)

    def add(self, group: Group) -> None:
        """Add a group after the others."""
        self.groups.append(group)
        self.changed()

    def finish(self, groups: Iterable[Group]) -> None:
        """No further checks follow in these groups. ``changed`` is called once."""
        for group in groups:
            group.done = True
        self.changed()

    @property
    def checks(self) -> list[Check]:
        """The finished checks, in order."""
        return [check for group in self.groups for check in group.checks]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not any(group.has_failed for group in self.groups)

    def as_json(self) -> dict[str, Any]:
        """Return the report as docs/probe.md describes it."""
        return {
            "ok": self.ok,
            "checks": [check.as_json() for check in self.checks],
            "latency": None if self.latency is None else self.latency.as_json(),
        }


def clean(text: str) -> str:
    """Return ``text`` on one line, without secrets and control characters."""
    return printable(redact(text))
