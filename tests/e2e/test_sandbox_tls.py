"""The real AWS CLIs and our plugin against a sandbox with TLS and targets of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from session_manager_plugin.agent import Sandbox

TARGET = "i-0123456789abcdef0"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(tls=True, targets=[TARGET]) as running:
        yield running


async def test_a_session_over_tls(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    arguments = ["ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", TARGET]
    document = ["--document-name", "AWS-StartInteractiveCommand", "--parameters", "command=echo $((40+2))"]
    process = await asyncio.create_subprocess_exec(
        aws,
        *arguments,
        *document,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert (process.returncode, b"\n42\r\n" in output) == (0, True), output
