"""The values of ``-L`` and ``-D``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.errors import UsageError
from session_manager_plugin.session.forward_spec import ForwardSpec, LocalAddress, parse_forward, parse_socks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8080:80", ForwardSpec(LocalAddress(port=8080), "", 80)),
        (":80", ForwardSpec(LocalAddress(), "", 80)),
        ("0:80", ForwardSpec(LocalAddress(), "", 80)),
        ("5432:db.internal:5433", ForwardSpec(LocalAddress(port=5432), "db.internal", 5433)),
        ("8080::80", ForwardSpec(LocalAddress(port=8080), "", 80)),
        ("8080:[fd00::1]:80", ForwardSpec(LocalAddress(port=8080), "fd00::1", 80)),
        ("0.0.0.0:8080:web:80", ForwardSpec(LocalAddress("0.0.0.0", 8080), "web", 80)),
        ("[::1]:8080:web:80", ForwardSpec(LocalAddress("::1", 8080), "web", 80)),
        ("[::1]:8080:[::1]:80", ForwardSpec(LocalAddress("::1", 8080), "::1", 80)),
        ("/tmp/db.sock:5432", ForwardSpec(LocalAddress(path="/tmp/db.sock"), "", 5432)),
        ("./db.sock:db:5432", ForwardSpec(LocalAddress(path="./db.sock"), "db", 5432)),
        ("5432:rds:orders", ForwardSpec(LocalAddress(port=5432), "", None, "orders")),
        ("5432:rds:orders:5433", ForwardSpec(LocalAddress(port=5432), "", 5433, "orders")),
        (":rds:orders", ForwardSpec(LocalAddress(), "", None, "orders")),
        ("::1:5432:rds:orders", None),
        ("127.0.0.1:5432:rds:orders", ForwardSpec(LocalAddress("127.0.0.1", 5432), "", None, "orders")),
        ("127.0.0.1:5432:rds:orders:1", ForwardSpec(LocalAddress("127.0.0.1", 5432), "", 1, "orders")),
        ("/tmp/db.sock:rds:orders", ForwardSpec(LocalAddress(path="/tmp/db.sock"), "", None, "orders")),
        ("5432:rds:5432", ForwardSpec(LocalAddress(port=5432), "rds", 5432)),
        ("", None),
        ("80", None),
        ("a:80", None),
        ("65536:80", None),
        ("80:0", None),
        ("80:65536", None),
        ("80:http", None),
        ("80:host:http", None),
        ("1:2:3:4:5:6", None),
        ("/tmp/db.sock", None),
        ("/tmp/db.sock:", None),
        ("[::1:80", None),
        ("[::1]x:80", None),
        ("8080:fd00::1:80", None),
    ],
)
def test_forms_of_a_forwarded_port(text: str, expected: ForwardSpec | None) -> None:
    if expected is not None:
        assert parse_forward(text) == expected
        return
    with pytest.raises(UsageError) as refused:
        parse_forward(text)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("text", "on_target", "remote"),
    [
        ("1:80", True, "localhost:80"),
        ("1:LOCALHOST:80", True, "LOCALHOST:80"),
        ("1:127.1.2.3:80", True, "127.1.2.3:80"),
        ("1:[::1]:80", True, "[::1]:80"),
        ("1:10.0.0.1:80", False, "10.0.0.1:80"),
        ("1:[fd00::1]:80", False, "[fd00::1]:80"),
        ("1:rds:orders", False, "rds:orders"),
        ("1:rds:orders:5433", False, "rds:orders:5433"),
    ],
)
def test_where_a_port_is(text: str, on_target: bool, remote: str) -> None:
    spec = parse_forward(text)
    assert spec.is_on_target is on_target
    assert spec.remote == remote


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1080", LocalAddress(port=1080)),
        ("0", LocalAddress()),
        ("[::1]:1080", LocalAddress("::1", 1080)),
        ("0.0.0.0:1080", LocalAddress("0.0.0.0", 1080)),
        ("x", None),
        ("1:2:3", None),
        ("70000", None),
    ],
)
def test_forms_of_a_socks_port(text: str, expected: LocalAddress | None) -> None:
    if expected is not None:
        assert parse_socks(text) == expected
        return
    with pytest.raises(UsageError):
        parse_socks(text)


@given(st.text(alphabet="019:[]./rdsab", max_size=24))
def test_any_text_is_a_port_or_a_usage_error(text: str) -> None:
    for parse in (parse_forward, parse_socks):
        try:
            parse(text)
        except UsageError:
            continue
