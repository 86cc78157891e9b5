"""What is answered to a command that does not exist."""

from __future__ import annotations

import pytest

from session_manager_plugin.cli.nearest import nearest, nearest_command, other_option

ALL = ("start", "exec", "forward", "cp", "ssh-proxy", "ssh-config", "ls", "kill", "connect", "probe")


@pytest.mark.parametrize(
    ("typed", "commands", "sentence"),
    [
        ("conect", ALL, "Did you mean smp connect?"),
        ("prob", ALL, "Did you mean smp probe?"),
        ("ssh", ALL, "Did you mean smp start? smp ssh-config makes ssh itself reach targets."),
        ("sessions", ALL, "Did you mean smp ls --sessions?"),
        ("version", ALL, "Did you mean smp --version?"),
        ("download", ALL, "Did you mean smp cp?"),
        ("port", ALL, "Did you mean smp forward?"),
        ("doctor", ALL, "Did you mean smp probe?"),
        ("scp", ALL, "Did you mean smp cp?"),
        ("terminate", ALL, "Did you mean smp kill?"),
        ("i-0123456789abcdef0", ALL, "Did you mean smp start i-0123456789abcdef0?"),
        ("tag:Name=web", ALL, "Did you mean smp start tag:Name=web?"),
        ("i-0123456789abcdef0", ("connect", "probe"), "smp connect joins a session"),
        ("ssh", ("connect", "probe"), ""),
        ("web-1", ALL, "Did you mean smp start web-1?"),
        ("10.0.1.11", ALL, "Did you mean smp start 10.0.1.11?"),
        ("web-1", ("connect", "probe"), ""),
        ("xyzzy", ALL, "If it is a target: smp start xyzzy."),
        ("xyzzy", ("connect", "probe"), ""),
        ("https://example", ALL, ""),
    ],
)
def test_nearest_command(typed: str, commands: tuple[str, ...], sentence: str) -> None:
    assert nearest_command(typed, commands) == sentence


@pytest.mark.parametrize(
    ("typed", "following", "sentence"),
    [
        ("ssh", "web-1", "Did you mean smp start web-1? smp ssh-config web-1 makes ssh itself reach targets."),
        ("shell", "i-0123456789abcdef0", "Did you mean smp start i-0123456789abcdef0?"),
        ("run", "tag:role=web", "Did you mean smp exec tag:role=web?"),
        ("shell", "--token=abc", "Did you mean smp start?"),  # what follows may be a secret
        ("shell", "a secret", "Did you mean smp start?"),
    ],
)
def test_a_target_behind_the_command(typed: str, following: str, sentence: str) -> None:
    assert nearest_command(typed, ALL, following) == sentence


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("--target", "The target stands alone: smp start TARGET."),
        ("-L", "Ports: smp forward TARGET -L 8080:80."),
        ("--frobnicate", ""),
    ],
)
def test_an_option_of_other_tools(typed: str, sentence: str) -> None:
    assert other_option(typed, "smp start", takes_target=True) == sentence


def test_a_command_without_a_target() -> None:
    assert other_option("--target", "smp demo", takes_target=False) == ""


def test_nearest() -> None:
    assert nearest("--dorp", ["--corrupt", "--drop", "--port"]) == "--drop"
    assert nearest("--dorp", ["--color"]) == "", "the dashes alone make nothing alike"
    assert nearest("--dorp", []) == ""
