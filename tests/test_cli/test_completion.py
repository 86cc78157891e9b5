"""Completion: the answers to the scripts, and the scripts in the real shells, in a terminal."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from session_manager_plugin.aws.managed_instances import ManagedInstance
from session_manager_plugin.aws.name_cache import NameCache
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.main import COMMANDS
from tests.support.programs import need
from tests.support.pty_process import PtyProcess
from tests.support.waiting import wait_until
from tests.test_cli.conftest import Smp

OFFICE = "mi-0a1b2c3d4e5f60002"
BIN = Path(sys.executable).parent
SHELLS = {
    "bash": (
        ["bash", "--norc", "--noprofile", "-i"],
        'bind "set enable-bracketed-paste off"; eval "$(smp completion bash)"',
    ),
    "zsh": (["zsh", "-f", "-i"], 'eval "$(smp completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "smp completion fish | source"),
}
"""How each is started without a configuration of anybody's, and told of the completion."""
Shell = Callable[[], AbstractAsyncContextManager[PtyProcess]]


def suggestions(smp: Smp, *words: str) -> list[str]:
    """The suggestions for the last of `words`."""
    run = smp(*words)
    assert (run.status, run.err) == (0, "")
    return [line.split("\t")[1] for line in run.out.decode().splitlines()]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SMP_COMPLETE", "zsh")


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        ((), list(COMMANDS)),
        (("",), list(COMMANDS)),
        (("de",), ["demo"]),
        (("--ver",), ["--version"]),
        (("connect", "--st"), ["--status", "--stdin-eof"]),
        (("connect", "--status", "bar", "--st"), ["--stdin-eof"]),
        (("connect", "--stdin-eof", ""), ["eot", "close", "ignore"]),
        (("connect", "--stdin-eof=c"), ["--stdin-eof=close"]),
        (("connect", "--url", ""), []),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("completion", "bash", "--log-fo"), ["--log-format"]),
        (("help", "sa"), ["sandbox"]),
    ],
)
def test_suggestions(smp: Smp, words: tuple[str, ...], suggested: list[str]) -> None:
    assert suggestions(smp, *words) == suggested


@pytest.mark.usefixtures("asked")
def test_options_are_suggested_where_nothing_else_is(smp: Smp) -> None:
    assert {"--port", "--kms", "--help"} <= set(suggestions(smp, "sandbox", ""))


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("connect", "--token-file", "to"), "file\t\n"),
        (("connect", "--ca-bundle=/e"), "file\t--ca-bundle=\n"),
        (("demo", "--log-file", ""), "file\t\n"),
    ],
)
def test_names_of_files_are_left_to_the_shell(smp: Smp, words: tuple[str, ...], answer: str) -> None:
    assert smp(*words).out.decode() == answer


@pytest.mark.parametrize(
    ("line", "suggested"),
    [
        ("smp ", list(COMMANDS)),
        ("smp sa", ["sandbox"]),
        ("smp connect --status b", ["bar"]),
        ("smp connect --status=b", ["--status=bar"]),
        ("smp connect --url 'wss://open quote --status b", []),
    ],
)
def test_bash_gives_the_line_as_it_was_typed(
    smp: Smp, monkeypatch: pytest.MonkeyPatch, line: str, suggested: list[str]
) -> None:
    monkeypatch.setenv("_SMP_COMPLETE", "bash")
    assert suggestions(smp, line) == suggested


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_meanings_are_short(smp: Smp, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("_SMP_COMPLETE", "fish")
    for line in smp(name, "-").out.decode().splitlines():
        _, word, meaning = line.split("\t")
        assert word.startswith("-")
        assert 0 < len(meaning) <= 72


def test_completing_imports_neither_network_nor_terminal_nor_sdk() -> None:
    program = (
        "import sys; from session_manager_plugin.cli.main import main; main(['connect', '--']); "
        "sys.stderr.write(' '.join(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "_SMP_COMPLETE": "bash"},
    )
    loaded = set(run.stderr.split())
    assert "click.shell_completion" in loaded
    assert not loaded & {"asyncio", "websockets", "rich", "prompt_toolkit", "botocore", "cryptography"}


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_the_script_is_the_shipped_one(smp: Smp, shell: str) -> None:
    name = {"bash": "smp.bash", "zsh": "_smp", "fish": "smp.fish"}[shell]
    assert smp("completion", shell).out == Path("completions", name).read_bytes()


def test_an_unknown_shell(smp: Smp) -> None:
    run = smp("completion", "tcsh")
    assert run.status == 2
    assert "choose from bash, zsh, fish" in run.err


@pytest.fixture(scope="module")
def zsh_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where zsh keeps the list of completions that it has found."""
    return tmp_path_factory.mktemp("zsh")


@pytest.fixture(params=sorted(SHELLS))
def shell(request: pytest.FixtureRequest, tmp_path: Path, zsh_cache: Path) -> Shell:
    """Starts one of the shells, in a directory with the files `token-of-mine` and `webs and all/x`.

    There `smp` is a script that completes as the real one does, but shows its arguments when it is run.
    """
    argv, set_up = SHELLS[request.param]
    need(argv[0])
    script = tmp_path / "bin" / "smp"
    script.parent.mkdir()
    script.write_text(
        '#!/bin/sh\nif [ -n "$_SMP_COMPLETE" ] || [ "$1" = completion ]; then exec '
        f'{shlex.quote(str(BIN / "smp"))} "$@"; fi\n'
        "printf 'ran'; printf ' [%s]' \"$@\"; echo\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "token-of-mine").touch()
    (tmp_path / "webs and all").mkdir()
    (tmp_path / "webs and all" / "x").touch()
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[profile work]\n")
    names = [ManagedInstance("i-0a1b2c3d4e5f60001", "web-1", online=True), ManagedInstance(OFFICE, online=True)]
    NameCache(AwsSettings(), {"HOME": str(tmp_path)}).write(names)
    environment = {
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "ZDOTDIR": str(zsh_cache),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
        "PS1": "ready> ",
    }

    @asynccontextmanager
    async def start() -> AsyncIterator[PtyProcess]:
        async with PtyProcess(argv, env=environment, columns=120) as terminal:
            terminal.type(f"cd {shlex.quote(str(tmp_path))}; {set_up}; echo set'-'up\r")
            await terminal.expect("set-up")
            yield terminal

    return start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("smp sa\t", ["sandbox"]),
        ("smp help conn\t", ["help", "connect"]),
        ("smp connect --keep\t5", ["connect", "--keepalive", "5"]),
        ("smp connect --status b\t", ["connect", "--status", "bar"]),
        ("smp connect --status=b\t", ["connect", "--status=bar"]),
        ("smp connect --token-file tok\t", ["connect", "--token-file", "token-of-mine"]),
        ("smp connect --token-file=tok\t", ["connect", "--token-file=token-of-mine"]),
        ("smp connect --url 'wss://a b' --stdin-eof cl\t", ["connect", "--url", "wss://a b", "--stdin-eof", "close"]),
        ("smp start we\t", ["start", "web-1"]),
        ("smp probe mi-\t", ["probe", OFFICE]),
        ("smp ls --region eu-no\t", ["ls", "--region", "eu-north-1"]),
        ("smp start --profile=wo\t", ["start", "--profile=work"]),
        ("smp cp tok\t", ["cp", "token-of-mine"]),
        ("smp cp -r a ./tok\t", ["cp", "-r", "a", "./token-of-mine"]),
        ("smp cp webs\tx web-1\t/tmp", ["cp", "webs and all/x", "web-1:/tmp"]),
    ],
)
async def test_the_tab_key(shell: Shell, typed: str, arguments: list[str]) -> None:
    async with shell() as terminal:
        terminal.type(f"{typed}\r")
        match = await terminal.expect(r"ran( \[[^\r\n]*)\r")
        assert match[1].decode() == "".join(f" [{argument}]" for argument in arguments)


@pytest.mark.slow
async def test_the_tab_key_lists_the_commands(shell: Shell) -> None:
    async with shell() as terminal:
        terminal.type("smp \t\t")
        # In any order: a list of several rows is read down its columns.
        await wait_until(lambda: all(re.search(rf"\b{name}\b", terminal.text) for name in COMMANDS))


@pytest.mark.slow
async def test_the_tab_key_lists_targets_and_files(shell: Shell) -> None:
    async with shell() as terminal:
        terminal.type("smp cp web\t\t")
        await wait_until(lambda: "web-1:" in terminal.text and "webs" in terminal.text)
