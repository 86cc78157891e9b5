"""The names, values and defaults of the communicator's public configuration."""

from __future__ import annotations

import dataclasses

import pytest

import session_manager_plugin.communicator as communicator
from session_manager_plugin.communicator import (
    Bearer,
    ConnectionState,
    MessageType,
    NetworkOptions,
    Sign,
    WebSocketConfig,
    WebSocketMessage,
)
from session_manager_plugin.utils.setting_names import SMP_SETTINGS

URL = "wss://gateway.example/v1/data-channel/alice-1?role=publish_subscribe&token=a-token-in-the-url"
TOKEN = "a-token-of-its-own"


@pytest.mark.parametrize(
    "name",
    [
        "ConnectionHandler",
        "ConnectionState",
        "ErrorHandler",
        "MessageHandler",
        "MessageType",
        "SessionDataChannel",
        "WebSocketChannel",
        "WebSocketConfig",
        "WebSocketMessage",
        "build_stream_url",
        "create_websocket_config",
        "validate_websocket_url",
        "websocket_channel",
    ],
)
def test_the_promised_names_are_importable(name: str) -> None:
    assert name in communicator.__all__
    assert getattr(communicator, name) is not None


def test_message_types() -> None:
    assert {kind.name: kind.value for kind in MessageType} == {
        "TEXT": "text",
        "BINARY": "binary",
        "CLOSE": "close",
        "ERROR": "error",
    }


def test_connection_states() -> None:
    assert {state.name: state.value for state in ConnectionState} == {
        "DISCONNECTED": "disconnected",
        "CONNECTING": "connecting",
        "CONNECTED": "connected",
        "CLOSING": "closing",
        "CLOSED": "closed",
        "ERROR": "error",
    }


def test_a_message_has_no_timestamp_unless_given_one() -> None:
    assert WebSocketMessage(MessageType.TEXT, "x") == WebSocketMessage(MessageType.TEXT, "x", None)


def test_defaults_of_the_configuration() -> None:
    config = WebSocketConfig(url=URL, token=TOKEN)

    assert dataclasses.asdict(config) == {
        "url": URL,
        "token": TOKEN,
        "ping_interval": 30.0,
        "ping_timeout": 10.0,
        "connect_timeout": 30.0,
        "max_message_size": 1024 * 1024,
        "max_queue_size": 100,
        "retry_attempts": 3,
        "retry_delay": 1.0,
        "network": {
            "bearer": Bearer.AUTO,
            "proxy": None,
            "ca_bundle": None,
            "dial": None,
            "sign": Sign.AUTO,
            "names": dataclasses.asdict(SMP_SETTINGS),
        },
        "signer": None,
    }


def test_the_nine_fields_come_in_the_promised_order() -> None:
    config = WebSocketConfig(URL, TOKEN, 1.0, 2.0, 3.0, 4, 5, 6, 7.0)

    assert (config.ping_interval, config.ping_timeout, config.connect_timeout) == (1.0, 2.0, 3.0)
    assert (config.max_message_size, config.max_queue_size) == (4, 5)
    assert (config.retry_attempts, config.retry_delay) == (6, 7.0)


def test_no_secret_shows_in_the_repr() -> None:
    config = WebSocketConfig(URL, TOKEN, network=NetworkOptions(proxy="http://user:a-password@proxy:3128"))

    for text in (repr(config), str(config), f"{config!r}"):
        assert TOKEN not in text
        assert "a-token-in-the-url" not in text
        assert "a-password" not in text
        assert "token=***" in text
        assert "gateway.example" in text
