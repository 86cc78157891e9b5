"""Running the shell scripts of Run Command: one process per instance, both outputs kept up to Run Command's limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

MAX_STDOUT_LENGTH = 24_000
MAX_STDERR_LENGTH = 8_000
"""Characters that GetCommandInvocation returns."""

_READ_SIZE = 64 * 1024


@dataclass(frozen=True, slots=True)
class ScriptResult:
    """The result of a script. ``status`` is its exit status, 128 + n if signal n has ended it, None after a timeout."""

    status: int | None
    stdout: str
    stderr: str


async def run_script(script: str, directory: str, environment: Mapping[str, str], timeout: float) -> ScriptResult:
    """Run ``script`` with ``sh`` in ``directory`` (the current directory if empty) for at most ``timeout`` seconds.

    Its process group is killed after that time, and when the caller is cancelled. Raises ``OSError`` if it cannot be
    started.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            "sh",
            "-c",
            script,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=directory or None,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    )
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # If the start itself was cancelled, asyncio would kill the shell alone, and wait for the programs that hold its
        # output open.
        await _kill(await starting)
        raise
    assert process.stdout is not None
    assert process.stderr is not None
    stdout, stderr = bytearray(), bytearray()
    status: int | None = None
    try:
        async with asyncio.timeout(timeout):
            await asyncio.gather(
                _read(process.stdout, stdout, MAX_STDOUT_LENGTH), _read(process.stderr, stderr, MAX_STDERR_LENGTH)
            )
            status = await process.wait()
    except TimeoutError:
        pass
    finally:
        if status is None:
            await _kill(process)
    if status is not None and status < 0:
        status = 128 - status
    return ScriptResult(status, _text(stdout, MAX_STDOUT_LENGTH), _text(stderr, MAX_STDERR_LENGTH))


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the process group, and wait for the end of its first process."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _read(stream: asyncio.StreamReader, kept: bytearray, length: int) -> None:
    """Read to the end, keeping enough bytes for ``length`` characters."""
    while data := await stream.read(_READ_SIZE):
        kept += data[: max(0, 4 * length - len(kept))]


def _text(output: bytearray, length: int) -> str:
    return output.decode(errors="replace")[:length]
