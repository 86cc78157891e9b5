"""The asyncio API of the package: what the commands use, for programs.

No `sys.exit`, no global state, no logging set-up.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from session_manager_plugin.communicator import (
    RECONNECT_TIMEOUT,
    NetworkOptions,
    SessionDataChannel,
    complete_stream_url,
    create_websocket_config,
)
from session_manager_plugin.communicator.stream_url import is_loopback
from session_manager_plugin.errors import InvalidURL
from session_manager_plugin.session.protocols import KeyService, RequestSigner, ResumeService
from session_manager_plugin.session.runner import HANDLERS, Session

__all__ = ["KEEPALIVE", "RECONNECT_TIMEOUT", "Session", "connect"]

KEEPALIVE = 15.0
"""Seconds between pings: below the idle limits of NAT routers and proxies."""


def connect(
    url: str,
    token: str,
    *,
    session_id: str | None = None,
    connect_timeout: float = 30.0,
    keepalive: float = KEEPALIVE,
    network: NetworkOptions | None = None,
    insecure: bool = False,
    handshake_required: bool = False,
    key_service: KeyService | None = None,
    resume_service: ResumeService | None = None,
    signer: RequestSigner | None = None,
    reconnect_timeout: float = RECONNECT_TIMEOUT,
) -> Session:
    """A session on a stream URL and its token, as StartSession gives them; `async with` opens it.

    `url` is a complete stream URL, used verbatim, or a bare endpoint, which needs `session_id`. Timeout and ping
    interval are in seconds. `handshake_required` says that the session's document is known to begin with a handshake.
    `key_service` gives the data key of a session that asks for encryption (`aws.kms.KmsKeyService` asks KMS). `signer`
    signs the requests that open the websocket (`aws.signing.OpeningSigner` does, with AWS credentials); without it they
    are unsigned. `network.sign` names the hosts that it signs for.

    A lost connection is replaced, for `reconnect_timeout` seconds at most (0: never): first with the token, then with
    one that `resume_service` gives (`aws.resume.SessionResumer` calls ResumeSession).

    Raises `InvalidURL` for a URL that cannot be used, and for `ws://` to another machine unless `insecure`: the
    token would travel in clear.
    """
    url, session_id = complete_stream_url(url, session_id, token)
    parts = urlsplit(url)
    network = network or NetworkOptions()
    if parts.scheme == "ws" and not insecure and not is_loopback(parts.hostname or ""):
        otherwise = f", or {network.names.insecure}" if network.names.insecure else ""
        raise InvalidURL(
            f"refusing ws:// to {parts.hostname}: the token would travel unencrypted; use wss://{otherwise}"
        )
    config = create_websocket_config(
        url,
        token,
        connect_timeout=connect_timeout,
        ping_interval=keepalive,
        retry_attempts=1,
        network=network,
        signer=signer,
    )
    channel = SessionDataChannel(
        config,
        session_id=session_id,
        session_types=frozenset(HANDLERS),
        handshake_required=handshake_required,
        key_service=key_service,
        resume_service=resume_service,
        reconnect_timeout=reconnect_timeout,
    )
    return Session(channel)
