"""Signals and terminals: whatever ends the program, the terminal is as it was, and the caller sees what happened."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import shlex
import signal
import socket
import sys
import termios
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.agent.session import EndReason
from session_manager_plugin.cli import signals
from session_manager_plugin.cli.signals import Interruption, run
from tests.support.fake_gateway import silence
from tests.support.programs import PATIENCE
from tests.support.pty_process import PtyProcess
from tests.support.raw_server import RawServer
from tests.support.relay import Relay
from tests.support.waiting import DEADLINE, until_a_signal_counts_again, wait_until

pytestmark = pytest.mark.slow

SMP = [sys.executable, "-m", "session_manager_plugin"]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox in this process, for commands in others."""
    async with Sandbox() as running:
        yield running


def python(program: str, *arguments: str) -> list[str]:
    """The command line of a Python program."""
    return [sys.executable, "-c", program, *arguments]


def environment(sandbox: Sandbox | None = None, **variables: str) -> dict[str, str]:
    """Variables of a command: those of the machine, of the sandbox, and its own. It ends when it is ready to."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SMP_"))}
    path = os.pathsep.join(filter(None, (PATIENCE, os.environ.get("PYTHONPATH"))))
    sandboxed = sandbox.environment if sandbox else {}
    return {**kept, "TERM": "xterm-256color", "PYTHONPATH": path, **sandboxed, **variables}


async def connect_arguments(sandbox: Sandbox, command: str = "printf ready; exec cat") -> tuple[str, list[str]]:
    """A new session's id, and the arguments of `smp` that join it."""
    started = await sandbox.start_session("AWS-StartInteractiveCommand", {"command": [command]})
    assert started.token is not None
    return started.session_id, ["connect", "--url", started.stream_url, "--token", started.token]


async def end_of(sandbox: Sandbox, session_id: str) -> EndReason | None:
    """Why a session is over, once it is."""
    session = sandbox.session(session_id)
    await asyncio.wait_for(session.ended.wait(), DEADLINE)
    return session.end_reason


@pytest.mark.parametrize("status", ["off", "bar"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
async def test_a_signal_gives_the_terminal_back_and_is_seen_by_the_caller(
    sandbox: Sandbox, number: signal.Signals, status: str
) -> None:
    session_id, arguments = await connect_arguments(sandbox)
    limited = ["sh", "-c", 'ulimit -c 0; exec "$@"', "sh", *SMP, *arguments, "--status", status]
    async with PtyProcess(limited, env=environment()) as program:
        before = program.attributes
        await program.expect("ready")
        assert program.attributes != before
        program.process.send_signal(number)
        await program.expect(f"smp:.* session {session_id} was ended by {number.name}\r\n")
        assert await program.wait() == -number
        assert program.attributes == before


async def test_signals_that_our_parent_ignores_are_handled(sandbox: Sandbox) -> None:
    """The AWS CLI starts its plugin with SIGINT, SIGQUIT and SIGTSTP ignored."""
    _, arguments = await connect_arguments(sandbox)
    ignoring = ["sh", "-c", 'trap "" INT QUIT TSTP; exec "$@"', "sh", *SMP, *arguments]
    async with PtyProcess(ignoring, env=environment()) as program:
        before = program.attributes
        await program.expect("ready")
        program.process.send_signal(signal.SIGINT)
        assert await program.wait() == -signal.SIGINT
        assert program.attributes == before


async def test_a_hang_up_that_is_ignored_stays_so(sandbox: Sandbox) -> None:
    """That is what nohup asks for."""
    _, arguments = await connect_arguments(sandbox)
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *SMP, *arguments]
    async with PtyProcess(ignoring, env=environment()) as program:
        await program.expect("ready")
        program.process.send_signal(signal.SIGHUP)
        program.type("still here\r")
        await program.expect("still here\r\nstill here\r\n")
        program.type(b"\x04")
        assert await program.wait() == 0


async def test_control_c_before_the_session_has_begun() -> None:
    async with (
        RawServer(silence) as gateway,
        PtyProcess([*SMP, "connect", "--url", gateway.url(), "--token", "secret-token"]) as program,
    ):
        await wait_until(lambda: gateway.connections)
        program.type(b"\x03")
        await program.expect("session session-1, which had not begun, was ended by SIGINT\r\n")
        assert await program.wait() == -signal.SIGINT


async def test_keys_that_make_signals_are_keys_in_a_session(sandbox: Sandbox) -> None:
    _, arguments = await connect_arguments(sandbox, "stty raw -echo; printf ready; head -c 4 | od -An -tx1")
    async with PtyProcess([*SMP, *arguments], env=environment()) as program:
        await program.expect("ready")
        program.type(b"\x03\x1c\x1a\x11")
        await program.expect("03 1c 1a 11")
        assert await program.wait() == 0


@pytest.mark.parametrize("place", ["_show", "_tell_size", "_type", "_link_status"])
async def test_a_fault_of_our_own_gives_the_terminal_back(sandbox: Sandbox, place: str) -> None:
    _, arguments = await connect_arguments(sandbox)
    program_text = f"""
import sys
from session_manager_plugin.cli.main import main
from session_manager_plugin.session.shell import ShellHandler
def fail(*arguments):
    raise ZeroDivisionError("injected")
ShellHandler.{place} = fail
sys.exit(main())
"""
    async with PtyProcess(python(program_text, *arguments, "--status", "bar"), env=environment()) as program:
        before = program.attributes
        await program.expect("internal error: ZeroDivisionError: injected")
        assert await program.wait() == 255
        assert program.attributes == before


async def test_the_terminal_is_closed(sandbox: Sandbox) -> None:
    session_id, arguments = await connect_arguments(sandbox)
    command = [*SMP, *arguments, "--endpoint-url", sandbox.endpoint_url]
    async with PtyProcess(command, env=environment(sandbox)) as program:
        await program.expect("ready")
        program.close_terminal()
        assert await program.wait() == -signal.SIGHUP
        assert await end_of(sandbox, session_id) is EndReason.TERMINATED


def open_terminal(pid: int) -> int:
    """The terminal that is the standard input of process `pid`, as a descriptor of our own."""
    return os.open(f"/proc/{pid}/fd/0", os.O_RDWR | os.O_NOCTTY)


def set_attributes(pid: int, attributes: list[Any]) -> None:
    """Give the terminal of process `pid` other attributes, as a shell does when it takes the terminal over."""
    terminal = open_terminal(pid)
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
    os.close(terminal)


async def test_a_stop_and_back(sandbox: Sandbox) -> None:
    """Reference defect U8: after a stop the terminal's modes are those of the shell."""
    _, arguments = await connect_arguments(sandbox)
    async with PtyProcess([*SMP, *arguments, "--status", "off"], env=environment()) as program:
        cooked = program.attributes
        await program.expect("ready")
        raw = program.attributes
        program.process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, program.process.pid, os.WSTOPPED | os.WNOWAIT)
        set_attributes(program.process.pid, cooked)
        program.process.send_signal(signal.SIGCONT)
        await wait_until(lambda: program.attributes == raw)
        program.type("on\r")
        await program.expect("on\r\non\r\n")
        program.type(b"\x04")
        assert await program.wait() == 0
        assert program.attributes == cooked


async def test_a_signal_sent_twice_at_once_counts_once(sandbox: Sandbox) -> None:
    """As by timeout(1): to its command, and to the group. On a busy machine "at once" may take a while."""
    program_text = """
import sys
from session_manager_plugin.cli import signals
from session_manager_plugin.cli.main import main
signals.REPEAT_TIME = 3600.0
sys.exit(main())
"""
    session_id, arguments = await connect_arguments(sandbox)
    command = python(program_text, *arguments, "--endpoint-url", sandbox.endpoint_url)
    async with PtyProcess(command, env=environment(sandbox)) as program:
        await program.expect("ready")
        for _ in range(3):
            program.process.send_signal(signal.SIGTERM)
        assert await program.wait() == -signal.SIGTERM
        assert await end_of(sandbox, session_id) is EndReason.TERMINATED


async def test_a_second_signal_does_not_wait_for_the_goodbye(sandbox: Sandbox) -> None:
    _, arguments = await connect_arguments(sandbox)
    async with RawServer(silence) as api:
        command = [*SMP, *arguments, "--endpoint-url", f"http://127.0.0.1:{api.port}"]
        async with PtyProcess(command, env=environment(sandbox)) as program:
            before = program.attributes
            await program.expect("ready")
            program.process.send_signal(signal.SIGTERM)
            await wait_until(lambda: api.connections)
            program.process.send_signal(signal.SIGINT)
            assert await program.wait() == -signal.SIGINT
            assert program.attributes == before


# No limit ends it, and in the second program none but the one for the whole.
NO_LIMITS = """
import sys
from session_manager_plugin.cli import session, signals
from session_manager_plugin.cli.main import main
from session_manager_plugin.communicator import data_channel
from session_manager_plugin.session import port
session.LEAVE_TIMEOUT = data_channel.CLOSE_DRAIN_TIMEOUT = port.INTERRUPTED_TIMEOUT = signals.LEAVE_LIMIT = 3600.0
sys.exit(main())
"""
LEAVE_LIMIT_ALONE = NO_LIMITS.replace("sys.exit", "signals.LEAVE_LIMIT = 0.2\nsys.exit")


async def test_a_second_ctrl_c_in_a_forwarded_port_ends_the_program_at_once() -> None:
    """The first closes the session properly, which a far end that acknowledges nothing can draw out."""
    async with Sandbox() as sandbox, Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port
        started = await sandbox.start_session("AWS-StartPortForwardingSession", {"portNumber": ["9"]})
        assert started.token is not None
        arguments = ["connect", "--url", started.stream_url, "--token", started.token]
        async with PtyProcess(python(NO_LIMITS, *arguments), env=environment()) as program:
            await program.expect("listening on")
            relay.stall()
            program.process.send_signal(signal.SIGINT)
            # What it does with the first shows in nothing but its port being closed.
            port = int(program.output.split(b"127.0.0.1:")[1].split()[0].rstrip(b"\r"))
            await wait_until(lambda: not listens(port))
            await until_a_signal_counts_again()
            program.process.send_signal(signal.SIGINT)
            assert await program.wait() == -signal.SIGINT
        relay.release()


async def test_the_first_ctrl_c_in_a_forwarded_port_closes_within_the_limit() -> None:
    """Also when the far end acknowledges nothing any more."""
    assert signals.LEAVE_LIMIT == 2.0
    async with Sandbox() as sandbox, Relay(sandbox.port) as relay:
        sandbox.stream_port = relay.port
        started = await sandbox.start_session("AWS-StartPortForwardingSession", {"portNumber": ["9"]})
        assert started.token is not None
        arguments = ["connect", "--url", started.stream_url, "--token", started.token]
        async with PtyProcess(python(LEAVE_LIMIT_ALONE, *arguments), env=environment()) as program:
            await program.expect("listening on")
            relay.stall()
            program.process.send_signal(signal.SIGINT)
            assert await program.wait() == -signal.SIGINT
        relay.release()


async def test_a_ctrl_c_that_went_to_the_command_does_not_make_the_next_signal_deadly(sandbox: Sandbox) -> None:
    """The command may live on for hours; a signal to us then is a first one, with time for the goodbye."""
    command = "sh -c 'trap \"echo caught\" INT; echo ready; while :; do sleep 0.05; done'"
    parameters = {"command": [command], "separateOutputStream": ["true"]}
    started = await sandbox.start_session("AWS-StartNonInteractiveCommand", parameters)
    arguments = ["connect", "--url", started.stream_url, "--token", started.token or ""]
    async with PtyProcess([*SMP, *arguments], env=environment()) as program:
        await program.expect("ready")
        program.process.send_signal(signal.SIGINT)
        await program.expect("caught")
        program.process.send_signal(signal.SIGTERM)
        await program.expect(f"session {started.session_id} was ended by SIGTERM")
        assert await program.wait() == -signal.SIGTERM


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_terminal_that_takes_nothing_more(sandbox: Sandbox) -> None:
    _, arguments = await connect_arguments(sandbox, "printf ready; read x; exec yes")
    async with PtyProcess([*SMP, *arguments], env=environment()) as program:
        before = program.attributes
        await program.expect("ready")
        terminal = open_terminal(program.process.pid)
        termios.tcflow(terminal, termios.TCOOFF)  # as Ctrl-S does
        program.type("go\r")
        program.process.send_signal(signal.SIGTERM)
        assert await program.wait() == -signal.SIGTERM
        assert termios.tcgetattr(terminal) == before
        assert b"was ended" not in program.output
        os.close(terminal)


async def test_a_fault_in_cleaning_up_does_not_hide_the_signal() -> None:
    program_text = """
import asyncio, sys
from session_manager_plugin.cli import exit_status, signals
async def main(interruption):
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        raise ZeroDivisionError
try:
    signals.run(main)
except exit_status.Signalled as signalled:
    sys.exit(100 + signalled.number)
"""
    async with PtyProcess(python(program_text)) as program:
        await program.expect("ready")
        program.process.send_signal(signal.SIGTERM)
        assert await program.wait() == 100 + signal.SIGTERM


async def test_what_hangs_is_left_behind() -> None:
    program_text = """
import asyncio
from session_manager_plugin.cli import signals
signals.LEAVE_LIMIT = 0.1
async def main(interruption):
    print("ready", flush=True)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
signals.run(main)
"""
    async with PtyProcess(python(program_text)) as program:
        await program.expect("ready")
        program.process.send_signal(signal.SIGTERM)
        assert await program.wait() == -signal.SIGTERM


async def test_a_credential_process_that_hangs_is_ended(sandbox: Sandbox, tmp_path: Path) -> None:
    """It has a session of its own, so it hears nothing of the terminal, and would stay."""
    config, pid_file = tmp_path / "config", tmp_path / "pid"
    config.write_text(f"[profile slow]\ncredential_process = sh -c 'echo $$ > {pid_file}; sleep 600; :'\n")
    _, arguments = await connect_arguments(sandbox)
    arguments += ["--profile", "slow", "--region", sandbox.region, "--endpoint-url", sandbox.endpoint_url]
    async with PtyProcess([*SMP, *arguments], env=environment(AWS_CONFIG_FILE=str(config))) as program:
        await program.expect("ready")
        program.process.send_signal(signal.SIGTERM)
        await wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
        await until_a_signal_counts_again()
        program.process.send_signal(signal.SIGTERM)
        assert await program.wait() == -signal.SIGTERM
    await wait_until(lambda: not is_running(int(pid_file.read_text())))


async def test_a_name_that_dns_keeps_thinking_about() -> None:
    program_text = """
import socket, sys, time
socket.getaddrinfo = lambda *arguments, **options: time.sleep(600)
from session_manager_plugin.cli.main import main
sys.exit(main())
"""
    url = "wss://slow.example/v1/data-channel/alice-1"
    arguments = ["connect", "--url", url, "--token", "secret-token", "--connect-timeout", "0.2"]
    async with PtyProcess(python(program_text, *arguments)) as program:
        assert await program.wait() == 255
        await program.expect("DNS did not answer within 0.2 seconds when asked for slow.example:443")


async def test_the_sandbox_ends_by_its_signal() -> None:
    async with PtyProcess([*SMP, "sandbox", "--json"], columns=400) as program:
        facts = json.loads((await program.expect(rb"\{.*\}\r\n")).group())
        assert facts["pid"] == program.process.pid
        _, writer = await asyncio.open_connection("127.0.0.1", int(facts["endpoint_url"].rpartition(":")[2]))
        writer.close()
        program.type(b"\x03")
        assert await program.wait() == -signal.SIGINT


async def test_the_demo_ends_with_all_it_started() -> None:
    async with PtyProcess([*SMP, "demo"], env=environment(SHELL="/bin/sh")) as program:
        before = program.attributes
        await program.expect("[#$] ")
        program.type("echo pid=$$.\r")
        shell = int((await program.expect(rb"pid=(\d+)\.")).group(1))
        program.process.send_signal(signal.SIGTERM)
        assert await program.wait() == -signal.SIGTERM
        assert program.attributes == before
        await wait_until(lambda: not is_running(shell))


@pytest.mark.parametrize(("command", "shown"), [("exec printf half", rb"half\r\n"), ("exec true", rb"")])
async def test_the_closing_line_begins_a_line(command: str, shown: bytes) -> None:
    """After an unfinished line of the remote, and without an empty line after a finished one."""
    async with PtyProcess([*SMP, "demo", "--status", "off"], env=environment(SHELL="/bin/sh", PS1="$ ")) as program:
        await program.expect(r"\$ ")
        program.type(f"{command}\r")
        await program.expect(command.encode() + rb"\r\n" + shown + rb"smp: session \S+ ended\r\n")
        assert await program.wait() == 0


async def test_the_demo_breaks_no_word_of_its_own() -> None:
    shell = environment(SHELL="/bin/sh", PS1="$ ")
    async with PtyProcess([*SMP, "demo", "--status", "off"], env=shell, columns=60) as program:
        before = await program.expect(r"\$ ")
        lines = program.output[: before.start()].decode().splitlines()
        assert len(lines) > 2
        assert max(map(len, lines)) <= max(60, len(f"smp: {' '.join(SMP)}"))


async def test_the_comments_of_the_sandbox_fit_a_terminal() -> None:
    async with PtyProcess([*SMP, "sandbox"], env=environment()) as program:
        await program.expect(r"ls --endpoint-url \S+\r\n")
        comments = [line for line in program.text.splitlines() if line.startswith("#")]
        assert len(comments) > 4
        assert max(map(len, comments)) <= 80
        assert "--token " not in program.text


def is_running(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# The plugin.

PLUGIN = python("from session_manager_plugin.cli.plugin import main; raise SystemExit(main())")
VARIABLE = "AWS_SSM_START_SESSION_RESPONSE"


async def plugin_call(
    sandbox: Sandbox, *, exposed: bool = False, command: str = "printf ready; exec cat"
) -> tuple[str, list[str], dict[str, str]]:
    """A new session's id, and the arguments and variables with which the AWS CLI starts its plugin."""
    started = await sandbox.start_session("AWS-StartInteractiveCommand", {"command": [command]})
    response = json.dumps(
        {"SessionId": started.session_id, "TokenValue": started.token, "StreamUrl": started.stream_url}
    )
    parameters = json.dumps({"Target": "local", "DocumentName": "AWS-StartInteractiveCommand"})
    rest = [sandbox.region, "StartSession", "", parameters, sandbox.endpoint_url]
    if exposed:
        return started.session_id, [*PLUGIN, response, *rest], environment(sandbox)
    return started.session_id, [*PLUGIN, VARIABLE, *rest], environment(sandbox, **{VARIABLE: response})


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_to_the_plugin_terminates_the_session(
    sandbox: Sandbox, number: signal.Signals, exposed: bool
) -> None:
    session_id, command, variables = await plugin_call(sandbox, exposed=exposed)
    async with PtyProcess(command, env=variables) as program:
        before = program.attributes
        await program.expect("\r\nStarting session with SessionId: .*ready")
        program.process.send_signal(number)
        assert await program.wait() == (0 if exposed else -number)
        assert program.attributes == before
        assert await end_of(sandbox, session_id) is EndReason.TERMINATED


async def test_a_signal_to_the_plugin_before_the_session_has_begun(sandbox: Sandbox) -> None:
    session_id, command, variables = await plugin_call(sandbox, exposed=True)
    async with RawServer(silence) as gateway:
        command = [argument.replace(f":{sandbox.port}/v1", f":{gateway.port}/v1") for argument in command]
        async with PtyProcess(command, env=variables) as program:
            await wait_until(lambda: gateway.connections)
            program.type(b"\x03")
            assert await program.wait() == 0
            assert await end_of(sandbox, session_id) is EndReason.TERMINATED


async def test_the_death_of_the_aws_cli_ends_the_session(sandbox: Sandbox) -> None:
    session_id, command, variables = await plugin_call(sandbox)
    parent = ["sh", "-c", f"exec 3<&0; {shlex.join(command)} <&3 & wait"]
    async with PtyProcess(parent, env=variables) as program:
        await program.expect("\r\nStarting session with SessionId: .*ready")
        program.process.kill()
        await program.expect("was ended because the program that started it has ended\r\n")
        assert await end_of(sandbox, session_id) is EndReason.TERMINATED


# What a person sees.


async def test_the_end_is_told_to_a_person(sandbox: Sandbox) -> None:
    session_id, arguments = await connect_arguments(sandbox)
    async with PtyProcess([*SMP, *arguments], env=environment()) as program:
        await program.expect("ready")
        program.type(b"\x04")
        await program.expect(f"smp: session {session_id} ended\r\n")
        assert await program.wait() == 0


async def test_the_end_is_not_told_to_a_person_who_wants_quiet(sandbox: Sandbox) -> None:
    _, arguments = await connect_arguments(sandbox)
    async with PtyProcess([*SMP, *arguments, "-q", "--status", "off"], env=environment()) as program:
        await program.expect("ready")
        program.type(b"\x04")
        assert await program.wait() == 0
        assert program.output.endswith(b"ready")


@pytest.mark.parametrize(
    ("options", "rows", "variables", "shown"),
    [
        ([], 24, {}, True),
        ([], 10, {}, True),
        ([], 9, {}, False),
        ([], 24, {"TERM": "dumb"}, False),
        ([], 24, {"SMP_STATUS": "off"}, False),
        (["--status", "off"], 24, {}, False),
        (["--status", "bar"], 9, {"TERM": "dumb", "SMP_STATUS": "off"}, True),
    ],
)
async def test_when_the_bar_is_shown(
    sandbox: Sandbox, options: Sequence[str], rows: int, variables: dict[str, str], shown: bool
) -> None:
    command = "echo begun; until [ \"$(stty size)\" != '0 0' ]; do sleep 0.05; done; printf 'ready '; stty size; cat"
    _, arguments = await connect_arguments(sandbox, command)
    async with PtyProcess([*SMP, *arguments, *options], env={**environment(), **variables}, rows=rows) as program:
        match = await program.expect(r"ready (\d+) 80")
        assert int(match[1]) == rows - shown
        program.type(b"\x04")
        assert await program.wait() == 0
        assert (b"connected" in program.output) is shown


@pytest.mark.parametrize(("variables", "shown"), [({}, False), ({"SMP_STATUS": "bar"}, True)])
async def test_the_plugin_shows_a_bar_if_told_so(sandbox: Sandbox, variables: dict[str, str], shown: bool) -> None:
    _, command, call_variables = await plugin_call(sandbox)
    async with PtyProcess(command, env={**call_variables, **variables}) as program:
        await program.expect("ready")
        program.type(b"\x04")
        await program.expect("Exiting session with sessionId: ")
        assert await program.wait() == 0
        assert (b"connected" in program.output) is shown


async def test_what_is_missing_is_asked_for(sandbox: Sandbox) -> None:
    _, arguments = await connect_arguments(sandbox, "printf all; printf fine")
    url, token = arguments[2], arguments[4]
    async with PtyProcess([*SMP, "connect"], env=environment()) as program:
        before = program.attributes
        await program.expect("Stream URL:")
        program.type(f"{url}\r")
        await program.expect("Token:")
        program.type(f"{token}\r")
        await program.expect("allfine")
        assert await program.wait() == 0
        assert program.attributes == before
        assert token not in program.text


@pytest.mark.parametrize(
    ("key", "status", "told"), [(b"\x03", -2, ""), (b"\x04", 2, "no stream URL"), (b"\r", 2, "no stream URL")]
)
async def test_no_answer(key: bytes, status: int, told: str) -> None:
    async with PtyProcess([*SMP, "connect"], env=environment()) as program:
        before = program.attributes
        await program.expect("Stream URL:")
        program.type(key)
        assert await program.wait() == status
        assert told in program.text
        assert program.attributes == before


def test_a_fault_that_nobody_is_there_to_catch() -> None:
    """In a callback of the event loop: asyncio would print a traceback over the screen, and the session would hang."""
    events: list[str] = []

    async def main(interruption: Interruption) -> None:
        interruption.restore = lambda: events.append("restored")
        asyncio.get_running_loop().call_soon(_compiled("session_manager_plugin.made_up"))
        try:
            await asyncio.Event().wait()
        finally:
            events.append("left")

    with pytest.raises(AttributeError, match="recv_messages"):
        run(main)
    assert events == ["restored", "left"]


# What the event loop's callbacks raise.


async def outcome_of(callback: Callable[[], object]) -> str:
    """How a program ends in which this callback of the event loop raises."""
    reached = asyncio.Event()

    async def program(interruption: Interruption) -> str:
        loop = asyncio.get_running_loop()
        loop.call_soon(callback)
        loop.call_soon(reached.set)
        await reached.wait()
        await asyncio.sleep(0)
        return "went on"

    task = asyncio.current_task()
    assert task is not None
    interruption = Interruption(task, _refuse_to_die)
    with interruption.handling():
        try:
            return await program(interruption)
        except asyncio.CancelledError:
            task.uncancel()
            return repr(interruption.error)
        finally:
            asyncio.get_running_loop().set_exception_handler(None)


def _refuse_to_die(number: int) -> NoReturn:
    raise AssertionError(number)


def _compiled(module: str) -> Callable[[], object]:
    """A callback that fails, of a module of this name."""
    namespace: dict[str, Any] = {"__name__": module}
    exec("def fail():\n    raise AttributeError('recv_messages')", namespace)
    callback: Callable[[], object] = namespace["fail"]
    return callback


@pytest.mark.parametrize(
    ("callback", "outcome"),
    [
        (_compiled("session_manager_plugin.session.shell"), "AttributeError('recv_messages')"),
        (_compiled("session_manager_plugins"), "went on"),
        (_compiled("websockets.asyncio.connection"), "went on"),
        (functools.partial(os.close, -1), "went on"),
    ],
)
async def test_a_fault_of_ours_ends_the_program_and_one_of_a_library_is_logged(
    callback: Callable[[], object], outcome: str
) -> None:
    assert await outcome_of(callback) == outcome


async def test_the_cause_of_a_hang_up_may_be_known_after_the_signal() -> None:
    """The kernel sends SIGHUP to the jobs of a terminal before a pidfd tells that the session leader has ended."""
    interruption = Interruption(asyncio.ensure_future(asyncio.sleep(0)), _refuse_to_die)
    with interruption.handling():
        interruption.interrupt(signal.SIGHUP)
        ended = interruption.error
        interruption.interrupt(signal.SIGHUP, "because of rain")
    asyncio.get_running_loop().set_exception_handler(None)
    assert str(ended) == "because of rain"
