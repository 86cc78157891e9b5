"""Which proxy a connection goes through."""

from __future__ import annotations

import pytest

from session_manager_plugin.utils.proxy_choice import proxy_for

FAR = "wss://gateway.example/v1/data-channel/alice-1"
FAR_IN_CLEAR = "ws://gateway.example/v1/data-channel/alice-1"


def test_none_by_default() -> None:
    assert proxy_for(FAR, None) is None
    assert proxy_for(FAR_IN_CLEAR, None) is None


def test_the_given_one_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://from-the-environment:1")
    monkeypatch.setenv("NO_PROXY", "gateway.example")

    assert proxy_for(FAR, "http://given:2") == "http://given:2"


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("HTTPS_PROXY", FAR),
        ("https_proxy", FAR),
        ("WSS_PROXY", FAR),
        ("ALL_PROXY", FAR),
        ("HTTP_PROXY", FAR_IN_CLEAR),
        ("HTTPS_PROXY", FAR_IN_CLEAR),
        ("ALL_PROXY", FAR_IN_CLEAR),
    ],
)
def test_the_usual_variables(monkeypatch: pytest.MonkeyPatch, variable: str, url: str) -> None:
    monkeypatch.delenv("REQUEST_METHOD", raising=False)  # with it HTTP_PROXY is not trusted: it may be a header
    monkeypatch.setenv(variable, "http://user:pass-word@proxy.example:3128")

    assert proxy_for(url, None) == "http://user:pass-word@proxy.example:3128"


def test_a_tls_connection_does_not_use_the_proxy_for_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")

    assert proxy_for(FAR, None) is None


def test_the_more_special_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://all:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://https:2")

    assert proxy_for(FAR, None) == "http://https:2"


@pytest.mark.parametrize(
    ("exceptions", "host"),
    [
        ("gateway.example", "gateway.example"),
        ("GATEWAY.example", "gateway.example"),
        (".example", "gateway.example"),
        ("*.example", "gateway.example"),
        (" other , *.gateway.example", "gateway.example"),
        ("other,gateway.example:443", "gateway.example"),
        ("*.example:443", "gateway.example"),
        ("*", "gateway.example"),
        ("other,*", "gateway.example"),
        ("10.0.0.5", "10.0.0.5"),
        ("10.0.0.0/8", "10.0.0.5"),
        ("10.0.0.0/8:443", "10.0.0.5"),
        ("2001:db8::/32", "[2001:db8::5]"),
        ("[2001:DB8:0::5]", "[2001:db8::5]"),
        ("[2001:db8::5]:443", "[2001:db8::5]"),
    ],
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, exceptions: str, host: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", exceptions)

    assert proxy_for(f"wss://{host}/", None) is None


@pytest.mark.parametrize(
    ("exceptions", "host"),
    [
        ("other.example,gateway.example:8443", "gateway.example"),
        ("way.example", "gateway.example"),
        ("10.0.0.0/8", "gateway.example"),
        ("10.0.0.0/8", "11.0.0.5"),
        ("10.0.0.0/99,no/address", "10.0.0.5"),
        ("[2001:db8::5]:8443", "[2001:db8::5]"),
        (",, .,*.,:443", "gateway.example"),
    ],
)
def test_no_proxy_for_something_else(monkeypatch: pytest.MonkeyPatch, exceptions: str, host: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", exceptions)

    assert proxy_for(f"wss://{host}/", None) == "http://proxy.example:3128"


def test_without_a_scheme_it_is_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:3128")

    assert proxy_for(FAR, None) == "http://proxy.example:3128"
    assert proxy_for(FAR, "given:1") == "http://given:1"


def test_macos_gives_its_socks_proxy_as_if_it_spoke_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOCKS_PROXY", "http://socks.example:1080")

    assert proxy_for(FAR, None) == "socks5h://socks.example:1080"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "gateway.localhost"])
def test_loopback_is_never_proxied(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:3128")

    assert proxy_for(f"ws://{host}:8080/", None) is None
    assert proxy_for(f"wss://{host}/", "http://given:1") is None
