"""Outputs of many targets, kept until their command has ended: folded, or as JSON."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass

from session_manager_plugin.cli.fleet.names import fold_names
from session_manager_plugin.cli.fleet.output import SharedOutput, SharedStreams
from session_manager_plugin.cli.fleet.results import FleetResult, FleetTarget, Sink

MEMORY = 64 * 1024
"""Bytes of an output that are kept in memory; a longer one is kept in a temporary file."""
_RULE = b"---------------\n"


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
    streams: CollectedStreams


class FoldingSink(Sink):
    """Shows equal outputs once, under the names of their targets: those of most targets first."""

    def __init__(self, shared: SharedOutput) -> None:
        self._shared = shared
        self._running: dict[FleetTarget, CollectedStreams] = {}
        self._groups: dict[tuple[bytes, bytes], _Group] = {}

    def streams(self, target: FleetTarget) -> CollectedStreams:
        """See ``Sink``."""
        streams = self._running[target] = CollectedStreams(self._shared)
        return streams

    def finished(self, result: FleetResult) -> None:
        """See ``Sink``."""
        streams = self._running.pop(result.target, None)
        if streams is None:
            return
        digests = streams.output.digest, streams.error_output.digest
        if digests in self._groups:
            self._groups[digests].labels.append(result.target.label)
            streams.close()
        else:
            self._groups[digests] = _Group([result.target.label], streams)

    def close(self) -> None:
        """See ``Sink``."""
        for group in sorted(self._groups.values(), key=lambda group: (-len(group.labels), group.labels)):
            names = fold_names(group.labels)
            count = f" ({len(group.labels)})" if len(group.labels) > 1 else ""
            heading = _RULE + f"{names}{count}\n".encode(errors="replace") + _RULE
            outputs = (group.streams.output, self._shared.write), (group.streams.error_output, self._shared.write_error)
            for output, write in outputs:
                if data := output.read():
                    write(heading + data + (b"" if data.endswith(b"\n") else b"\n"))
            group.streams.close()
        self._groups.clear()


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
        }
        self._shared.write(f"{json.dumps(fields)}\n".encode())

    def close(self) -> None:
        """Everything is written already."""
