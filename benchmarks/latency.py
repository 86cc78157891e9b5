"""How long a keystroke takes, how many connections are made in a second, what an idle session costs."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import statistics
import threading
import time
from collections.abc import Iterable, Mapping

from benchmarks.bare import KEY
from benchmarks.client import DEADLINE, Client, Stopwatch
from benchmarks.far_end import PROMPT, FarEnd
from benchmarks.throughput import FORWARDING, forwarded_port, run_bare
from session_manager_plugin.agent.sandbox import TARGET
from session_manager_plugin.terminal.predict_mode import PredictMode

TYPING_PAUSE = 0.3
"""Seconds between two keys beside a transfer: longer than the time after a key in which reads wait for nothing."""
_MESSAGES_FOR_AN_ECHO = 220
"""At the pace of the agent, for the length of a pause and more."""
_KEY_PAUSE = 0.08
"""Seconds between two keys of somebody who types fast."""
_LINE = 40
"""Keys of a line, with Enter."""
_LEARNING = 2 * _LINE
"""Keys before the measurement, after which the round-trip time is known."""
SETTLE_TIME = 3.0
"""Seconds after which a session is idle that was just opened."""


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile, in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def bare_echo(far_end: FarEnd, count: int) -> list[float]:
    """Seconds of each echo, for the bare client, which has no terminal."""
    echoes: list[float] = run_bare(far_end, "echo", "echo", count)["echoes"]
    return echoes


def keystrokes(far_end: FarEnd, count: int, *, encrypted: bool = False, pause: float = 0.0) -> list[float]:
    """Seconds from each key to what it makes appear, at a terminal with the status bar. ``pause`` is the time from an
    echo to the next key, in seconds."""
    scenario, more = ("secret", far_end.environment) if encrypted else ("echo", None)
    options = ["--status", "bar", "--target", TARGET]
    with Client.smp(far_end.url(scenario), *options, terminal=True, more=more) as client:
        client.read_until(PROMPT)
        _drain(client, 1.0)
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            os.write(client.stdin, KEY)
            client.read_until(KEY)
            seconds.append(time.perf_counter() - start)
            time.sleep(pause)
        return seconds


def typing_costs(sessions: Mapping[str, tuple[str, Mapping[str, str], PredictMode]], count: int) -> dict[str, float]:
    """CPU seconds of each client for a key, typed at a line editor's prompt, side by side. ``sessions`` are the URLs
    with what their clients' environments need, and their modes."""
    with contextlib.ExitStack() as stack:
        clients = {}
        for name, (url, more, mode) in sessions.items():
            options = ["--status", "off", "--predict", mode.value, "--target", TARGET]
            clients[name] = stack.enter_context(Client.smp(url, *options, terminal=True, more=more))
        for client in clients.values():
            client.read_until(PROMPT)
        _type(clients.values(), _LEARNING)
        before = {name: client.cpu for name, client in clients.items()}
        _type(clients.values(), count)
        return {name: (client.cpu - before[name]) / count for name, client in clients.items()}


def _type(clients: Iterable[Client], count: int) -> None:
    """Type keys at all clients, some seconds' worth of lines, and read what they print."""
    by_output = {client.stdout: client for client in clients}
    for number in range(1, count + 1):
        for client in by_output.values():
            os.write(client.stdin, b"\r" if number % _LINE == 0 else b"a")
        until = time.monotonic() + _KEY_PAUSE
        while (left := until - time.monotonic()) > 0:
            for output in select.select(list(by_output), [], [], left)[0]:
                by_output[output].read()


def echoes_beside(far_end: FarEnd, count: int, *, transfer: bool) -> list[float]:
    """Seconds of each echo on one connection of a forwarded port, with or without a download at the pace of the
    official agent on another."""
    with Client.plugin(far_end.url(f"beside-{count * _MESSAGES_FOR_AN_ECHO if transfer else 0}"), FORWARDING) as client:
        address = ("127.0.0.1", forwarded_port(client))
        with (
            socket.create_connection(address, timeout=DEADLINE) as download,
            socket.create_connection(address, timeout=DEADLINE) as typing,
        ):
            download.sendall(KEY)
            reader = threading.Thread(target=_read_to_the_end, args=(download,))
            reader.start()
            seconds = []
            for _ in range(count):
                time.sleep(TYPING_PAUSE)
                start = time.perf_counter()
                typing.sendall(KEY)
                if typing.recv(2) != KEY:
                    raise ValueError("the echo is wrong")
                seconds.append(time.perf_counter() - start)
            download.shutdown(socket.SHUT_RDWR)
            reader.join()
            return seconds


def _read_to_the_end(connection: socket.socket) -> None:
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass


def _drain(client: Client, quiet: float) -> None:
    """Read what is printed, until nothing has been for so many seconds."""
    while select.select([client.stdout], [], [], quiet)[0]:
        client.read()


def connections(far_end: FarEnd, count: int, lanes: int) -> tuple[float, float]:
    """Connections in a second through a forwarded port, and CPU seconds of the client for each, so many at a time: each
    echoes a byte and is closed."""
    with Client.plugin(far_end.url("connections"), FORWARDING) as client:
        port = forwarded_port(client)
        failures: list[Exception] = []

        def connect_often(times: int) -> None:
            try:
                for _ in range(times):
                    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
                        connection.sendall(KEY)
                        if connection.recv(2) != KEY:
                            raise ValueError("the echo is wrong")
            except Exception as error:
                failures.append(error)

        connect_often(50)
        threads = [threading.Thread(target=connect_often, args=(count // lanes,)) for _ in range(lanes)]
        watch = Stopwatch(client)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took, cpu = watch.stop()
        if failures:
            raise failures[0]
        made = count // lanes * lanes
        return made / took, cpu / made


def idle(far_end: FarEnd, seconds: float) -> tuple[float, float]:
    """Share of a core, in percent, and wake-ups a second, of an idle session at a terminal with the bar."""
    with Client.smp(far_end.url("prompt"), "--status", "bar", terminal=True) as client:
        client.read_until(PROMPT)
        _drain(client, SETTLE_TIME)
        start, cpu, wake_ups = time.perf_counter(), client.cpu, client.wake_ups
        while (left := start + seconds - time.perf_counter()) > 0:
            if select.select([client.stdout], [], [], left)[0]:
                client.read()
        took = time.perf_counter() - start
        return (client.cpu - cpu) / took * 100, (client.wake_ups - wake_ups) / took
