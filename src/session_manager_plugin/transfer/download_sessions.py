"""The sessions of a download: another one continues where one was lost."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from session_manager_plugin.errors import (
    AccessDenied,
    ConnectionLost,
    CopyFailed,
    OutputIncomplete,
    SessionExpired,
    TimedOut,
)
from session_manager_plugin.transfer.download_plan import DownloadParser, Event
from session_manager_plugin.transfer.report import CopyOptions, CopyReport
from session_manager_plugin.transfer.scripts import command_words, download_script
from session_manager_plugin.transfer.sessions import CUT_SHORT, OutputReader, Sessions, failure, run_in_shell

STDOUT = b"-"
"""The destination of a download to standard output."""
_ATTEMPTS = 5
"""Lost sessions in a row in which no byte arrived, after which the copy fails."""
_LOST = (ConnectionLost, TimedOut, SessionExpired, OutputIncomplete)
"""The errors after which another session continues the copy."""


class Skipped(Exception):
    """A large file cannot be written: another session continues with the next one."""


class Receiver(Protocol):
    """Receives a download, or a part of one, over any number of sessions."""

    parser: DownloadParser
    finished: bool

    @property
    def position(self) -> tuple[int, int]:
        """The entries that are complete, and the bytes received of the next."""

    @property
    def name(self) -> str:
        """The name of the file that is being received, for a message."""

    def script(self) -> str:
        """Return the script that sends what is missing, for a new session. Replaces ``parser``."""

    async def handle(self, event: Event) -> None:
        """Carry out an event of ``parser``."""

    def discard(self) -> None:
        """Remove an incomplete file or directory. May be called twice."""


@dataclass
class Source:
    """What is copied from where, and in which type of session."""

    sessions: Sessions
    paths: Sequence[bytes]
    options: CopyOptions
    destination: bytes
    report: CopyReport
    in_shell: bool = False

    @property
    def parts(self) -> int:
        """The number of parts of a large file: 1 for standard output and devices, which are written in order."""
        path = self.destination
        is_file = os.path.isfile(path) or os.path.isdir(path) or not os.path.exists(path)
        return self.options.streams if is_file and path != STDOUT else 1

    def script(self, position: tuple[int, int], size: int | None, *, parts: int = 1, blocks: int | None = None) -> str:
        """Return the script that sends everything from ``position`` on; see ``download_script``."""
        skip, offset = position
        return download_script(
            self.paths,
            recursive=self.options.recursive,
            tar=self.destination != STDOUT,
            skip=skip,
            offset=offset,
            size=size,
            parts=parts,
            blocks=blocks,
        )

    async def receive(self, receiver: Receiver) -> None:
        """Receive until the end, in another session when one is lost.

        Raises ``CopyFailed`` after ``_ATTEMPTS`` lost sessions in a row in which nothing arrived.
        """
        fruitless = 0
        while not receiver.finished:
            before = receiver.position
            in_shell = self.in_shell
            try:
                await self._receive_in_session(receiver, in_shell=in_shell)
            except AccessDenied as error:
                if in_shell:
                    raise
                if not self.in_shell:
                    self.in_shell = True
                    self.report.on_notice(f"copying through a shell session, which is slower: {error}")
                continue
            except Skipped:
                continue
            except _LOST as error:
                fruitless = fruitless + 1 if receiver.position == before else 0
                if fruitless == _ATTEMPTS:
                    raise CopyFailed(
                        f"{receiver.name}: nothing arrived in {_ATTEMPTS} sessions in a row ({error}); check the "
                        "connection with smp probe, and copy again when it is better"
                    ) from error

    async def _receive_in_session(self, receiver: Receiver, *, in_shell: bool) -> None:
        """Receive what one session sends. Raises ``OutputIncomplete`` if the agent has stopped the output, or the end
        of it is lost."""
        script = receiver.script()
        opened = self.sessions.shell() if in_shell else self.sessions.command(command_words(script))
        async with opened as channel:
            reader = OutputReader(channel)
            try:
                data = await run_in_shell(channel, reader, script) if in_shell else b""
                while data := data or await reader.read():
                    for event in receiver.parser.receive_data(data.replace(b"\r", b"") if in_shell else data):
                        await receiver.handle(event)
                    if receiver.finished:
                        return
                    data = b""
                if reader.is_incomplete:
                    raise OutputIncomplete("part of the output of the command is missing")
                if reader.was_cut_short and not in_shell:
                    raise CopyFailed(f"{receiver.name}: {CUT_SHORT}")
                raise failure(reader, f"{receiver.name}: the target stopped before the copy was complete")
            except asyncio.CancelledError:
                receiver.discard()  # before the session is terminated, for which there may be no time
                raise
            finally:
                await reader.close()
