"""What a message costs the client, next to the bare client in the same run: a guard, not a measurement.

Both are processes of their own and meet the same far end; what counts is the CPU time that the kernel has given each,
of several turns the least, so it matters little what else the machine does. The limits are wide of what is measured on
a quiet machine (`make bench`): they catch a step that is taken for each message and need not be.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import throughput
from benchmarks.far_end import FarEnd
from benchmarks.throughput import Transfer, take_turns

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="CPU time is read from /proc, which only Linux has so")

COUNT = 20_000
"""Messages in one turn."""
TURNS = 3


@pytest.fixture(scope="module")
def far_end() -> Iterator[FarEnd]:
    with FarEnd() as far_end:
        yield far_end


@pytest.mark.parametrize(
    ("ours", "bare", "limit"),
    [
        (throughput.shell_to_pipe, throughput.bare_receive, 1.7),
        (throughput.download, throughput.bare_receive, 2.0),
        (throughput.stdio_upload, throughput.bare_send, 1.9),
        (throughput.upload, throughput.bare_send, 1.9),
    ],
    ids=["shell output", "mux download", "stdio upload", "mux upload"],
)
def test_a_message_costs_little_more_than_the_bare_clients(
    far_end: FarEnd, ours: Transfer, bare: Transfer, limit: float
) -> None:
    least = take_turns(far_end, {"ours": (ours, COUNT), "bare": (bare, COUNT)}, TURNS)
    (_, our_cpu), (_, bare_cpu) = least["ours"], least["bare"]
    assert our_cpu <= limit * bare_cpu, f"{our_cpu * 1e6:.1f} us a message, of the bare client {bare_cpu * 1e6:.1f} us"


def test_the_program_prints_goals_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "figures.json"
    arguments = ["connections", "echo", "--rounds", "1", "--connections", "16", "--keys", "20", "--json", str(report)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    status = program.main()
    figures = json.loads(report.read_text())["figures"]
    assert status == int(any(figure["met"] is False for figure in figures))
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(figures)
    for line, figure in zip(printed, figures, strict=True):
        assert line.startswith(figure["name"])
        assert figure["goal"] is None or f"{figure['bound']} {figure['goal']:g}" in line


def test_a_group_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nothing"])
    with pytest.raises(SystemExit):
        program.main()
    assert "there is no nothing" in capsys.readouterr().err
