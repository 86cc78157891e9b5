"""Programs that a test runs to their end."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from typing import NamedTuple

from tests.support.waiting import DEADLINE


class Completed(NamedTuple):
    """What a program wrote, and its exit status; negative for a signal."""

    output: bytes
    errors: bytes
    status: int


async def completed(*argv: str, env: Mapping[str, str], stdin: bytes = b"", deadline: float = DEADLINE) -> Completed:
    """Run a program with ``stdin`` as its input. Kills it and raises ``TimeoutError`` after ``deadline`` seconds."""
    process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env)
    try:
        async with asyncio.timeout(deadline):
            output, errors = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Completed(output, errors, process.returncode)
