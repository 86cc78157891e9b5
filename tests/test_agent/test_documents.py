"""Which parameters a session document takes, and which properties come of them."""

from __future__ import annotations

from typing import Any

import pytest

from session_manager_plugin.agent.documents import (
    DEFAULT_DOCUMENT,
    DOCUMENTS,
    InvalidParametersError,
    SessionType,
)

INTERACTIVE = "AWS-StartInteractiveCommand"
NON_INTERACTIVE = "AWS-StartNonInteractiveCommand"
SSH = "AWS-StartSSHSession"
FORWARDING = "AWS-StartPortForwardingSession"
REMOTE_HOST = "AWS-StartPortForwardingSessionToRemoteHost"
SOCKET = "AWS-StartPortForwardingSessionToSocket"


@pytest.mark.parametrize(
    ("name", "session_type", "values", "properties"),
    [
        (DEFAULT_DOCUMENT, SessionType.STANDARD_STREAM, {}, {}),
        (
            INTERACTIVE,
            SessionType.INTERACTIVE_COMMANDS,
            {"command": ["echo '{{ x }}' $HOME\n"]},
            {"commands": "echo '{{ x }}' $HOME\n"},
        ),
        (
            NON_INTERACTIVE,
            SessionType.NON_INTERACTIVE_COMMANDS,
            {"command": ["ls"]},
            {
                "commands": "ls",
                "separateOutputStream": "false",
                "stdOutSeparatorPrefix": "",
                "stdErrSeparatorPrefix": "",
            },
        ),
        (
            NON_INTERACTIVE,
            SessionType.NON_INTERACTIVE_COMMANDS,
            {
                "command": ["{{ stdoutSeparatorPrefix }}"],
                "separateOutputStream": ["true"],
                "stdoutSeparatorPrefix": ["OUT:"],
                "stderrSeparatorPrefix": ["not valid"],
            },
            {
                "commands": "{{ stdoutSeparatorPrefix }}",
                "separateOutputStream": "true",
                "stdOutSeparatorPrefix": "OUT:",
                "stdErrSeparatorPrefix": "not valid",
            },
        ),
        (SSH, SessionType.PORT, {}, {"portNumber": "22"}),
        (SSH, SessionType.PORT, {"portNumber": ["65535"]}, {"portNumber": "65535"}),
        (
            FORWARDING,
            SessionType.PORT,
            {},
            {"portNumber": "80", "localPortNumber": "0", "type": "LocalPortForwarding"},
        ),
        (
            FORWARDING,
            SessionType.PORT,
            {"portNumber": ["5432"], "localPortNumber": ["15432"]},
            {"portNumber": "5432", "localPortNumber": "15432", "type": "LocalPortForwarding"},
        ),
        (
            REMOTE_HOST,
            SessionType.PORT,
            {"host": ["db.example"], "portNumber": ["3306"]},
            {"portNumber": "3306", "localPortNumber": "0", "type": "LocalPortForwarding", "host": "db.example"},
        ),
        (
            REMOTE_HOST,
            SessionType.PORT,
            {},
            {"portNumber": "80", "localPortNumber": "0", "type": "LocalPortForwarding", "host": "localhost"},
        ),
        (
            SOCKET,
            SessionType.PORT,
            {"portNumber": ["80"], "localUnixSocket": ["/tmp/a socket"]},
            {
                "portNumber": "80",
                "localUnixSocket": "/tmp/a socket",
                "localConnectionType": "unix",
                "type": "LocalPortForwarding",
            },
        ),
    ],
)
def test_a_document_with_its_parameters(
    name: str, session_type: SessionType, values: dict[str, list[str]], properties: dict[str, str]
) -> None:
    assert DOCUMENTS[name].session_type is session_type
    assert DOCUMENTS[name].resolve(values) == properties


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (DEFAULT_DOCUMENT, {"command": ["ls"]}, "has no parameter command"),
        (INTERACTIVE, {}, "needs the parameter command"),
        (INTERACTIVE, {"command": ["ls"], "portNumber": ["22"]}, "has no parameter portNumber"),
        (INTERACTIVE, {"command": []}, "takes one value"),
        (INTERACTIVE, {"command": ["a", "b"]}, "takes one value"),
        (NON_INTERACTIVE, {"separateOutputStream": ["true"]}, "needs the parameter command"),
        (NON_INTERACTIVE, {"command": ["ls"], "separateOutputStream": ["maybe"]}, 'has value "maybe" not matching'),
        (SSH, {"portNumber": ["0"]}, 'Parameter "portNumber" has value "0" not matching'),
        (SSH, {"portNumber": ["65536"]}, "not matching"),
        (SSH, {"portNumber": ["22\n"]}, "not matching"),
        (SSH, {"portNumber": ["ssh"]}, "not matching"),
        (SSH, {"localPortNumber": ["0"]}, "has no parameter localPortNumber"),
        (FORWARDING, {"localPortNumber": ["00"]}, "not matching"),
        (FORWARDING, {"host": ["db.example"]}, "has no parameter host"),
        (REMOTE_HOST, {"host": ["[::1]"]}, "not matching"),
        (REMOTE_HOST, {"host": ["ab"]}, "not matching"),
        (SOCKET, {}, "needs the parameter localUnixSocket"),
        (SOCKET, {"localUnixSocket": [""]}, "not matching"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidParametersError, match=message):
        DOCUMENTS[name].resolve(values)


@pytest.mark.parametrize(
    ("session_type", "required"),
    [
        (SessionType.STANDARD_STREAM, False),
        (SessionType.INTERACTIVE_COMMANDS, False),
        (SessionType.NON_INTERACTIVE_COMMANDS, True),
        (SessionType.PORT, True),
    ],
)
def test_which_session_types_require_a_handshake(session_type: SessionType, required: bool) -> None:
    assert session_type.requires_handshake is required
