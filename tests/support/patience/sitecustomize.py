"""Programs under test get the time that a busy machine needs: the directory of this file is in their PYTHONPATH.

Within two seconds of a signal the program ends, whether its session has been terminated or not. That is a promise for
a user who waits; a test of what happens until then would depend on how busy the machine is. Nothing is imported here,
since what a program imports is tested as well.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

LONG = 60.0
LIMITS: dict[str, dict[str, object]] = {
    "session_manager_plugin.cli.signals": {"LEAVE_LIMIT": LONG},
    "session_manager_plugin.cli.session": {"LEAVE_TIMEOUT": LONG},
    "session_manager_plugin.aws.systems_manager": {
        "LEAVE_TIMEOUT": LONG,
        "TERMINATE_LIMITS": (LONG, LONG, 1),
        "TERMINATE_MANY": (LONG, LONG, 4, "standard", True),
    },
}
"""The constants that are replaced, by module."""


class _Patience:
    """Finds the modules of ``LIMITS`` as others do, and replaces their limits once they are loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """See ``importlib.abc.MetaPathFinder``."""
        if name not in LIMITS:
            return None
        spec = next(found for each in sys.meta_path if each is not self and (found := each.find_spec(name, path)))
        loader: Any = spec.loader
        load = loader.exec_module

        def load_and_replace(module: ModuleType) -> None:
            load(module)
            for limit, value in LIMITS[name].items():
                before = getattr(module, limit)
                setattr(module, limit, type(before)(*value) if isinstance(value, tuple) else value)

        loader.exec_module = load_and_replace
        return spec


sys.meta_path.insert(0, _Patience())
