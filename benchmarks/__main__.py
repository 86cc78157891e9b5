"""Measure, and print a table with the goal beside each figure.

    python -m benchmarks                             # everything; some minutes
    python -m benchmarks output start --rounds 5     # some of it
    python -m benchmarks --json figures.json         # and for programs

Run it on a quiet machine, from an environment that has the package installed as a user has it: by a current pip or uv,
not editable (`make bench` does that). Of several rounds the best counts, since whatever else the machine does only
slows; a client and what it is compared with take turns. Goals are shares of what the bare client does in the same run,
where they can be. Ends with status 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import latency, memory, picker, screen, start, throughput
from benchmarks.cold_start import ColdStart, aws_clis
from benchmarks.far_end import FarEnd
from benchmarks.figures import Figure
from benchmarks.link import Link
from benchmarks.throughput import Cost, Transfer, take_turns
from benchmarks.wire import PAYLOAD_SIZE
from session_manager_plugin.terminal.predict_mode import PredictMode

MESSAGES = 100_000
"""In one measurement of throughput."""
PACED_MESSAGES = 2_000
"""They take three seconds."""
ROUND_TRIP, SLOW_ROUND_TRIP = 0.020, 0.150
"""Seconds."""
FEW, MANY = 10_000, 1_000_000
STREAMS = 64


def compare(
    far_end: FarEnd, bare: Transfer, goals: dict[str, tuple[Transfer, float, float | None]], rounds: int
) -> Iterator[Figure]:
    """Rates and CPU of the transfers in `goals`, which says what share of the bare client's rate they are to reach, and
    what CPU a megabyte of payload may cost."""
    transfers = {"bare": (bare, MESSAGES), **{name: (goal[0], MESSAGES) for name, goal in goals.items()}}
    least = take_turns(far_end, transfers, rounds)
    for name, (wall, cpu) in least.items():
        cost = cpu / PAYLOAD_SIZE * 1e6
        if name == "bare":
            yield Figure(f"{bare.__doc__}", 1 / wall, "messages/s", remark=f"{cost:.4f} CPU s/MB")
            continue
        _, share, cpu_goal = goals[name]
        yield Figure(name, least["bare"][0] / wall, "of bare", ">=", share, f"{1 / wall:,.0f} messages/s")
        yield Figure(f"{name}, CPU", cost, "s/MB", "<=" if cpu_goal else "", cpu_goal)


def output(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """What the far end sends."""

    def eight_streams(far_end: FarEnd, count: int) -> Cost:
        return throughput.download(far_end, count, 8)

    yield from compare(
        far_end,
        throughput.bare_receive,
        {
            "shell output into a pipe": (throughput.shell_to_pipe, 0.80, 0.019),
            "shell output to a terminal, with the bar": (throughput.shell_to_terminal, 0.45, None),
            "mux download, 1 stream": (throughput.download, 0.75, 0.021),
            "mux download, 8 streams": (eight_streams, 0.75, 0.021),
        },
        options.rounds,
    )


def paced(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """Messages that come one by one, as from the official agent: each is a wake-up of its own."""
    transfers: dict[str, tuple[Transfer, float | None]] = {
        "bare": (throughput.paced_bare, None),
        "paced shell output into a pipe": (throughput.paced_to_pipe, 0.60),
        "paced shell output to a terminal": (throughput.paced_to_terminal, None),
        "paced mux download": (throughput.paced_download, 0.75),
    }
    counted = {name: (transfer, PACED_MESSAGES) for name, (transfer, _) in transfers.items()}
    least = take_turns(far_end, counted, options.rounds)
    bare = least["bare"][1]
    yield Figure("the bare client at the pace of the agent", bare * 1000, "ms CPU/msg")
    for name, (_, goal) in list(transfers.items())[1:]:
        cpu = least[name][1]
        remark = f"{cpu / PAYLOAD_SIZE * 1e6:.3f} CPU s/MB"
        yield Figure(f"{name}, CPU", cpu / bare, "of bare", "<=" if goal else "", goal, remark)


def paced_echo(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """Keystrokes of a person, with a pause after each, and beside a download at the pace of the official agent."""
    samples = [latency.keystrokes(far_end, options.keys // 5, pause=0.01) for _ in range(options.rounds)]
    median, late = min(map(latency.percentiles, samples))
    yield Figure("echo of a key after a pause, p50", median, "ms", "<=", 0.8)
    yield Figure("echo of a key after a pause, p99", late, "ms", "<=", 1.6)
    least = {True: math.inf, False: math.inf}
    for _ in range(options.rounds):
        for transfer in least:
            sample = latency.echoes_beside(far_end, max(2, options.keys // 100), transfer=transfer)
            least[transfer] = min(least[transfer], latency.percentiles(sample)[0])
    yield Figure("echo beside an idle connection, p50", least[False], "ms")
    yield Figure("echo beside a paced download, p50", least[True] - least[False], "ms more", "<=", 1.0)


def input_(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """What the client sends."""
    yield from compare(
        far_end,
        throughput.bare_send,
        {
            "stdio upload": (throughput.stdio_upload, 0.50, None),
            "shell paste at a terminal": (throughput.paste, 0.50, None),
            "mux upload, 1 stream": (throughput.upload, 0.50, None),
        },
        options.rounds,
    )


def bar(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """What the status bar costs."""

    def shell(status: str, scenario: str) -> Transfer:
        def transfer(far_end: FarEnd, count: int) -> Cost:
            return throughput.pour(far_end, count, "--status", status, terminal=True, scenario=scenario)

        return transfer

    for name, scenario, goal in (("plain text", "pour", 1.10), ("ls --color", "colours", 1.40)):
        transfers = {status: (shell(status, scenario), MESSAGES) for status in ("off", "bar")}
        least = take_turns(far_end, transfers, options.rounds)
        yield Figure(f"CPU with the bar, {name}", least["bar"][1] / least["off"][1], "of off", "<=", goal)


def screen_(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """What following the screen costs, with the bar and without."""
    for name, (make, *goals) in screen.STREAMS.items():
        stream = make(random.Random(name))
        for bar, goal in zip((True, False), goals, strict=True):
            least = min(screen.cost(stream, bar=bar) for _ in range(options.rounds))
            yield Figure(f"{name}, {'bar' if bar else 'off'}, CPU", least, "s/MB", "<=" if goal else "", goal)


def echo(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """Keystrokes at a terminal."""
    bare = min(latency.percentiles(latency.bare_echo(far_end, options.keys)) for _ in range(options.rounds))
    yield Figure("the bare client's echo, p50", bare[0], "ms", remark=f"p99 {bare[1]:.2f} ms")
    for name, encrypted in (("keystroke echo", False), ("encrypted keystroke echo", True)):
        samples = [latency.keystrokes(far_end, options.keys, encrypted=encrypted) for _ in range(options.rounds)]
        median, late = min(map(latency.percentiles, samples))
        yield Figure(f"{name}, p50", median, "ms", "<=", 0.6)
        yield Figure(f"{name}, p99", late, "ms", "<=", 1.5)


def prediction(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """What predictive echo adds to the cost of a key: on a slow link, where keys are drawn, and on a fast one."""
    with Link(far_end.port, SLOW_ROUND_TRIP) as link:
        slow, trust = link.url("editor"), {"AWS_CA_BUNDLE": link.bundle}
        sessions = {
            "never, slow": (slow, trust, PredictMode.NEVER),
            "always": (slow, trust, PredictMode.ALWAYS),
            "never, fast": (far_end.url("editor"), {}, PredictMode.NEVER),
            "auto": (far_end.url("editor"), {}, PredictMode.AUTO),
        }
        rounds = [latency.typing_costs(sessions, options.keys // 5) for _ in range(options.rounds)]
    least = {name: min(costs[name] for costs in rounds) for name in sessions}
    for name, base, title in (("always", "never, slow", "150 ms"), ("auto", "never, fast", "loopback")):
        remark = f"{least[name] * 1000:.2f} ms"
        yield Figure(f"a key, --predict {name}, {title}, CPU", least[name] / least[base], "of never", "<=", 1.5, remark)


def connections(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """New connections through a forwarded port."""
    for lanes, name in ((1, "one after the other"), (8, "eight at a time")):
        best = max(latency.connections(far_end, options.connections, lanes)[0] for _ in range(options.rounds))
        yield Figure(f"connections through mux, {name}", best, "/s", ">=", 1000)
    cpu = min(latency.connections(far_end, max(50, options.connections), 50)[1] for _ in range(options.rounds))
    yield Figure("1,000 connections, 50 at a time, CPU", 1000 * cpu, "s", "<=", 0.9)


def idle(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """A session in which nothing goes on. The bar looks at the link once a second, and pings are 15 s apart."""
    share, wake_ups = latency.idle(far_end, options.idle)
    yield Figure("idle session with the bar, CPU", share, "% of a core", "<=", 0.15)
    yield Figure("idle session with the bar, wake-ups", wake_ups, "/s", "<=", 1.3, "1 of the bar, 0.2 of the pings")


def start_up(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """From the start to the first byte of a prompt."""
    rounds = 5 * options.rounds
    least = dict.fromkeys(("bare", "plugin", "connect"), math.inf)
    for _ in range(rounds):
        for name in least:
            least[name] = min(least[name], getattr(start, name)(far_end))
    yield Figure("bare program to the first prompt byte, CPU", least["bare"] * 1000, "ms")
    for name, title, goal in (("plugin", "the plugin", 1.4), ("connect", "smp connect with the bar", 1.9)):
        remark = f"{least[name] * 1000:.0f} ms"
        yield Figure(
            f"{title} to the first prompt byte, CPU", least[name] / least["bare"], "of bare", "<=", goal, remark
        )
    bare = min(start.bare_version() for _ in range(5 * rounds))
    version = min(start.plugin_version() for _ in range(5 * rounds))
    yield Figure("--version", version / bare, "of python", "<=", 2.0, f"{version * 1000:.1f} ms of {bare * 1000:.1f}")


def signing(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """What signing the opening adds to the time to the first prompt. A round trip takes 20 ms, so the network takes 60
    until the websocket is open (TCP, TLS, the opening)."""
    key = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/EXAMPLEKEY"}
    with Link(far_end.port, ROUND_TRIP) as link, tempfile.TemporaryDirectory() as home:
        credentials = Path(home, "credentials")
        credentials.write_text("\n".join(["[default]", *(f"{name.lower()}={value}" for name, value in key.items())]))
        ways = {
            "unsigned": ("never", key),
            "key in the environment": ("always", key),
            "key of a profile": ("always", {"AWS_SHARED_CREDENTIALS_FILE": str(credentials)}),
        }
        least = dict.fromkeys(ways, math.inf)
        for _ in range(5 * options.rounds):
            for name, way in ways.items():
                least[name] = min(least[name], start.plugin_over(link, *way))
    yield Figure("the plugin to the first prompt byte, unsigned", least["unsigned"] * 1000, "ms")
    for name in list(ways)[1:]:
        ratio = least[name] / least["unsigned"]
        yield Figure(f"signed, {name}", ratio, "of unsigned", "<=", 1.25, f"{least[name] * 1000:.0f} ms")


def cold_start(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """From the command to the prompt, with `smp start` and with the AWS CLI, which starts our plugin."""
    clis = aws_clis()
    with ColdStart() as starts:
        medians = starts.medians(clis, max(5, options.rounds))
    ours = medians["smp"]
    yield Figure("smp start to the prompt, median", ours * 1000, "ms")
    for name in clis:
        theirs = medians[name]
        yield Figure("smp start to the prompt", ours / theirs, f"of {name}", "<=", 0.6, f"{theirs * 1000:.0f} ms")


def list_of_targets(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """Typing into the list of `smp start`."""
    spent = min(picker.keys() for _ in range(options.rounds))
    yield Figure(f"a key in the list of {picker.ENTRIES:,} targets, CPU", spent * 1000, "ms", "<=", 30)


def memory_(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """Peak RSS."""
    yield Figure("memory, shell", memory.shell(far_end), "MB", "<=", 36)
    flood = memory.shell(far_end, memory.FLOOD)
    yield Figure("memory, shell that floods its terminal", flood, "MB", remark="8.4 MB of output may be held")
    yield Figure("memory, 1 GiB through mux", memory.download(far_end, 1024), "MB", "<=", 48)
    yield Figure("memory, encrypted shell", memory.encrypted(far_end), "MB", "<=", 60)
    yield Figure("memory, resumed shell", memory.resumed(), "MB", "<=", 60)


def growth(far_end: FarEnd, options: argparse.Namespace) -> Iterator[Figure]:
    """Whether a message costs more when there are many of them, or many streams."""

    def many_streams(far_end: FarEnd, count: int) -> Cost:
        return throughput.download(far_end, count, STREAMS)

    few = take_turns(
        far_end, {"shell": (throughput.shell_to_pipe, FEW), "mux": (throughput.download, FEW)}, options.rounds
    )
    many = take_turns(
        far_end, {"shell": (throughput.shell_to_pipe, MANY), "mux": (throughput.download, MANY)}, options.rounds
    )
    for name in few:
        ratio = many[name][1] / few[name][1]
        yield Figure(f"CPU each of {MANY:,} messages, {name}", ratio, f"of {FEW:,}", "<=", 1.15)
    streams = take_turns(
        far_end, {"one": (throughput.download, MESSAGES), "many": (many_streams, MESSAGES)}, options.rounds
    )
    ratio = streams["many"][1] / streams["one"][1]
    yield Figure(f"CPU each message over {STREAMS} streams, mux", ratio, "of 1", "<=", 1.15)


GROUPS: dict[str, Callable[[FarEnd, argparse.Namespace], Iterator[Figure]]] = {
    "output": output,
    "paced": paced,
    "pacedecho": paced_echo,
    "input": input_,
    "bar": bar,
    "screen": screen_,
    "echo": echo,
    "prediction": prediction,
    "connections": connections,
    "idle": idle,
    "start": start_up,
    "signing": signing,
    "cold": cold_start,
    "picker": list_of_targets,
    "memory": memory_,
    "growth": growth,
}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    packages = ("python-session-manager-plugin", "websockets", "click", "rich", "botocore")
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
    }


def main() -> int:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"only these: {', '.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of which the best counts (default: 3)")
    parser.add_argument("--keys", type=int, default=2000, metavar="N", help="typed in a round (default: 2000)")
    parser.add_argument("--connections", type=int, default=2000, metavar="N", help="in a round (default: 2000)")
    parser.add_argument("--idle", type=float, default=60.0, metavar="SECONDS", help="idle for so long (default: 60)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(GROUPS)}")
    figures = []
    with FarEnd() as far_end:
        for name, measure in GROUPS.items():
            if not options.groups or name in options.groups:
                for figure in measure(far_end, options):
                    print(figure, flush=True)
                    figures.append(figure)
    if options.json is not None:
        rows = [{**vars(figure), "met": figure.met} for figure in figures]
        options.json.write_text(json.dumps({"machine": machine(), "figures": rows}, indent=2) + "\n")
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
