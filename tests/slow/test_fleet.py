"""`smp exec` on hundreds of targets of a sandbox: time, memory, and every byte."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from asyncio.subprocess import DEVNULL
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.inventory import Instance, Inventory

MIB = 1024 * 1024
DEADLINE = 240.0
"""Seconds for a run, on whatever machine this is."""
RUN_COMMAND_TARGETS = int(os.environ.get("SMP_TEST_FLEET", "1000"))
"""Targets of the fleet that Run Command serves; measured with 5,000 as well."""
API_RATE = 10.0
"""Calls a second of each operation that the service accepts."""
MEASURED = """
import os, resource, sys
pid = os.fork()
if not pid:
    os.execv(sys.argv[1], sys.argv[1:])
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=open(os.environ["MEASURED"], "w"))
sys.exit(status)
"""
"""Runs a program and writes the most memory it had, in KiB."""


class Run(NamedTuple):
    """What a command did."""

    status: int | None
    out: bytes
    err: str
    seconds: float
    memory: int
    """Bytes, at most."""


def inventory(count: int) -> Inventory:
    return Inventory(
        instances=tuple(
            Instance(id=f"i-{0x0A1B2C3D4E5F60000 + number:017x}", name=f"web-{number}", tags={"role": "web"})
            for number in range(1, count + 1)
        )
    )


async def smp_exec(sandbox: Sandbox, directory: Path, *arguments: str, timeout: float) -> Run:
    """Run `smp exec` in a process of its own."""
    measured = directory / "measured"
    environment = {**os.environ, **sandbox.environment, "HOME": str(directory), "MEASURED": str(measured)}
    # A busy machine may not answer a ping within ten seconds, and a command prints nothing more once its link is lost.
    environment["SMP_KEEPALIVE"] = "0"
    smp = str(Path(sys.executable).parent / "smp")
    command = (smp, "exec", "--endpoint-url", sandbox.endpoint_url, *arguments)
    began_at = time.monotonic()
    out, err = directory / "out", directory / "err"
    # Files, which are always ready: this process, which is the sandbox too, would be a slow reader of pipes, and an
    # agent ends the session of a client that acknowledges nothing for two seconds after the end of its command.
    with open(out, "wb") as stdout, open(err, "wb") as stderr:  # noqa: ASYNC230
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", MEASURED, *command, stdin=DEVNULL, stdout=stdout, stderr=stderr, env=environment
        )
        async with asyncio.timeout(timeout):
            await process.wait()
    seconds = time.monotonic() - began_at
    return Run(process.returncode, out.read_bytes(), err.read_text(), seconds, int(measured.read_text()) * 1024)


async def test_300_targets_where_20_sessions_start_a_second(tmp_path: Path) -> None:
    async with Sandbox(inventory=inventory(300), start_rate=20.0) as sandbox:
        script = f"mkdir {tmp_path}/first 2>/dev/null && echo first || echo same"
        run = await smp_exec(sandbox, tmp_path, "--tag", "role=web", "-b", "--shell", "--", script, timeout=DEADLINE)
    assert run.status == 0, run.err
    assert " (299)\n---------------\nsame\n" in run.out.decode()
    assert run.out.decode().endswith("\n---------------\nfirst\n")
    assert "300 targets: 300 succeeded, in " in run.err
    throttled = re.search(r"AWS throttled StartSession (\d+) time", run.err)
    assert (int(throttled[1]) if throttled else 0) == sandbox.api_calls["ssm:StartSession"] - 300
    assert run.memory <= 150 * MIB
    print(f"300 targets: {run.seconds:.1f} s, {run.memory / MIB:.0f} MiB")


async def test_every_byte_of_50_targets(tmp_path: Path) -> None:
    size = 2_000_000
    line, count = "%s line %011d of a command with much output\n", size // 50
    async with Sandbox(inventory=inventory(50)) as sandbox:
        script = f"seq -f '{line.replace('%s', 'out').replace('%011d', '%011g')[:-1]}' {count} & "
        script += f"seq -f '{line.replace('%s', 'err').replace('%011d', '%011g')[:-1]}' {count} >&2; wait"
        run = await smp_exec(sandbox, tmp_path, "--tag", "role=web", "-q", "--", "sh", "-c", script, timeout=DEADLINE)
    assert run.status == 0, [line for line in run.err.splitlines() if line.startswith("smp: ")]
    for name, text in (("out", run.out.decode()), ("err", run.err)):
        numbers: Counter[str] = Counter()
        for received in text.splitlines(keepends=True):
            target, _, rest = received.partition(": ")
            numbers[target] += 1
            assert rest == line % (name, numbers[target])
        assert set(numbers.values()) == {count}
        assert len(numbers) == 50
    assert run.memory <= 150 * MIB


async def test_many_targets_by_run_command(tmp_path: Path) -> None:
    async with Sandbox(inventory=inventory(RUN_COMMAND_TARGETS), api_rate=API_RATE) as sandbox:
        script = f"mkdir {tmp_path}/first 2>/dev/null && echo first || echo same"
        arguments = ("--via", "send-command", "--fanout", "200", "-b", "--shell", "--", script)
        timeout = max(DEADLINE, RUN_COMMAND_TARGETS / 10)
        run = await smp_exec(sandbox, tmp_path, "--tag", "role=web", *arguments, timeout=timeout)
    assert run.status == 0, run.err
    assert f" ({RUN_COMMAND_TARGETS - 1})\n---------------\nsame\n" in run.out.decode()
    assert run.out.decode().endswith("\n---------------\nfirst\n")
    assert f"{RUN_COMMAND_TARGETS} targets: {RUN_COMMAND_TARGETS} succeeded, in " in run.err
    assert run.memory <= 250 * MIB
    calls, throttled = sandbox.api_calls, sandbox.throttled_calls
    commands = -(-RUN_COMMAND_TARGETS // 50)
    assert calls["ssm:SendCommand"] - throttled["ssm:SendCommand"] == commands
    assert calls["ssm:GetCommandInvocation"] == 0  # the outputs are short
    for name in ("SendCommand", "ListCommandInvocations"):
        assert calls[f"ssm:{name}"] <= API_RATE * (run.seconds + 1) + throttled[f"ssm:{name}"]
        assert throttled[f"ssm:{name}"] <= calls[f"ssm:{name}"] / 4
    print(
        f"{RUN_COMMAND_TARGETS} targets by Run Command: {run.seconds:.1f} s, {run.memory / MIB:.0f} MiB, "
        + ", ".join(f"{name} {count} ({throttled[name]} throttled)" for name, count in sorted(calls.items()))
    )
