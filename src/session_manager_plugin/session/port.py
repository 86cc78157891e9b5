"""Port sessions: choosing the handler for a session's type, and forwarding a local port until the session ends.

A port session connects a local end to a TCP port that the agent dials. For the type LocalPortForwarding the local
end is a listener, and the agent's version decides whether its connections are multiplexed. For any other type the
local end is standard input and output, as for ``ssh`` with a ProxyCommand.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from session_manager_plugin.errors import RemoteProtocolError, UsageError
from session_manager_plugin.protocol.events import SessionReady
from session_manager_plugin.protocol.payloads import lower_keys
from session_manager_plugin.protocol.versions import (
    agent_supports_mux,
    agent_supports_terminate_flag,
    agent_wants_keepalive,
)
from session_manager_plugin.session.ending import TERMINATE_TIMEOUT, post_termination, terminate, wait_for_end
from session_manager_plugin.session.first_of import first_of
from session_manager_plugin.session.listener import Listener, listen_on_path, listen_on_port
from session_manager_plugin.session.outcome import EndReason, Outcome
from session_manager_plugin.session.protocols import (
    Forwarding,
    IDataChannel,
    Interruptible,
    Notices,
    SessionHandler,
    Streams,
)

if TYPE_CHECKING:
    from session_manager_plugin.session.connection_source import ConnectionSource
    from session_manager_plugin.session.forwarder import Forwarder, PortSettings

FORWARDING = "LocalPortForwarding"
_INTERRUPTS = frozenset(getattr(signal, name) for name in ("SIGINT", "SIGQUIT", "SIGTSTP") if hasattr(signal, name))
"""The signals that end a port session, as in the official client."""
INTERRUPTED_TIMEOUT = 0.5
"""Seconds that an interrupted session waits for the agent to acknowledge the TerminateSession flag. Short, because the
whole clean-up after Ctrl-C has two seconds, and closing the channel waits for the acknowledgement as well."""
_PORT_NUMBER = re.compile("[0-9]{1,18}")


class LocalEnd(NamedTuple):
    """Where a forwarded port listens: a TCP port (0: any that is free), or the path of a unix socket."""

    port: int = 0
    path: str | None = None

    @classmethod
    def of_session(cls, properties: Mapping[str, Any]) -> LocalEnd:
        """Return the local end that the session's properties name.

        Raises ``RemoteProtocolError`` for a property that is not a string, and ``UsageError`` for an invalid value.
        """
        fields = lower_keys(properties)
        kind, path, port = (
            _property(fields, key) for key in ("localConnectionType", "localUnixSocket", "localPortNumber")
        )
        return cls._of(kind, path, port)

    @classmethod
    def of_request(cls, parameters: Mapping[str, Any]) -> LocalEnd | None:
        """Return the local end that the parameters of a StartSession request name, each a list with one string.

        The local end can thus be bound before the session is opened. Returns None when the parameters name neither a
        port nor a path. Raises ``UsageError`` for an invalid value.
        """
        values = {
            key: value[0]
            for key, value in parameters.items()
            if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str)
        }
        kind, path, port = (
            values.get(key, "") for key in ("localConnectionType", "localUnixSocket", "localPortNumber")
        )
        return cls._of(kind, path, port) if path or port else None

    @classmethod
    def _of(cls, kind: str, path: str, port: str) -> LocalEnd:
        if kind == "unix":
            if not path:
                raise UsageError("localConnectionType is unix, but localUnixSocket is missing: set it to a path")
            return cls(path=path)
        if port and not (_PORT_NUMBER.fullmatch(port) and int(port) < 65536):
            raise UsageError(f"localPortNumber is {port[:40]!r}; expected a port number, or 0 for any free port")
        return cls(port=int(port or "0"))

    def bind(self) -> Listener:
        """Bind the port on loopback, or the path. Raises ``ConfigurationError`` when that is not possible."""
        return listen_on_port(self.port) if self.path is None else listen_on_path(self.path)

    def is_bound_by(self, listener: Listener) -> bool:
        """Whether ``listener`` was created for this local end."""
        return (listener.requested_port, listener.path) == (None if self.path is not None else self.port, self.path)


def _property(fields: Mapping[str, Any], key: str) -> str:
    value = fields.get(key.lower())
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RemoteProtocolError(f"malformed properties of the port session: {key} is not a string")
    return value


class PortState(Enum):
    """The state of a port forwarding. A signal can interrupt it only in ``FORWARDING``."""

    STARTING = "starting"
    FORWARDING = "forwarding"
    INTERRUPTED = "interrupted"
    """A signal has ended the forwarding. Final."""
    OVER = "over"
    """The forwarding has ended without a signal. Final."""


class PortInput(Enum):
    """The inputs of the state machine."""

    START = "start"
    INTERRUPT = "interrupt"
    END = "end"


TRANSITIONS: Mapping[tuple[PortState, PortInput], PortState] = {
    (PortState.STARTING, PortInput.START): PortState.FORWARDING,
    (PortState.STARTING, PortInput.END): PortState.OVER,
    (PortState.FORWARDING, PortInput.INTERRUPT): PortState.INTERRUPTED,
    (PortState.FORWARDING, PortInput.END): PortState.OVER,
}
"""An input without a row changes nothing: a signal has an effect only while forwarding, and only once."""


class PortHandler(Interruptible, Forwarding):
    """Forwards a port with a ``MuxForwarder`` or a ``BasicForwarder``, depending on the agent's version."""

    def __init__(
        self,
        ready: SessionReady,
        notices: Notices,
        listener: Listener | None = None,
        settings: PortSettings | None = None,
        *,
        source: ConnectionSource | None = None,
    ) -> None:
        """``listener`` is the local end, if it was bound before the session was opened. The handler closes it.

        With a ``source``, its connections are forwarded, and no local end is bound or announced.
        """
        self._properties = ready.properties
        self._agent_version = ready.peer_version
        self._notices = notices
        self._listener = listener
        self._settings = settings
        self._source = source
        self._state = PortState.STARTING
        self._interrupted = asyncio.Event()
        self._running: Forwarder | None = None

    def connections(self) -> Sequence[str]:
        """Return one line for each open local connection."""
        return [] if self._running is None else self._running.describe()

    @property
    def interrupted(self) -> bool:
        """See ``Interruptible``."""
        return self._state is PortState.INTERRUPTED

    def interrupt(self, number: int) -> bool:
        """End the session, within two seconds, on the first SIGINT, SIGQUIT or SIGTSTP.

        Returns False, and does nothing, for other signals and in any state but ``FORWARDING``.
        """
        if number not in _INTERRUPTS or not self._apply(PortInput.INTERRUPT):
            return False
        self._interrupted.set()
        self._notices.interrupted()
        return True

    async def run(self, channel: IDataChannel) -> Outcome:
        """Forward until the session ends or is interrupted.

        Raises ``ConfigurationError``, ``UsageError`` or ``RemoteProtocolError`` if the local end cannot be bound, the
        error that made forwarding impossible, and the errors of the channel. In every case the source and all local
        connections are closed on return.
        """
        forwarder = self._running = self._forwarder(channel)
        asked_to_end = False
        try:
            with contextlib.closing(self._source or self._bind()) as source:
                forwarder.start(source)
                if isinstance(source, Listener):
                    self._announce(source, forwarder.multiplexed)
                self._apply(PortInput.START)
                ended = asyncio.ensure_future(channel.ended())
                interrupted = asyncio.ensure_future(self._interrupted.wait())
                async with first_of(ended, interrupted, forwarder.failed, cancel=(ended, interrupted)):
                    self._apply(PortInput.END)
                    source.close()
                    if ended.done() and not self.interrupted:
                        await forwarder.deliver()
                        return await wait_for_end(channel)
                    await forwarder.close()
                    asked_to_end = True
                    if self._agent_takes_flag:
                        await terminate(channel, INTERRUPTED_TIMEOUT if self.interrupted else TERMINATE_TIMEOUT)
                    if not self.interrupted:
                        forwarder.failed.result()
                    return Outcome(reason=EndReason.INTERRUPTED, by_far_end=not channel.is_open)
        finally:
            self._apply(PortInput.END)
            if not asked_to_end and channel.is_open and self._agent_takes_flag:
                post_termination(channel)
            await forwarder.close()

    def _apply(self, step: PortInput) -> bool:
        """Make the transition; return whether there is a row for it."""
        state = TRANSITIONS.get((self._state, step))
        if state is not None:
            self._state = state
        return state is not None

    @property
    def _agent_takes_flag(self) -> bool:
        return agent_supports_mux(self._agent_version) or agent_supports_terminate_flag(self._agent_version)

    def _forwarder(self, channel: IDataChannel) -> Forwarder:
        if agent_supports_mux(self._agent_version):
            from session_manager_plugin.session.port_mux import MuxForwarder

            keepalive = agent_wants_keepalive(self._agent_version)
            return MuxForwarder(channel, self._notices, self._settings, keepalive=keepalive)
        from session_manager_plugin.session.port_basic import BasicForwarder

        return BasicForwarder(channel, self._notices, self._settings)

    def _bind(self) -> Listener:
        early, self._listener = self._listener, None
        try:
            local_end = LocalEnd.of_session(self._properties)
            if early is not None and local_end.is_bound_by(early):
                return early
        except BaseException:
            if early is not None:
                early.close()
            raise
        if early is not None:
            early.close()
        return local_end.bind()

    def _announce(self, listener: Listener, multiplexed: bool) -> None:
        if listener.path is not None:
            self._notices.unix_socket_opened(listener.path, multiplexed=multiplexed)
        elif listener.port is not None:
            self._notices.port_opened(listener.port, listener.addresses, multiplexed=multiplexed)


def forwards_port(ready: SessionReady) -> bool:
    """Whether the local end of a port session is a listener, rather than standard input and output.

    Raises ``RemoteProtocolError`` when the session's type is not a string.
    """
    return _property(lower_keys(ready.properties), "type") == FORWARDING


def port_handler(
    streams: Streams, ready: SessionReady, notices: Notices, listener: Listener | None = None
) -> SessionHandler:
    """Return the handler for a port session that is ready.

    ``listener`` is the local end, if it was bound before the session was opened. Raises ``RemoteProtocolError`` when
    the session's type is not a string.
    """
    if forwards_port(ready):
        return PortHandler(ready, notices, listener)
    from session_manager_plugin.session.stdio import StdioHandler

    return StdioHandler(streams, notices)
