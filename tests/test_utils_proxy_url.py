"""User and password of a proxy's URL, whatever a parser makes of them."""

from __future__ import annotations

import pytest

from session_manager_plugin.utils.logging import redact
from session_manager_plugin.utils.proxy_url import (
    decode_user_info,
    environments_fault,
    register_password,
    split_proxy_url,
)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://bob:Secret1/x@proxy:3128", ("http", "bob:Secret1/x", "proxy:3128")),
        ("http://bob:a@b?c#d@proxy", ("http", "bob:a@b?c#d", "proxy")),
        ("HTTP://proxy", ("HTTP", None, "proxy")),
        ("bob:a://b@proxy", ("", "bob:a://b", "proxy")),
        ("http://@proxy", ("http", "", "proxy")),
        ("", ("", None, "")),
    ],
)
def test_it_is_split_by_text(url: str, parts: tuple[str, str | None, str]) -> None:
    assert split_proxy_url(url) == parts


def test_what_is_percent_encoded() -> None:
    assert decode_user_info("b%40b:p%2F%C3%BC:x") == ("b@b", "p/\u00fc:x")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://bob:Kp1/x@proxy", "'bob:Kp1' is not a valid host or port"),
        ("http://bob:Kp2?x@proxy", "'bob:Kp2' is not a valid host or port"),
        ("http://bob:a@longword1/x@proxy", "no address for longword1"),
        ("http://bob:p4ss-w0rd@proxy", "p4ss-w0rd"),
        ("bob:p5ss-w0rd@proxy", "p5ss-w0rd"),
    ],
)
def test_what_a_parser_takes_for_a_host_is_hidden(url: str, text: str) -> None:
    assert redact(text) == text
    register_password(url)
    assert "***" in redact(text)


@pytest.mark.parametrize("url", ["http://proxy-ab:3128", "http://bob@proxy-ab", "proxy-ab"])
def test_without_a_password_nothing_is_hidden(url: str) -> None:
    register_password(url)
    assert redact(f"bob: {url}") == f"bob: {url}"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://bob:a/b@proxy:3128", "its user or password holds / ? or #; percent-encode them as %2F %3F %23"),
        ("http://bob:%ff@proxy:3128", "its user or password is not UTF-8; percent-encode the bytes of the UTF-8 form"),
    ],
)
def test_a_fault_of_the_environment(monkeypatch: pytest.MonkeyPatch, url: str, fault: str) -> None:
    monkeypatch.setenv("https_proxy", "http://bob:good@proxy:3128")
    assert environments_fault() is None
    monkeypatch.setenv("https_proxy", url)
    assert environments_fault() == f"the proxy of https_proxy cannot be used: {fault}"
