"""Sessions of AWS Session Manager: a library, and the commands `smp` and `session-manager-plugin`.

Importing this package imports nothing else. The AWS CLI runs `session-manager-plugin --version` before every
session, and that call must not wait for an event loop and a websocket library; so the names of the library
are fetched when they are first used (PEP 562).
"""

import sys

# A checkout can be run by any Python.
if sys.version_info < (3, 11):  # noqa: UP036
    raise ImportError(f"smp needs Python 3.11 or newer; {sys.executable} is Python {sys.version.split()[0]}")

__version__ = "0.1.0"

PLUGIN_VERSION = "1.3.0.0"
"""The number `session-manager-plugin --version` prints, and the `ClientVersion` of the session's handshake.

Four parts, and greater than 1.2.764.0: agents and the AWS CLI compare it with versions of the official
plugin, and for an older one they switch features off or pass the session's token in argv.
"""

__all__ = [
    "PLUGIN_VERSION",
    "AccessDenied",
    "AgentTooOld",
    "AmbiguousTarget",
    "AwsSettings",
    "CommandTimedOut",
    "CompletedSession",
    "ConfigurationError",
    "ConnectError",
    "ConnectionLost",
    "CopyFailed",
    "CopyReport",
    "DocumentDenied",
    "EncryptionError",
    "Forward",
    "ForwardEnded",
    "InvalidURL",
    "LinkOptions",
    "LocalProtocolError",
    "NotConnected",
    "Outcome",
    "OutputIncomplete",
    "ProtocolError",
    "ProxyRefused",
    "Refused",
    "RemoteProtocolError",
    "Session",
    "SessionEnded",
    "SessionExpired",
    "SessionManagerError",
    "TimedOut",
    "UsageError",
    "Via",
    "WrongType",
    "__version__",
    "connect",
    "copy",
    "forward",
    "run",
    "run_many",
    "start",
]

# Type checkers take this name for True wherever it comes from, and `typing` is too much to import for it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from session_manager_plugin.errors import (
        AccessDenied,
        AgentTooOld,
        AmbiguousTarget,
        CommandTimedOut,
        ConfigurationError,
        ConnectError,
        ConnectionLost,
        CopyFailed,
        DocumentDenied,
        EncryptionError,
        ForwardEnded,
        InvalidURL,
        LocalProtocolError,
        NotConnected,
        OutputIncomplete,
        ProtocolError,
        ProxyRefused,
        Refused,
        RemoteProtocolError,
        SessionEnded,
        SessionExpired,
        SessionManagerError,
        TimedOut,
        UsageError,
        WrongType,
    )
    from session_manager_plugin.forwarding.forward import Forward
    from session_manager_plugin.library import (
        AwsSettings,
        CompletedSession,
        LinkOptions,
        Outcome,
        Session,
        Via,
        connect,
        copy,
        forward,
        run,
        run_many,
        start,
    )
    from session_manager_plugin.transfer.report import CopyReport
else:
    _LIBRARY_NAMES = frozenset(__all__) - {"PLUGIN_VERSION", "__version__"}
    _ELSEWHERE = {"CopyReport": "transfer.report", "Forward": "forwarding.forward"}

    def __getattr__(name):
        if name not in _LIBRARY_NAMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from session_manager_plugin import errors

        if hasattr(errors, name):
            return getattr(errors, name)
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'library')}"), name)

    def __dir__():
        return sorted({*globals(), *_LIBRARY_NAMES})
