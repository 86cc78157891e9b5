"""What a benchmark gives: figures, each with its goal."""

from __future__ import annotations

import operator
from dataclasses import dataclass

_COMPARISONS = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Figure:
    """One line of the table. `bound` is `<=` or `>=`; without a `goal` the figure is only told."""

    name: str
    value: float
    unit: str
    bound: str = ""
    goal: float | None = None
    remark: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one."""
        return None if self.goal is None else bool(_COMPARISONS[self.bound](self.value, self.goal))

    def __str__(self) -> str:
        goal = "" if self.goal is None else f"{self.bound} {self.goal:g}"
        verdict = {None: "", True: "met", False: "MISSED"}[self.met]
        return f"{self.name:50} {_rounded(self.value):>10} {self.unit:12} {goal:9} {verdict:7} {self.remark}".rstrip()


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
