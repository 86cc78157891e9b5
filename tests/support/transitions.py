"""A transition table that remembers which of its rows were taken."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import pytest


class RecordedTable(dict[Any, Any]):
    """A table in the place of a module's own."""

    def __init__(self, rows: Mapping[Any, Any]) -> None:
        super().__init__(rows)
        self.taken: set[Any] = set()

    def __getitem__(self, row: Any) -> Any:
        state = super().__getitem__(row)
        self.taken.add(row)
        return state

    def get(self, row: Any, default: Any = None) -> Any:
        """The state that the row leads to."""
        try:
            return self[row]
        except KeyError:
            return default

    @property
    def missed(self) -> set[Any]:
        """The rows that were not taken."""
        return set(self) - self.taken


def recorded(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str = "TRANSITIONS") -> RecordedTable:
    """Replace the table ``name`` of ``module`` until the end of the test."""
    table = RecordedTable(getattr(module, name))
    monkeypatch.setattr(module, name, table)
    return table
