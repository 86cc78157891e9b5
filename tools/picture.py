"""Makes docs/session.svg, the animated picture of README.md; `make picture` runs it.

Records a terminal with `smp connect --record`. In it `smp start` opens a session through a relay that loses the
connection for some seconds and lets it come back.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.inventory import Instance, Inventory
from tests.support.pty_process import PtyProcess
from tests.support.relay import Relay
from tools.animation import frames, svg

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "docs" / "session.svg"
COLUMNS, ROWS = 80, 15
TITLE = "A session whose connection is lost and comes back: nothing of its output is missing"
INSTANCES = (Instance(id="i-0f3ac5de8b21c4a97", name="web-1", private_ip="10.0.3.17"),)
WORK = 'for n in 1 2 3 4 5 6 7 8; do echo "part $n of 8"; sleep 0.7; done'
_typing = random.Random(1)


def caption(rows: Sequence[str]) -> str:
    """Say what happens, by the bar in the last row."""
    bar = rows[-1]
    if "restored" in bar:
        return "The network is back. What was printed meanwhile arrives, once and in order."
    if "reconnecting" in bar or "no answer" in bar:
        return "The network is gone. The session is not."
    return ""


async def type_slowly(terminal: PtyProcess, text: str) -> None:
    """Type as a person does."""
    for key in text:
        terminal.type(key)
        await asyncio.sleep(_typing.uniform(0.03, 0.08))
    await asyncio.sleep(0.4)
    terminal.type("\r")


async def record(file: Path) -> None:
    """Record the session in ``file``, an asciicast."""
    inventory = Inventory(instances=INSTANCES)
    async with (
        Sandbox(inventory=inventory, shell="env 'PS1=web-1$ ' sh") as account,
        Relay(account.port) as relay,
        Sandbox(shell="env 'PS1=$ ' sh") as desk,
    ):
        account.stream_port = relay.port
        os.environ.update(account.environment, AWS_ENDPOINT_URL=account.endpoint_url)
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        outer = await desk.start_session()
        argv = ["smp", "connect", "--url", outer.stream_url, "--record", str(file), "--status", "off"]
        variables = {**os.environ, "SMP_TOKEN": outer.token or "", "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        async with PtyProcess([*argv, "--escape-char", "none"], env=variables, rows=ROWS, columns=COLUMNS) as terminal:
            await terminal.expect(r"\$ ")
            await asyncio.sleep(1)
            await type_slowly(terminal, "smp start web-1")
            await terminal.expect(r"web-1\$ ")
            await asyncio.sleep(1.5)
            await type_slowly(terminal, WORK)
            await terminal.expect("part 2 of 8\r\n")
            await relay.refuse()
            relay.reset()
            await asyncio.sleep(4)
            await relay.accept()
            await terminal.expect("restored")
            await asyncio.sleep(5)
            await type_slowly(terminal, "exit")
            await terminal.expect(r"ended")
            await asyncio.sleep(1)
            terminal.process.terminate()
            await terminal.wait()


def main() -> None:
    """Record, draw, and write the picture."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "session.cast")
        asyncio.run(record(file))
        cast = file.read_text()
    pictures = frames(cast, caption)
    OUTPUT.write_text(svg(pictures, COLUMNS, ROWS, TITLE))
    sys.stdout.write(f"{OUTPUT.relative_to(ROOT)}: {OUTPUT.stat().st_size / 1000:.0f} kB, {len(pictures)} pictures\n")


if __name__ == "__main__":
    main()
