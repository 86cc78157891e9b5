"""Standard output and error of `smp exec` on many targets, shared by all of them."""

from __future__ import annotations

from collections.abc import Callable

from session_manager_plugin.session.protocols import Streams
from session_manager_plugin.terminal.output import OutputWriter


class SharedOutput:
    """Two writers. While either is full, every session is paused; while a progress line is shown, it is erased first.

    ``output`` may be the writer of standard error too, if that is closed.
    """

    def __init__(self, output: OutputWriter, error_output: OutputWriter | None) -> None:
        self._output = output
        self._error_output = error_output
        self._flows: dict[object, tuple[Callable[[], None], Callable[[], None]]] = {}
        self._failure_handlers: dict[object, Callable[[OSError], None]] = {}
        self._full: set[OutputWriter] = set()
        self.before_write: Callable[[], None] = lambda: None
        """Called before anything is written."""
        self._error: OSError | None = None
        self._has_errors = False
        """Whether any error output was written."""
        output.on_error = self._output_failed
        if error_output is not None:
            error_output.on_error = self._error_output_failed
        for writer in (output, error_output):
            if writer is not None:
                self._connect(writer)

    @property
    def error(self) -> OSError | None:
        """Why output was lost: the error of standard output, or of standard error. Its ``filename`` says which."""
        return self._error

    def write(self, data: bytes) -> None:
        """Write to standard output."""
        if data:
            self.before_write()
            self._output.write(data)

    def write_error(self, data: bytes) -> None:
        """Write to standard error, if it is open."""
        if data and self._error_output is not None:
            self.before_write()
            self._has_errors = True
            self._error_output.write(data)
            if self._error_output.error is not None:
                self._error_output_failed(self._error_output.error)

    async def drain(self) -> None:
        """Wait until all is written."""
        for writer in (self._output, self._error_output):
            if writer is not None:
                await writer.drain()

    def add_flow(self, session: object, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Have ``pause`` and ``resume`` of a session called, until ``remove``."""
        self._flows[session] = pause, resume
        if self._full:
            pause()

    def add_failure_handler(self, session: object, handler: Callable[[OSError], None]) -> None:
        """Have ``handler`` called when there is an ``error``, until ``remove``; at once if there is."""
        self._failure_handlers[session] = handler
        if self._error is not None:
            handler(self._error)

    def remove(self, session: object) -> None:
        """Forget a session."""
        self._flows.pop(session, None)
        self._failure_handlers.pop(session, None)

    @property
    def abandoned(self) -> bool:
        """Whether standard output has lost its reader."""
        return self._output.abandoned

    def _connect(self, writer: OutputWriter) -> None:
        def filled() -> None:
            self._full.add(writer)
            for pause, _ in list(self._flows.values()):
                pause()

        def emptied() -> None:
            self._full.discard(writer)
            if not self._full:
                for _, resume in list(self._flows.values()):
                    resume()

        writer.set_flow_handlers(filled, emptied)

    def _output_failed(self, error: OSError) -> None:
        self._failed(error, "standard output")

    def _error_output_failed(self, error: OSError) -> None:
        """Note the error if output is lost. A reader that has closed standard error wants no more of it."""
        if self._has_errors and not isinstance(error, BrokenPipeError):
            self._failed(error, "standard error")

    def _failed(self, error: OSError, name: str) -> None:
        if self._error is None:
            error.filename = name
            self._error = error
            for handler in list(self._failure_handlers.values()):
                handler(error)


class SharedStreams(Streams):
    """The streams of one of many sessions: no input, and outputs that others use too. A subclass writes."""

    def __init__(self, shared: SharedOutput) -> None:
        self.shared = shared

    async def read(self) -> bytes:
        """Return the end of the input."""
        return b""

    async def drain(self) -> None:
        """Return at once: the shared output is drained at the end of all."""

    def set_flow_handlers(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``Streams``."""
        self.shared.add_flow(self, pause, resume)

    def set_output_failed_handler(self, handler: Callable[[OSError], None]) -> None:
        """See ``Streams``."""
        self.shared.add_failure_handler(self, handler)

    @property
    def output_abandoned(self) -> bool:
        """See ``Streams``."""
        return self.shared.abandoned
