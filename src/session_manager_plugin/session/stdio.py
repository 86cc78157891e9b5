"""Port sessions on standard input and output: a byte stream for another program, such as ``ssh`` (ProxyCommand)."""

from __future__ import annotations

import asyncio

from session_manager_plugin.errors import NotConnected
from session_manager_plugin.protocol.messages import Flag, PayloadType
from session_manager_plugin.session.ending import post_termination, terminate, wait_for_end
from session_manager_plugin.session.first_of import first_of
from session_manager_plugin.session.outcome import EndReason, Outcome
from session_manager_plugin.session.protocols import Clock, IDataChannel, Notices, Streams
from session_manager_plugin.session.sleep import sleep

SILENCE_AFTER_EOF = 60.0
"""Seconds without received bytes after which the session is ended, once standard input has ended and is acknowledged:
the protocol cannot signal the end of input, so the far end may wait for ever."""
ABANDONED_CHECK_INTERVAL = 1.0
"""Seconds between checks for a closed standard output, once the input has ended."""
LOOK_INTERVAL = 5.0
"""Seconds between checks, after the end of the input, for a broken link or a full standard output: while either lasts,
no bytes can be received."""


class StdioHandler:
    """Passes bytes in both directions unchanged. Only payload is written to standard output; the terminal's modes, if
    there is a terminal, are not changed."""

    def __init__(self, streams: Streams, notices: Notices, clock: Clock | None = None) -> None:
        """``clock`` is the event loop by default."""
        self._streams = streams
        self._clock: Clock = clock or asyncio.get_running_loop()
        self._notices = notices
        self._paused = False
        self._last_byte_at = 0.0
        self._input_ended = asyncio.Event()

    async def run(self, channel: IDataChannel) -> Outcome:
        """Run the session to its end. It ends normally when the reader of standard output closes it: ``ssh`` has ended.

        Raises the channel's errors, and ``OSError`` if standard input cannot be read or standard output not written.
        """
        streams = self._streams
        output_failed: asyncio.Future[OSError] = asyncio.get_running_loop().create_future()
        streams.set_output_failed_handler(output_failed.set_result)
        streams.set_flow_handlers(lambda: self._pause(channel), lambda: self._resume(channel))
        ended = asyncio.ensure_future(channel.ended())
        unread = asyncio.ensure_future(self._until_unread(output_failed))
        sending = asyncio.ensure_future(self._send(channel))
        channel.set_payload_handler(PayloadType.FLAG, self._flags_received)
        channel.set_input_handler(self._received)
        asked_to_end = False
        try:
            async with first_of(ended, unread, sending, cancel=(ended, unread, sending)):
                if ended.done():
                    await streams.drain()
                    _check_output(output_failed)
                    return await wait_for_end(channel)
                asked_to_end = True
                await terminate(channel)
                await streams.drain()
                _check_output(output_failed)
                if sending.done():
                    sending.result()
                reason = EndReason.OUTPUT_UNREAD if unread.done() else EndReason.INPUT_ENDED
                return Outcome(reason=reason, by_far_end=not channel.is_open)
        finally:
            if not asked_to_end and channel.is_open:
                post_termination(channel)

    async def _until_unread(self, output_failed: asyncio.Future[OSError]) -> None:
        """Wait until writing to standard output fails or, after the end of the input, until a check at intervals shows
        that its reader has closed it: ``ssh`` may have been killed while there are no bytes to write."""
        ended = asyncio.ensure_future(self._input_ended.wait())
        try:
            await asyncio.wait((output_failed, ended), return_when=asyncio.FIRST_COMPLETED)
            while not output_failed.done() and not self._streams.output_abandoned:
                await asyncio.wait((output_failed,), timeout=ABANDONED_CHECK_INTERVAL)
        finally:
            ended.cancel()

    async def _send(self, channel: IDataChannel) -> None:
        """Send standard input to its end, and return after ``SILENCE_AFTER_EOF`` without received bytes."""
        try:
            while data := await self._streams.read():
                await channel.send_input_data(data)
                self._last_byte_at = self._clock.time()
            self._input_ended.set()
            await channel.drain()
        except NotConnected:
            await asyncio.Event().wait()  # the session has ended; ``ended`` raises the reason
        self._last_byte_at = self._clock.time()
        while True:
            if channel.health.troubled or self._paused:  # no bytes can be received: silence does not count
                self._last_byte_at = self._clock.time()
            remaining = self._last_byte_at + SILENCE_AFTER_EOF - self._clock.time()
            if remaining <= 0:
                return
            await sleep(min(remaining, LOOK_INTERVAL), self._clock)

    def _received(self, data: bytes) -> None:
        self._last_byte_at = self._clock.time()
        self._streams.write(data)

    def _pause(self, channel: IDataChannel) -> None:
        self._paused = True
        channel.pause_reading()

    def _resume(self, channel: IDataChannel) -> None:
        self._paused = False
        self._last_byte_at = self._clock.time()
        channel.resume_reading()

    def _flags_received(self, data: bytes) -> None:
        if data.endswith(Flag.CONNECT_TO_PORT_ERROR.serialize()):
            self._notices.destination_failed("")


def _check_output(failed: asyncio.Future[OSError]) -> None:
    """Raise the error of standard output, unless its reader has closed it."""
    if failed.done() and not isinstance(failed.result(), BrokenPipeError):
        raise failed.result()
