"""Messages a second and CPU per megabyte, next to the bare client."""

from __future__ import annotations

import json
import math
import os
import re
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from benchmarks.client import DEADLINE, Client, Stopwatch
from benchmarks.far_end import DONE, PROMPT, FarEnd
from benchmarks.wire import PAYLOAD_SIZE
from session_manager_plugin.protocol.smux import MAX_FRAME_DATA

FORWARDING = "AWS-StartPortForwardingSession"
_PORT = re.compile(rb"Port (\d+) opened")
BLOCK = b"0123456789abcdef" * 4096

Cost = tuple[float, float]
"""Wall and CPU seconds."""
Transfer = Callable[[FarEnd, int], Cost]
"""Moves so many messages."""


def take_turns(far_end: FarEnd, transfers: dict[str, tuple[Transfer, int]], rounds: int) -> dict[str, Cost]:
    """The least wall and CPU seconds for each message that a transfer took, each of so many messages."""
    least = dict.fromkeys(transfers, (math.inf, math.inf))
    for _ in range(rounds):
        for name, (transfer, count) in transfers.items():
            wall, cpu = transfer(far_end, count)
            least[name] = min(least[name][0], wall / count), min(least[name][1], cpu / count)
    return least


def run_bare(far_end: FarEnd, what: str, scenario: str, count: int) -> dict[str, Any]:
    """The bare client's result."""
    command = [sys.executable, "-m", "benchmarks.bare", what, far_end.url(scenario), str(count)]
    result: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return result


def bare_receive(far_end: FarEnd, count: int) -> Cost:
    """The bare client takes output."""
    result = run_bare(far_end, "receive", f"pour-{count}", count)
    return result["wall"], result["cpu"]


def bare_send(far_end: FarEnd, count: int) -> Cost:
    """The bare client sends input."""
    result = run_bare(far_end, "send", f"take-{count * PAYLOAD_SIZE}", count)
    return result["wall"], result["cpu"]


def pour(far_end: FarEnd, count: int, *options: str, terminal: bool, scenario: str = "pour") -> Cost:
    """Output of a shell, to its end."""
    size = count * PAYLOAD_SIZE
    with Client.smp(far_end.url(f"{scenario}-{count}"), *options, terminal=terminal) as client:
        received = len(client.read())
        watch = Stopwatch(client)
        cost = (0.0, 0.0)
        while data := client.read():
            received += len(data)
            if received >= size and not cost[0]:
                cost = watch.stop()
        client.wait()
    if received < size or (received > size and not terminal):
        raise ValueError(f"{received} bytes came, {size} were sent")
    return cost


def shell_to_pipe(far_end: FarEnd, count: int) -> Cost:
    """Output of a shell, into a pipe."""
    return pour(far_end, count, terminal=False)


def shell_to_terminal(far_end: FarEnd, count: int) -> Cost:
    """Output of a shell, to a terminal with the status bar."""
    return pour(far_end, count, "--status", "bar", terminal=True)


def paced_bare(far_end: FarEnd, count: int) -> Cost:
    """The bare client takes output at the pace of the official agent."""
    result = run_bare(far_end, "receive", f"paced-{count}", count)
    return result["wall"], result["cpu"]


def paced_to_pipe(far_end: FarEnd, count: int) -> Cost:
    """Output of a shell at the pace of the official agent, into a pipe."""
    return pour(far_end, count, terminal=False, scenario="paced")


def paced_to_terminal(far_end: FarEnd, count: int) -> Cost:
    """Output of a shell at the pace of the official agent, to a terminal without a bar."""
    return pour(far_end, count, "--status", "off", terminal=True, scenario="paced")


def paced_download(far_end: FarEnd, count: int) -> Cost:
    """Through a forwarded port at the pace of the official agent."""
    return download(far_end, count, scenario="pacedload")


def download(far_end: FarEnd, count: int, streams: int = 1, scenario: str = "download") -> Cost:
    """Through a forwarded port, over so many connections at once."""
    with Client.plugin(far_end.url(f"{scenario}-{streams}-{count}"), FORWARDING) as client:
        port = forwarded_port(client)
        connections = [socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) for _ in range(streams)]
        buffer = bytearray(1 << 20)
        received = 0
        watch: Stopwatch | None = None
        poll = select.poll()
        by_number = {connection.fileno(): connection for connection in connections}
        for number in by_number:
            poll.register(number, select.POLLIN)
        while by_number:
            for number, _ in poll.poll(DEADLINE * 1000):
                size = by_number[number].recv_into(buffer)
                watch = watch or Stopwatch(client)
                received += size
                if not size:
                    poll.unregister(number)
                    by_number.pop(number).close()
        assert watch is not None
        cost = watch.stop()
    if received % (streams * MAX_FRAME_DATA):
        raise ValueError(f"{received} bytes came, which is no whole number of turns")
    return cost


def upload(far_end: FarEnd, count: int) -> Cost:
    """Through a forwarded port, over one connection."""
    size = count * PAYLOAD_SIZE
    with Client.plugin(far_end.url(f"upload-{size}"), FORWARDING) as client:
        port = forwarded_port(client)
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
            watch = Stopwatch(client)
            while size:
                size -= connection.send(BLOCK[:size] if size < len(BLOCK) else BLOCK)
            if connection.recv(1):
                raise ValueError("an answer nobody sent")
            return watch.stop()


def forwarded_port(client: Client) -> int:
    """Wait until it listens, and give the port."""
    printed = client.read_until(b"Waiting for connections...")
    match = _PORT.search(printed)
    assert match is not None
    return int(match[1])


def stdio_upload(far_end: FarEnd, count: int) -> Cost:
    """From standard input to a destination, as for ssh."""
    size = count * PAYLOAD_SIZE
    with Client.plugin(far_end.url(f"stdio-{size}"), "AWS-StartSSHSession", quiet=True) as client:
        os.write(client.stdin, BLOCK)  # as much as a pipe holds; the next write waits until it is read from
        os.write(client.stdin, BLOCK[:1])
        return _feed(client, size - len(BLOCK) - 1)


def paste(far_end: FarEnd, count: int) -> Cost:
    """Typed into a shell at a terminal, as fast as it is taken."""
    size = count * PAYLOAD_SIZE
    with Client.smp(far_end.url(f"take-{size}"), "--status", "bar", terminal=True) as client:
        client.read_until(PROMPT)
        return _feed(client, size)


def _feed(client: Client, size: int) -> Cost:
    watch = Stopwatch(client)
    writer = threading.Thread(target=_write_all, args=(client, size))
    writer.start()
    client.read_until(DONE)
    cost = watch.stop()
    client.read_all()
    client.wait()
    writer.join()
    return cost


def _write_all(client: Client, size: int) -> None:
    while size:
        size -= os.write(client.stdin, BLOCK[:size] if size < len(BLOCK) else BLOCK)
