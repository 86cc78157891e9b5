"""smux version 1: many streams over the one byte stream of a port session, either end of it.

A frame, integers little-endian (the data channel's own messages are big-endian)::

    offset  0        1         2            4              8
            version  command   length       stream id      data, ``length`` bytes (PSH only)
            always 1 SYN …     0 … 65535    0 … 2^32 - 1

The frames form one byte stream, which is split into stream messages at any place. A stream begins with SYN, carries
PSH, and ends with FIN. NOP is a keepalive. UPD belongs to version 2: its 8 bytes of data are skipped. Recorded in
``smux.json``; the numbers are the defaults of the smux in the official agent and client (v1.5.15, ``mux.go``).

The states of a stream at this end::

    OPEN       data flows in both directions
    FINISHED   the far end's FIN was received: no data follows; an official far end discards data sent to this stream
    CLOSED     ``close_stream`` was called: data received is discarded; data queued before is still sent, then FIN

There is no half-closed state: on our FIN the far end drops the stream and the rest of its data (reference defect D8).
An owner whose local program has finished writing stops sending, and closes the stream once the answer is complete.

Version 1 has no window per stream. Data that a stream's reader does not take is kept here; beyond a limit, reading
stops for all streams. The official limit is 4 MiB over all streams (reference defect H16); here it is 4 MiB for one
stream and 64 MiB for all. Beyond either, ``reading_paused`` is true and ``culprit`` is the stream with the most unread
bytes.

Sending is round-robin between the streams that have data queued. Frames are not built ahead of time: ``data_to_send``
builds frames up to the size that the data channel accepts now, and data queued in the meantime takes part in the
round. So a keystroke waits for one turn of every other stream, not for the whole queue of another stream.

Invariants: frames are sent whole; SYN precedes the stream's first PSH, FIN follows its last; a stream is in the
rotation exactly while it has data or a FIN to send; ``total_unread`` is the sum over open and finished streams.

The owner stops reading while ``reading_paused``, stops reading from a local program while its stream's
``send_buffered`` is above ``SEND_HIGH_WATER``, limits the streams that the far end may open (below ``MAX_STREAMS``),
and splits the byte stream into stream messages.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import Final

from session_manager_plugin.errors import LocalProtocolError, ProtocolError, RemoteProtocolError, TimedOut
from session_manager_plugin.protocol.role import Role
from session_manager_plugin.protocol.smux_stream import CLOSED, FULL, IDLE, OPEN, QueueInput, Stream, StreamInput

VERSION: Final = 1
SYN: Final = 0
FIN: Final = 1
PSH: Final = 2
NOP: Final = 3
UPD: Final = 4

HEADER: Final = struct.Struct("<BBHI")
HEADER_SIZE: Final = HEADER.size
UPDATE_SIZE: Final = 8
MAX_FRAME_DATA: Final = 32768
"""Bytes of data in one frame that we send; any length is received."""
SHARED_FRAME_DATA: Final = 4 * 1024 - HEADER_SIZE
"""The same limit while several streams have data queued: a turn of four full stream messages. Smaller turns would
hardly reduce the wait of small data, which also waits for the messages in flight on the data channel."""
MAX_STREAM_UNREAD: Final = 4 * 1024 * 1024
MAX_TOTAL_UNREAD: Final = 64 * 1024 * 1024
MAX_STREAMS: Final = 16_384
"""Most streams at a time: the session fails if the far end opens another. Streams whose FIN is unsent count."""
SEND_HIGH_WATER: Final = 64 * 1024
"""Bytes queued on one stream above which its owner should queue no more. A full window of the data channel may
be in flight in addition."""
SEND_LOW_WATER: Final = 16 * 1024
"""Queued bytes at which ``StreamWritable`` is emitted."""
KEEPALIVE_INTERVAL: Final = 10.0
KEEPALIVE_TIMEOUT: Final = 30.0
_NOP_FRAME: Final = HEADER.pack(VERSION, NOP, 0, 0)


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The far end opened a stream."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamData:
    """The data received on one stream since its last event. It counts as unread until ``consumed`` is called."""

    stream_id: int
    pieces: list[bytes | bytearray]

    @property
    def data(self) -> bytes:
        """The pieces joined."""
        return b"".join(self.pieces)


@dataclass(frozen=True, slots=True)
class StreamFinished:
    """The far end has closed the stream: no data follows. The owner still has to call ``close_stream``."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamWritable:
    """The queue of a stream, once above ``SEND_HIGH_WATER``, is down to ``SEND_LOW_WATER``."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class MuxFailed:
    """The session has failed with ``error``, which the owner raises."""

    error: ProtocolError | TimedOut


MuxEvent = StreamOpened | StreamData | StreamFinished | StreamWritable | MuxFailed


class MuxSession:
    """One end of the multiplexed byte stream; see the module docstring.

    The client's stream ids are 3, 5, 7 …, the agent's 2, 4, 6 …; no session uses 2^31 of them. With ``keepalive`` a NOP
    is sent every 10 s, and the session fails with ``TimedOut`` if nothing was received between two checks 30 s apart.

    After any call the owner sends ``data_to_send``, dispatches ``next_event`` until None and arms its timer for
    ``next_timeout``. Times are float seconds of a monotonic clock. Received data makes no method raise.
    """

    def __init__(self, role: Role, *, keepalive: bool, now: float) -> None:
        self._next_id = 3 if role is Role.CLIENT else 2
        self._streams: dict[int, Stream] = {}
        self._events: deque[tuple[Stream | None, MuxEvent]] = deque()
        self._failed = False

        self._header = bytearray()  # the bytes received of an incomplete header
        self._body_left = 0
        self._body_stream: Stream | None = None
        self._total_unread = 0
        self._crowded = 0  # streams above their own limit

        self._control: deque[bytes] = deque()
        self._rotation: deque[Stream] = deque()
        self._turn_left = 0  # bytes left of the first stream's turn, if that was cut short
        self._total_buffered = 0

        self._keepalive = keepalive
        self._nop_at = now + KEEPALIVE_INTERVAL
        self._check_at = now + KEEPALIVE_TIMEOUT
        self._heard_at = float("-inf")
        self._excused = False
        self._excused_since_check = False

    # State.

    @property
    def total_unread(self) -> int:
        """Bytes received on all streams and not yet consumed."""
        return self._total_unread

    @property
    def reading_paused(self) -> bool:
        """Whether the owner must stop reading: more than 4 MiB are unread on one stream, or 64 MiB on all."""
        return self._crowded > 0 or self._total_unread > MAX_TOTAL_UNREAD

    @property
    def culprit(self) -> int | None:
        """The stream with the most unread bytes while ``reading_paused``; otherwise None."""
        if not self.reading_paused:
            return None
        return max(self._streams.values(), key=lambda stream: stream.unread).stream_id

    @property
    def send_pending(self) -> int:
        """Bytes to be sent: queued data (of closed streams too), and a header per control frame and waiting stream."""
        return self._total_buffered + HEADER_SIZE * (len(self._control) + len(self._rotation))

    def unread(self, stream_id: int) -> int:
        """Return the bytes received on a stream and not yet consumed; 0 for a closed stream."""
        stream = self._streams.get(stream_id)
        return stream.unread if stream is not None else 0

    def send_buffered(self, stream_id: int) -> int:
        """Return the bytes queued on a stream; 0 for a closed stream."""
        stream = self._streams.get(stream_id)
        return stream.buffered if stream is not None else 0

    # Receiving.

    def receive_data(self, data: bytes | bytearray, now: float) -> None:
        """Process the next bytes of the far end's byte stream, of any length. Ignored after a failure.

        The data of a frame is passed on as it arrives, before the frame is complete. ``data`` may become part of an
        event and must not be modified afterwards.
        """
        if self._failed or not data:
            return
        self._heard_at = now
        if len(data) > self._body_left:
            self._parse(data)
            return
        self._body_left -= len(data)
        if self._body_stream is not None:
            self._deliver(self._body_stream, data)

    def _parse(self, data: bytes | bytearray) -> None:
        position, size = 0, len(data)
        while position < size and not self._failed:
            if self._body_left:
                body = data[position : position + self._body_left]
                position += len(body)
                self._body_left -= len(body)
                if self._body_stream is not None:
                    self._deliver(self._body_stream, body)
            elif not self._header and size - position >= HEADER_SIZE:
                self._begin_frame(*HEADER.unpack_from(data, position))
                position += HEADER_SIZE
            else:
                piece = data[position : position + HEADER_SIZE - len(self._header)]
                position += len(piece)
                self._header += piece
                if len(self._header) == HEADER_SIZE:
                    header = HEADER.unpack(self._header)
                    self._header.clear()
                    self._begin_frame(*header)

    def _begin_frame(self, version: int, command: int, length: int, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if version != VERSION:
            self._fail(RemoteProtocolError(f"the far end sent a smux frame of version {version}, not {VERSION}"))
        elif command == PSH:
            self._body_left = length
            self._body_stream = stream if stream is not None and stream.state is OPEN else None
        elif command == SYN:
            if stream is None:
                self._open_by_far_end(stream_id)
        elif command == FIN:
            if stream is not None and stream.state is OPEN:
                stream.apply(StreamInput.FIN_RECEIVED)
                self._events.append((stream, StreamFinished(stream_id)))
        elif command == UPD:
            self._body_left = UPDATE_SIZE
            self._body_stream = None
        elif command != NOP:
            self._fail(RemoteProtocolError(f"the far end sent a smux frame with the unknown command {command}"))

    def _open_by_far_end(self, stream_id: int) -> None:
        if max(len(self._streams), len(self._rotation)) >= MAX_STREAMS:
            self._fail(RemoteProtocolError(f"the far end opened more than {MAX_STREAMS} streams"))
            return
        stream = self._streams[stream_id] = Stream(stream_id)
        self._events.append((stream, StreamOpened(stream_id)))

    def _deliver(self, stream: Stream, piece: bytes | bytearray) -> None:
        size = len(piece)
        unread = stream.unread
        stream.unread = unread + size
        self._total_unread += size
        if unread <= MAX_STREAM_UNREAD < unread + size:
            self._crowded += 1
        if stream.batch is not None:
            stream.batch.pieces.append(piece)
        else:
            stream.batch = StreamData(stream.stream_id, [piece])
            self._events.append((stream, stream.batch))

    def consumed(self, stream_id: int, size: int) -> None:
        """Note that the reader of a stream has taken ``size`` bytes. Ignored for a closed stream.

        Raises ``LocalProtocolError`` if fewer than ``size`` bytes were unread.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not 0 <= size <= stream.unread:
            raise LocalProtocolError(f"{size} bytes of stream {stream_id} consumed, {stream.unread} were unread")
        self._release(stream, size)

    def _release(self, stream: Stream, size: int) -> None:
        if self._crowded or self._total_unread > MAX_TOTAL_UNREAD:
            self._excused_since_check = True
        if stream.unread > MAX_STREAM_UNREAD >= stream.unread - size:
            self._crowded -= 1
        stream.unread -= size
        self._total_unread -= size

    # Sending.

    def open_stream(self) -> int:
        """Open a stream and return its id. Raises ``LocalProtocolError`` if the session has failed."""
        self._check_alive()
        while self._next_id in self._streams:  # the far end may open any id
            self._next_id += 2
        stream_id = self._next_id
        self._next_id += 2
        self._streams[stream_id] = Stream(stream_id)
        self._control.append(HEADER.pack(VERSION, SYN, 0, stream_id))
        return stream_id

    def send_data(self, stream_id: int, data: bytes) -> None:
        """Queue bytes of any length on a stream. Empty ``data`` is ignored.

        Once ``send_buffered`` is above ``SEND_HIGH_WATER``, the owner should wait for ``StreamWritable``. Raises
        ``LocalProtocolError`` if the stream is closed or the session has failed.
        """
        self._check_alive()
        stream = self._streams.get(stream_id)
        if stream is None:
            raise LocalProtocolError(f"stream {stream_id} is not open")
        if data:
            stream.chunks.append(data)
            stream.buffered += len(data)
            self._total_buffered += len(data)
            self._schedule(stream)
            if stream.buffered > SEND_HIGH_WATER and stream.queue is not FULL:
                stream.apply_to_queue(QueueInput.OVERFILLED)

    def close_stream(self, stream_id: int) -> None:
        """Close a stream: queued data is sent, then FIN. Unread data and data received later are discarded.

        No event of the stream follows. Ignored for a closed stream.
        """
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return
        self._release(stream, stream.unread)
        stream.apply(StreamInput.CLOSE)
        if self._body_stream is stream:
            self._body_stream = None
        if not self._failed:
            self._schedule(stream)

    def _schedule(self, stream: Stream) -> None:
        if stream.queue is IDLE:
            stream.apply_to_queue(QueueInput.QUEUED)
            self._rotation.append(stream)

    def data_to_send(self, limit: int) -> bytes:
        """Return the next bytes of our byte stream, ``limit`` at most; empty if there is nothing to send.

        The caller must send them, in order. ``limit`` is the number of bytes that the data channel accepts now; it must
        be more than ``HEADER_SIZE``.
        """
        parts: list[bytes | memoryview] = []
        room = limit
        control, rotation = self._control, self._rotation
        while control and room >= HEADER_SIZE:
            parts.append(control.popleft())
            room -= HEADER_SIZE
        while rotation and room > HEADER_SIZE:
            stream = rotation[0]
            if stream.buffered:
                room -= self._send_frame(stream, room, parts)
            if self._turn_left:
                break
            rotation.popleft()
            closed = stream.state is CLOSED
            if not stream.buffered and closed and room >= HEADER_SIZE:
                parts.append(HEADER.pack(VERSION, FIN, 0, stream.stream_id))
                room -= HEADER_SIZE
            elif stream.buffered or closed:
                rotation.append(stream)
            else:
                stream.apply_to_queue(QueueInput.EMPTIED)
        return b"".join(parts)

    def _send_frame(self, stream: Stream, room: int, parts: list[bytes | memoryview]) -> int:
        """Append one frame of the first stream in the rotation to ``parts`` and return its length.

        If ``room`` cuts a frame short, the stream keeps the rest of its turn for the next call. Otherwise the stream
        that is last in each call would send less than the others.
        """
        shared = len(self._rotation) > 1
        turn = (self._turn_left or SHARED_FRAME_DATA) if shared else MAX_FRAME_DATA
        wanted = min(stream.buffered, turn)
        size = min(wanted, room - HEADER_SIZE)
        self._turn_left = turn - size if shared and size < wanted else 0
        parts.append(HEADER.pack(VERSION, PSH, size, stream.stream_id))
        stream.take(size, parts)
        self._total_buffered -= size
        if stream.queue is FULL and stream.buffered <= SEND_LOW_WATER:
            stream.apply_to_queue(QueueInput.DRAINED)
            self._events.append((stream, StreamWritable(stream.stream_id)))
        return HEADER_SIZE + size

    # Time.

    def excuse_silence(self, excused: bool) -> None:
        """Set whether silence of the far end is ignored: while the owner does not read or the link is being restored.

        While ``reading_paused``, silence is always ignored.
        """
        self._excused = excused
        self._excused_since_check = True

    def next_timeout(self) -> float | None:
        """Return when to call ``handle_timeout``; None without keepalive."""
        if self._failed or not self._keepalive:
            return None
        return min(self._nop_at, self._check_at)

    def handle_timeout(self, now: float) -> None:
        """Perform all timed actions that are due at ``now``. Early and late calls are harmless."""
        if self._failed or not self._keepalive:
            return
        if self._nop_at <= now:
            self._nop_at = now + KEEPALIVE_INTERVAL
            if not self._control:  # any frame still to be sent keeps the session alive as well
                self._control.append(_NOP_FRAME)
        if self._check_at <= now:
            silent = self._heard_at < self._check_at - KEEPALIVE_TIMEOUT
            excused = self._excused or self._excused_since_check or self.reading_paused
            self._check_at = now + KEEPALIVE_TIMEOUT
            self._excused_since_check = False
            if silent and not excused:
                sentence = f"no data was received on the forwarding channel for {KEEPALIVE_TIMEOUT:.0f} seconds"
                self._fail(TimedOut(sentence, seconds=KEEPALIVE_TIMEOUT))

    # Events.

    def next_event(self) -> MuxEvent | None:
        """Return the next event, or None. The events of each stream are in order."""
        while self._events:
            stream, event = self._events.popleft()
            if stream is None:
                return event
            if stream.state is not CLOSED:
                if event is stream.batch:
                    stream.batch = None
                return event
        return None

    def _check_alive(self) -> None:
        if self._failed:
            raise LocalProtocolError("the multiplexed session has failed")

    def _fail(self, error: ProtocolError | TimedOut) -> None:
        self._failed = True
        self._control.clear()
        self._rotation.clear()
        self._total_buffered = 0
        self._events.append((None, MuxFailed(error)))
