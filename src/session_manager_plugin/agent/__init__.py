"""The local counterpart of the service: a Session Manager on loopback, with a real shell behind it.

``Sandbox`` is fetched when it is first used, so that importing this package imports neither an event loop nor
the POSIX-only modules that a pseudo-terminal needs.
"""

__all__ = ["Sandbox"]

TYPE_CHECKING = False  # type checkers take this name for True
if TYPE_CHECKING:
    from session_manager_plugin.agent.sandbox import Sandbox
else:

    def __getattr__(name):
        if name != "Sandbox":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from session_manager_plugin.agent.sandbox import Sandbox

        return Sandbox
