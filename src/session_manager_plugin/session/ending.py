"""How sessions end: the far end's closing text, and the request to terminate."""

from __future__ import annotations

import asyncio
import contextlib

from session_manager_plugin.errors import SessionManagerError
from session_manager_plugin.protocol.events import MissingOutput
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.session.outcome import Outcome
from session_manager_plugin.session.protocols import IDataChannel

TERMINATE_TIMEOUT = 2.0
"""Seconds within which the agent has to acknowledge the flag TerminateSession."""


async def wait_for_end(channel: IDataChannel) -> Outcome:
    """Wait until the far end closes the session, and return the outcome.

    Raises the error if the session ends otherwise, such as ``ConnectionLost``. If messages are missing, the error's
    attribute ``incomplete`` is set.
    """
    try:
        text = await channel.ended()
    except SessionManagerError as error:
        if channel.missing_output is not None and channel.missing_output.messages:
            error.incomplete = describe_missing(channel.missing_output)
        raise
    missing = describe_missing(channel.missing_output) if channel.missing_output is not None else ""
    return Outcome(text=text, by_far_end=True, incomplete=missing)


def describe_missing(missing: MissingOutput) -> str:
    """Return a sentence about missing output, and about output that was not written because of the gap."""
    parts = []
    if missing.stopped:
        parts.append("the connection was lost while the command ran, and the agent then sends no more output")
    if missing.messages:
        some = "1 message" if missing.messages == 1 else f"{missing.messages} messages"
        parts.append(
            f"at least {some} (about {_size(missing.size)}) did not arrive, and {_size(missing.undelivered_size)} "
            "received after that point were left out"
        )
    known = "is" if missing.messages else "may be"
    return f"the output {known} incomplete: {'; '.join(parts)}"


def _size(size: int) -> str:
    return f"{size / 1000:.0f} kB" if size >= 10_000 else f"{size} bytes"


async def terminate(channel: IDataChannel, timeout: float = TERMINATE_TIMEOUT) -> None:
    """Make the agent end a port session. Returns when the agent has acknowledged the flag, when the session has ended,
    or after ``timeout`` seconds.

    The websocket must not be closed before this returns: the far end's kernel may discard the last data of a
    closed connection (reference defect D14). For other session types agents ignore the flag.
    """
    channel.resume_reading()  # to receive the acknowledgement
    with contextlib.suppress(TimeoutError, SessionManagerError):
        async with asyncio.timeout(timeout):
            await channel.send_flag(Flag.TERMINATE_SESSION)
            await channel.drain()


def post_termination(channel: IDataChannel) -> None:
    """Send the flag TerminateSession without waiting, if the window has room.

    The channel's ``close`` waits for the acknowledgement.
    """
    flag = Flag.TERMINATE_SESSION.serialize()
    with contextlib.suppress(SessionManagerError):
        if channel.send_capacity >= len(flag):
            channel.send_now(flag, PayloadType.FLAG)
