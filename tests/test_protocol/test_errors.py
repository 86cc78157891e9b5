"""``errors.py``: the tree in its docstring matches the classes, and each exception has its attributes."""

import inspect
import re

import pytest

from session_manager_plugin import errors
from session_manager_plugin.errors import (
    ConnectError,
    ConnectionLost,
    InvalidURL,
    LocalProtocolError,
    NotConnected,
    ProtocolError,
    Refused,
    RemoteProtocolError,
    SessionEnded,
    SessionManagerError,
    TimedOut,
)


def drawn_tree() -> dict[str, str]:
    """Every class in the docstring's drawing, with the class it hangs on."""
    assert errors.__doc__ is not None
    parents: dict[str, str] = {}
    branch: list[str] = []
    for line in errors.__doc__.splitlines():
        match = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?: |$)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        branch[depth:] = [match[2]]
        if depth:
            parents[match[2]] = branch[depth - 1]
    return parents


def test_the_drawn_tree_is_the_real_one() -> None:
    classes = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if kind.__module__ == errors.__name__ and kind is not SessionManagerError
    }
    assert drawn_tree() == {name: kind.__bases__[0].__name__ for name, kind in classes.items()}


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (ConnectError("m", host="h", retryable=True), {"host": "h", "retryable": True}),
        (Refused("m", host="h", status=403), {"host": "h", "status": 403, "retryable": False}),
        (ConnectionLost("m", close_code=1006), {"close_code": 1006}),
        (TimedOut("m", seconds=30.0), {"seconds": 30.0}),
        (SessionEnded("m", output="bye"), {"output": "bye"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_carries_its_facts(error: SessionManagerError, facts: dict[str, object]) -> None:
    assert str(error) == "m"
    assert {name: getattr(error, name) for name in facts} == facts


def test_where_a_builtin_was_promised_it_is_one() -> None:
    assert issubclass(NotConnected, RuntimeError)
    assert issubclass(InvalidURL, ValueError)


def test_whose_fault_a_protocol_error_is() -> None:
    assert issubclass(LocalProtocolError, ProtocolError)
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
