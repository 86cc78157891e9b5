"""Outputs of many targets, their names, and what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from session_manager_plugin.cli.exit_status import Signalled
from session_manager_plugin.cli.fleet import lines
from session_manager_plugin.cli.fleet.collected import MEMORY, FoldingSink, JsonSink
from session_manager_plugin.cli.fleet.lines import LineSink
from session_manager_plugin.cli.fleet.names import fold_names
from session_manager_plugin.cli.fleet.options import batch_size
from session_manager_plugin.cli.fleet.output import SharedOutput
from session_manager_plugin.cli.fleet.progress import Counts
from session_manager_plugin.cli.fleet.results import FleetResult, FleetTarget, Sink, result_of
from session_manager_plugin.cli.fleet.summary import MOST_REASONS, Summary
from session_manager_plugin.cli.fleet.targets import read_target_file
from session_manager_plugin.errors import CommandTimedOut, ConnectError, UsageError
from session_manager_plugin.session.outcome import Outcome, outcome_of
from session_manager_plugin.terminal.output import OutputWriter
from tests.support.waiting import DEADLINE
from tests.test_cli.conftest import SandboxThread, Smp

WEB = [FleetTarget(f"i-{number}", f"web-{number}") for number in range(1, 10)]


class Outputs:
    """Standard output and error, as files."""

    def __init__(self, directory: Path) -> None:
        self._files = [open(directory / name, "w+b", buffering=0) for name in ("out", "err")]  # noqa: SIM115
        self.shared = SharedOutput(*(OutputWriter(file.fileno()) for file in self._files))

    def read(self) -> tuple[bytes, bytes]:
        out, err = (os.pread(file.fileno(), 10_000_000, 0) for file in self._files)
        return out, err

    def close(self) -> None:
        for file in self._files:
            file.close()


@pytest.fixture
async def outputs(tmp_path: Path) -> AsyncIterator[Outputs]:
    made = Outputs(tmp_path)
    yield made
    made.close()


def show(sink: Sink, target: FleetTarget, output: bytes, error_output: bytes = b"", status: int = 0) -> None:
    streams = sink.streams(target)
    streams.write(output)
    streams.write_error(error_output)
    sink.finished(FleetResult(target, status, 1.25))


# Lines.


async def test_no_line_holds_bytes_of_two_targets(outputs: Outputs) -> None:
    sink = LineSink(outputs.shared)
    one, two = sink.streams(WEB[0]), sink.streams(WEB[1])
    one.write(b"beg")
    two.write(b"a\n\nb")
    one.write(b"un\nnext")
    one.write_error(b"trouble\n")
    sink.finished(FleetResult(WEB[0], 0, 1.0))
    two.write(b"\n")
    sink.finished(FleetResult(WEB[1], 0, 1.0))
    out, err = outputs.read()
    assert out == b"web-2: a\nweb-2: \nweb-1: begun\nweb-1: next\nweb-2: b\n"
    assert err == b"web-1: trouble\n"


async def test_a_long_line_stays_whole(outputs: Outputs) -> None:
    sink = LineSink(outputs.shared)
    one, two = sink.streams(WEB[0]), sink.streams(WEB[1])
    for _ in range(30):
        one.write(b"x" * 20_000)
        two.write(b"y\n")
    one.write(b"\n")
    assert outputs.read()[0] == b"web-2: y\n" * 30 + b"web-1: " + b"x" * 600_000 + b"\n"


async def test_a_line_that_is_too_long_becomes_several_and_that_is_told(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 20)
    told: list[str] = []
    sink = LineSink(outputs.shared, told.append)
    streams = sink.streams(WEB[0])
    for _ in range(5):
        streams.write(b"x" * (1 << 19))
    sink.finished(FleetResult(WEB[0], 0, 1.0))
    shown = outputs.read()[0].splitlines()
    assert len(shown) == 2
    assert all(line.startswith(b"web-1: x") for line in shown)
    assert sum(map(len, shown)) == 5 * (1 << 19) + 2 * len(b"web-1: ")
    assert told == ["web-1: a line of more than 1 MiB is shown as several; --json has it whole"]


# Folding.


async def test_equal_outputs_are_shown_once(outputs: Outputs) -> None:
    sink = FoldingSink(outputs.shared)
    large = b"same\n" * MEMORY
    show(sink, WEB[3], b"other")
    for target in (WEB[0], WEB[2], WEB[1]):
        show(sink, target, large, b"note\n")
    show(sink, WEB[4], b"", b"")
    assert outputs.read() == (b"", b"")
    sink.close()
    rule = b"-" * 15 + b"\n"
    out, err = outputs.read()
    assert out == rule + b"web-[1-3] (3)\n" + rule + large + rule + b"web-4\n" + rule + b"other\n"
    assert err == rule + b"web-[1-3] (3)\n" + rule + b"note\n"


async def test_targets_that_differ_in_standard_error_share_their_output(outputs: Outputs) -> None:
    sink = FoldingSink(outputs.shared)
    for number in range(3):
        show(sink, WEB[number], b"same\n", b"process %d\n" % number)
    sink.close()
    rule = b"-" * 15 + b"\n"
    out, err = outputs.read()
    assert out == rule + b"web-[1-3] (3)\n" + rule + b"same\n"
    assert err == b"".join(rule + b"web-%d\n" % (number + 1) + rule + b"process %d\n" % number for number in range(3))


def test_names_are_folded_by_the_number_at_their_end() -> None:
    assert fold_names(["web-3", "web-1", "db", "web-2", "web-7"]) == "db,web-[1-3,7]"
    assert fold_names(["n08", "n09", "n10", "n9"]) == "n[08-09],n[9-10]"
    assert fold_names(["web-1"]) == "web-1"
    assert fold_names(["a0", "a1"]) == "a[0-1]"
    assert fold_names([]) == ""


# JSON.


async def test_json(outputs: Outputs) -> None:
    sink = JsonSink(outputs.shared)
    show(sink, WEB[0], b"a\xff\n", b"e\n", 3)
    sink.finished(FleetResult(WEB[1], 255, 0.0, "no such target"))
    first, second = map(json.loads, outputs.read()[0].splitlines())
    assert first == {
        "target": "i-1",
        "name": "web-1",
        "status": 3,
        "stdout": "a\ufffd\n",
        "stderr": "e\n",
        "seconds": 1.25,
        "error": "",
        "replaced": True,
    }
    assert (second["status"], second["error"]) == (255, "no such target")


# Progress.


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (79, "13 of 300 done, 2 failed, 32 running, 25 starts/s (AWS allows no more) 1:05"),
        (60, "13 of 300 done, 2 failed, 32 running 1:05"),
        (39, "13 of 300 done, 2 failed 1:05"),
        (20, "13 of 300 done 1:05"),
        (10, "13/300"),
    ],
)
def test_the_progress_fits_the_terminal(width: int, text: str) -> None:
    counts = Counts(300, 32, 13, 2, ", 25 starts/s (AWS allows no more)")
    assert counts.describe(width, 65.9) == text


# A reader that is slow, or gone.


async def test_a_full_output_pauses_every_session() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        shared = SharedOutput(OutputWriter(writer, high_water=1000), None)
        sink = LineSink(shared)
        paused: list[bool] = [False, False]
        for number in range(2):
            pause, resume = partial(paused.__setitem__, number, True), partial(paused.__setitem__, number, False)
            sink.streams(WEB[number]).set_flow_handlers(pause, resume)
        shared.write(b"x" * 200_000)
        assert paused == [True, True]
        async with asyncio.timeout(DEADLINE):
            while any(paused):
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 65536)
                await asyncio.sleep(0)
        assert paused == [False, False]
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_reader_that_is_gone() -> None:
    reader, writer = os.pipe()
    shared = SharedOutput(OutputWriter(writer), None)
    failures: list[OSError] = []
    LineSink(shared).streams(WEB[0]).set_output_failed_handler(failures.append)
    os.close(reader)
    shared.write(b"x")
    os.close(writer)
    assert [type(error) for error in failures] == [BrokenPipeError]
    assert isinstance(shared.error, BrokenPipeError)


@pytest.mark.parametrize("name", ["standard output", "standard error"])
async def test_output_that_is_lost(name: str) -> None:
    full, null = os.open("/dev/full", os.O_WRONLY), os.open("/dev/null", os.O_WRONLY)
    outputs = (full, null) if name == "standard output" else (null, full)
    shared = SharedOutput(*map(OutputWriter, outputs))
    failures: list[OSError] = []
    streams = LineSink(shared).streams(WEB[0])
    streams.set_output_failed_handler(failures.append)
    streams.write(b"out\n")
    streams.write_error(b"err\n")
    streams.write_error(b"err\n")
    os.close(full)
    os.close(null)
    assert [(error.filename, error.errno) for error in failures] == [(name, errno.ENOSPC)]
    assert shared.error is failures[0]


async def test_nobody_reads_the_error_output() -> None:
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_WRONLY)
    shared = SharedOutput(OutputWriter(null), OutputWriter(writer))
    os.close(reader)
    shared.write_error(b"err\n")
    os.close(writer)
    os.close(null)
    assert shared.error is None


# Results.


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (Outcome(0), 0, ""),
        (Outcome(3), 3, ""),
        (outcome_of(CommandTimedOut("late", seconds=1)), 124, "late"),
        (outcome_of(ConnectError("no way")), 255, "no way"),
        (outcome_of(Signalled(15)), 255, "ended by SIGTERM"),
        (Outcome(text="\nbye\n"), 255, "the session was closed by the far end: bye"),
        (Outcome(0, incomplete="something is missing"), 255, "something is missing"),
    ],
)
def test_results(outcome: Outcome, status: int, error: str) -> None:
    result = result_of(WEB[0], outcome, "", 1.0)
    assert (result.status, result.error, result.succeeded) == (status, error, not status)


def test_the_summary_names_the_failed_by_reason() -> None:
    summary = Summary()
    for target in WEB[:4]:
        summary.add(FleetResult(target, 0, 1.0))
    for target in WEB[4:6]:
        summary.add(FleetResult(target, 3, 1.0))
    summary.add(FleetResult(WEB[6], 124, 1.0, "late"))
    assert summary.lines(9, 2.0) == [
        "web-[5-6]: exit status 3",
        "web-7: late",
        "9 targets: 4 succeeded, 3 failed, 2 not run, in 2.0 s",
    ]
    assert summary.exit(9).status == 124


def test_many_reasons_are_counted() -> None:
    summary = Summary()
    for number in range(MOST_REASONS + 5):
        summary.add(FleetResult(WEB[0], 255, 1.0, f"reason {number}"))
    lines = summary.lines(MOST_REASONS + 5, 1.0)
    assert len(lines) == MOST_REASONS + 2
    assert lines[-2] == "and 5 more, for 5 other reasons; --json names them all"


def test_a_summary_without_failures() -> None:
    summary = Summary()
    summary.add(FleetResult(WEB[0], 0, 1.0))
    assert summary.lines(1, 1.0) == ["1 target: 1 succeeded, in 1.0 s"]
    assert summary.exit(1).status == 0
    assert summary.exit(2).status == 255  # one was not run


# Arguments.


@pytest.mark.parametrize(("text", "size"), [("", 0), ("7", 7), ("10%", 30), ("1%", 3), ("100%", 300)])
def test_batches(text: str, size: int) -> None:
    assert batch_size(text, 300) == size
    assert batch_size("1%", 5) == 1


@pytest.mark.parametrize("text", ["0", "0%", "101%", "-1", "x", "%"])
def test_wrong_batches(text: str) -> None:
    with pytest.raises(UsageError, match="--batch"):
        batch_size(text, 300)


def test_a_file_of_targets(tmp_path: Path) -> None:
    path = tmp_path / "targets"
    path.write_text("web-1 # the first\n\n# none\n  i-0123456789abcdef0\n")
    assert read_target_file(str(path), 0) == ["web-1", "i-0123456789abcdef0"]
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_target_file(str(tmp_path / "none"), 0)
    path.write_text("# none\n")
    with pytest.raises(UsageError, match="targets names no target"):
        read_target_file(str(path), 0)
    path.write_text("web-1\ni-0123456789abcdef0")
    with open(path, "rb") as file:
        assert read_target_file("-", file.fileno()) == ["web-1", "i-0123456789abcdef0"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("a", "b", "-t", "--", "top"), "-t is for one target"),
        (("a", "-b", "--json", "--", "top"), "-b and --json exclude each other"),
        (("a", "b", "--fanout", "0", "--", "top"), "--fanout"),
        (("--targets", "/nowhere", "--", "top"), "the file of targets /nowhere cannot be read"),
    ],
)
def test_options_that_do_not_fit(smp: Smp, arguments: tuple[str, ...], sentence: str) -> None:
    run = smp("exec", *arguments)
    assert (run.status, run.out) == (2, b"")
    assert sentence in run.err


def test_a_tag_without_a_match(smp: Smp, sandbox: SandboxThread) -> None:
    run = smp("exec", "--tag", "role=none", "--endpoint-url", sandbox.endpoint_url, "--", "uptime")
    assert (run.status, run.out) == (255, b"")
    assert run.err == "smp: no online target matches tag:role=none; smp ls --all lists offline ones too\n"
