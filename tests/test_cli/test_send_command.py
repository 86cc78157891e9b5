"""`smp exec --via send-command`: Run Command of the sandbox, by the real botocore."""

from __future__ import annotations

import json

import pytest

from session_manager_plugin.aws.run_command import Invocation, refused_instances
from session_manager_plugin.cli.fleet.send import outcome_of_invocation
from session_manager_plugin.errors import ConnectError
from tests.test_cli.conftest import SandboxThread, Smp

WEB, WEB_2, NONE = "i-0a1b2c3d4e5f60001", "i-0a1b2c3d4e5f60002", "i-0a1b2c3d4e5f6000f"


def lines(out: bytes) -> list[dict[str, object]]:
    return sorted(map(json.loads, out.splitlines()), key=lambda line: str(line["target"]))


def test_outputs_statuses_and_what_cannot_be_reached(smp: Smp, sandbox: SandboxThread) -> None:
    script = 'echo "$AWS_SSM_INSTANCE_ID"; test "$AWS_SSM_INSTANCE_ID" = ' + WEB + " || { echo err >&2; exit 3; }"
    arguments = ("--via", "send-command", "--json", "--shell", "--endpoint-url", sandbox.endpoint_url)
    run = smp("exec", WEB, WEB_2, NONE, *arguments, "--", script)
    first, second, third = lines(run.out)
    assert (first["target"], first["status"], first["stdout"], first["stderr"]) == (WEB, 0, f"{WEB}\n", "")
    assert (second["target"], second["status"], second["stdout"], second["stderr"]) == (WEB_2, 3, f"{WEB_2}\n", "err\n")
    assert (third["target"], third["status"]) == (NONE, 255)
    assert "not online, or not managed" in str(third["error"])
    assert run.status == 255
    assert f"smp: {WEB_2}: exit status 3\n" in run.err
    assert "3 targets: 1 succeeded, 2 failed, in " in run.err


def test_losses_of_run_command_are_said_with_quiet_too(smp: Smp, sandbox: SandboxThread) -> None:
    arguments = ("-q", "--via", "send-command", "--json", "--endpoint-url", sandbox.endpoint_url)
    script = "printf 'a\\377\\n'; head -c 9000 /dev/zero | tr '\\0' x >&2"
    run = smp("exec", WEB, *arguments, "--shell", "--", script)
    line = json.loads(run.out)
    assert (line["stdout"], line["replaced"], line["truncated"], run.status) == ("a\ufffd\n", True, True, 0)
    assert run.err == (
        "smp: the output of 1 target ends early: Run Command keeps 24,000 characters, and 8,000 of standard error\n"
        "smp: the output of 1 target contains U+FFFD, which Run Command writes in place of bytes that are not UTF-8\n"
    )


def test_a_long_output_ends_early_and_a_failure_stops_the_others(smp: Smp, sandbox: SandboxThread) -> None:
    arguments = ("--via", "send-command", "--fanout", "1", "--fail-fast", "--endpoint-url", sandbox.endpoint_url)
    run = smp("exec", WEB, WEB_2, *arguments, "--shell", "--", "head -c 30000 /dev/zero | tr '\\0' x; exit 4")
    assert run.out == f"{WEB}: {'x' * 24_000}\n".encode()
    assert "the output of 1 target ends early: Run Command keeps 24,000 characters" in run.err
    assert "2 targets: 0 succeeded, 1 failed, 1 not run, in " in run.err
    assert run.status == 4


@pytest.mark.parametrize(
    ("details", "code", "status", "sentence"),
    [
        ("Success", 0, 0, ""),
        ("Failed", 7, 7, ""),
        ("Failed", -1, 255, "Run Command reports Failed"),
        ("ExecutionTimedOut", -1, 124, "the command did not end within 5 s"),
        ("Cancelled", -1, 255, "the command was cancelled"),
        ("Undeliverable", -1, 255, "the command could not be delivered; the agent may be offline"),
        ("InvalidPlatform", -1, 255, "Run Command reports InvalidPlatform"),
    ],
)
def test_invocations(details: str, code: int, status: int, sentence: str) -> None:
    invocation = Invocation(WEB, "Failed", details, code, "")
    assert outcome_of_invocation(invocation, 5.0) == (status, sentence)


def test_other_refusals_name_no_instances() -> None:
    assert refused_instances(ConnectError("offline")) == set()
