"""What the status bar costs: CPU of a session that prints a lot, with the bar on and off.

Run it from an environment that has the package installed::

    python benchmarks/bar.py                   # all streams
    python benchmarks/bar.py plain --rounds 5

Each measurement is a whole ``smp connect`` on a terminal of its own, to a sandbox in this process. The far end prints
a file and ends. CPU time is that of the client's process, user and system together, less that of a session that prints
nothing; of several rounds the least counts. With the bar on and off the rounds alternate. The streams:

``plain``
    lines of a log, without escape sequences; the goal is a ratio of at most 1.10
``ls``
    what ``ls --color`` prints, four sequences a line and more; at most 1.40
``screen``
    a full-screen program that addresses the cursor all the time; there is no goal for it
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import pty
import sys
import tempfile
import termios
from itertools import product
from pathlib import Path

from session_manager_plugin.agent import Sandbox

SIZE = 64 * 1024 * 1024
"""Bytes of a stream."""
DEADLINE = 300.0
GOALS = {"plain": 1.10, "ls": 1.40}


def stream(name: str) -> bytes:
    """The stream of this name, about `SIZE` bytes."""
    if name == "plain":
        piece = b"".join(
            b"%06d a line of some log file with a few words in it, and no colours\r\n" % n for n in range(2000)
        )
    elif name == "ls":
        piece = b"".join(
            b"\x1b[0m\x1b[01;34mdirectory-%d\x1b[0m  \x1b[01;32mprogram-%d.sh\x1b[0m  notes-%d.txt  letter-%d.txt\r\n"
            % (n, n, n, n)
            for n in range(2000)
        )
    else:
        piece = b"".join(
            b"\x1b[%d;%dH\x1b[38;5;%dmsome words\x1b[0m and more of them\x1b[K" % (n % 23 + 1, n % 60 + 1, n % 256)
            for n in range(2000)
        )
    return piece * (SIZE // len(piece))


async def session(path: Path, status: str) -> float:
    """CPU seconds of a client whose session prints the file at `path`."""
    async with Sandbox(shell=f"sh -c 'stty -opost; cat {path}'") as sandbox:
        started = await sandbox.start_session()
        assert started.token is not None
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 80))
        pid = os.posix_spawn(  # noqa: ASYNC221 - it does not wait for the process
            sys.executable,
            [
                sys.executable,
                "-m",
                "session_manager_plugin",
                "connect",
                "--url",
                started.stream_url,
                "--status",
                status,
            ],
            {**os.environ, "SMP_TOKEN": started.token, "TERM": "xterm-256color"},
            file_actions=[(os.POSIX_SPAWN_DUP2, slave, fd) for fd in range(3)],
        )
        os.close(slave)
        ended = asyncio.get_running_loop().create_future()

        def drain() -> None:
            try:
                if os.read(master, 1 << 20):
                    return
            except OSError:
                pass  # the client has gone
            asyncio.get_running_loop().remove_reader(master)
            ended.set_result(None)

        asyncio.get_running_loop().add_reader(master, drain)
        async with asyncio.timeout(DEADLINE):
            await ended
        _, wait_status, usage = await asyncio.to_thread(os.wait4, pid, 0)
        os.close(master)
        if wait_status != 0:
            raise SystemExit(f"the client failed: {os.waitstatus_to_exitcode(wait_status)}")
        return usage.ru_utime + usage.ru_stime


def measure(name: str, rounds: int) -> None:
    """Print a row for the stream of this name."""
    with tempfile.TemporaryDirectory() as directory:
        full, empty = Path(directory, "full"), Path(directory, "empty")
        full.write_bytes(stream(name))
        empty.write_bytes(b"")
        least: dict[tuple[str, Path], float] = {}
        for _ in range(rounds):
            for case in product(("off", "bar"), (empty, full)):
                status, path = case
                least[case] = min(least.get(case, math.inf), asyncio.run(session(path, status)))
    off, bar = (least[status, full] - least[status, empty] for status in ("off", "bar"))
    goal = f"goal {GOALS[name]:.2f}" if name in GOALS else ""
    print(f"{name:7} off {off:6.2f} s  bar {bar:6.2f} s  ratio {bar / off:5.2f}  {goal}", flush=True)


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="*", default=["plain", "ls", "screen"], metavar="STREAM")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        for name in arguments.streams:
            measure(name, arguments.rounds)


if __name__ == "__main__":
    main()
