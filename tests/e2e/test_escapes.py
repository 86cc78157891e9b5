"""Escapes in a real terminal, under an interactive bash: leaving, suspending, asking, whatever the session is doing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason, SandboxSession
from session_manager_plugin.terminal.escapes import CHUNK_INTERVAL
from tests.e2e.conftest import BIN
from tests.support.programs import need
from tests.support.pty_process import PtyProcess
from tests.support.relay import Relay
from tests.support.tmux import Terminal, Tmux, View
from tests.support.waiting import DEADLINE, wait_until

ROWS, COLUMNS = 24, 80
LOCAL, REMOTE = "local>", "remote>"
SMP = str(BIN / "smp")
HELP = "Escapes, at the start of a line:"


@pytest.fixture
def tmux(environment: dict[str, str], tmp_path: Path) -> Iterator[Tmux]:
    (tmp_path / "start").write_text(f"PS1='{LOCAL} '\n")
    with Tmux({**environment, "SHELL": "/bin/sh"}, tmp_path) as running:
        yield running


def at(prompt: str) -> Callable[[View], bool]:
    return lambda view: view.rows[view.cursor[1]] == prompt


def bash(tmux: Tmux) -> Terminal:
    """An interactive shell, which keeps jobs."""
    terminal = tmux.terminal("bash", "--noprofile", "--rcfile", "start", "-i", rows=ROWS, columns=COLUMNS)
    terminal.wait(at(LOCAL), "the prompt of bash")
    terminal.enter("stty -g > before")
    return terminal


def log_in(terminal: Terminal, command: str) -> None:
    """Start a session and give its shell a prompt of its own."""
    terminal.enter(f"clear; {command}")
    terminal.wait(lambda view: view.rows[view.cursor[1]].endswith(("$", "#")), "a prompt")
    terminal.enter(f"PS1='{REMOTE} '; clear")
    terminal.wait(at(REMOTE), "the prompt of the session")


def escape(terminal: Terminal, *keys: str) -> None:
    """Press the escape character at the start of a line, and what follows."""
    terminal.press("Enter", "~", *keys)


def expect_terminal_as_before(terminal: Terminal) -> View:
    terminal.wait(at(LOCAL), "the prompt of bash")
    terminal.enter("clear; stty -g > after; jobs; cmp before after && echo sa''me")
    return terminal.wait(lambda view: at(LOCAL)(view) and "same" in view.rows, "the modes of before")


async def joining(sandbox: Sandbox, *options: str) -> str:
    """The command that joins a new session; the region comes from the environment."""
    session = await sandbox.start_session()
    api = ["--endpoint-url", sandbox.endpoint_url]
    return shlex.join(["smp", "connect", "--url", session.stream_url, "--token", session.token or "", *api, *options])


def starting(aws: str, sandbox: Sandbox) -> list[str]:
    return [aws, "ssm", "start-session", "--endpoint-url", sandbox.endpoint_url, "--target", "local"]


def only_session(sandbox: Sandbox) -> SandboxSession:
    (session,) = sandbox.sessions.values()
    return session


def suspend_and_return(tmux: Tmux, command: str, *, has_bar: bool) -> None:
    terminal = bash(tmux)
    log_in(terminal, command)
    for columns, rows in ((COLUMNS, ROWS), (100, 30)):
        escape(terminal, "C-z")
        view = expect_terminal_as_before(terminal)
        assert any("Stopped" in row for row in view.rows)
        assert "leaves" not in view.rows[-1]
        terminal.resize(columns, rows)  # nobody tells a stopped job
        terminal.enter("fg")
        terminal.wait(at(REMOTE), "the prompt of the session")
        terminal.enter(f"until [ \"$(stty size)\" = '{rows - has_bar} {columns}' ]; do :; done; clear; cat")
        terminal.wait(lambda view: not any(view.rows[:-1]), "an empty screen")
        terminal.enter("typed")
        terminal.wait(lambda view: view.rows[:2] == ("typed", "typed"), "cat's answer: it is in the foreground")
        terminal.press("C-c")
        # The kernel sends the signal before it echoes the key, so that the prompt may come first.
        terminal.wait(lambda view: at(REMOTE)(view) or at(f"{REMOTE} ^C")(view), "the prompt of the session")
        terminal.wait(lambda view: ("leaves" in view.rows[-1]) == has_bar, "the bar")
    terminal.enter("exit 0")
    view = expect_terminal_as_before(terminal)
    assert not any("Stopped" in row for row in view.rows)


async def test_suspending_smp(tmux: Tmux, sandbox: Sandbox) -> None:
    await asyncio.to_thread(suspend_and_return, tmux, await joining(sandbox), has_bar=True)
    assert only_session(sandbox).end_reason is EndReason.EXITED


async def test_suspending_the_aws_cli(tmux: Tmux, sandbox: Sandbox, aws: str) -> None:
    """The CLI ignores SIGTSTP, so only SIGSTOP for all of the job gives the shell its terminal back."""
    await asyncio.to_thread(suspend_and_return, tmux, shlex.join(starting(aws, sandbox)), has_bar=False)
    assert only_session(sandbox).end_reason is EndReason.EXITED


def suspend_in_vim(tmux: Tmux, command: str) -> None:
    terminal = bash(tmux)
    log_in(terminal, command)
    terminal.enter("seq 100 | vim -u NONE -i NONE -nN - -c 'set noshowcmd'")
    terminal.wait(lambda view: view.rows[0] == "1" and view.rows[20] == "21" and view.rows[-1], "the text in vim")
    terminal.press("Enter")
    before = terminal.wait(lambda view: view.cursor == (0, 1), "the second line")
    terminal.press("~", "C-z")
    expect_terminal_as_before(terminal)
    terminal.enter("fg")
    view = terminal.wait(lambda view: view.rows[:20] == before.rows[:20], "vim's screen again")
    assert view.state.partition(" ")[2] == before.state.partition(" ")[2]
    assert "alternate=1" in view.state
    terminal.enter(":qa!")
    terminal.wait(lambda view: "alternate=0" in view.state, "the end of vim")
    terminal.enter("clear")
    terminal.wait(lambda view: view.rows[0] == REMOTE, "a clear screen")
    terminal.enter("exit 0")
    expect_terminal_as_before(terminal)


async def test_a_program_repaints_its_screen_after_a_stop(tmux: Tmux, sandbox: Sandbox) -> None:
    need("vim")
    await asyncio.to_thread(suspend_in_vim, tmux, await joining(sandbox))


async def test_nobody_to_bring_us_back(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """The terminal's first process has no shell around it: stopped, it would stay so for ever."""
    async with PtyProcess(shlex.split(await joining(sandbox, "--status", "off")), env=environment) as terminal:
        await terminal.expect(r"[#$] $")
        terminal.type("~\x1a")
        await terminal.expect("cannot be suspended")
        terminal.type("echo go''es on\r")
        await terminal.expect("goes on")


def ask(tmux: Tmux, command: str) -> None:
    terminal = bash(tmux)
    log_in(terminal, command)
    escape(terminal, "?")
    view = terminal.wait_for("send the escape character")
    assert any(HELP in row for row in view.rows)
    rows = [row.split()[0] for row in view.rows if row.startswith(" ~")]
    assert rows == ["~.", "~^Z", "~i", "~r", "~B", "~p", "~?", "~~"]
    terminal.wait(lambda view: view.rows[-1].startswith(" connected "), "the bar")
    terminal.enter("clear")
    terminal.wait(lambda view: view.rows[0] == REMOTE, "a clear screen")
    escape(terminal, "i")
    view = terminal.wait_for("reconnects:")
    facts = dict(row.strip().split(":", 1) for row in view.rows if row.startswith(" ") and ": " in row)
    assert facts["session"].strip().startswith("user-")
    assert facts["state"].strip() == "connected"
    escape(terminal, "#")
    terminal.wait_for("no port is forwarded")
    escape(terminal, "B")
    terminal.wait(lambda view: not view.rows[-1].startswith(" connected "), "no bar")
    terminal.enter("clear; stty size")
    terminal.wait_for(f"{ROWS} {COLUMNS}")
    escape(terminal, "B")
    terminal.wait(lambda view: view.rows[-1].startswith(" connected "), "the bar")
    terminal.enter("clear; stty size")
    terminal.wait_for(f"{ROWS - 1} {COLUMNS}")
    terminal.enter("clear; echo ~~.")
    terminal.wait_for("~~.")
    terminal.press("~", "~")
    terminal.press(".", "Enter")
    terminal.wait_for("~.: not found")


async def test_asking(tmux: Tmux, sandbox: Sandbox) -> None:
    await asyncio.to_thread(ask, tmux, await joining(sandbox))


def leave(tmux: Tmux, command: str, status: str) -> None:
    terminal = bash(tmux)
    log_in(terminal, command)
    terminal.enter("sleep 600")
    terminal.wait_for("sleep 600")
    escape(terminal, ".")
    terminal.wait_for("was left by ~.")
    terminal.wait(at(LOCAL), "the prompt of bash")
    terminal.enter("echo status $?")
    terminal.wait_for(f"status {status}")
    expect_terminal_as_before(terminal)


async def test_leaving_smp(tmux: Tmux, sandbox: Sandbox) -> None:
    await asyncio.to_thread(leave, tmux, await joining(sandbox), "255")
    assert only_session(sandbox).end_reason is EndReason.TERMINATED


async def test_leaving_the_aws_cli(tmux: Tmux, sandbox: Sandbox, aws: str) -> None:
    """Debian's version 2 passes the token in argv, which it would print if our status was not 0."""
    await asyncio.to_thread(leave, tmux, shlex.join(starting(aws, sandbox)), "0" if "/usr/bin" in aws else "255")
    assert only_session(sandbox).end_reason is EndReason.TERMINATED


@contextlib.contextmanager
def silent_gateway() -> Iterator[tuple[socket.socket, list[str]]]:
    """Yield a socket that listens and accepts nothing, and the options of `smp connect` that name it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}/v1/data-channel/s-1"
        yield silent, ["--url", url, "--token", "a-token-of-nobody"]


async def test_leaving_while_the_websocket_is_opened(environment: dict[str, str]) -> None:
    with silent_gateway() as (_, options):
        argv = [SMP, "connect", *options]
        async with PtyProcess(argv, env=environment) as terminal:
            before = terminal.attributes
            await wait_until(lambda: terminal.attributes != before)
            terminal.type("~?")
            await terminal.expect(HELP)
            assert b"~r" not in terminal.output
            await terminal.press("ahead\r", "~.")
            await terminal.expect(r"session s-1, which had not begun, was left by ~\.\r\n")
            assert await terminal.wait() == 255
            assert terminal.attributes == before
            assert b"ahead" not in terminal.output


async def test_interrupting_while_the_websocket_is_opened(environment: dict[str, str]) -> None:
    """The keys that send signals still do: nobody has begun to work at the far end."""
    with silent_gateway() as (_, options):
        argv = [SMP, "connect", *options]
        async with PtyProcess(argv, env=environment) as terminal:
            before = terminal.attributes
            await wait_until(lambda: terminal.attributes != before)
            terminal.type("\x03")
            assert await terminal.wait() == -signal.SIGINT
            assert terminal.attributes == before


async def test_leaving_while_reconnecting(sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port
        argv = shlex.split(await joining(sandbox, "--status", "bar"))
        async with PtyProcess(argv, env=environment) as terminal:
            await terminal.expect(r"[#$] ")
            await relay.refuse()
            relay.reset()
            await terminal.expect("reconnecting")
            await terminal.press("ahead\r", "~?")
            await terminal.expect(HELP)
            terminal.type("~.")
            await terminal.expect(r"was left by ~\.\r\n")
            assert await terminal.wait() == 255
    assert only_session(sandbox).end_reason is EndReason.TERMINATED


async def test_leaving_a_link_that_is_dead(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Nobody has noticed yet."""
    async with Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port
        async with PtyProcess(shlex.split(await joining(sandbox)), env=environment) as terminal:
            await terminal.expect(r"[#$] ")
            relay.half_open()
            terminal.type("\r~.")
            await terminal.expect(r"was left by ~\.\r\n")
            assert await terminal.wait() == 255
    assert only_session(sandbox).end_reason is EndReason.TERMINATED


async def test_reconnecting_now(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """A link that is dead without anybody having noticed is replaced at once, with a token from the region that only
    AWS_REGION names."""
    del environment["AWS_DEFAULT_REGION"]
    async with Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port
        async with PtyProcess(shlex.split(await joining(sandbox)), env=environment) as terminal:
            await terminal.expect(r"[#$] ")
            relay.half_open()
            terminal.type("\r~r")
            await terminal.expect("~r\r\nreconnecting")
            terminal.type("echo st''ill there\r")
            await terminal.expect("still there")
            terminal.type("~i")
            await terminal.expect("reconnects: +1\r")
            terminal.type("exit\r")
            assert await terminal.wait() == 0


async def test_leaving_while_the_far_end_takes_no_input(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """The window is full, and so is everything on the way."""
    async with PtyProcess(shlex.split(await joining(sandbox)), env=environment) as terminal:
        before = terminal.attributes
        await terminal.expect(r"[#$] ")
        terminal.type("stty raw -echo; printf %s go; sleep 600\r")
        await terminal.expect("go")
        await terminal.paste(b"x" * 1024 * 1024 + b"\r")
        await terminal.until_read()
        await asyncio.sleep(2 * CHUNK_INTERVAL)  # what a person takes at least
        terminal.type("~.")
        await terminal.expect(r"was left by ~\.\r\n")
        assert await terminal.wait() == 255
        assert terminal.attributes == before
    assert only_session(sandbox).end_reason is EndReason.TERMINATED


async def test_leaving_while_nobody_takes_the_output(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """The window shows nothing any more, or so slowly that megabytes are waiting."""
    async with PtyProcess(shlex.split(await joining(sandbox)), env=environment) as terminal:
        before = terminal.attributes
        await terminal.expect(r"[#$] ")
        terminal.type("while :; do echo flood; done\r")
        await terminal.expect("flood\r\n.*flood\r\n")
        with terminal.unread():
            terminal.type("\r~.")
            await wait_until(lambda: terminal.process.poll() is not None)
        assert terminal.process.returncode == 255
        assert terminal.attributes == before
    assert only_session(sandbox).end_reason is EndReason.TERMINATED


async def test_leaving_while_the_handshake_is_awaited(environment: dict[str, str], aws: str) -> None:
    async with Sandbox(handshake=False) as mute:
        argv = [
            *starting(aws, mute),
            "--document-name",
            "AWS-StartPortForwardingSession",
            "--parameters",
            "portNumber=9",
        ]
        async with PtyProcess(argv, env={**environment, **mute.environment}) as terminal:
            before = terminal.attributes
            await terminal.expect("Starting session")
            await wait_until(lambda: terminal.attributes != before)
            terminal.type("~.")
            await terminal.expect(r"had not begun, was left by ~\.\r\n")
            await terminal.wait()
            assert terminal.attributes == before
        assert only_session(mute).end_reason is EndReason.TERMINATED


async def test_a_forwarded_port(sandbox: Sandbox, environment: dict[str, str], aws: str) -> None:
    """No shell, but a terminal: what is typed goes nowhere, and the escapes work."""
    document = ["--document-name", "AWS-StartPortForwardingSession", "--parameters", f"portNumber={sandbox.port}"]
    async with PtyProcess([*starting(aws, sandbox), *document], env=environment) as terminal:
        port = int((await terminal.expect(r"Port (\d+) opened"))[1])
        terminal.type("~?")
        await terminal.expect(" ~# +list forwarded connections")
        terminal.type("~#")
        await terminal.expect("no connection is open")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            await terminal.expect("Connection accepted")
            await terminal.press("typed\r", "~#")
            await terminal.expect(f"connection 1 from .*:{connection.getsockname()[1]}")
        terminal.type("~.")
        await terminal.expect(r"was left by ~\.")
        await terminal.wait()
    assert only_session(sandbox).end_reason is not None


def forward_in_background(tmux: Tmux, command: str) -> None:
    terminal = bash(tmux)
    terminal.enter(f"clear; {command}")
    port = opened_port(terminal)
    answers(port)
    terminal.press("C-z")
    view = expect_terminal_as_before(terminal)
    assert any("Stopped" in row for row in view.rows)
    terminal.enter("clear; bg")
    terminal.wait(at(LOCAL), "the prompt of bash")
    answers(port)
    terminal.enter("echo ~. still bash")
    terminal.wait_for("~. still bash")
    view = expect_terminal_as_before(terminal)
    assert any("Running" in row for row in view.rows)
    terminal.enter("clear; fg")
    terminal.wait_for("ssm" if " ssm " in command else "smp")
    answers(port)
    terminal.press("C-c")
    expect_terminal_as_before(terminal)
    # Not even started in the foreground.
    terminal.enter(f"clear; {command} &")
    port = opened_port(terminal)
    answers(port)
    terminal.wait_for("Connection accepted")
    terminal.press("Enter")
    view = expect_terminal_as_before(terminal)
    assert any("Running" in row for row in view.rows)
    terminal.enter("clear; kill %%; wait; echo wai''ted")
    terminal.wait_for("waited")


def opened_port(terminal: Terminal) -> int:
    view = terminal.wait(lambda view: re.search(r"Port \d+ opened", "\n".join(view.rows)), "a port")
    (port,) = re.findall(r"Port (\d+) opened", "\n".join(view.rows))
    return int(port)


def answers(port: int) -> None:
    """Something is forwarded there: the API of the sandbox, which does not take our word for a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        assert connection.recv(9) == b"HTTP/1.1 "


async def test_a_forwarded_port_in_the_background(tmux: Tmux, sandbox: Sandbox, aws: str) -> None:
    """A job in the background leaves the terminal to the one in the foreground, and is not stopped for it."""
    document = ["--document-name", "AWS-StartPortForwardingSession", "--parameters", f"portNumber={sandbox.port}"]
    await asyncio.to_thread(forward_in_background, tmux, shlex.join([*starting(aws, sandbox), *document]))


def suspend_while_connecting(tmux: Tmux, command: str, gateway: socket.socket) -> None:
    terminal = bash(tmux)
    gateway.settimeout(DEADLINE)
    for keys in (["C-z"], ["~", "C-z"]):
        terminal.enter(f"clear; {command}")
        # When it connects it has the terminal; before, the keys would be the shell's.
        connection, _ = gateway.accept()
        terminal.press(*keys)
        view = expect_terminal_as_before(terminal)
        assert any("Stopped" in row for row in view.rows)
        terminal.enter("clear; fg")
        terminal.wait(lambda view: view.rows[0].startswith("smp connect"), "the command that goes on")
        terminal.press("C-c")
        expect_terminal_as_before(terminal)
        connection.close()


async def test_suspending_while_connecting(tmux: Tmux) -> None:
    with silent_gateway() as (silent, options):
        command = shlex.join(["smp", "connect", *options])
        await asyncio.to_thread(suspend_while_connecting, tmux, command, silent)


async def test_without_escapes(sandbox: Sandbox, environment: dict[str, str]) -> None:
    environment["SMP_ESCAPE_CHAR"] = "none"
    async with PtyProcess(shlex.split(await joining(sandbox, "--status", "off")), env=environment) as terminal:
        await terminal.expect(r"[#$] $")
        terminal.type("~.\r")
        await terminal.expect("~.*not found")


async def test_another_character(sandbox: Sandbox, environment: dict[str, str]) -> None:
    command = await joining(sandbox, "--status", "off", "--escape-char", "^]")
    async with PtyProcess(shlex.split(command), env=environment) as terminal:
        await terminal.expect(r"[#$] $")
        terminal.type("~.\r")
        await terminal.expect("~.*not found")
        terminal.type("\x1d.")
        await terminal.expect(r"was left by \^]\.")
        assert await terminal.wait() == 255


async def test_a_paste_is_no_escape(sandbox: Sandbox, environment: dict[str, str]) -> None:
    async with PtyProcess(shlex.split(await joining(sandbox, "--status", "off")), env=environment) as terminal:
        await terminal.expect(r"[#$] $")
        terminal.type("\n~.\n")
        await terminal.expect("~.*not found")
        terminal.type("echo one\r~.\recho two\r")
        await terminal.expect(r"\none\r.*~.*not found.*two\r")


async def test_leaving_by_the_keys_of_the_kitty_protocol(sandbox: Sandbox, environment: dict[str, str]) -> None:
    """Events of Enter, Shift, the key of ``~`` and the full stop, as a terminal sends them with all flags set."""
    async with PtyProcess(shlex.split(await joining(sandbox)), env=environment) as terminal:
        await terminal.expect(r"[#$] ")
        await terminal.press(
            "\x1b[13;1;13u",
            "\x1b[13;1:3u",
            "\x1b[57441;2u",
            "\x1b[96:126;2;126u",
            "\x1b[96;2:3u",
            "\x1b[57441;1:3u",
            "\x1b[46;;46u",
        )
        await terminal.expect(r"was left by ~\.")
        assert await terminal.wait() == 255


@pytest.mark.parametrize("text", ["~~", "", "^M"])
async def test_what_is_no_escape_character(environment: dict[str, str], text: str) -> None:
    argv = [
        SMP,
        "connect",
        "--url",
        "ws://127.0.0.1:9/v1/data-channel/s-1",
        "--token",
        "a-token",
        "--escape-char",
        text,
    ]
    async with PtyProcess(argv, env=environment) as terminal:
        await terminal.expect("expected one ASCII character")
        assert await terminal.wait() == 2
