"""Recordings of real sessions, played with the real asciinema."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Any

from session_manager_plugin.agent import Sandbox
from tests.e2e.conftest import BIN
from tests.support.asciicast import check_asciicast
from tests.support.programs import need
from tests.support.pty_process import PtyProcess

PROMPT = r"[#$] $"
SMP = str(BIN / "smp")


async def command(sandbox: Sandbox, *options: str) -> list[str]:
    session = await sandbox.start_session()
    return [SMP, "connect", "--url", session.stream_url, "--token", session.token or "", *options]


def read(path: Path) -> list[Any]:
    return check_asciicast(path.read_bytes())


def shown(events: list[Any], code: str = "o") -> str:
    return "".join(event[2] for event in events if event[1] == code)


async def test_a_recording_with_the_bar(sandbox: Sandbox, environment: dict[str, str], tmp_path: Path) -> None:
    """It holds the far end's bytes and size, and neither the bar, nor what escapes say, nor what is typed."""
    path = tmp_path / "shell.cast"
    argv = await command(sandbox, "--record", str(path), "--status", "bar")
    async with PtyProcess(argv, env=environment, rows=30, columns=100) as terminal:
        await terminal.expect(r"[#$] ")
        terminal.type("stty -echo\r")
        terminal.type("printf '%s\\n' d''one 日本語; stty size\r")
        await terminal.expect("done\r\n.*日本語.*29 100\r\n".encode())  # all before the resize
        terminal.resize(80, 24)
        terminal.type("until [ \"$(stty size)\" = '23 80' ]; do :; done; echo resized\r")
        await terminal.expect("resized\r\n")
        terminal.type("~i")
        await terminal.expect("reconnects:")
        terminal.type("exit\r")
        assert await terminal.wait() == 0
    header, *events = read(path)
    session_id = next(iter(sandbox.sessions))
    assert (header["width"], header["height"], header["title"]) == (100, 29, session_id)
    assert header["env"] == {"TERM": "xterm-256color"}
    text = shown(events)
    assert "done\r\n日本語\r\n29 100\r\n" in text
    assert "leaves" not in text
    assert "reconnects:" not in text
    assert [event[2] for event in events if event[1] == "r"] == ["80x23"]
    assert not [event for event in events if event[1] == "i"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert argv[argv.index("--token") + 1] not in path.read_text()


async def test_input_is_recorded_if_asked_for(sandbox: Sandbox, environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "shell.cast"
    argv = await command(sandbox, "--record", str(path), "--record-input")
    async with PtyProcess(argv, env=environment) as terminal:
        await terminal.expect(r"[#$] ")
        terminal.type("echo ty''ped\r")
        await terminal.expect("typed")
        terminal.type("~?")
        await terminal.expect("Escapes")
        terminal.type("exit\r")
        assert await terminal.wait() == 0
    assert shown(read(path)[1:], "i") == "echo ty''ped\rexit\r"


async def test_the_file_is_whole_after_a_kill(sandbox: Sandbox, environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "shell.cast"
    async with PtyProcess(await command(sandbox, "--record", str(path)), env=environment) as terminal:
        await terminal.expect(r"[#$] ")
        terminal.type("while :; do echo 日本語 flood; done\r")
        await terminal.expect("flood\r\n.*flood\r\n")
        terminal.process.kill()
        await terminal.wait()
    _, *events = read(path)
    assert "日本語 flood\r\n" in shown(events)


async def test_an_existing_file_is_refused(sandbox: Sandbox, environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "shell.cast"
    path.write_text("precious")
    async with PtyProcess(await command(sandbox, "--record", str(path)), env=environment) as terminal:
        await terminal.expect("smp:.* exists; choose another file")
        assert await terminal.wait() == 2
    assert path.read_text() == "precious"


async def test_input_alone_cannot_be_recorded(sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with PtyProcess(await command(sandbox, "--record-input"), env=environment) as terminal:
        await terminal.expect("--record-input needs --record FILE")
        assert await terminal.wait() == 2


async def test_the_aws_clis_shells_are_recorded(
    sandbox: Sandbox, environment: dict[str, str], tmp_path: Path, aws: str
) -> None:
    directory = tmp_path / "recordings"
    environment["SMP_RECORD_DIR"] = str(directory)
    argv = [aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"]
    async with PtyProcess(argv, env=environment) as terminal:
        await terminal.expect(PROMPT)
        terminal.type("echo do''ne; exit\r")
        await terminal.expect("done")
        assert await terminal.wait() == 0
    (path,) = directory.iterdir()
    (session_id,) = sandbox.sessions
    assert re.fullmatch(rf"20\d{{6}}T\d{{6}}Z-{session_id}\.cast", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    header, *events = read(path)
    assert (header["width"], header["height"]) == (80, 24)
    assert "done\r\n" in shown(events)


async def test_a_directory_that_cannot_be_used_keeps_nobody_from_working(
    sandbox: Sandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    environment["SMP_RECORD_DIR"] = str(tmp_path / "file" / "below")
    async with PtyProcess(await command(sandbox, "--status", "off"), env=environment) as terminal:
        await terminal.expect("smp: cannot create .*; the session is not recorded\r\n")
        await terminal.expect(PROMPT)
        terminal.type("exit\r")
        assert await terminal.wait() == 0


async def test_asciinema_plays_it(sandbox: Sandbox, environment: dict[str, str], tmp_path: Path) -> None:
    asciinema = need("asciinema")
    path = tmp_path / "shell.cast"
    argv = await command(sandbox, "--record", str(path), "--record-input", "--status", "bar")
    async with PtyProcess(argv, env=environment) as terminal:
        await terminal.expect(r"[#$] ")
        terminal.type("printf '\\033[1m%s\\033[m\\n' bo''ld 日本語\r")
        await terminal.expect("日本語".encode())
        terminal.resize(100, 30)
        terminal.type("until [ \"$(stty size)\" = '29 100' ]; do :; done; exit\r")
        assert await terminal.wait() == 0
    text = shown(read(path)[1:]).encode()
    for arguments in (["cat"], ["play", "--speed", "100", "--idle-time-limit", "0.1"]):
        async with PtyProcess([asciinema, *arguments, str(path)], env=environment, rows=30, columns=100) as player:
            assert await player.wait() == 0
            assert b"\x1b[1mbold" in player.output
            assert text.replace(b"\r", b"") in player.output.replace(b"\r", b"")
