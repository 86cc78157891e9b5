"""`smp exec`: its arguments, and standard input that nothing would read."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from session_manager_plugin.cli import exec_one, standard_input
from session_manager_plugin.cli.run_options import TerminalOptions
from session_manager_plugin.cli.standard_input import has_input, has_pending_input
from tests.support.waiting import DEADLINE
from tests.test_cli.conftest import SandboxThread, Smp


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("web-1", "uptime"), "no command: it follows after --"),
        (("web-1", "--"), "no command: it follows after --"),
        (("--", "uptime"), "no TARGET"),
        (("-t", "--via", "shell", "web-1", "--", "top"), "-t and --via exclude each other"),
        (("web-1", "--shell", "--", " "), "the command is empty"),
        (("web-1", "--via", "ssh", "--", "true"), "choose from auto, document, shell"),
    ],
)
def test_what_cannot_be_run(smp: Smp, arguments: tuple[str, ...], sentence: str) -> None:
    run = smp("exec", *arguments)
    assert (run.status, run.out) == (2, b"")
    assert sentence in run.err


def test_standard_input_that_would_not_be_read_is_refused(smp: Smp) -> None:
    run = smp("exec", "web-1", "--", "cat", stdin=b"some lines\n")
    assert run.status == 2
    assert "the agent passes no standard input to a command: redirect it from /dev/null, or use --via shell" in run.err


def test_several_targets_have_no_standard_input(smp: Smp) -> None:
    run = smp("exec", "web-1", "web-2", "--via", "shell", "--", "cat", stdin=b"some lines\n")
    assert (run.status, run.out) == (2, b"")
    assert (
        "a command on several targets, or by Run Command, has no standard input: redirect it from /dev/null" in run.err
    )


def test_pending_input() -> None:
    reader, writer = os.pipe()
    try:
        assert not has_pending_input(reader)
        os.write(writer, b"x")
        assert has_pending_input(reader)
        assert os.read(reader, 10) == b"x"
        os.close(writer)
        assert not has_pending_input(reader)
    finally:
        os.close(reader)
    assert not has_pending_input(reader)
    with open(os.devnull, "rb") as null, open(__file__, "rb", buffering=0) as file:
        assert not has_pending_input(null.fileno())
        assert has_pending_input(file.fileno())
        file.read()
        assert not has_pending_input(file.fileno())


@contextmanager
def pipeline() -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """Yield the reading end of a pipe, and the program that alone writes to it: what it is sent."""
    reader, writer = os.pipe()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=writer) as program:
        os.close(writer)
        try:
            yield reader, program
        finally:
            os.close(reader)


@pytest.mark.skipif(sys.platform != "linux", reason="the programs of a pipeline are known from Linux's /proc")
def test_a_pipeline_that_has_not_written_yet_is_refused(smp: Smp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the first byte comes before the command ends is chance: the command does not begin."""
    monkeypatch.setattr(standard_input, "PIPELINE_PATIENCE", 0.0)
    with pipeline() as (reader, _):
        for targets in (["web-1"], ["web-1", "web-2"]):
            run = smp("exec", *targets, "--", "psql", stdin=reader)
            assert (run.status, run.out) == (2, b"")
            assert "standard input" in run.err


@pytest.mark.parametrize("data", [b"", b"x"])
def test_a_pipeline_has_time_for_its_first_byte_or_its_end(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(standard_input, "PIPELINE_PATIENCE", DEADLINE)
    with pipeline() as (reader, program):
        program.communicate(data)
        assert has_input(reader) is bool(data)


def test_a_silent_pipe_of_an_ancestor_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the standard input of a CI job."""
    monkeypatch.setattr(standard_input, "PIPELINE_PATIENCE", DEADLINE)
    reader, writer = os.pipe()
    code = "import sys; from session_manager_plugin.cli.standard_input import has_input; sys.exit(has_input(0))"
    try:
        assert not has_input(reader)
        command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", code]
        assert subprocess.run(command, stdin=reader, check=False, timeout=DEADLINE).returncode == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_the_hint_about_leaving_is_true_of_a_command() -> None:
    shell = TerminalOptions(escape_character=b"~")
    assert shell.leave_hint == "exit or Ctrl-D leaves"
    command = dataclasses.replace(shell, is_shell=False)
    assert command.leave_hint == "Enter ~. leaves"
    assert dataclasses.replace(command, escape_character=None).leave_hint == ""


@pytest.mark.parametrize("end", [" &", ""])
def test_a_background_program_is_named_while_the_command_does_not_end(
    smp: Smp, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(exec_one, "BACKGROUND_PATIENCE", 0.0)
    run = smp("exec", "web-1", "--endpoint-url", sandbox.endpoint_url, "--shell", "--", f"echo out{end}")
    assert (run.status, run.out) == (0, b"out\n")
    assert ("still waiting: a command has ended when its programs in the background have closed" in run.err) is bool(
        end
    )
