"""What a key costs in the list of targets."""

from __future__ import annotations

import os
import statistics
import sys
import time

from benchmarks.client import Client

ENTRIES = 5000
QUERIES = ("web12", "eu 4321", "p w 9", "xyz")
_PROGRAM = f"""
import asyncio
from session_manager_plugin.terminal.picker import Picker

picker = Picker(("Name", "Id", "Platform", "IP", "Agent", "Last ping"), color=True)
picker.note = ""
picker.add({{
    f"i-{{n:017x}}": (f"prod-web-{{n}}-eu", f"i-{{n:017x}}", "Amazon Linux", f"10.0.{{n >> 8}}.{{n & 255}}", "3.3", "")
    for n in range({ENTRIES})
}})
asyncio.run(picker.choose())
"""


def keys() -> float:
    """The median CPU seconds of a key that is typed into the list of ``ENTRIES`` targets, the drawing included."""
    spent = []
    with Client([sys.executable, "-c", _PROGRAM], terminal=True) as client:
        client.read_until(b"%d/%d" % (ENTRIES, ENTRIES))
        for query in QUERIES:
            for key in query:
                before = client.cpu
                os.write(client.stdin, key.encode())
                _wait_until_idle(client)
                spent.append(client.cpu - before)
            os.write(client.stdin, b"\x7f" * len(query))
            _wait_until_idle(client)
    return statistics.median(spent)


def _wait_until_idle(client: Client) -> None:
    """Wait until the program has drawn, and read what it has drawn."""
    client.read()
    quiet_at = time.monotonic() + 0.1
    while time.monotonic() < quiet_at:
        try:
            client.read(0.1)
        except TimeoutError:
            return
        quiet_at = time.monotonic() + 0.1
