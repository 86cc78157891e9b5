"""Which program a session runs: by its type, its properties and the versions of the two ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from session_manager_plugin.agent.command import CommandOutputSeparate, CommandOutputTogether
from session_manager_plugin.agent.documents import DOCUMENTS, SessionType
from session_manager_plugin.agent.port_basic import BasicPort
from session_manager_plugin.agent.port_mux import MuxPort
from session_manager_plugin.agent.program import ProgramError, SessionProgram
from session_manager_plugin.agent.programs import ProgramMaker
from session_manager_plugin.agent.shell import Shell
from session_manager_plugin.protocol.payloads import SESSION_TYPE_ACTION, HandshakeRequest, RequestedAction
from tests.support.vectors import load_vectors

PORT, COMMAND = SessionType.PORT, SessionType.NON_INTERACTIVE_COMMANDS
FORWARDING = {"portNumber": "80", "localPortNumber": "0", "type": "LocalPortForwarding"}
SEPARATE = {"commands": "ls", "separateOutputStream": "True"}
CURRENT_AGENT, CURRENT_CLIENT = "3.3.987.0", "1.3.0.0"

Make = Callable[..., SessionProgram]


def maker(session_type: SessionType, properties: dict[str, str], version: str = CURRENT_AGENT) -> ProgramMaker:
    return ProgramMaker(session_type, properties, version, ["sh"])


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes a program, which is not started; it is closed at the end."""
    programs = []

    def make_program(
        session_type: SessionType, properties: dict[str, str], agent: str = CURRENT_AGENT, client: str = CURRENT_CLIENT
    ) -> SessionProgram:
        program = maker(session_type, properties, agent).make(
            client, on_output=lambda: None, on_input_taken=lambda: None
        )
        programs.append(program)
        return program

    yield make_program
    for program in programs:
        await program.close()


@pytest.mark.parametrize(
    ("session_type", "properties", "program", "delays"),
    [
        (SessionType.STANDARD_STREAM, {}, Shell, (1.0, 0.001)),
        (SessionType.INTERACTIVE_COMMANDS, {"commands": "ls"}, Shell, (1.0, 0.001)),
        (COMMAND, {"commands": "ls"}, CommandOutputTogether, (0.0, 0.001)),
        (COMMAND, {"commands": "ls", "separateOutputStream": "false"}, CommandOutputTogether, (0.0, 0.001)),
        (COMMAND, SEPARATE, CommandOutputSeparate, (0.0, 0.0)),
        (PORT, {"portNumber": "22"}, BasicPort, (0.0, 0.001)),
        (PORT, FORWARDING, MuxPort, (0.0, 0.001)),
    ],
)
async def test_each_type_has_its_program_and_its_pace(
    make: Make,
    session_type: SessionType,
    properties: dict[str, str],
    program: type,
    delays: tuple[float, float],
) -> None:
    made = make(session_type, properties)
    assert isinstance(made, program)
    assert not made.ended
    assert (made.start_delay, made.message_delay) == delays


@pytest.mark.parametrize(
    ("agent", "client", "program"),
    [
        ("3.0.196.0", CURRENT_CLIENT, BasicPort),
        ("3.0.196.1", CURRENT_CLIENT, MuxPort),
        (CURRENT_AGENT, "1.1.69.0", BasicPort),
        (CURRENT_AGENT, "1.1.70", MuxPort),
        (CURRENT_AGENT, "0.0.1", BasicPort),
        (CURRENT_AGENT, "", BasicPort),
    ],
)
async def test_forwarding_is_multiplexed_when_both_ends_can(make: Make, agent: str, client: str, program: type) -> None:
    assert isinstance(make(PORT, FORWARDING, agent, client), program)


@pytest.mark.parametrize(
    ("agent", "program"), [("3.1.1510.9", CommandOutputTogether), ("3.1.1511.0", CommandOutputSeparate)]
)
async def test_outputs_are_separate_when_the_agent_can(make: Make, agent: str, program: type) -> None:
    assert isinstance(make(COMMAND, SEPARATE, agent), program)


@pytest.mark.parametrize(
    ("session_type", "properties", "text"),
    [
        (SessionType.INTERACTIVE_COMMANDS, {}, "Commands cannot be empty for session type InteractiveCommands"),
        (COMMAND, {"commands": " "}, "Commands cannot be empty for session type NonInteractiveCommands"),
        (
            PORT,
            {**FORWARDING, "portNumber": ""},
            "Port number is empty in session properties. map[localPortNumber:0 portNumber: type:LocalPortForwarding]",
        ),
        (PORT, {}, "Port number is empty in session properties. map[]"),
    ],
)
async def test_properties_without_what_is_needed(
    make: Make, session_type: SessionType, properties: dict[str, str], text: str
) -> None:
    with pytest.raises(ProgramError) as caught:
        make(session_type, properties)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("record", "document", "parameters"),
    [
        ("handshake request NonInteractiveCommands", "AWS-StartNonInteractiveCommand", {"command": ["ls"]}),
        ("handshake request Port", "AWS-StartPortForwardingSession", {}),
        (
            "handshake request Port to remote host",
            "AWS-StartPortForwardingSessionToRemoteHost",
            {"host": ["db.example"], "portNumber": ["3306"]},
        ),
    ],
)
def test_the_handshake_request_is_the_recorded_one(
    record: str, document: str, parameters: dict[str, list[str]]
) -> None:
    session_type = DOCUMENTS[document].session_type
    properties = maker(session_type, DOCUMENTS[document].resolve(parameters)).handshake_properties
    action = RequestedAction(SESSION_TYPE_ACTION, {"SessionType": session_type, "Properties": properties})
    text = HandshakeRequest("3.3.0.0", (action,)).to_json()
    assert text == load_vectors("payload_json_agent.json")["records"][record]
