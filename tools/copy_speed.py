"""Prints how fast `smp cp` downloads and uploads, next to a shell that prints the same file.

The sandbox rests as the official agent does (``--pace real``). Run it as ``python -m tools.copy_speed``. A MB is 10**6
bytes of random data, which do not compress.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from session_manager_plugin import AwsSettings, connect, copy
from session_manager_plugin.agent import Sandbox

COPIED, PRINTED = 64 * 1024 * 1024, 2_000_000
TARGET = "local"


async def rate(work: Awaitable[object], size: int) -> float:
    """Return megabytes a second."""
    began_at = time.monotonic()
    await work
    return size / 1e6 / (time.monotonic() - began_at)


async def print_in_a_shell(sandbox: Sandbox, size: int) -> None:
    """Read ``size`` bytes of a command that runs in a terminal, as any copy through a shell does."""
    command = {"command": [f"head -c {size} /dev/zero"]}
    started = await sandbox.start_session("AWS-StartInteractiveCommand", command)
    async with connect(started.stream_url, started.token or "") as session:
        while await session.read():
            pass


async def measure(there: Path, here: Path) -> None:
    """Copy ``there`` to ``here`` and back, then print as much in a shell."""
    async with Sandbox(pace="real") as sandbox:
        os.environ.update(sandbox.environment)
        aws = AwsSettings(endpoint_url=sandbox.endpoint_url)
        download = await rate(copy([f"{TARGET}:{there}"], str(here), aws=aws), COPIED)
        upload = await rate(copy([str(here)], f"{TARGET}:{there}", aws=aws), COPIED)
        shell = await rate(print_in_a_shell(sandbox, PRINTED), PRINTED)
    sys.stdout.write(f"smp cp, download: {download:.1f} MB/s\nsmp cp, upload: {upload:.1f} MB/s\n")
    sys.stdout.write(f"the same through a shell's terminal: {shell:.2f} MB/s\n")


def main() -> None:
    """Measure with a file of random data."""
    with tempfile.TemporaryDirectory() as directory:
        there = Path(directory, "there")
        there.write_bytes(random.Random(1).randbytes(COPIED))
        asyncio.run(measure(there, Path(directory, "here")))


if __name__ == "__main__":
    main()
