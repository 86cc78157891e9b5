"""Values that no command can use: status 2, and a sentence that tells what is expected."""

from __future__ import annotations

import os

import pytest

from tests.test_cli.conftest import Smp

EXEC = ["exec", "web-1", "web-2"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([*EXEC, "--fanout", "0", "--", "true"], "'0' is not a whole number from 1 on"),
        ([*EXEC, "--fanout", "x", "--", "true"], "'x' is not a whole number from 1 on"),
        ([*EXEC, "--max-errors", "-1", "--", "true"], "'-1' is not a whole number from 0 on"),
        (["cp", "--streams", "99", "a", "web-1:b"], "'99' is not a whole number from 1 to 8"),
        (["exec", "--targets", os.devnull, "--", "true"], f"the file of targets {os.devnull} names no target\n"),
        (["start", "web-1", "--request", " "], "--request: the reason is empty\n"),
        (["start", "web-1", "--parameters", "file:///nofile"], "the parameters file /nofile cannot be read: No such"),
        (["forward", "web-1", "-D", "abc"], "-D abc: 'abc' is not a port; expected 0 to 65535\n"),
        (["forward", "web-1", "-D", "65536"], "-D 65536: '65536' is not a port; expected 0 to 65535\n"),
        (["forward", "web-1", "-L", "65536:80"], "'65536' is not a local port; expected 0 to 65535, or the path"),
    ],
)
def test_a_value_that_cannot_be_used(smp: Smp, arguments: list[str], sentence: str) -> None:
    run = smp(*arguments)
    assert (run.status, run.out) == (2, b"")
    assert sentence in run.err
    assert run.err.count("\n") == 1
