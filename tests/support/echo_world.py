"""A remote line editor behind a slow link, with a clock that is a number: what predictive echo is judged by."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from session_manager_plugin.protocol.reliable import StreamProgress
from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal.predict_mode import PredictMode
from session_manager_plugin.terminal.predicted_echo import PredictedEcho
from session_manager_plugin.terminal.screen import Screen

SIZE = TerminalSize(80, 24)
PROMPT = b"\x1b[?2004huser@host:~$ "


class RowTerminal:
    """The cursor's row of a terminal, as far as a line editor and predictions need one."""

    def __init__(self) -> None:
        self.cells = [" "] * SIZE.columns
        self.column = 0

    @property
    def text(self) -> str:
        return "".join(self.cells).rstrip()

    def write(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            byte = data[position : position + 1]
            if byte == b"\x1b":
                end = position + 2
                while not 0x40 <= data[end] <= 0x7E:
                    end += 1
                self._sequence(data[position + 2 : end].decode(), chr(data[end]))
                position = end + 1
                continue
            if byte == b"\r":
                self.column = 0
            elif byte == b"\n":
                self.cells = [" "] * SIZE.columns
            elif byte == b"\x08":
                self.column -= 1
            elif byte >= b" ":
                self.cells[self.column] = byte.decode()
                self.column += 1
            position += 1

    def _sequence(self, parameters: str, final: str) -> None:
        number = int(parameters) if parameters.isdigit() else 1
        if final == "G":
            self.column = number - 1
        elif final == "C":
            self.column += number
        elif final == "K":
            self.cells[self.column :] = [" "] * (SIZE.columns - self.column)
        elif final == "X":
            self.cells[self.column : self.column + number] = [" "] * number
        elif final not in "mhl":
            raise AssertionError(f"unexpected sequence {parameters}{final}")


class EchoWorld:
    """Keys go in by `key`; `terminal` is what the person sees, `plain` what it is without predictions."""

    def __init__(
        self, seed: int, mode: PredictMode, *, delay: float = 0.075, jitter: float = 0.015, prompt: bytes = PROMPT
    ) -> None:
        self.dice = random.Random(seed)
        self.prompt = prompt
        self.now = 0.0
        self.terminal, self.plain = RowTerminal(), RowTerminal()
        self.written = bytearray()
        self.remote_writes = bytearray()
        self.echo_is_on = True
        self.masks = False
        """Whether a star is shown for each character, as by sudo with pwfeedback."""
        self.line = ""
        self._history: list[str] = []
        self.seen: list[str] = []
        """The row after each key and each event."""
        self.plain_seen: list[str] = []
        """The same without predictions."""
        self.timer_calls = 0
        """How often the timer of the predictions has expired."""
        self._delay, self._jitter = delay, jitter
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._sent = self._acknowledged = 0
        self._acknowledged_at = 0.0
        self._up = self._down = self._edited_at = 0.0
        self._screen = Screen()
        self._screen.start(SIZE, bar=False)
        self._echo = PredictedEcho(mode)
        self._write(self._echo.resize(SIZE, self._screen))
        self._arrive(b"\r\n")
        self.begin()

    def begin(self) -> None:
        """Show the first prompt."""
        self._arrive(self.prompt)

    # --- the person

    def key(self, data: bytes, after: float = 0.0) -> None:
        """Type, `after` so many seconds in which what is under way arrives."""
        self.wait(after)
        self._sent += 1
        number = self._sent
        self._write(self._echo.typed(data, self._screen, self._progress(), self.now))
        self._up = max(self._up, self.now + self._latency())
        self._at(self._up, lambda: self._received(data, number))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while True:
            due_at = self._echo.next_timeout(self.now)
            assert due_at is None or due_at > self.now, "the timer would fire again at once, for ever"
            event_at = self._events[0][0] if self._events else None
            instants = [instant for instant in (due_at, event_at) if instant is not None and instant <= until]
            if not instants:
                break
            if event_at is not None and event_at == min(instants):
                self.now, _, happens = heapq.heappop(self._events)
                happens()
            else:
                self.now = min(instants)
                self.timer_calls += 1
                self._update()
        self.now = until

    # --- the link

    def _latency(self) -> float:
        return self._delay + self.dice.uniform(-self._jitter, self._jitter)

    def _at(self, instant: float, happens: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (instant, self._count, happens))

    def _progress(self) -> StreamProgress:
        return StreamProgress(self._sent, self._acknowledged, self._acknowledged_at, 2 * self._delay)

    def _received(self, data: bytes, number: int) -> None:
        def acknowledged() -> None:
            self._acknowledged, self._acknowledged_at = max(self._acknowledged, number), self.now

        self._send_back(acknowledged)
        self._edited_at = max(self._edited_at, self.now + self.dice.uniform(0.0005, 0.005))
        self._at(self._edited_at, lambda: self._edit(data))

    def _send_back(self, arrives: Callable[[], None]) -> None:
        self._down = max(self._down, self.now + self._latency())
        self._at(self._down, arrives)

    def output(self, data: bytes) -> None:
        """The remote program writes."""
        self._send_back(lambda: self._arrive(data))

    def _arrive(self, data: bytes) -> None:
        self.remote_writes += data
        self.plain.write(data)
        self._write(self._echo.output(data, self._screen, self._progress(), self.now))

    def _update(self) -> None:
        self._write(self._echo.update(self._screen, self._progress(), self.now))

    def _write(self, data: bytes) -> None:
        self.written += data
        self.terminal.write(data)
        self.seen.append(self.terminal.text)
        self.plain_seen.append(self.plain.text)

    # --- the program

    def _edit(self, data: bytes) -> None:
        if data == b"\x1b[A":
            self._recall()
        elif data in (b"\x1b[C", b"\x1b[D"):
            self.output(data if data == b"\x1b[C" else b"\x08")
        else:
            for character in data.decode():
                self._edit_one(character)

    def _recall(self) -> None:
        """Replace the line by one of the history."""
        if self._history:
            recalled = self._history.pop()
            self.output(b"\x08" * len(self.line) + b"\x1b[K" + recalled.encode())
            self.line = recalled

    def _edit_one(self, character: str) -> None:
        if character == "\r":
            line, self.line = self.line, ""
            self._history.append(line)
            self.output(b"\r\n")
            if line == "read -s":
                self.echo_is_on = False
                self._at(self.now + 0.002, lambda: self.output(b"Password: "))
            else:
                self.echo_is_on = True
                self._at(self.now + 0.01, lambda: self.output(self.prompt))
        elif character == "\x7f":
            if self.line:
                self.line = self.line[:-1]
                if self.echo_is_on:
                    self.output(b"\x08\x1b[K")
        elif character == "\t":
            self.line += "pletion"
            self.output(b"pletion")
        else:
            self.line += character
            if self.echo_is_on:
                self.output(character.encode())
            elif self.masks:
                self.output(b"*")
