"""The streams of a session over files, pipes or sockets, without a terminal."""

from __future__ import annotations

from collections.abc import Callable

from session_manager_plugin.session.protocols import Streams
from session_manager_plugin.terminal.input import InputReader, open_reader
from session_manager_plugin.terminal.output import OutputWriter


class DescriptorStreams(Streams):
    """Reads and writes descriptors; ``close`` leaves them open. Belongs to the running event loop."""

    def __init__(self, stdin: int | None, stdout: int, stderr: int | None = None) -> None:
        """Without ``stdin`` the input is empty; without ``stderr`` error output is dropped.

        Raises ``OSError`` if ``stdout`` or ``stderr`` is not open.
        """
        self._input: InputReader | None = None if stdin is None else open_reader(stdin)
        self._output = OutputWriter(stdout)
        self._error_output = None if stderr is None else OutputWriter(stderr)
        self._full: set[OutputWriter] = set()

    async def read(self) -> bytes:
        """See ``Streams``."""
        return b"" if self._input is None else await self._input.read()

    def write(self, data: bytes) -> None:
        """See ``Streams``."""
        self._output.write(data)

    def write_error(self, data: bytes) -> None:
        """See ``Streams``."""
        if self._error_output is not None:
            self._error_output.write(data)

    async def drain(self) -> None:
        """See ``Streams``."""
        for writer in self._writers():
            await writer.drain()

    def set_flow_handlers(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """See ``Streams``. ``pause`` is called when one output is full, ``resume`` when both have room again."""
        for writer in self._writers():
            connect_flow(writer, self._full, pause, resume)

    def set_output_failed_handler(self, handler: Callable[[OSError], None]) -> None:
        """See ``Streams``. Only for standard output: a closed standard error is ignored."""
        self._output.on_error = handler
        if self._output.error is not None:
            handler(self._output.error)

    @property
    def output_abandoned(self) -> bool:
        """See ``Streams``."""
        return self._output.abandoned

    def close(self) -> None:
        """Stop reading and writing, and drop queued output. Call ``drain`` first to write it."""
        if self._input is not None:
            self._input.close()
        for writer in self._writers():
            writer.close()

    def _writers(self) -> list[OutputWriter]:
        return [self._output] if self._error_output is None else [self._output, self._error_output]


def connect_flow(
    writer: OutputWriter, full: set[OutputWriter], pause: Callable[[], None], resume: Callable[[], None]
) -> None:
    """Call ``pause`` and ``resume`` so that the source is paused while any writer in ``full`` is full."""

    def filled() -> None:
        full.add(writer)
        pause()

    def emptied() -> None:
        full.discard(writer)
        if not full:
            resume()

    writer.set_flow_handlers(filled, emptied)
