"""What `smp forward` shows: lines and a table on standard error, or events as JSON on standard output."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.render import tell, tell_note
from session_manager_plugin.errors import UsageError
from session_manager_plugin.forwarding.events import (
    ConnectionClosed,
    ConnectionOpened,
    ForwardedConnection,
    ForwardedPort,
    ForwardEvent,
    LinkRestored,
    LinkTroubled,
    PortReady,
    SessionOver,
    Trouble,
)
from session_manager_plugin.forwarding.forward import SOCKS
from session_manager_plugin.utils.logging import redact

if TYPE_CHECKING:
    from session_manager_plugin.cli.forward_table import ForwardTable
    from session_manager_plugin.cli.signals import Interruption
    from session_manager_plugin.forwarding.forward import Forward


class ForwardReport:
    """Reports the events of a forward. ``ready_fd`` is the descriptor for the ready events, or None."""

    def __init__(self, environment: Environment, *, as_json: bool, ready_fd: int | None) -> None:
        """Raises ``UsageError`` for a descriptor that is not open for writing."""
        self._environment = environment
        self._as_json = as_json
        self._ready_fd = ready_fd
        self._table: ForwardTable | None = None
        self.is_ready = False
        """Whether the ports accept connections, or did."""
        if as_json:
            environment.output_messages.describe_dropped = lambda count: _line("dropped", {"count": count})
        if ready_fd is not None:
            import fcntl  # absent on Windows

            try:
                mode = fcntl.fcntl(ready_fd, fcntl.F_GETFL) & os.O_ACCMODE
                os.set_inheritable(ready_fd, False)  # a credential process must not keep it open
            except OSError as error:
                raise UsageError(f"--ready-fd {ready_fd}: {error.strerror}") from error
            if mode == os.O_RDONLY:
                raise UsageError(f"--ready-fd {ready_fd}: the descriptor is open for reading only")

    def watch_output(self, failed: Callable[[OSError], None]) -> None:
        """Call ``failed`` once the events cannot be written any more; a program that waits for them waits in vain."""

        def fail(error: OSError) -> None:
            error.filename = "standard output"
            failed(error)

        writer = self._environment.output_messages.writer
        if not self._as_json:
            return
        if writer is None:
            failed(OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output"))
            return
        writer.on_error = fail
        if writer.error is not None:
            fail(writer.error)

    def handle(self, event: ForwardEvent) -> None:
        """Report one event."""
        match event:
            case PortReady(port):
                self._print("ready", **_port_facts(port))
                if not self._as_json:
                    self.note(_ready_sentence(port))
            case ConnectionOpened(connection):
                self._print("connection", **_connection_facts(connection))
            case ConnectionClosed(connection):
                self._print(
                    "closed", **_connection_facts(connection), sent=connection.sent, received=connection.received
                )
            case LinkTroubled(session, sentence):
                self._print("reconnecting", session=session.session_id, remote=session.remote, text=sentence)
                self.note(f"{session.remote}: {sentence}")
            case LinkRestored(session, sentence):
                self._print("restored", session=session.session_id, remote=session.remote, text=sentence)
                self.note(f"{session.remote}: {sentence}")
            case SessionOver(session, sentence):
                self._print("ended", session=session.session_id, remote=session.remote, text=sentence)
            case Trouble(sentence):
                with self._aside():
                    tell(self._environment, sentence)

    @contextlib.contextmanager
    def shown(self, forwarding: Forward, interruption: Interruption) -> Iterator[None]:
        """Report that all ports of ``forwarding`` are ready; at a terminal, show the table for the length of the
        block. Raises ``OSError`` if the ready events cannot be written: a program waits for them in vain."""
        self.is_ready = True
        self._write_ready(forwarding.ports)
        environment = self._environment
        is_live = environment.is_terminal(environment.stderr) and not environment.is_dumb
        if not is_live or self._as_json or environment.quiet or environment.verbosity:
            yield
            return
        from session_manager_plugin.cli.forward_table import ForwardTable

        self._table = table = ForwardTable(environment, forwarding)
        interruption.restore = table.stop
        table.start()
        try:
            with interruption.drawing(table.lines):
                yield
        finally:
            self._table = None
            table.stop()

    def note(self, sentence: str) -> None:
        """Show a line that reports no error, unless quiet was asked for."""
        with self._aside():
            tell_note(self._environment, sentence)

    def _aside(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext() if self._table is None else self._table.aside()

    def _print(self, event: str, **facts: Any) -> None:
        if self._as_json:
            self._environment.write_message(_line(event, facts))

    def _write_ready(self, ports: tuple[ForwardedPort, ...]) -> None:
        descriptor, self._ready_fd = self._ready_fd, None
        if descriptor is None:
            return
        data = "".join(_line("ready", _port_facts(port)) for port in ports).encode()
        try:
            with contextlib.suppress(BrokenPipeError):  # the reader has read enough
                while data:
                    data = data[os.write(descriptor, data) :]
            os.close(descriptor)
        except OSError as error:
            error.filename = f"--ready-fd {descriptor}"
            raise


def _line(event: str, facts: dict[str, Any]) -> str:
    return redact(f"{json.dumps({'event': event, **facts})}\n")


def _port_facts(port: ForwardedPort) -> dict[str, Any]:
    return {"local": port.addresses[0], "port": port.port, "target": port.target, "remote": port.remote}


def _connection_facts(connection: ForwardedConnection) -> dict[str, Any]:
    return {
        "id": connection.number,
        "local": connection.local,
        "peer": connection.peer,
        "remote": connection.remote,
        "session": connection.session_id,
    }


def _ready_sentence(port: ForwardedPort) -> str:
    where = " and ".join(port.addresses)
    if port.remote == SOCKS:
        return f"listening on {where}, a SOCKS5 server through {port.target}"
    host, _, number = port.remote.rpartition(":")
    what = f"port {number} of {port.target}" if host == "localhost" else f"{port.remote} through {port.target}"
    return f"listening on {where}, for {what}"
