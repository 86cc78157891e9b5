"""NonInteractiveCommands: a remote command without a terminal; its outputs and its exit status."""

from __future__ import annotations

import asyncio
import re
import signal

from session_manager_plugin.errors import NotConnected, OutputIncomplete
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.ending import check_end, describe_missing
from session_manager_plugin.session.protocols import IDataChannel, Interruptible, Notices, Streams
from session_manager_plugin.session.stopped_output import StoppedOutput

KEYS = {
    getattr(signal, name): key for name, key in (("SIGINT", b"\x03"), ("SIGQUIT", b"\x1c")) if hasattr(signal, name)
}
"""What stands for a signal: the agent looks at the first byte of a message, and sends the signal to the command."""
KILLED = -1
"""What the agent says of a command that a signal has ended; not which."""
FAILURE = 255
_EXIT_CODE = re.compile(rb"EXIT_CODE: (-?[0-9]{1,18})")


class CommandHandler(Interruptible):
    """Passes the outputs on as they come, and the exit status at the end.

    Only where the session's document asks for it (`separateOutputStream`), and with agents from 3.1.1511.0 on, are the
    two outputs apart and is there an exit status; else the status is 0. Prefixes are the agent's. The command has no
    standard input, so ours is left to whoever reads it next.
    """

    def __init__(self, streams: Streams, notices: Notices) -> None:
        self._streams = streams
        self._notices = notices
        self._keys: asyncio.Queue[bytes] | None = None
        self._sent: set[int] = set()
        self._exit_code: int | None = None

    @property
    def interrupted(self) -> bool:
        """Never: what a signal means is the command's affair."""
        return False

    def interrupt(self, number: int) -> bool:
        """Pass SIGINT and SIGQUIT on to the command, each once; who presses Ctrl-C again wants to leave."""
        if self._keys is None or number not in KEYS or number in self._sent:
            return False
        self._sent.add(number)
        self._keys.put_nowait(KEYS[number])
        return True

    async def run(self, channel: IDataChannel) -> int:
        """Show the outputs until the session ends; gives the command's exit status.

        That is 255 for a command that a signal has ended, and when it is none that fits into the status of a process.
        Raises what ended the session before the command had ended, `OutputIncomplete` when part of the outputs is
        missing, and `BrokenPipeError` when nobody reads standard output any more.
        """
        streams = self._streams
        output_failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        streams.set_output_failed_handler(output_failed.set_exception)
        streams.set_flow_handlers(channel.pause_reading, channel.resume_reading)
        self._keys = asyncio.Queue()
        ended = asyncio.ensure_future(channel.ended())
        keys = asyncio.ensure_future(self._send_keys(channel, self._keys))
        channel.set_payload_handler(PayloadType.STDERR, streams.write_error)
        channel.set_payload_handler(PayloadType.EXIT_CODE, self._exited)
        channel.set_input_handler(streams.write)
        stopped_output = StoppedOutput(channel, streams, self._notices)
        ways_to_end: set[asyncio.Future[str] | asyncio.Future[None]] = {ended, output_failed}
        try:
            await asyncio.wait(ways_to_end, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                await streams.drain()
        finally:
            self._keys = None
            stopped_output.close()
            for task in (ended, keys):
                task.cancel()
            await asyncio.gather(ended, keys, return_exceptions=True)
        if output_failed.done():
            await output_failed
        if self._exit_code is None:
            await check_end(channel)
            return 0
        if ended.exception() is None and ended.result():
            self._notices.trouble(f"the far end closed the session: {ended.result().strip()}")
        status = self._status(self._exit_code)
        if channel.missing_output is not None:
            if status == self._exit_code:
                self._notices.trouble(f"the command's exit status was {status}")
            raise OutputIncomplete(describe_missing(channel.missing_output))
        return status

    async def _send_keys(self, channel: IDataChannel, keys: asyncio.Queue[bytes]) -> None:
        while True:
            try:
                await channel.send_input_data(await keys.get())
            except NotConnected:
                return  # the session is over; `ended` says why

    def _exited(self, data: bytes) -> None:
        match = _EXIT_CODE.fullmatch(data)
        if match is None:
            self._notices.trouble(f"the agent sent a malformed exit status: {data[:40]!r}")
            self._exit_code = FAILURE
        else:
            self._exit_code = int(match[1])

    def _status(self, exit_code: int) -> int:
        if 0 <= exit_code <= 255:
            return exit_code
        if exit_code == KILLED:
            self._notices.trouble("the command was killed by a signal")
        else:
            self._notices.trouble(f"the command's exit status {exit_code} is outside 0–255")
        return FAILURE
