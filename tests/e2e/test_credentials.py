"""Credentials of a role that takes an MFA code, at a real terminal, with the sandbox's STS."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN
from tests.support.pty_process import PtyProcess

DEVICE = "arn:aws:iam::111122223333:mfa/alice"
QUESTION = rf"MFA code of {DEVICE}: $"
SMP = str(BIN / "smp")


@pytest.fixture
def environment(sandbox: Sandbox, environment: dict[str, str]) -> dict[str, str]:
    """The sandbox's keys in a profile, and a role as the profile that is used."""
    home = Path(environment["HOME"])
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(
        f"[profile keys]\naws_access_key_id = {environment.pop('AWS_ACCESS_KEY_ID')}\n"
        f"aws_secret_access_key = {environment.pop('AWS_SECRET_ACCESS_KEY')}\n"
        f"[profile role]\nrole_arn = arn:aws:iam::111122223333:role/r\nsource_profile = keys\nmfa_serial = {DEVICE}\n"
    )
    endpoints = {"AWS_ENDPOINT_URL_STS": sandbox.endpoint_url, "AWS_ENDPOINT_URL_SSM": sandbox.endpoint_url}
    return {**environment, **endpoints, "AWS_PROFILE": "role"}


async def test_a_code_is_asked_for_once(sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with PtyProcess([SMP, "start", "web-1", "--status", "off"], env=environment) as terminal:
        await terminal.expect(QUESTION)
        terminal.type("123456\r")
        await terminal.expect(r"[#$] $")
        assert b"123456" not in terminal.output
        terminal.type("exit\r")
        assert await terminal.wait() == 0
    (session,) = sandbox.sessions.values()
    assert session.owner.startswith("arn:aws:sts::111122223333:assumed-role/r/")
    cache = Path(environment["HOME"], ".aws", "cli", "cache")
    (kept,) = os.listdir(cache)
    assert stat.S_IMODE(os.stat(cache / kept).st_mode) == 0o600
    async with PtyProcess([SMP, "ls"], env=environment) as terminal:
        assert await terminal.wait() == 0
        assert b"MFA" not in terminal.output


async def test_a_wrong_code_and_none(environment: dict[str, str]) -> None:
    async with PtyProcess([SMP, "ls"], env=environment) as terminal:
        await terminal.expect(QUESTION)
        terminal.type("000000\r")
        assert await terminal.wait() == 255
        assert "the MFA code is wrong, or was used already; try again with the next one" in terminal.text
    async with PtyProcess([SMP, "ls"], env=environment) as terminal:
        modes = terminal.attributes
        await terminal.expect(QUESTION)
        terminal.type("\x03")
        assert await terminal.wait() in (130, -signal.SIGINT)
        assert terminal.attributes == modes


async def test_nobody_is_asked_without_a_terminal(environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        SMP, "ls", stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert (process.returncode, output) == (255, b"")
    assert b"needs an MFA code" in errors
    assert b"run smp ls --profile role at a terminal, which asks for it" in errors
