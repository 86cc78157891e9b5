"""The local counterpart of the service: a Session Manager on loopback, with a real shell behind it.

Names are imported on first use, so that importing this package imports neither an event loop nor
the POSIX-only modules that a pseudo-terminal needs.
"""

__all__ = ["Faults", "Inventory", "Limits", "MessageFaults", "Quirk", "Sandbox"]

TYPE_CHECKING = False  # type checkers take this name for True
if TYPE_CHECKING:
    from session_manager_plugin.agent.faults import Faults, MessageFaults
    from session_manager_plugin.agent.inventory import Inventory
    from session_manager_plugin.agent.limits import Limits
    from session_manager_plugin.agent.quirks import Quirk
    from session_manager_plugin.agent.sandbox import Sandbox
else:
    import importlib

    _MODULES = {"Sandbox": "sandbox", "Inventory": "inventory", "Limits": "limits", "Quirk": "quirks"}

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'faults')}"), name)
