"""How sessions end: what the far end's closing text means, and how it is told that we leave."""

from __future__ import annotations

import asyncio
import contextlib

from session_manager_plugin.errors import SessionEnded, SessionManagerError
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.session.protocols import IDataChannel

TERMINATE_TIMEOUT = 2.0
"""Seconds that the agent has to acknowledge that the session is to end."""


def check_output(output: str) -> None:
    """Raise `SessionEnded` with the far end's closing text, if it gave one."""
    if output:
        raise SessionEnded(output.strip(), output=output)


async def terminate(channel: IDataChannel, timeout: float = TERMINATE_TIMEOUT) -> None:
    """Have the agent end a port session; returns when it has acknowledged that, or the session is over, or in `timeout`
    seconds.

    Only then may the websocket be closed: the far end's kernel may throw away what a closing socket had just brought
    (reference defect D14). Agents of other session types do nothing with the flag.
    """
    channel.resume_reading()  # for the acknowledgement
    with contextlib.suppress(TimeoutError, SessionManagerError):
        async with asyncio.timeout(timeout):
            await channel.send_flag(Flag.TERMINATE_SESSION)
            await channel.drain()


def post_termination(channel: IDataChannel) -> None:
    """The same for somebody who cannot wait: it is sent if the window takes it, and `close` waits for the rest."""
    flag = Flag.TERMINATE_SESSION.serialize()
    with contextlib.suppress(SessionManagerError):
        if channel.send_capacity >= len(flag):
            channel.send_now(flag, PayloadType.FLAG)
