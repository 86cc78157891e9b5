"""What of a report is shown: titles with checks below them, each cause of failures once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from session_manager_plugin.cli.probe.checks import Check, Group, Running, Stage, Verdict


@dataclass(frozen=True)
class Section:
    """A title and the checks below it."""

    title: str
    checks: Sequence[Check]
    running: Sequence[Running]
    groups: int
    """The number of groups that it shows."""


def section_at(groups: Sequence[Group], index: int, *, everything: bool) -> Section:
    """Return the section that begins with ``groups[index]``.

    Unless ``everything`` is to be shown it has no skipped checks and no failure of this machine's settings that an
    earlier check has shown. Endpoints that failed at the same stage with the same advice are one section, with the
    failures of the first.
    """
    first = groups[index]
    if everything:
        return Section(first.title, first.checks, first.running, 1)
    alike = 1
    if first.is_endpoint and first.done and (causes := _causes(first)):
        while index + alike < len(groups) and _causes(groups[index + alike]) == causes:
            alike += 1
    if alike == 1:
        known = {check.detail for group in groups[:index] for check in group.checks if _is_about_settings(check)}
        shown = []
        for check in first.checks:
            if check.verdict is Verdict.SKIPPED or (_is_about_settings(check) and check.detail in known):
                continue
            if _is_about_settings(check):
                known.add(check.detail)
            shown.append(check)
        return Section(first.title, shown, first.running, 1)
    titles = ", ".join(group.title for group in groups[index : index + alike])
    return Section(titles, [check for check in first.checks if check.verdict is Verdict.FAIL], (), alike)


def sections(groups: Sequence[Group], *, everything: bool) -> list[Section]:
    """Return the sections of all groups. Those without any check are left out."""
    found: list[Section] = []
    index = 0
    while index < len(groups):
        section = section_at(groups, index, everything=everything)
        index += section.groups
        if section.checks or section.running:
            found.append(section)
    return found


def _is_about_settings(check: Check) -> bool:
    """Whether a check of this machine has failed: one wrong setting makes several fail, with the same detail."""
    return check.verdict is Verdict.FAIL and check.stage is Stage.LOCAL


def _causes(group: Group) -> list[tuple[str, str]]:
    """Return stage and advice of each failure of an endpoint."""
    if not group.is_endpoint:
        return []
    return [(check.stage.value, check.advice) for check in group.checks if check.verdict is Verdict.FAIL]
