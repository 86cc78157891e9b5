"""The handler of NonInteractiveCommands sessions: a remote command without a terminal."""

from __future__ import annotations

import asyncio
import signal

from session_manager_plugin.errors import NotConnected
from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.ending import describe_missing, wait_for_end
from session_manager_plugin.session.first_of import first_of
from session_manager_plugin.session.outcome import CommandExit, Outcome, parse_exit_status
from session_manager_plugin.session.protocols import IDataChannel, Interruptible, Notices, Streams
from session_manager_plugin.session.stopped_output import StoppedOutput

KEYS = {
    getattr(signal, name): key for name, key in (("SIGINT", b"\x03"), ("SIGQUIT", b"\x1c")) if hasattr(signal, name)
}
"""The byte for each signal: when a message begins with it, the agent sends the signal to the command."""


class CommandHandler(Interruptible):
    """Writes the command's output as it arrives, and returns the command's exit status.

    If the document requests it (``separateOutputStream``) and the agent is 3.1.1511.0 or newer, the agent sends
    standard output and standard error separately, and an exit status. Otherwise the status is None. Prefixes that the
    document requests are added by the agent. The command has no standard input, so ``streams`` is not read.
    """

    def __init__(self, streams: Streams, notices: Notices) -> None:
        self._streams = streams
        self._notices = notices
        self._keys: asyncio.Queue[bytes] | None = None
        self._sent: set[int] = set()
        self._exit: CommandExit | None = None

    @property
    def interrupted(self) -> bool:
        """Always false: the command handles signals itself."""
        return False

    def interrupt(self, number: int) -> bool:
        """Pass SIGINT and SIGQUIT on to the command, each once. A second Ctrl-C leaves the session."""
        if self._keys is None or number not in KEYS or number in self._sent:
            return False
        self._sent.add(number)
        self._keys.put_nowait(KEYS[number])
        return True

    async def run(self, channel: IDataChannel) -> Outcome:
        """Show the output until the session ends; the outcome has the command's exit status.

        Raises the error that ended the session before the exit status arrived, and ``BrokenPipeError`` if the reader of
        standard output has closed it.
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
        try:
            async with first_of(ended, output_failed, cancel=(ended, keys)):
                if ended.done():
                    await streams.drain()
        finally:
            self._keys = None
            stopped_output.close()
        if output_failed.done():
            await output_failed
        if self._exit is None:
            return await wait_for_end(channel)
        closed = ended.exception() is None
        status = self._exit.status
        if self._exit.trouble:
            self._notices.trouble(self._exit.trouble)
        missing = "" if channel.missing_output is None else describe_missing(channel.missing_output)
        if missing and not self._exit.trouble:
            self._notices.trouble(f"the command's exit status was {status}")
        text = ended.result() if closed else ""
        return Outcome(status, text=text, by_far_end=closed, incomplete=missing, is_killed=self._exit.is_killed)

    async def _send_keys(self, channel: IDataChannel, keys: asyncio.Queue[bytes]) -> None:
        while True:
            try:
                await channel.send_input_data(await keys.get())
            except NotConnected:
                return  # the session has ended; ``ended`` raises the reason

    def _exited(self, data: bytes) -> None:
        self._exit = parse_exit_status(data, self._sent)
