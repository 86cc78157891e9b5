"""NonInteractiveCommands: a command without a terminal, its two output modes, its signals and its exit code."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from session_manager_plugin.agent import command as command_module
from session_manager_plugin.agent import process
from session_manager_plugin.agent.agent import AgentSettings, AgentState
from session_manager_plugin.agent.command import OUTDATED_CLIENT_MESSAGE
from session_manager_plugin.agent.documents import DOCUMENTS, SessionType
from session_manager_plugin.protocol.messages import MAX_PAYLOAD_SIZE, ClientMessageType, PayloadType
from tests.support.waiting import wait_until
from tests.test_agent.far_end import SETTINGS, FarEnd, publication
from tests.test_agent.processes import is_alive

OUTPUT, STDERR, EXIT_CODE = PayloadType.OUTPUT, PayloadType.STDERR, PayloadType.EXIT_CODE

Run = Callable[..., FarEnd]


@pytest.fixture
def run(far_ends: list[FarEnd]) -> Run:
    """Starts a session with AWS-StartNonInteractiveCommand; it is closed at the end."""

    def start(
        command: str, *, settings: AgentSettings = SETTINGS, version: str = "1.3.0.0", **parameters: str
    ) -> FarEnd:
        values = {name: [value] for name, value in {"command": command, **parameters}.items()}
        properties = DOCUMENTS["AWS-StartNonInteractiveCommand"].resolve(values)
        end = FarEnd(SessionType.NON_INTERACTIVE_COMMANDS, properties, settings, version=version)
        far_ends.append(end)
        end.agent.start()
        return end

    return start


@pytest.fixture
def separate(run: Run) -> Run:
    """The same with separate output streams."""

    def start(command: str, **parameters: object) -> FarEnd:
        return run(command, separateOutputStream="true", **parameters)

    return start


class Gates:
    """Places where a shell script waits until the test lets it go on, each once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def wait(self, number: int = 0) -> str:
        """What the script has to do to wait."""
        fifo = self._directory / f"gate-{number}"
        os.mkfifo(fifo)
        return f"read gate < {fifo}"

    async def open(self, number: int = 0) -> None:
        """Let it go on, once it is there."""
        await asyncio.to_thread((self._directory / f"gate-{number}").write_text, "\n")


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    return Gates(tmp_path)


# Both modes.


@pytest.mark.parametrize("separate_streams", ["false", "true"])
async def test_the_words_are_executed_without_a_shell(run: Run, separate_streams: str) -> None:
    far = run("printf '%s|' $HOME 'two words' \"quo'te\" a\\ b ';' '|'", separateOutputStream=separate_streams)
    assert await far.until_finished() == ""
    assert far.output == b"$HOME|two words|quo'te|a b|;|||"
    assert far.failed is False
    assert far.states() == ["Connected", "Terminating"]
    assert far.ready is not None
    assert (far.ready.session_type, far.ready.properties) == ("NonInteractiveCommands", {})


async def test_it_has_no_terminal_and_its_input_is_empty(run: Run) -> None:
    far = run("sh -c 'cat; tty; echo $TERM; ps -o tty= -p $$; ls -l /proc/self/fd/0 | grep -o /dev/null'")
    await far.until_finished()
    assert far.output == b"not a tty\nxterm-256color\n?\n/dev/null\n"


@pytest.mark.parametrize(("key", "name"), [(b"\x03", "INT"), (b"\x1c", "QUIT")])
async def test_ctrl_c_and_ctrl_backslash_become_signals(separate: Run, key: bytes, name: str) -> None:
    far = separate(f"""sh -c 'trap "echo {name}; exit 7" {name}; echo ready; while :; do sleep 0.05; done'""")
    await far.until_output(b"ready\n")
    far.type(key)
    await far.until_finished()
    assert far.output == f"ready\n{name}\n".encode()
    assert far.payloads(EXIT_CODE) == b"EXIT_CODE: 7"


async def test_the_first_byte_of_each_message_of_a_batch_counts_and_no_other(separate: Run) -> None:
    far = separate("sh -c 'trap \"echo INT; exit\" INT; echo ready; while :; do sleep 0.05; done'")
    await far.until_output(b"ready\n")
    far.type(b"x\x03")
    far.type(b'{"cols":80,"rows":24}', PayloadType.SIZE)
    far.type(b"\x03", PayloadType.FLAG)
    for _ in range(200):
        await asyncio.sleep(0)
    assert far.connection.in_flight == 0
    assert far.output == b"ready\n"
    now = asyncio.get_running_loop().time()
    for payload in (b"x", b"\x03...", b"y"):
        far.connection.send_data(OUTPUT, payload, now)
    far.answer()
    await far.until_finished()
    assert far.output == b"ready\nINT\n"


async def test_an_interrupt_works_although_we_ignore_it(separate: Run) -> None:
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        far = separate("sh -c 'echo ready; exec sleep 1000'")
        await far.until_output(b"ready\n")
    finally:
        signal.signal(signal.SIGINT, ours)
    far.type(b"\x03")
    await far.until_finished()
    assert far.payloads(EXIT_CODE) == b"EXIT_CODE: -1"


@pytest.mark.parametrize("commands", ["", " \n\t"])
async def test_no_command_is_refused_in_the_agents_words(run: Run, commands: str) -> None:
    far = run(commands)
    assert await far.until_finished() == "Commands cannot be empty for session type NonInteractiveCommands"
    assert far.failed is True
    assert far.ready is not None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds a session's processes through /proc")
@pytest.mark.parametrize("separate_streams", ["false", "true"])
async def test_closing_ends_the_command_and_what_it_started(
    run: Run, separate_streams: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "KILL_DELAY", 0.1)
    pids = tmp_path / "pids"
    descriptors = os.listdir("/proc/self/fd")
    far = run(f"sh -c 'trap \"\" HUP; sleep 1000 & echo $! $$ > {pids}; wait'", separateOutputStream=separate_streams)
    await far.until(lambda: pids.exists() and pids.read_text().endswith("\n"))
    background, command = map(int, pids.read_text().split())
    assert command == far.agent.program_pid
    await far.agent.close()
    await wait_until(lambda: not is_alive(background))  # it has been sent SIGKILL
    assert not is_alive(command)
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)


# Together.


async def test_together_nothing_is_sent_before_the_command_has_ended(run: Run, gates: Gates, tmp_path: Path) -> None:
    written = tmp_path / "written"
    far = run(f"sh -c 'echo out; echo err >&2; echo more; touch {written}; {gates.wait()}; echo end'")
    await far.until(written.exists)
    assert far.received == []
    await gates.open()
    assert await far.until_finished() == ""
    assert far.received == [(OUTPUT, b"out\nerr\nmore\nend\n")]


async def test_together_a_long_output_is_complete(run: Run, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3 * 1024 * 1024 + 17)
    (tmp_path / "data").write_bytes(data)
    far = run(f"cat {tmp_path / 'data'}")
    await far.until_finished()
    assert {payload_type for payload_type, _ in far.received} == {OUTPUT}
    assert max(len(payload) for _, payload in far.received) == MAX_PAYLOAD_SIZE
    assert hashlib.sha256(far.output).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("command", ["true", "sh -c 'exit 3'", "sh -c 'kill -9 $$'"])
async def test_together_there_is_no_exit_code(run: Run, command: str) -> None:
    far = run(command)
    assert await far.until_finished() == ""
    assert far.received == []
    assert far.failed is False


async def test_together_a_process_in_the_background_is_not_waited_for(run: Run) -> None:
    far = run("sh -c 'sleep 1000 & echo done'")
    await far.until_finished()
    assert far.output == b"done\n"


async def test_together_a_command_that_cannot_be_started_is_an_error_text(run: Run) -> None:
    far = run("/no/such/program x")
    assert await far.until_finished() == ""
    assert far.received == [
        (STDERR, b"Error occurred starting the command: fork/exec /no/such/program: no such file or directory\n")
    ]
    assert far.failed is True


# Separate.


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
async def test_separate_outputs_and_the_exit_code(separate: Run, code: int) -> None:
    far = separate(f"sh -c 'echo out; echo err >&2; exit {code}'")
    assert await far.until_finished() == ""
    assert far.failed is False
    assert sorted(far.received[:2]) == [(OUTPUT, b"out\n"), (STDERR, b"err\n")]
    assert far.received[2:] == [(EXIT_CODE, f"EXIT_CODE: {code}".encode())]


@pytest.mark.parametrize("name", ["TERM", "KILL"])
async def test_a_signal_is_reported_as_minus_one(separate: Run, name: str) -> None:
    far = separate(f"sh -c 'echo out; kill -{name} $$'")
    await far.until_finished()
    assert far.received == [(OUTPUT, b"out\n"), (EXIT_CODE, b"EXIT_CODE: -1")]


async def test_separate_outputs_come_while_the_command_runs(separate: Run, gates: Gates) -> None:
    far = separate(f"sh -c 'echo first; {gates.wait(1)}; echo second >&2; {gates.wait(2)}'")
    await far.until(lambda: far.received == [(OUTPUT, b"first\n")])
    await gates.open(1)
    await far.until(lambda: far.received == [(OUTPUT, b"first\n"), (STDERR, b"second\n")])
    await gates.open(2)
    await far.until_finished()


async def test_both_outputs_at_once_are_complete(separate: Run, tmp_path: Path) -> None:
    first, second = (random.Random(seed).randbytes(2 * 1024 * 1024) for seed in (1, 2))
    (tmp_path / "1").write_bytes(first)
    (tmp_path / "2").write_bytes(second)
    far = separate(f"sh -c 'cat {tmp_path / '1'} & cat {tmp_path / '2'} >&2; wait'")
    await far.until_finished()
    assert far.output == first
    assert far.payloads(STDERR) == second
    assert far.received[-1] == (EXIT_CODE, b"EXIT_CODE: 0")


async def test_separate_a_process_with_the_outputs_open_is_waited_for(separate: Run, gates: Gates) -> None:
    far = separate(f"sh -c '({gates.wait()}; echo late) & echo early'")
    await far.until_output(b"early\n")
    await far.until(lambda: not is_alive(far.agent.program_pid))
    assert far.result is None
    await gates.open()
    await far.until_finished()
    assert far.received == [(OUTPUT, b"early\n"), (OUTPUT, b"late\n"), (EXIT_CODE, b"EXIT_CODE: 0")]


async def test_separate_output_is_not_read_while_the_client_is_away(separate: Run, gates: Gates) -> None:
    far = separate(f"sh -c 'echo ready; {gates.wait()}; seq 10000'")
    await far.until_output(b"ready\n")
    far.send(publication(ClientMessageType.PAUSE_PUBLICATION))
    sent = len(far.delivered)
    await gates.open()
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(far.delivered) == sent
    far.send(publication(ClientMessageType.START_PUBLICATION))
    await far.until_finished()
    assert far.output.endswith(b"\n9999\n10000\n")
    assert far.received[-1] == (EXIT_CODE, b"EXIT_CODE: 0")


async def test_a_prefix_begins_each_piece_that_begins_a_line(separate: Run, gates: Gates) -> None:
    steps = ["printf line", "printf more", "echo end", "echo next", "printf last >&2"]
    script = "; ".join(f"{step}; {gates.wait(number)}" for number, step in enumerate(steps))
    far = separate(f"sh -c '{script}'", stdoutSeparatorPrefix="OUT:\r\n", stderrSeparatorPrefix="E_r-r")
    expected = [
        (OUTPUT, b"OUT:\r\nline"),
        (OUTPUT, b"more"),
        (OUTPUT, b"end\n"),
        (OUTPUT, b"OUT:\r\nnext\n"),
        (STDERR, b"E_r-rlast"),
    ]

    async def until_received(count: int) -> None:
        await far.until(lambda: len(far.received) >= count)
        assert far.received == expected[:count]

    for number in range(len(steps)):
        await until_received(number + 1)
        await gates.open(number)
    await far.until_finished()
    assert far.received == [*expected, (EXIT_CODE, b"EXIT_CODE: 0")]


async def test_a_message_holds_its_prefix_too(separate: Run) -> None:
    prefix = "p" * 30
    far = separate("sh -c 'head -c 4000 /dev/zero'", stdoutSeparatorPrefix=prefix)
    await far.until_finished()
    assert far.output == prefix.encode() + bytes(4000)
    sizes = [len(payload) for payload_type, payload in far.received if payload_type == OUTPUT]
    # What is read leaves room for a prefix, whether one is needed or not.
    assert sizes == [1024, 994, 994, 994, 24]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"stdoutSeparatorPrefix": "STD@OUT"}, "invalid stdoutSeparatorPrefix STD@OUT"),
        ({"stderrSeparatorPrefix": "x" * 31}, f"invalid stderrSeparatorPrefix {'x' * 31}"),
        ({"stdoutSeparatorPrefix": "ok\n ", "stderrSeparatorPrefix": "."}, "invalid stdoutSeparatorPrefix ok\n "),
    ],
)
async def test_a_prefix_that_is_not_valid_ends_the_session(
    separate: Run, parameters: dict[str, str], text: str
) -> None:
    far = separate("echo x", **parameters)
    assert await far.until_finished() == text
    assert far.failed is True
    assert far.agent.program_pid == 0


async def test_a_machine_without_a_temporary_directory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/directory")
    far = run("echo x")
    failure = await far.until_finished()
    assert re.search(r"Unable to start command: /no/such/directory/\w+: No such file or directory", failure)
    assert far.failed is True


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-program x", 'exec: "no-such-program": executable file not found in $PATH'),
        ("/no/such/program", "fork/exec /no/such/program: no such file or directory"),
        ("/etc/passwd", "fork/exec /etc/passwd: permission denied"),
        ("echo 'a\0b'", "fork/exec echo: embedded null byte"),
    ],
)
async def test_separate_a_command_that_cannot_be_started(separate: Run, command: str, reason: str) -> None:
    far = separate(command)
    assert await far.until_finished() == ""
    assert far.failed is True
    assert far.received == [
        (EXIT_CODE, b"EXIT_CODE: 1"),
        (STDERR, f"Error occurred starting the command: {reason}\n".encode()),
    ]


async def test_a_command_that_cannot_be_split_into_words(separate: Run) -> None:
    far = separate("echo 'x")
    text = "Unable to start command: Failed to parse commands input: No closing quotation\n\n"
    assert await far.until_finished() == f"\n----------ERROR-------\n{text}"
    assert far.received == [(STDERR, text.encode())]


# Versions.


async def test_an_agent_without_separate_streams_sends_them_together(separate: Run) -> None:
    settings = replace(SETTINGS, version="3.1.1476.0")
    far = separate("sh -c 'echo err >&2; exit 3'", settings=settings, stdoutSeparatorPrefix="not valid!")
    assert await far.until_finished() == ""
    assert far.received == [(OUTPUT, b"err\n")]


async def test_the_first_agent_with_separate_streams(separate: Run) -> None:
    far = separate("sh -c 'exit 3'", settings=replace(SETTINGS, version="3.1.1511.0"))
    await far.until_finished()
    assert far.received == [(EXIT_CODE, b"EXIT_CODE: 3")]


@pytest.mark.parametrize(
    ("version", "separate_streams", "message"),
    [
        ("1.2.295", "true", OUTDATED_CLIENT_MESSAGE),
        ("1.2.0.0", "true", OUTDATED_CLIENT_MESSAGE),
        ("1.2.0.0", "false", ""),
        ("1.2.295.0", "true", ""),
        ("1.2.312.0", "true", ""),
    ],
)
async def test_an_old_client_is_asked_to_update(run: Run, version: str, separate_streams: str, message: str) -> None:
    far = run("true", version=version, separateOutputStream=separate_streams)
    await far.until_finished()
    assert far.ready is not None
    assert far.ready.customer_message == message


# Pace.


async def test_the_real_pace_rests_after_each_message_when_together(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module.CommandOutputTogether, "message_delay", 0.02)
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    far = run("head -c 10240 /dev/zero", settings=replace(SETTINGS, pace="real"))
    await far.until_finished()
    assert loop.time() - started_at >= 0.18  # nine rests
    assert far.output == bytes(10_240)


async def test_the_real_pace_rests_before_an_error_text(separate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module, "ERROR_DELAY", 0.3)
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    far = separate("no-such-program", settings=replace(SETTINGS, pace="real"))
    await far.until(lambda: far.agent.state is AgentState.ENDED)
    assert loop.time() - started_at >= 0.3
    assert [payload_type for payload_type, _ in far.received] == [EXIT_CODE, STDERR]
