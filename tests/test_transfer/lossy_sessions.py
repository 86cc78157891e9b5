"""Sessions with a target in memory, over a link that loses messages and is cut. No process, no socket, no waiting.

Fulfils ``transfer.sessions.Sessions``. The target prints what the script of a download prints.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import random
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field

from session_manager_plugin.errors import ConnectionLost, NotConnected
from session_manager_plugin.protocol.events import MissingOutput
from session_manager_plugin.protocol.messages import (
    MAX_PAYLOAD_SIZE,
    ClientMessage,
    ClientMessageType,
    PayloadType,
)
from session_manager_plugin.protocol.reliable import StreamReceiver
from session_manager_plugin.session.protocols import InputHandler
from session_manager_plugin.transfer.scripts import BLOCK_SIZE, MIN_PARTED_SIZE, part_blocks
from session_manager_plugin.transfer.sessions import CopyChannel

_SETTING = re.compile(r"\b(skip|offset|size|parts|blocks)=(\d*)")


def printed(files: Mapping[bytes, bytes], command: str, *, gzipped: bool) -> Iterator[bytes]:
    """Yield what the script of ``command`` prints on a target that holds ``files``, which are all requested."""
    wanted = {
        name: int(value) if value else None for name, value in _SETTING.findall(command.partition("\nexec 3>&1")[0])
    }
    skip, offset, parts = wanted["skip"] or 0, wanted["offset"] or 0, wanted["parts"] or 1
    yield b":h base64 sha256 1 1\n"
    for index, (name, contents) in enumerate(files.items()):
        if index < skip:
            continue
        start, size, blocks = (offset, wanted["size"], wanted["blocks"]) if index == skip else (0, None, None)
        contents = contents[: len(contents) if size is None else size]
        end = len(contents)
        if blocks is not None:
            end = (start // BLOCK_SIZE + blocks) * BLOCK_SIZE
        elif parts > 1 and len(contents) >= MIN_PARTED_SIZE:
            end = part_blocks(len(contents), parts)[0][1] * BLOCK_SIZE
        data = contents[start:end]
        yield b":f %d %d %d 644 1 %d =%b\n" % (index, start, gzipped, len(contents), base64.b64encode(name))
        yield base64.encodebytes(gzip.compress(data, 1) if gzipped else data)
        if blocks is not None:
            yield b":e none -\n:q %d\n" % (index + 1)
            return
        yield b":e sha256 %b\n" % hashlib.sha256(contents).hexdigest().encode()
    yield b":q %d\n" % len(files)


@dataclass(frozen=True)
class Link:
    """``loss`` is the probability that a message is lost or arrives damaged, and that it is lost again when it is
    retransmitted. The websocket is cut after ``cut_after`` messages of each session; after the reconnect the agent
    retransmits only. When a retransmission is lost, the session ends, and with it the end of the output."""

    loss: float = 0.0
    cut_after: int = 10**9


class LossyChannel(CopyChannel):
    """One session. ``sent`` is the number of bytes of output that the agent has sent."""

    def __init__(self, output: bytes, link: Link, dice: random.Random) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._output = output
        self._link = link
        self._dice = dice
        self._receiver = StreamReceiver()
        self._on_output: InputHandler = lambda _data: None
        self._on_stop: Callable[[], None] = lambda: None
        self._stopped = False
        self.sent = 0

    def _send(self) -> None:
        output = self._output
        pieces = [output[at : at + MAX_PAYLOAD_SIZE] for at in range(0, len(output), MAX_PAYLOAD_SIZE)]
        first = pieces[: self._link.cut_after]
        self.sent = sum(map(len, first))
        lost = [number for number, piece in enumerate(first) if not self._arrives(number, piece)]
        self._stopped = len(first) < len(pieces)
        if self._stopped:
            self._on_stop()
        self._loop.call_soon(self._retransmit, pieces, lost)

    def _retransmit(self, pieces: list[bytes], lost: list[int]) -> None:
        for number in lost:
            if not self._receiver.disordered:
                self._receive(number, pieces[number])
            elif not self._arrives(number, pieces[number]):
                break
        if self._stopped:
            self._end(ConnectionLost("cut again"))
            return
        self._end("")

    def _arrives(self, number: int, piece: bytes) -> bool:
        if self._dice.random() < self._link.loss:
            return False
        self._receive(number, piece)
        return True

    def _receive(self, number: int, piece: bytes) -> None:
        message = ClientMessage(
            ClientMessageType.OUTPUT_STREAM_DATA.value, number, PayloadType.OUTPUT, piece, bytes(16), 0
        )
        for ready in self._receiver.receive(message) or ():
            self._on_output(bytes(ready.payload))

    def _end(self, outcome: str | Exception) -> None:
        if self._ended.done():
            return
        if isinstance(outcome, str):
            self._ended.set_result(outcome)
        else:
            self._ended.set_exception(outcome)
            self._ended.exception()

    def leave(self) -> None:
        """End the session from this side."""
        self._end(NotConnected("closed"))

    async def ended(self) -> str:
        return await asyncio.shield(self._ended)

    async def send_input_data(self, data: bytes) -> None:
        raise NotImplementedError

    @property
    def missing_output(self) -> MissingOutput | None:
        missing = self._receiver.missing if self._ended.done() else 0
        return MissingOutput(messages=missing, stopped=self._stopped) if missing or self._stopped else None

    @property
    def output_gap(self) -> int:
        return self._receiver.gap

    @property
    def lossy(self) -> bool:
        return self._receiver.disordered

    def set_output_stopped_handler(self, handler: Callable[[], None]) -> None:
        self._on_stop = handler

    def set_input_handler(self, handler: InputHandler) -> None:
        self._on_output = handler
        self._loop.call_soon(self._send)

    def set_payload_handler(self, payload_type: int, handler: InputHandler) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@dataclass
class LossySessions:
    """Starts sessions over ``link``; ``files`` are those that the download requests."""

    files: Mapping[bytes, bytes]
    link: Link
    seed: int = 0
    gzipped: bool = False
    channels: list[LossyChannel] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def command(self, command: str) -> AsyncIterator[CopyChannel]:
        """See ``Sessions``."""
        output = b"".join(printed(self.files, command, gzipped=self.gzipped))
        channel = LossyChannel(output, self.link, random.Random(f"{self.seed} {len(self.channels)}"))
        self.channels.append(channel)
        yield channel
        channel.leave()

    def shell(self) -> contextlib.AbstractAsyncContextManager[CopyChannel]:
        """See ``Sessions``."""
        raise NotImplementedError
