"""Whether processes are alive."""

from __future__ import annotations

import subprocess


def is_alive(pid: int) -> bool:
    """Whether ``pid`` is a process that still runs; one that waits to be reaped does not."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.returncode == 0 and not answer.stdout.startswith("Z")
