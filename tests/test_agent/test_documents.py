"""Which parameters a session document takes."""

from __future__ import annotations

import pytest

from session_manager_plugin.agent.documents import (
    DEFAULT_DOCUMENT,
    DOCUMENTS,
    InvalidParametersError,
    SessionType,
)

INTERACTIVE = "AWS-StartInteractiveCommand"


def test_the_default_document_is_a_plain_shell() -> None:
    document = DOCUMENTS[DEFAULT_DOCUMENT]
    assert document.session_type is SessionType.STANDARD_STREAM
    assert document.resolve_commands({}) == ""


def test_the_command_of_an_interactive_session_is_taken_as_it_is() -> None:
    document = DOCUMENTS[INTERACTIVE]
    assert document.session_type is SessionType.INTERACTIVE_COMMANDS
    assert document.resolve_commands({"command": ["echo '{{ x }}' $HOME"]}) == "echo '{{ x }}' $HOME"


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (DEFAULT_DOCUMENT, {"command": ["ls"]}, "has no parameter command"),
        (INTERACTIVE, {}, "needs the parameter command"),
        (INTERACTIVE, {"command": ["ls"], "portNumber": ["22"]}, "has no parameter portNumber"),
        (INTERACTIVE, {"command": []}, "takes one value"),
        (INTERACTIVE, {"command": [""]}, "takes one value"),
        (INTERACTIVE, {"command": ["a", "b"]}, "takes one value"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(name: str, values: dict[str, list[str]], message: str) -> None:
    with pytest.raises(InvalidParametersError, match=message):
        DOCUMENTS[name].resolve_commands(values)
