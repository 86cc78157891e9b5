"""Output that the official agent loses, with the sandbox's agent that has its defects."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

from session_manager_plugin import Session, connect
from session_manager_plugin.agent import Faults, Sandbox
from session_manager_plugin.agent.quirks import Quirk
from session_manager_plugin.errors import OutputIncomplete
from session_manager_plugin.session.stopped_output import OUTPUT_STOPPED
from tests.support.waiting import DEADLINE

QUIRKS = [Quirk.PAUSE_STOPS_OUTPUT]
FAULTS = Faults(tokens_reusable=True)
COMMAND = "sh -c 'echo 1; read line < {gate}; echo 2'"


async def read_to_end(session: Session, received: bytearray) -> None:
    """Read what is left."""
    while data := await session.read():
        received += data


async def test_a_command_whose_agent_stopped_its_output_at_a_reconnect(tmp_path: Path) -> None:
    """The agent tells the true status, 0, and says nothing of the output that it does not send."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    received = bytearray()
    async with asyncio.timeout(DEADLINE), Sandbox(quirks=QUIRKS, faults=FAULTS) as sandbox:
        parameters = {"command": [COMMAND.format(gate=gate)], "separateOutputStream": ["true"]}
        started = await sandbox.start_session("AWS-StartNonInteractiveCommand", parameters)
        async with connect(started.stream_url, started.token or "") as session:
            received += await session.read()
            running = sandbox.session(started.session_id)
            assert running.disconnect()
            await asyncio.to_thread(gate.write_text, "go on\n")
            with pytest.raises(OutputIncomplete, match="the connection was lost while the command ran"):
                await read_to_end(session, received)
    assert received.startswith(b"1\n")


async def test_a_command_that_waits_for_its_output_to_be_read_does_not_hang_without_a_word(tmp_path: Path) -> None:
    """Its output fills the pipe that the agent does not read any more, so it never ends; a signal ends the client."""
    command = "sh -c 'echo 1; read line < {gate}; yes'"
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    async with asyncio.timeout(DEADLINE), Sandbox(quirks=QUIRKS, faults=FAULTS) as sandbox:
        parameters = {"command": [command.format(gate=gate)], "separateOutputStream": ["true"]}
        started = await sandbox.start_session("AWS-StartNonInteractiveCommand", parameters)
        arguments = ["connect", "--url", started.stream_url, "--token", started.token or ""]
        client = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "session_manager_plugin", *arguments, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        assert client.stdout is not None
        assert client.stderr is not None
        assert await client.stdout.readline() == b"1\n"
        assert sandbox.session(started.session_id).disconnect()
        output = asyncio.ensure_future(client.stdout.read())  # `wait` waits for the end of the pipe
        said = await client.stderr.readuntil(OUTPUT_STOPPED.encode())
        await asyncio.to_thread(gate.write_text, "go on\n")
        client.terminate()
        said += await client.stderr.read()
        assert await client.wait() == -signal.SIGTERM
        await output
    assert said.endswith(
        b"was ended by SIGTERM\nsmp: the output may be incomplete: the connection was lost while the command ran, and "
        b"the agent then sends no more output\n"
    )
