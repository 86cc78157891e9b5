"""Outputs of many targets as they come: whole lines, each with the name of its target in front."""

from __future__ import annotations

from collections.abc import Callable

from session_manager_plugin.cli.fleet.output import SharedOutput, SharedStreams
from session_manager_plugin.cli.fleet.results import FleetResult, FleetTarget, Sink

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of a line that are kept until its end; a longer one is shown as several lines, and a message says so."""


class LineBuffer:
    """Puts ``prefix`` before each line; ``write`` receives whole lines, and ``broken`` is called before each piece of
    a line longer than ``LONGEST_LINE``."""

    def __init__(self, prefix: bytes, write: Callable[[bytes], None], broken: Callable[[], None]) -> None:
        self._prefix = prefix
        self._write = write
        self._broken = broken
        self._begun = bytearray()

    def add(self, data: bytes) -> None:
        """Append output of any size."""
        end = data.rfind(b"\n") + 1
        if end:
            lines = bytes(self._begun) + data[:end]
            self._begun = bytearray(data[end:])
            self._write(self._prefix + lines[:-1].replace(b"\n", b"\n" + self._prefix) + b"\n")
        else:
            self._begun += data
        if len(self._begun) > LONGEST_LINE:
            self._broken()
            self.end()

    def end(self) -> None:
        """Write a line that has no end, with one."""
        if self._begun:
            self._write(self._prefix + self._begun + b"\n")
            self._begun.clear()


class LineStreams(SharedStreams):
    """The streams of one target."""

    def __init__(self, shared: SharedOutput, label: str, tell: Callable[[str], None]) -> None:
        super().__init__(shared)
        self._label = label
        self._tell = tell
        self._is_told = False
        prefix = f"{label}: ".encode(errors="replace")
        self._output = LineBuffer(prefix, shared.write, self._broken)
        self._error_output = LineBuffer(prefix, shared.write_error, self._broken)

    def write(self, data: bytes) -> None:
        """See ``Streams``."""
        self._output.add(data)

    def write_error(self, data: bytes) -> None:
        """See ``Streams``."""
        self._error_output.add(data)

    def end(self) -> None:
        """The output is complete."""
        self._output.end()
        self._error_output.end()
        self.shared.remove(self)

    def _broken(self) -> None:
        if not self._is_told:
            self._is_told = True
            most = LONGEST_LINE // 1024**2
            self._tell(f"{self._label}: a line of more than {most} MiB is shown as several; --json has it whole")


class LineSink(Sink):
    """Shows each line when it is complete; no line holds bytes of two targets."""

    def __init__(self, shared: SharedOutput, tell: Callable[[str], None] = lambda _sentence: None) -> None:
        """``tell`` is called with a sentence for the user about a line that is too long."""
        self._shared = shared
        self._tell = tell
        self._streams: dict[FleetTarget, LineStreams] = {}

    def streams(self, target: FleetTarget) -> LineStreams:
        """See ``Sink``."""
        streams = self._streams[target] = LineStreams(self._shared, target.label, self._tell)
        return streams

    def finished(self, result: FleetResult) -> None:
        """See ``Sink``."""
        if (streams := self._streams.pop(result.target, None)) is not None:
            streams.end()

    def close(self) -> None:
        """Everything is written already."""
