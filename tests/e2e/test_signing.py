"""Signed openings, as the real AWS CLIs have our plugin make them."""

from __future__ import annotations

import re

from session_manager_plugin.agent import Sandbox
from tests.e2e.test_aws_cli import PROMPT, start_session
from tests.support.pty_process import PtyProcess


async def test_a_sandbox_that_requires_signatures(aws: str, environment: dict[str, str]) -> None:
    async with Sandbox(require_signature=True) as sandbox:
        environment |= sandbox.environment
        async with PtyProcess(start_session(aws, sandbox.endpoint_url), env=environment) as terminal:
            await terminal.expect(PROMPT)
            terminal.type("echo $((40+2)); exit\r")
            assert await terminal.wait() == 0
        assert "\r\n42\r\n" in terminal.text
        assert "refused" not in terminal.text


async def test_a_wrong_key_falls_back_and_says_so(aws: str, sandbox: Sandbox, environment: dict[str, str]) -> None:
    """By a sandbox that takes unsigned requests too, but no wrong signatures."""
    environment |= {"SMP_SIGN": "always", "AWS_SECRET_ACCESS_KEY": "of yesterday"}
    async with PtyProcess(start_session(aws, sandbox.endpoint_url), env=environment) as terminal:
        await terminal.expect(PROMPT)
        assert re.search(
            r"\r\nsession-manager-plugin: 127\.0\.0\.1:\d+ refused .*ssmmessages:OpenDataChannel; the connection was "
            r"opened without a signature\r\n",
            terminal.text,
        )
        terminal.type("exit\r")
        assert await terminal.wait() == 0
