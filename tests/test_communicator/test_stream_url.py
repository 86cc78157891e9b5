"""Stream URLs and configurations."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from session_manager_plugin.communicator import (
    WebSocketConfig,
    build_stream_url,
    complete_stream_url,
    create_websocket_config,
    validate_websocket_url,
)
from session_manager_plugin.errors import InvalidURL, UsageError
from session_manager_plugin.utils.hosts import host_and_port, is_loopback, join_host_and_port

STREAM_URL = "wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/alice-1?role=publish_subscribe&cell-number=7"


@pytest.mark.parametrize(
    ("base", "begins"),
    [
        ("wss://gateway.example/stream", "wss://gateway.example/stream?"),
        ("ws://gateway.example/stream", "ws://gateway.example/stream?"),
        ("https://gateway.example/stream", "wss://gateway.example/stream?"),
        ("http://gateway.example/stream", "ws://gateway.example/stream?"),
        ("HTTPS://gateway.example/stream", "wss://gateway.example/stream?"),
        ("gateway.example/stream", "wss://gateway.example/stream?"),
        ("gateway.example:8443", "wss://gateway.example:8443?"),
    ],
)
def test_build_stream_url_makes_a_websocket_url(base: str, begins: str) -> None:
    url = build_stream_url(base, "alice-1", "the token")

    assert url.startswith(begins)
    assert parse_qsl(urlsplit(url).query) == [("sessionId", "alice-1"), ("token", "the token")]


def test_build_stream_url_keeps_the_query_byte_for_byte() -> None:
    url = build_stream_url("wss://gateway.example/stream?a=b%20c&empty=&bare&x=%C3%A9", "alice-1", "t&k=n")

    assert url == ("wss://gateway.example/stream?a=b%20c&empty=&bare&x=%C3%A9&sessionId=alice-1&token=t%26k%3Dn")


def test_build_stream_url_replaces_older_values_of_its_own_parameters() -> None:
    url = build_stream_url("wss://gateway.example/?token=old&keep=1&sessionId=old", "new-id", "new")

    assert url == "wss://gateway.example/?keep=1&sessionId=new-id&token=new"


def test_a_complete_stream_url_is_never_rebuilt() -> None:
    assert build_stream_url(STREAM_URL, "other", "token") == STREAM_URL
    assert complete_stream_url(STREAM_URL, None, "token") == (STREAM_URL, "alice-1")
    assert complete_stream_url(STREAM_URL, "mine", "token") == (STREAM_URL, "mine")


def test_a_bare_aws_endpoint_gets_the_services_path_and_no_token() -> None:
    url, session_id = complete_stream_url("ssmmessages.eu-west-1.amazonaws.com", "alice/1", "the token")

    assert session_id == "alice/1"
    assert url == (
        "wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/alice%2F1?role=publish_subscribe&sessionId=alice%2F1"
    )


def test_a_dual_stack_endpoint_of_aws_gets_no_token_either() -> None:
    url, _ = complete_stream_url("ssmmessages.us-isob-east-1.api.aws.scloud", "alice-1", "the token")

    assert "token" not in url


def test_a_bare_endpoint_elsewhere_gets_the_token_too() -> None:
    url, _ = complete_stream_url("https://gateway.example/", "alice-1", "the token")

    assert url == (
        "wss://gateway.example/v1/data-channel/alice-1?role=publish_subscribe&sessionId=alice-1&token=the+token"
    )


def test_a_path_of_the_users_own_is_kept() -> None:
    url, _ = complete_stream_url("wss://gateway.example/stream?x=1", "alice-1", "t")

    assert url == "wss://gateway.example/stream?x=1&sessionId=alice-1&token=t"


@pytest.mark.parametrize(
    ("url", "session_id", "said"),
    [
        ("wss://gateway.example", None, "names no session"),
        ("ftp://gateway.example", "alice-1", "is not a stream URL"),
        ("wss://", "alice-1", "is not a stream URL"),
        ("wss://gateway.example:99999/", "alice-1", "is not a stream URL"),
        ("wss://gateway.example:0/?token=a-secret", "alice-1", "is not a stream URL"),
        ("", "alice-1", "is not a stream URL"),
    ],
)
def test_urls_that_lead_nowhere_are_refused(url: str, session_id: str | None, said: str) -> None:
    with pytest.raises(InvalidURL, match=said) as caught:
        complete_stream_url(url, session_id, "t")

    assert isinstance(caught.value, UsageError)
    assert isinstance(caught.value, ValueError)
    assert "a-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "ws://localhost",
        "wss://gateway.example",
        "WSS://gateway.example",
        "ws://127.0.0.1:8080/stream?x=1",
        "wss://[::1]:65535/",
        STREAM_URL,
    ],
)
def test_valid_websocket_urls(url: str) -> None:
    assert validate_websocket_url(url) is True


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gateway.example",
        "http://gateway.example",
        "wss:gateway.example",
        "wss://",
        "wss:///path",
        "wss://:443/",
        "wss://gateway.example:0",
        "wss://gateway.example:65536",
        "wss://gateway.example:https",
        "wss://[::1",
        "wss://user@gateway.example",
        "wss://user:pass-word@gateway.example",
        "wss://gateway.example/a b",
        "wss://gateway.example/\r\nHost: elsewhere",
        "wss://gateway\x00.example/",
    ],
)
def test_invalid_websocket_urls(url: str) -> None:
    assert validate_websocket_url(url) is False


def test_create_websocket_config_has_the_defaults_of_the_class() -> None:
    assert create_websocket_config(STREAM_URL, "t") == WebSocketConfig(STREAM_URL, "t")


def test_create_websocket_config_takes_the_fields() -> None:
    config = create_websocket_config(
        STREAM_URL,
        "t",
        ping_interval=1.0,
        ping_timeout=2.0,
        connect_timeout=3.0,
        max_message_size=4,
        max_queue_size=5,
        retry_attempts=6,
        retry_delay=7.0,
    )

    assert config == WebSocketConfig(STREAM_URL, "t", 1.0, 2.0, 3.0, 4, 5, 6, 7.0)


def test_create_websocket_config_refuses_unknown_keywords() -> None:
    with pytest.raises(TypeError, match="ping_intervall"):
        create_websocket_config(STREAM_URL, "t", ping_intervall=1.0)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("ws://a.example/", ("a.example", 80)),
        ("wss://A.example/", ("a.example", 443)),
        ("wss://a.example:8443/", ("a.example", 8443)),
        ("ws://[::1]:81/", ("::1", 81)),
    ],
)
def test_host_and_port(url: str, place: tuple[str, int]) -> None:
    assert host_and_port(url) == place


def test_an_ipv6_address_is_written_in_brackets() -> None:
    assert join_host_and_port("::1", 81) == "[::1]:81"
    assert join_host_and_port("a.example", 81) == "a.example:81"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "x.localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["localhost.example", "10.0.0.1", "::2", "0.0.0.0", "gateway.example", ""])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("url", ["wss://h/v1/data-channel/s#top", "h?a=b#c", "wss://h#"])
def test_a_fragment_is_refused_with_what_to_do(url: str) -> None:
    with pytest.raises(InvalidURL, match=r"has a fragment, .* write # as %23"):
        complete_stream_url(url, "s", "t")
    assert not validate_websocket_url(url)
