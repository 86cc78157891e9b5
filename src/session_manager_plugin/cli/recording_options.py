"""Which sessions are recorded, and where: `--record` and SMP_RECORD_DIR."""

from __future__ import annotations

from pathlib import Path

from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.errors import ConfigurationError, UsageError
from session_manager_plugin.session.handler_options import OpenRecording

VARIABLE = "SMP_RECORD_DIR"


def recorder(environment: Environment, file: str | None = None, *, keeps_input: bool = False) -> OpenRecording:
    """What opens the recording of a shell: `file`, else one in the directory of SMP_RECORD_DIR, else none.

    Raises `UsageError` when `file` cannot be created, and for input that is to be recorded nowhere.
    """
    if file is not None:
        from session_manager_plugin.terminal.recording import Recording

        path = Path(file)
        try:
            Recording(path).close()  # leaves no file, and shows now what would prevent it later
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
