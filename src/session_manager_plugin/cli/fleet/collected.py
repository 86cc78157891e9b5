"""Outputs of many targets, kept until their command has ended: folded, or as JSON."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from session_manager_plugin.cli.fleet.names import fold_names
from session_manager_plugin.cli.fleet.output import SharedOutput, SharedStreams
from session_manager_plugin.cli.fleet.results import FleetResult, FleetTarget, Sink

MEMORY = 64 * 1024
"""Bytes of an output that are kept in memory; a longer one is kept in a temporary file."""
_RULE = b"---------------\n"


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class CollectedOutput:
    """One output of one target."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(MEMORY)  # noqa: SIM115 - closed by `close`
        self._digest = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Append a piece."""
        self._file.write(data)
        self._digest.update(data)

    @property
    def digest(self) -> bytes:
        """The same for equal outputs."""
        return self._digest.digest()

    def read(self) -> bytes:
        """Return all of it."""
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        """Discard it."""
        self._file.close()


class CollectedStreams(SharedStreams):
    """The streams of one target."""

    def __init__(self, shared: SharedOutput) -> None:
        super().__init__(shared)
        self.output, self.error_output = CollectedOutput(), CollectedOutput()

    def write(self, data: bytes) -> None:
        """See ``Streams``."""
        self.output.add(data)

    def write_error(self, data: bytes) -> None:
        """See ``Streams``."""
        self.error_output.add(data)

    def close(self) -> None:
        """Discard what was kept."""
        self.output.close()
        self.error_output.close()
        self.shared.remove(self)


@dataclass
class _Group:
    """Targets with equal outputs, one copy of which is kept."""

    labels: list[str]
    output: CollectedOutput


class _Groups:
    """The outputs of all targets, either standard output or standard error."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, _Group] = {}

    def add(self, label: str, output: CollectedOutput) -> None:
        """Add the output of a target."""
        if output.digest in self._by_digest:
            self._by_digest[output.digest].labels.append(label)
            output.close()
        else:
            self._by_digest[output.digest] = _Group([label], output)

    def write(self, write: Callable[[bytes], None]) -> None:
        """Write the outputs that are not empty, those of most targets first, and discard all."""
        for group in sorted(self._by_digest.values(), key=lambda group: (-len(group.labels), group.labels)):
            if data := group.output.read():
                count = f" ({len(group.labels)})" if len(group.labels) > 1 else ""
                heading = _RULE + f"{fold_names(group.labels)}{count}\n".encode(errors="replace") + _RULE
                write(heading + data + (b"" if data.endswith(b"\n") else b"\n"))
            group.output.close()
        self._by_digest.clear()


class FoldingSink(Sink):
    """Shows equal outputs once, under the names of their targets: those of most targets first. Standard output and
    standard error are compared by themselves, so that targets which differ in one share the other."""

    def __init__(self, shared: SharedOutput) -> None:
        self._shared = shared
        self._running: dict[FleetTarget, CollectedStreams] = {}
        self._outputs, self._error_outputs = _Groups(), _Groups()

    def streams(self, target: FleetTarget) -> CollectedStreams:
        """See ``Sink``."""
        streams = self._running[target] = CollectedStreams(self._shared)
        return streams

    def finished(self, result: FleetResult) -> None:
        """See ``Sink``."""
        streams = self._running.pop(result.target, None)
        if streams is None:
            return
        streams.shared.remove(streams)
        self._outputs.add(result.target.label, streams.output)
        self._error_outputs.add(result.target.label, streams.error_output)

    def close(self) -> None:
        """See ``Sink``."""
        self._outputs.write(self._shared.write)
        self._error_outputs.write(self._shared.write_error)


class JsonSink(Sink):
    """Writes an object a line for each target, when its command has ended."""

    def __init__(self, shared: SharedOutput) -> None:
        self._shared = shared
        self._running: dict[FleetTarget, CollectedStreams] = {}

    def streams(self, target: FleetTarget) -> CollectedStreams:
        """See ``Sink``."""
        streams = self._running[target] = CollectedStreams(self._shared)
        return streams

    def finished(self, result: FleetResult) -> None:
        """See ``Sink``."""
        streams = self._running.pop(result.target, None)
        output, error_output = (b"", b"") if streams is None else (streams.output.read(), streams.error_output.read())
        if streams is not None:
            streams.close()
        fields = {
            "target": result.target.id,
            "name": result.target.label,
            "status": result.status,
            "stdout": output.decode(errors="replace"),
            "stderr": error_output.decode(errors="replace"),
            "seconds": round(result.seconds, 3),
            "error": result.error,
            **({"truncated": True} if result.truncated else {}),
            **({"replaced": True} if result.replaced or not (_is_text(output) and _is_text(error_output)) else {}),
        }
        self._shared.write(f"{json.dumps(fields)}\n".encode())

    def close(self) -> None:
        """Everything is written already."""
