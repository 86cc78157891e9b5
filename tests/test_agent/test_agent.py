"""The agent alone: joined in memory to a client's ``SessionEndpoint``, with a real program on a real terminal."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from session_manager_plugin.agent import agent as agent_module
from session_manager_plugin.agent import closing
from session_manager_plugin.agent import shell as shell_module
from session_manager_plugin.agent.agent import AgentSettings, AgentState
from session_manager_plugin.agent.documents import SessionType
from session_manager_plugin.agent.service_messages import channel_closed_message
from session_manager_plugin.agent.shell import Shell
from session_manager_plugin.protocol.messages import (
    MAX_PAYLOAD_SIZE,
    ClientMessage,
    ClientMessageType,
    PayloadType,
)
from session_manager_plugin.protocol.reliable import INITIAL_WINDOW
from tests.support.clock import ManualClock
from tests.support.waiting import rounds
from tests.test_agent.far_end import SETTINGS, FarEnd, publication
from tests.test_agent.processes import is_alive

Join = Callable[..., FarEnd]


@pytest.fixture
def join(far_ends: list[FarEnd]) -> Join:
    """Makes an agent that runs a command, or a plain shell; it is closed at the end."""

    def make(
        command: str = "",
        settings: AgentSettings = SETTINGS,
        session_types: Sequence[str] = ("Standard_Stream", "InteractiveCommands"),
        clock: ManualClock | None = None,
    ) -> FarEnd:
        session_type = SessionType.INTERACTIVE_COMMANDS if command else SessionType.STANDARD_STREAM
        end = FarEnd(session_type, {"commands": command}, settings, session_types=session_types, clock=clock)
        far_ends.append(end)
        return end

    return make


def running_shell(far: FarEnd) -> Shell:
    assert isinstance(far.program, Shell)
    return far.program


PAUSE, START = ClientMessageType.PAUSE_PUBLICATION, ClientMessageType.START_PUBLICATION


async def test_it_reports_connected_runs_and_reports_terminating(join: Join) -> None:
    far = join("echo $((40+2))")
    far.agent.start()
    assert await far.until_finished() == ""
    assert far.output == b"42\r\n"
    assert far.states() == ["Connected", "Terminating"]
    assert far.delivered[0].message_type == ClientMessageType.AGENT_SESSION_STATE
    assert far.delivered[-1].message_type == ClientMessageType.AGENT_SESSION_STATE
    first_output = next(m for m in far.delivered if m.message_type == ClientMessageType.OUTPUT_STREAM_DATA)
    assert (first_output.sequence_number, first_output.flags) == (0, 1)


async def test_a_handshake_comes_first_when_it_is_wanted(join: Join) -> None:
    far = join("echo hello", replace(SETTINGS, handshake=True, version="3.9.1.0"))
    far.agent.start()
    assert await far.until_finished() == ""
    assert far.ready is not None
    assert (far.ready.session_type, far.ready.peer_version) == ("InteractiveCommands", "3.9.1.0")
    assert far.output == b"hello\r\n"


async def test_a_client_that_refuses_the_session_type_ends_the_session(join: Join) -> None:
    far = join("echo hello", replace(SETTINGS, handshake=True), session_types=())
    far.agent.start()
    assert await far.until_finished() == (
        "\n----------ERROR-------\nEncountered error while initiating handshake. SessionType failed on client "
        "with status 2 error: Failed to process action SessionType: Unknown session type InteractiveCommands"
    )
    assert far.agent.program_pid == 0


async def test_a_shell_that_cannot_be_started_ends_the_session(join: Join) -> None:
    far = join("", replace(SETTINGS, shell=["/no/such/shell"]))
    far.agent.start()
    assert await far.until_finished() == (
        "\n----------ERROR-------\nUnable to start command: /no/such/shell: No such file or directory"
    )


async def test_output_waits_for_the_window_and_is_sent_again(join: Join) -> None:
    far = join("stty raw -echo; head -c 300000 /dev/zero")
    far.receiving = False
    far.agent.start()
    # Resending shows that time has passed; nothing beyond the window was sent in it.
    await far.until(lambda: len(far.output_numbers()) > INITIAL_WINDOW)
    assert set(far.output_numbers()) <= set(range(INITIAL_WINDOW))
    far.receiving = True
    assert await far.until_finished() == ""
    assert far.output == bytes(300_000)


async def test_the_result_waits_for_the_last_output_but_not_for_ever(join: Join) -> None:
    clock = ManualClock()
    far = join("echo hello", clock=clock)
    far.receiving = False
    far.agent.start()
    await far.until(lambda: far.agent.state is AgentState.DRAINING)
    clock.advance(0.9 * closing.DRAIN_TIMEOUT)
    assert far.result is None
    clock.advance(0.2 * closing.DRAIN_TIMEOUT)
    assert await far.until_finished() == ""
    assert far.states() == ["Connected", "Terminating"]


async def test_the_result_waits_as_long_as_acknowledgements_come(join: Join) -> None:
    clock = ManualClock()
    far = join("stty raw; head -c 4096 /dev/zero", clock=clock)
    far.receiving = False
    far.agent.start()
    await far.until(lambda: far.agent.state is AgentState.DRAINING)
    output = [each for each in far.delivered if each.message_type == ClientMessageType.OUTPUT_STREAM_DATA]
    for number in range(3):
        clock.advance(0.9 * closing.DRAIN_TIMEOUT)
        assert far.result is None
        far.connection.receive_message(output[number].serialize(), clock.time())
        far.answer()
    far.receiving = True
    clock.advance(0.9 * closing.DRAIN_TIMEOUT)  # the rest is sent again
    assert await far.until_finished() == ""
    assert far.output == bytes(4096)


async def test_what_is_unacknowledged_leaves_at_once_when_the_client_is_back(join: Join) -> None:
    far = join("stty raw; echo hello; read x")
    far.receiving = False
    far.agent.start()
    await far.until(lambda: 0 in far.output_numbers())
    far.send(publication(PAUSE))
    sent = len(far.output_numbers())
    far.send(publication(START))
    assert far.output_numbers()[sent:] == sorted(set(far.output_numbers()))


async def test_the_last_output_waits_for_a_client_that_is_away(join: Join) -> None:
    clock = ManualClock()
    far = join("echo hello", clock=clock)
    far.receiving = False
    far.agent.start()
    await far.until(lambda: far.agent.state is AgentState.DRAINING)
    far.send(publication(PAUSE))
    sent = len(far.delivered)
    clock.advance(2 * closing.DRAIN_TIMEOUT)  # twice as long as it would wait for a client that is there
    await rounds()
    assert far.result is None
    assert len(far.delivered) == sent
    far.receiving = True
    far.send(publication(START))
    assert await far.until_finished() == ""
    assert far.output == b"hello\r\n"


async def test_nothing_is_read_from_the_shell_while_the_client_is_away(join: Join) -> None:
    far = join("echo ready; read x; seq 10000")
    far.agent.start()
    await far.until_output(b"ready\r\n")
    far.send(publication(PAUSE))
    # Typed by the gateway's leave only in this test: an input message would end the pause.
    running_shell(far).write(b"\n")
    sent = len(far.delivered)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(far.delivered) == sent
    far.send(publication(START))
    assert await far.until_finished() == ""
    assert far.output.endswith(b"\r\n9999\r\n10000\r\n")


async def test_a_congested_socket_stops_the_shell_and_the_resending(join: Join) -> None:
    far = join("yes")
    far.agent.start()
    await far.until_output(b"y\r\n")
    far.agent.set_congested(True)
    sent = len(far.delivered)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(far.delivered) == sent
    taken = len(far.output)
    far.agent.set_congested(False)
    await far.until(lambda: len(far.output) > taken)


async def test_input_that_the_terminal_does_not_take_is_left_unacknowledged(join: Join, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(1024 * 1024)
    fifo = tmp_path / "go"
    far = join(f"stty raw -echo; mkfifo {fifo}; seq 50; echo ready; cat {fifo}; head -c {len(data)} | sha256sum")
    far.agent.start()
    await far.until_output(b"ready\n")
    chunks = [data[start : start + MAX_PAYLOAD_SIZE] for start in range(0, len(data), MAX_PAYLOAD_SIZE)]

    async def type_all() -> None:
        for chunk in chunks:
            await far.until(lambda: far.connection.send_capacity > 0)
            far.type(chunk)

    typing = asyncio.create_task(type_all())
    # The window grows with each acknowledgement, so it is the agent that stops the typing.
    acknowledged = shell_module.MAX_INPUT_SIZE // MAX_PAYLOAD_SIZE
    await far.until(lambda: far.agent.withheld_size > 0)
    for _ in range(200):
        await asyncio.sleep(0)
    assert not typing.done()
    numbers = {
        json.loads(m.payload)["AcknowledgedMessageSequenceNumber"]
        for m in far.delivered
        if m.message_type == ClientMessageType.ACKNOWLEDGE
    }
    # The terminal itself holds some.
    assert acknowledged <= len(numbers) < acknowledged + 200

    await asyncio.to_thread(fifo.write_text, "")
    await typing
    await far.until_finished()
    assert far.output.endswith(f"{hashlib.sha256(data).hexdigest()}  -\n".encode())


async def test_withheld_input_has_a_limit(join: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_module, "MAX_INPUT_SIZE", 4096)
    monkeypatch.setattr(agent_module, "MAX_WITHHELD_SIZE", 16 * 1024)
    far = join("stty raw -echo; echo ready; sleep 1000")
    far.agent.start()
    await far.until_output(b"ready\n")
    for number in range(2000):
        data = ClientMessage(
            ClientMessageType.INPUT_STREAM_DATA, number, PayloadType.OUTPUT, bytes(1024), bytes(16), 1
        ).serialize()
        far.send(data)
    assert 0 < far.agent.withheld_size <= 16 * 1024
    assert not running_shell(far).takes_input
    assert running_shell(far).input_size < 8192


async def test_each_size_of_a_batch_is_applied_and_a_broken_one_ignored(join: Join) -> None:
    far = join("echo ready; read x; stty size")
    far.agent.start()
    await far.until_output(b"ready\r\n")
    now = asyncio.get_running_loop().time()
    for text in ('{"cols":10,"rows":5}', '{"cols":"wide"}', '{"cols":101,"rows":33}'):
        far.connection.send_data(PayloadType.SIZE, text.encode(), now)
    far.answer()
    far.type(b"\n")
    await far.until_finished()
    assert far.output.endswith(b"33 101\r\n")


async def test_other_payload_types_are_acknowledged_and_ignored(join: Join) -> None:
    far = join('echo ready; read x; echo "<$x>"')
    far.agent.start()
    await far.until_output(b"ready\r\n")
    far.type(b"\x00\x00\x00\x02", PayloadType.FLAG)
    far.type(b"x\n")
    await far.until_finished()
    assert far.output.endswith(b"<x>\r\n")
    assert far.connection.in_flight == 0


async def test_channel_closed_ends_the_shell(join: Join) -> None:
    far = join("echo ready; sleep 1000")
    far.agent.start()
    await far.until_output(b"ready\r\n")
    closed = channel_closed_message("s-1", "", created_at=datetime.now(UTC), message_id=UUID(int=1))
    far.send(closed, closed)
    assert far.result == ""
    await far.agent.close()
    assert not is_alive(far.agent.program_pid)
    far.send(closed)
    far.agent.set_congested(False)
    assert far.agent.state is AgentState.ENDED


async def test_the_real_pace_waits_before_the_first_output_and_after_each_message(
    join: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Shell, "start_delay", 0.2)
    monkeypatch.setattr(Shell, "message_delay", 0.01)
    far = join("stty raw -echo; head -c 10240 /dev/zero", replace(SETTINGS, pace="real"))
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    far.agent.start()
    await far.until(lambda: len(far.output_numbers()) > 0)
    assert loop.time() - started_at >= 0.2
    await far.until_finished()
    assert far.output == bytes(10_240)
    assert loop.time() - started_at >= 0.2 + 0.09  # nine rests
    assert all(len(message.payload) <= MAX_PAYLOAD_SIZE for message in far.delivered)
