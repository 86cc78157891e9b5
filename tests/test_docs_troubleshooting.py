"""Every text in the first column of docs/troubleshooting.md is one that a user can see."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable
from pathlib import Path

import botocore.exceptions
import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
QUOTED = [
    text
    for cell in re.findall(r"^\| ((?:[^|\\]|\\.)+?) \|", PAGE, re.MULTILINE)
    for text in re.findall(r"`([^`]+)`", cell)
]


@functools.cache
def literals() -> list[str]:
    """The text of every string in the source; a value in it is a NUL."""
    found = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


PRODUCED: dict[str, Callable[[], str]] = {
    "Could not connect to the endpoint URL": lambda: str(botocore.exceptions.EndpointConnectionError.fmt),
}
"""Texts with a value, and texts of libraries: functions that produce them."""
FOREIGN = {
    "<stdin> is a directory, cannot continue": "CPython, Python/pylifecycle.c",
    "certificate verify failed": "OpenSSL, X509 verification in ssl_err.c",
    "not authorized to perform: ssm:StartSession": "IAM User Guide, Troubleshoot access denied error messages",
    "Temporary failure in name resolution": "glibc, gai_strerror(EAI_AGAIN)",
    "SessionManagerPlugin is not found": "the AWS CLI, awscli/customizations/sessionmanager.py",
    "Command '[…]' returned non-zero exit status 255": "Python's subprocess, in the AWS CLI",
}
"""Texts of other programs, with their source."""


@pytest.mark.parametrize("text", QUOTED)
def test_a_text_that_is_quoted_is_shown_by_something(text: str) -> None:
    if text in FOREIGN:
        assert not any(text in literal for literal in literals())
    elif text in PRODUCED:
        assert text in PRODUCED[text]()
    else:
        assert any(text in literal for literal in literals()), f"nothing shows {text!r}"


def test_the_page_quotes_what_is_listed_here() -> None:
    assert {*PRODUCED, *FOREIGN} <= {*QUOTED}
