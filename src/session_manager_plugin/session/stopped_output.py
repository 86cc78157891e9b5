"""The notice that the agent has stopped sending a command's output, and its repetition after ten silent seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from session_manager_plugin.protocol.messages import PayloadType
from session_manager_plugin.session.protocols import IDataChannel, Notices, Streams

SILENCE = 10.0
"""Seconds without output until the notice is repeated. Output that was on its way is shown after the first notice, and
may scroll that notice off the screen."""
OUTPUT_STOPPED = (
    "the connection was lost while the command ran, and the agent does not send the rest of the command's output; the "
    "command may block for ever on writing it; interrupt twice to leave"
)


class StoppedOutput:
    """Prints a notice when a command session's output has stopped, and a second one after ``SILENCE`` seconds.

    The session continues: the command may still run, and its exit status may still arrive.
    """

    def __init__(self, channel: IDataChannel, streams: Streams, notices: Notices) -> None:
        self._channel = channel
        self._streams = streams
        self._notices = notices
        self._timer: asyncio.TimerHandle | None = None
        self._repeated = False
        channel.set_output_stopped_handler(self._stopped)

    def close(self) -> None:
        """Cancel the second notice, if it is pending."""
        if self._timer is not None:
            self._timer.cancel()

    def _stopped(self) -> None:
        self._notices.trouble(OUTPUT_STOPPED)
        self._channel.set_payload_handler(PayloadType.STDERR, self._watched(self._streams.write_error))
        self._channel.set_input_handler(self._watched(self._streams.write))
        self._wait()

    def _watched(self, write: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Return a function that restarts the wait for silence and calls ``write``."""

        def write_and_wait(data: bytes) -> None:
            self._wait()
            write(data)

        return write_and_wait

    def _wait(self) -> None:
        self.close()
        if not self._repeated:
            self._timer = asyncio.get_running_loop().call_later(SILENCE, self._repeat)

    def _repeat(self) -> None:
        self._repeated = True
        self._notices.trouble(f"no output for {SILENCE:.0f} s: {OUTPUT_STOPPED}")
