"""The network side of a session: websockets to a message gateway, and the data channel over them."""

from session_manager_plugin.communicator.config import (
    ConnectionHandler,
    ConnectionState,
    ErrorHandler,
    MessageHandler,
    MessageType,
    WebSocketConfig,
    WebSocketMessage,
    create_websocket_config,
)
from session_manager_plugin.communicator.data_channel import SessionDataChannel
from session_manager_plugin.communicator.stream_url import build_stream_url, complete_stream_url, validate_websocket_url
from session_manager_plugin.communicator.websocket_channel import WebSocketChannel, websocket_channel
from session_manager_plugin.utils.link_options import Bearer, LinkOptions, NetworkOptions, Sign

__all__ = [
    "Bearer",
    "ConnectionHandler",
    "ConnectionState",
    "ErrorHandler",
    "LinkOptions",
    "MessageHandler",
    "MessageType",
    "NetworkOptions",
    "SessionDataChannel",
    "Sign",
    "WebSocketChannel",
    "WebSocketConfig",
    "WebSocketMessage",
    "build_stream_url",
    "complete_stream_url",
    "create_websocket_config",
    "validate_websocket_url",
    "websocket_channel",
]
