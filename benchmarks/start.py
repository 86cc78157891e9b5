"""What it costs to start: CPU to the first prompt byte, and `--version`; next to programs that do as little."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from benchmarks.client import PLUGIN, Client
from benchmarks.far_end import PROMPT, FarEnd
from benchmarks.link import Link

_BARE_PROGRAM = """
import asyncio, ssl, sys
from websockets.asyncio.client import connect

async def main():
    async with connect(sys.argv[1], compression=None) as websocket:
        await websocket.send("{}")
        message = await websocket.recv()
        sys.stdout.buffer.write(message[120:])
        sys.stdout.flush()
        await websocket.recv()

asyncio.run(main())
"""


def bare(far_end: FarEnd) -> float:
    """CPU seconds of a program that imports asyncio, ssl and websockets' client, connects and shows the prompt."""
    with Client([sys.executable, "-c", _BARE_PROGRAM, far_end.url("prompt")], terminal=True) as client:
        return _to_prompt(client)


def plugin(far_end: FarEnd) -> float:
    """CPU seconds of the plugin, as the AWS CLI starts it at a terminal."""
    with Client.plugin(far_end.url("prompt"), "SSM-SessionManagerRunShell", terminal=True) as client:
        return _to_prompt(client)


def connect(far_end: FarEnd) -> float:
    """CPU seconds of `smp connect` with the status bar."""
    with Client.smp(far_end.url("prompt"), "--status", "bar", terminal=True) as client:
        return _to_prompt(client)


def plugin_over(link: Link, sign: str, more: Mapping[str, str]) -> float:
    """Seconds from the start of the plugin to the prompt over a link; `sign` is SMP_SIGN."""
    variables = {"AWS_CA_BUNDLE": link.bundle, "SMP_SIGN": sign, **more}
    start = time.perf_counter()
    with Client.plugin(link.url("prompt"), "SSM-SessionManagerRunShell", terminal=True, more=variables) as client:
        client.read_until(PROMPT)
        seconds = time.perf_counter() - start
        client.terminate()
    return seconds


def _to_prompt(client: Client) -> float:
    client.read_until(PROMPT)
    cpu = client.cpu
    client.terminate()
    return cpu


def plugin_version() -> float:
    """Seconds that `session-manager-plugin --version` takes."""
    return _run([PLUGIN, "--version"])


def bare_version() -> float:
    """Seconds that an interpreter takes which does nothing."""
    return _run([sys.executable, "-I", "-S", "-c", "pass"])


def _run(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start
