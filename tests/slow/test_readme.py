"""The commands of README.md, its program and those of docs/library.md, run as they are there with a local account."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.inventory import Instance, Inventory
from tests.support.ports import held_port
from tests.support.pty_process import PtyProcess

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DEADLINE = 60
INVENTORY = Inventory(instances=(Instance(id="i-0123456789abcdef0", name="web-1"),))
OS_RELEASE = Path("/etc/os-release").read_bytes()
PROGRAMS = [
    program
    for name in ("README.md", "docs/library.md")
    for program in re.findall(r"(?ms)^```python\n(.*?)^```$", (ROOT / name).read_text())
]


def lines_of(name: str) -> list[str]:
    """The commands below a mark of README.md."""
    block = re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    return block[1].splitlines()


@pytest.fixture
async def environment(tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Variables with which commands find the account; its instance has a service."""
    programs = tmp_path / "bin"
    programs.mkdir()
    systemctl = programs / "systemctl"
    systemctl.write_text('#!/bin/sh\n[ "$*" = "is-active nginx" ] && echo active\n')
    systemctl.chmod(0o755)
    async with Sandbox(inventory=INVENTORY) as sandbox:
        # The far end is this machine: it inherits the search path of the tests.
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
            yield {
                **os.environ,
                **sandbox.environment,
                "AWS_ENDPOINT_URL": sandbox.endpoint_url,
                "AWS_EC2_METADATA_DISABLED": "true",
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "TERM": "xterm-256color",
            }


async def test_the_first_session(environment: dict[str, str]) -> None:
    (line,) = lines_of("session")
    async with PtyProcess(["sh", "-c", line], env=environment) as terminal:
        await terminal.expect(r"[$#] ")
        terminal.type("echo $((40+2))\r")
        await terminal.expect(r"\n42\r\n")
        terminal.type("exit\r")
        assert await terminal.wait() == 0


async def run(line: str, environment: dict[str, str], directory: Path) -> tuple[int, str, str]:
    """Run a command line of sh; returns its exit status and its outputs."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        line,
        env=environment,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), DEADLINE)
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def test_a_command_a_file_a_port(environment: dict[str, str], tmp_path: Path) -> None:
    command, download, upload, forward = lines_of("daily")
    here = tmp_path / "here"
    (here / "site").mkdir(parents=True)
    (here / "site" / "index.html").write_text("hello\n")
    assert (await run(command, environment, here))[:2] == (0, "active\n")
    assert (await run(download, environment, here))[0] == 0
    assert (here / "os-release").read_bytes() == OS_RELEASE
    assert (await run(upload, environment, here))[0] == 0
    assert (Path(environment["HOME"]) / "www" / "index.html").read_text() == "hello\n"
    with contextlib.ExitStack() as held:
        # The ports of the example may be taken on this machine.
        forward = re.sub(r"-L \d+:", lambda _: f"-L {held.enter_context(held_port())}:", forward)
        async with PtyProcess(["sh", "-c", f"exec {forward}"], env=environment) as terminal:
            await terminal.expect("80.*5432")
            terminal.type("\x03")
            assert await terminal.wait() == 0


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
async def test_a_recipe(environment: dict[str, str], tmp_path: Path, number: int) -> None:
    program = tmp_path / "recipe.py"
    program.write_text(PROGRAMS[number])
    status, output, errors = await run(f"{sys.executable} -W error {program}", environment, tmp_path)
    assert (status, errors) == (0, "")
    assert output
