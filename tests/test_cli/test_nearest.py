"""What is answered to a command that does not exist."""

from __future__ import annotations

import pytest

from session_manager_plugin.cli.nearest import nearest, nearest_command

ALL = ("start", "exec", "forward", "cp", "ssh-proxy", "ssh-config", "ls", "kill", "connect", "probe")


@pytest.mark.parametrize(
    ("typed", "commands", "sentence"),
    [
        ("conect", ALL, "Did you mean smp connect?"),
        ("prob", ALL, "Did you mean smp probe?"),
        ("ssh", ALL, "Did you mean smp ssh-config?"),
        ("scp", ALL, "Did you mean smp cp?"),
        ("terminate", ALL, "Did you mean smp kill?"),
        ("i-0123456789abcdef0", ALL, "Did you mean smp start i-0123456789abcdef0?"),
        ("tag:Name=web", ALL, "Did you mean smp start tag:Name=web?"),
        ("i-0123456789abcdef0", ("connect", "probe"), "smp connect joins a session"),
        ("ssh", ("connect", "probe"), ""),
        ("web-1", ALL, "Did you mean smp start web-1?"),
        ("10.0.1.11", ALL, "Did you mean smp start 10.0.1.11?"),
        ("web-1", ("connect", "probe"), ""),
        ("xyzzy", ALL, ""),
    ],
)
def test_nearest_command(typed: str, commands: tuple[str, ...], sentence: str) -> None:
    assert nearest_command(typed, commands) == sentence


def test_nearest() -> None:
    assert nearest("--dorp", ["--corrupt", "--drop", "--port"]) == "--drop"
    assert nearest("--dorp", ["--color"]) == "", "the dashes alone make nothing alike"
    assert nearest("--dorp", []) == ""
