"""What the official agent does and ours leaves out: with the quirk as there, without it as it should be."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from session_manager_plugin.agent import Sandbox, closing
from session_manager_plugin.agent import sandbox as sandbox_module
from session_manager_plugin.agent.agent import AgentSettings, AgentState
from session_manager_plugin.agent.documents import DOCUMENTS
from session_manager_plugin.agent.faults import Faults, MessageFaults
from session_manager_plugin.agent.official_sending import MAX_STORED, RESEND_INTERVAL, OldestOnlySender
from session_manager_plugin.agent.official_text import OfficialText
from session_manager_plugin.agent.port_basic import WORKER_DIED
from session_manager_plugin.agent.quirks import Quirk, parse_quirks
from session_manager_plugin.agent.service_messages import channel_closed_message
from session_manager_plugin.protocol.messages import ClientMessageType, PayloadType
from tests.support.clock import ManualClock
from tests.support.raw_client import RawClient
from tests.support.waiting import DEADLINE, rounds, wait_until
from tests.test_agent.far_end import SETTINGS, FarEnd, publication

PAUSE, START = ClientMessageType.PAUSE_PUBLICATION, ClientMessageType.START_PUBLICATION
EXIT_CODE = PayloadType.EXIT_CODE

Run = Callable[..., FarEnd]


@pytest.fixture
def run(far_ends: list[FarEnd]) -> Run:
    """Runs a command with separate outputs, or an interactive one, by an agent with a quirk, or with None without."""

    def start(
        command: str, quirk: Quirk | None, *, interactive: bool = False, clock: ManualClock | None = None
    ) -> FarEnd:
        document = DOCUMENTS[f"AWS-Start{'Interactive' if interactive else 'NonInteractive'}Command"]
        parameters = {"command": [command]} | ({} if interactive else {"separateOutputStream": ["true"]})
        settings = replace(SETTINGS, quirks=frozenset(filter(None, [quirk])))
        end = FarEnd(document.session_type, document.resolve(parameters), settings, clock=clock)
        far_ends.append(end)
        end.agent.start()
        return end

    return start


class Gate:
    """A place where a command waits until the test opens it."""

    def __init__(self, directory: Path, name: str) -> None:
        self._fifo = directory / name
        os.mkfifo(self._fifo)

    def __str__(self) -> str:
        return f"read gate < {self._fifo}"

    async def open(self) -> None:
        await asyncio.to_thread(self._fifo.write_text, "\n")


def test_quirks_by_name() -> None:
    assert parse_quirks("none") == frozenset()
    assert parse_quirks("all") == frozenset(Quirk)
    assert parse_quirks("pause-stops-output, oldest-only-resend") == {
        Quirk.PAUSE_STOPS_OUTPUT,
        Quirk.OLDEST_ONLY_RESEND,
    }
    for wrong in ("", "all,none", "signal"):
        with pytest.raises(ValueError, match=r"^the agent's quirks are .*oldest-only-resend"):
            parse_quirks(wrong)
    with pytest.raises(ValueError, match="pause-stops-output"):
        Sandbox(quirks=["x"])


# signal-scan


@pytest.mark.parametrize("quirk", [None, Quirk.SIGNAL_SCAN])
async def test_a_signal_in_the_middle_of_the_input(run: Run, quirk: Quirk | None) -> None:
    traps = 'trap "exit 3" INT; trap "exit 4" QUIT'
    far = run(f"sh -c '{traps}; echo ready; while :; do sleep 0.02; done'", quirk)
    await far.until_output(b"ready\n")
    far.type(b"any bytes \x03")
    if quirk is None:
        far.type(b"\x1c at the beginning")
    await far.until(lambda: far.payloads(EXIT_CODE))
    assert far.payloads(EXIT_CODE) == (b"EXIT_CODE: 4" if quirk is None else b"EXIT_CODE: 3")


# signal-blocks-reader


@pytest.mark.parametrize("quirk", [None, Quirk.SIGNAL_BLOCKS_READER])
async def test_a_command_that_survives_a_signal(run: Run, quirk: Quirk | None, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waiting = f"while [ ! -e {go} ]; do sleep 0.02; done"
    far = run(f"sh -c 'trap \"echo INT\" INT; echo ready; {waiting}; echo last; exit 7'", quirk)
    await far.until_output(b"ready\n")
    before = far.acknowledged()
    far.type(b"\x03")
    await far.until_output(b"INT\n")
    far.type(b"\x03")
    await asyncio.sleep(0)
    assert far.acknowledged() - before == (set() if quirk else {1, 2})
    go.touch()
    await far.until_finished()
    assert far.payloads(EXIT_CODE) == (b"EXIT_CODE: 1" if quirk else b"EXIT_CODE: 7")
    if quirk is None:
        assert far.output.endswith(b"last\n")


@pytest.mark.parametrize("quirk", [None, Quirk.SIGNAL_BLOCKS_READER])
async def test_termination_after_a_signal_is_not_read(run: Run, quirk: Quirk | None, tmp_path: Path) -> None:
    go = tmp_path / "go"
    far = run(f"sh -c 'trap \"\" INT; echo ready; while [ ! -e {go} ]; do sleep 0.02; done'", quirk)
    await far.until_output(b"ready\n")
    far.type(b"\x03")
    far.send(channel_closed_message("s-1", "", created_at=datetime.now(UTC), message_id=UUID(int=2)))
    assert far.agent.state is (AgentState.RUNNING if quirk else AgentState.ENDED)
    if quirk:
        go.touch()
        await far.until_finished()
        assert far.payloads(EXIT_CODE) == b""  # the message that ended it came first in the queue


# refused-port-dies


@pytest.mark.parametrize("document", ["AWS-StartSSHSession", "AWS-StartPortForwardingSession"])
@pytest.mark.parametrize("quirks", [[], ["refused-port-dies"]])
async def test_a_refused_destination(document: str, quirks: list[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        port = str(nobody.getsockname()[1])
        async with Sandbox(quirks=quirks) as sandbox, RawClient(version="1.1.69.0") as client:
            started = await sandbox.start_session(document, {"portNumber": [port]})
            await client.open(started.stream_url, started.token)
            text = await client.until_closed()
    assert text == WORKER_DIED if quirks else text.startswith("Unable to connect to specified port: ")


# mangled-replacement-character


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["a\ufffdbcd"], [b"a\xefbcd"]),
        (["\ufffd\ufffd\ufffd", "abc"], [b"\xef\xef", b"\xefabc"]),
        (["ab\ufffd"], [b"ab"]),
        (["äöü€😀"], ["äöü€😀".encode()]),
        ([b"ab\xe2\x82", b"\xac"], [b"ab", "€".encode()]),
        ([b"\xf0\x9f\x98", b"\x80"], [b"", "😀".encode()]),
        ([b"\xff\xfe\x80abc"], [b"\xff\xfe\x80abc"]),
        ([b"abc\xffd", b"e", b"fg"], [b"abc", b"", b"\xffdefg"]),
        ([b"\xed\xa0\x80abc"], [b"\xed\xa0\x80abc"]),
        ([b"x" * 1022 + b"\xe2\x82", b"\xac" + b"y" * 1023], [b"x" * 1022, "€".encode() + b"y" * 1023]),
    ],
)
def test_the_official_agents_text(pieces: list[str | bytes], expected: list[bytes]) -> None:
    text = OfficialText()
    given = [piece if isinstance(piece, bytes) else piece.encode() for piece in pieces]
    assert [text.process(piece) for piece in given] == expected


@pytest.mark.parametrize("quirk", [None, Quirk.MANGLED_REPLACEMENT_CHARACTER])
@pytest.mark.parametrize("interactive", [True, False])
async def test_a_replacement_character_and_an_unfinished_one(run: Run, quirk: Quirk | None, interactive: bool) -> None:
    far = run("printf '<\\357\\277\\275>...\\342\\202'", quirk, interactive=interactive)
    await far.until_finished()
    assert far.output == (b"<\xef>..." if quirk else b"<\xef\xbf\xbd>...\xe2\x82")


async def test_output_of_many_characters_that_are_cut_arrives_whole(tmp_path: Path) -> None:
    data = "€".encode() * 200_000
    (tmp_path / "data").write_bytes(data)
    async with Sandbox(quirks=["mangled-replacement-character"]) as sandbox, RawClient() as client:
        command = {"command": [f"stty raw -echo; cat {tmp_path / 'data'}; echo end"]}
        started = await sandbox.start_session("AWS-StartInteractiveCommand", command)
        await client.open(started.stream_url, started.token)
        assert await client.until_closed() == ""
        assert client.output in (data + b"end\n", data + b"end", data + b"en")


# pace


def test_the_pace_is_that_of_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[AgentSettings] = []
    monkeypatch.setattr(sandbox_module, "AgentSettings", lambda *values: made.append(AgentSettings(*values)))
    Sandbox(quirks=["pace"])
    Sandbox(quirks=["signal-scan"])
    assert [settings.pace for settings in made] == ["real", "fast"]


# pause-stops-output


@pytest.mark.parametrize("quirk", [None, Quirk.PAUSE_STOPS_OUTPUT])
async def test_output_during_an_absence_is_the_last_of_a_command(run: Run, quirk: Quirk | None, tmp_path: Path) -> None:
    first, second, written = Gate(tmp_path, "1"), Gate(tmp_path, "2"), tmp_path / "written"
    far = run(f"sh -c 'echo ready; {first}; seq 1000; touch {written}; {second}; echo last; echo err >&2'", quirk)
    await far.until_output(b"ready\n")
    far.send(publication(PAUSE))
    await first.open()
    await far.until(written.exists)
    far.send(publication(START))
    await second.open()
    assert await far.until_finished() == ""
    whole = b"ready\n" + b"".join(b"%d\n" % number for number in range(1, 1001)) + b"last\n"
    assert far.output == (whole if quirk is None else whole[: len("ready\n") + 1024])
    # The other output was silent while the client was away, so it goes on.
    assert far.payloads(PayloadType.STDERR) == b"err\n"
    assert far.payloads(EXIT_CODE) == b"EXIT_CODE: 0"
    assert far.failed is (quirk is not None)


async def test_an_absence_in_which_a_command_is_silent_loses_nothing(run: Run, tmp_path: Path) -> None:
    gate = Gate(tmp_path, "gate")
    far = run(f"sh -c 'echo ready; {gate}; seq 1000'", Quirk.PAUSE_STOPS_OUTPUT)
    await far.until_output(b"ready\n")
    far.send(publication(PAUSE))
    far.send(publication(START))
    await gate.open()
    await far.until_finished()
    assert far.output.endswith(b"\n1000\n")
    assert far.failed is False


@pytest.mark.parametrize("quirk", [None, Quirk.PAUSE_STOPS_OUTPUT])
async def test_the_exit_code_of_a_command_that_ends_during_an_absence(
    run: Run, quirk: Quirk | None, tmp_path: Path
) -> None:
    gate = Gate(tmp_path, "gate")
    far = run(f"sh -c 'echo ready; {gate}'", quirk)
    await far.until_output(b"ready\n")
    far.send(publication(PAUSE))
    await gate.open()
    waiter = f"wait for {far.agent.program_pid}"
    await far.until(lambda: waiter not in [thread.name for thread in threading.enumerate()])
    await asyncio.sleep(0)  # what the thread called in the loop
    far.send(publication(START))
    await far.until_finished()
    assert far.payloads(EXIT_CODE) == (b"EXIT_CODE: 0" if quirk is None else b"")


async def test_the_gateway_tells_the_agent_when_the_client_leaves_and_returns(tmp_path: Path) -> None:
    first, second, written = Gate(tmp_path, "1"), Gate(tmp_path, "2"), tmp_path / "written"
    command = f"sh -c 'echo ready; {first}; seq 1000; touch {written}; {second}; echo last; exit 3'"
    async with Sandbox(quirks=["pause-stops-output"]) as sandbox, RawClient() as client:
        started = await sandbox.start_session(
            "AWS-StartNonInteractiveCommand", {"command": [command], "separateOutputStream": ["true"]}
        )
        await client.open(started.stream_url, started.token)
        await client.read_until(b"ready\n")
        await client.disconnect()
        await sandbox.session(started.session_id).disconnected.wait()
        await first.open()
        await wait_until(written.exists)
        resumed = sandbox.resume(started.session_id)
        await client.open(resumed.stream_url, resumed.token)
        await client.until_size(1024)  # the agent knows that the client is back
        await second.open()
        assert await client.until_closed() == ""
        assert len(client.output) == 1024
        assert client.exit_code == "EXIT_CODE: 3"


# oldest-only-resend


def test_only_the_oldest_message_is_sent_again_and_one_per_interval() -> None:
    sender = OldestOnlySender()
    for number in range(3):
        sender.sent(b"%d" % number, 0.0)
    assert sender.next_timeout() == 0.2
    assert sender.due(0.19) == []
    assert sender.due(0.2) == [b"0"]
    assert sender.next_timeout() == 0.4
    assert sender.acknowledged(0, 0.21)
    assert sender.next_timeout() == 0.2 + RESEND_INTERVAL
    assert sender.due(0.25) == []
    assert sender.due(0.31) == [b"1"]
    assert sender.acknowledged(2, 0.32)
    assert sender.all_again(0.33) == []
    assert sender.capacity == MAX_STORED - 1
    assert sender.acknowledged(1, 0.34)
    assert sender.next_timeout() is None


@pytest.mark.parametrize("quirk", [None, Quirk.OLDEST_ONLY_RESEND])
async def test_lost_output_at_the_end_of_a_program(
    run: Run, quirk: Quirk | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "CLOSING_LIMIT", 0.35)
    clock = ManualClock()
    far = run("stty raw; head -c 16384 /dev/zero", quirk, interactive=True, clock=clock)
    far.receiving = False
    await far.until(lambda: far.agent.state is AgentState.DRAINING)
    far.receiving = True
    async with asyncio.timeout(DEADLINE):
        while far.result is None:
            clock.advance(0.05)
            await rounds()
    assert far.result == ""
    assert far.failed is False
    if quirk is None:
        assert far.output == bytes(16384)
    else:
        assert far.output in [bytes(1024 * count) for count in range(1, 4)]


async def test_the_closing_limit_does_not_wait_for_a_client_that_is_away(run: Run) -> None:
    clock = ManualClock()
    far = run("echo hello", Quirk.OLDEST_ONLY_RESEND, interactive=True, clock=clock)
    far.receiving = False
    await far.until(lambda: far.agent.state is AgentState.DRAINING)
    far.send(publication(PAUSE))
    clock.advance(closing.CLOSING_LIMIT)
    assert await far.until_finished() == ""


@pytest.mark.slow
@pytest.mark.parametrize("quirks", [[], ["oldest-only-resend"]])
async def test_a_lossy_link_loses_the_end_for_real(
    quirks: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(closing, "CLOSING_LIMIT", 0.5)
    file = tmp_path / "data"
    file.write_bytes(bytes(300_000))
    faults = Faults(to_client=MessageFaults(drop=0.1), seed=3)
    async with Sandbox(quirks=quirks, faults=faults) as sandbox, RawClient() as client:
        started = await sandbox.start_session(
            "AWS-StartInteractiveCommand", {"command": [f"stty raw -echo; cat {file}"]}
        )
        await client.open(started.stream_url, started.token)
        assert await client.until_closed() == ""
        assert (len(client.output) == 300_000) is not bool(quirks)
