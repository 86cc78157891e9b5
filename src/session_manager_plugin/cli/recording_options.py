"""The options for recordings: ``--record`` and SMP_RECORD_DIR."""

from __future__ import annotations

from pathlib import Path

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import ConfigurationError, UsageError
from session_manager_plugin.session.handler_options import OpenRecording

VARIABLE = "SMP_RECORD_DIR"


def recorder(environment: Environment, file: str | None = None, *, keeps_input: bool = False) -> OpenRecording:
    """Return the function that opens the recording of a shell: in ``file``, in the directory of SMP_RECORD_DIR, or
    none.

    Raises ``UsageError`` if ``file`` cannot be created, and for ``keeps_input`` without a recording.
    """
    if file is not None:
        from session_manager_plugin.terminal.recording import Recording

        path = Path(file)
        try:
            Recording(path).close()  # reports an error before the session begins, and leaves no file
        except ConfigurationError as error:
            raise UsageError(str(error)) from error
        return lambda _session_id: Recording(path, keeps_input=keeps_input)
    if directory := environment.variables.get(VARIABLE):
        from session_manager_plugin.terminal.recording import Recording, recording_path

        return lambda session_id: Recording(
            recording_path(Path(directory).expanduser(), session_id), keeps_input=keeps_input
        )
    if keeps_input:
        raise UsageError(f"--record-input needs --record FILE, or a directory in {VARIABLE}")
    return lambda _session_id: None
