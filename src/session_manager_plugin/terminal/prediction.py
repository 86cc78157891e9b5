"""Predictive echo: the expected echo of typed keys, drawn before the remote has answered. Pure.

``Predictor`` receives the keys with the numbers of the messages that carried them, the row that the remote's output has
left, which of the messages are acknowledged, and the time. It returns what to draw over the row.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from typing import NamedTuple

from session_manager_plugin.session.link_health import StreamProgress
from session_manager_plugin.terminal.character_width import character_width, width_range
from session_manager_plugin.terminal.cursor_row import CursorRow
from session_manager_plugin.terminal.line_prompt import LinePrompt
from session_manager_plugin.terminal.predict_mode import PredictMode

# For each key a state of the row is expected: the text typed since a start column, and the cursor in that text. As the
# remote's output arrives, the row reaches the state of the first, the second … of the unanswered keys. The state
# expected after the last of them is drawn over the row.
#
# The agent writes a message to the pty, then acknowledges it, and a program echoes within `ECHO_TIME`. So a message
# acknowledged longer ago is answered: the row must have reached the state of its key, or the prediction was wrong.
#
# As in mosh (https://mosh.org/mosh-paper.pdf, 3.2) predictions belong to epochs. A key with an unknown effect, a wrong
# prediction, and output that is no echo each begin a new epoch. The predictions of an epoch are shown only once one of
# its characters is confirmed: the whole row up to the cursor is as expected. A character that may stand for any other
# (a star for each one typed) confirms nothing, and neither does an echo while no program certainly waits for a line
# (see `LinePrompt`): a command that runs may turn the echo off at any moment.
#
# Predicted are characters at the end of the typed text, Backspace there, and the arrows within it. Nothing is predicted
# while the row is unknown, in front of other text (but for a suggestion, which has a colour of its own), in the last
# column, on the alternate screen, or for pasted text.

ECHO_TIME = 0.08
"""Seconds within which the program answers a message after its acknowledgement."""
LOOK_INTERVAL = 0.02
"""Seconds between two looks at the progress, once an answer is overdue."""
SLOW, FAST = 0.060, 0.040
"""Round-trip times in seconds: predictions are shown above the first, until below the second."""
UNDERLINED, NOT_UNDERLINED = 0.120, 0.080
"""The same for underlining them."""
PATIENCE = 0.250
"""Seconds that a key waits for its answer before predictions are shown on any link."""
LONGEST_READ = 8
"""Bytes of one read that count as typed. More are a paste, or come from a program."""
_BACKSPACES = (b"\x7f", b"\x08")
_LEFTS = (b"\x1b[D", b"\x1bOD")
_RIGHTS = (b"\x1b[C", b"\x1bOC")
_ENTERS = re.compile(rb"[\r\n]|\x1bOM|\x1b\[13(?:;[0-9:;]*)?u")
_INTERRUPTS = (b"\x03", b"\x04", b"\x1a", b"\x1c")
"""Ctrl-C, Ctrl-D, Ctrl-Z, Ctrl-\\: keys that may end a program, or a line, so that a prompt follows."""
_MASKS = "xX"
"""Letters that a prompt may show for any character; such signs are never other letters or digits."""


class Overlay(NamedTuple):
    """``text`` is drawn from ``column`` on, and the rest of ``width`` cells becomes blank; then the cursor moves to
    ``cursor``. Columns count from 0."""

    column: int
    text: str
    width: int
    cursor: int
    underlined: bool


class _Key(NamedTuple):
    """An unanswered key, and the state of the row expected after it."""

    message: int
    """The number of messages sent up to the key, which is acknowledged once that many are."""
    typed_at: float
    epoch: int
    text: str
    """The typed text after it."""
    cursor: int
    """The number of its characters before the cursor."""


class Predictor:
    """Call ``typed`` for each key, ``output`` when the row or the progress may have changed; then draw ``overlay``."""

    def __init__(self, mode: PredictMode, row: CursorRow) -> None:
        self.mode = mode
        self._row = row
        self._prompt = LinePrompt(row)
        self._keys: list[_Key] = []
        self._start: int | None = None
        """The column where the typed text begins; None while nothing can be predicted."""
        self._start_row: int | None = None
        """The row in which typed text has begun last."""
        self._line_prompt = ""
        """The text of that row before anything was typed in it."""
        self._entered: str | None = None
        """The typed text at Enter, while its prompt is learned if the remote shows this text."""
        self._before = ""
        """The text of the row before that."""
        self._text, self._cursor = "", 0
        """The typed text as the remote has shown it, and the cursor in it."""
        self._unknown: deque[tuple[int, float, bytes]] = deque()
        """Keys that were not predicted and are not answered yet: message, time, key."""
        self._epoch = 0
        self._confirmed = -1
        """The last epoch whose predictions are shown."""
        self._acknowledged: deque[tuple[int, float]] = deque()
        self._answered = 0
        """The number of messages that are certainly answered."""
        self._round_trip = ECHO_TIME
        """The smoothed round-trip time in seconds, or a guess."""
        self._is_slow = self._is_very_slow = False
        self._is_expected = True
        """Whether the row looks as expected after one of the keys."""

    # --- what happens

    def typed(self, data: bytes, progress: StreamProgress, now: float) -> None:
        """Predict the echo of ``data``, the bytes of one read, which are in the messages sent so far."""
        if self._note(progress, now):
            self._judge(now)
        events = _events(data) if len(data) <= LONGEST_READ else None
        if events is None:
            self.typed_unseen(data, now)
            self._forget(progress.sent, now, data)
            return
        for event in events:
            if event in (b"\r", b"\n"):
                self._enter(now)
            elif event in _INTERRUPTS:
                self._prompt.interrupted()
            self._predict(event, progress.sent, now)

    def typed_unseen(self, data: bytes, now: float) -> None:
        """Count the lines in ``data``, of which nothing is predicted: a paste, or keys for another screen."""
        for _ in _ENTERS.finditer(data):
            self._prompt.entered(now, is_ahead=True)
            self._entered = None
        for interrupt in _INTERRUPTS:
            for _ in range(data.count(interrupt)):
                self._prompt.interrupted()

    @property
    def awaits_answer(self) -> bool:
        """Whether a key is unanswered."""
        return bool(self._keys or self._unknown)

    @property
    def awaits_echo(self) -> bool:
        """Whether a predicted key is unanswered. Output is then compared up to the end of the line, too."""
        return bool(self._keys)

    @property
    def shows_all(self) -> bool:
        """Whether predictions are shown however fast the answer arrives."""
        return self.mode is PredictMode.ALWAYS or (self.mode is PredictMode.AUTO and self._is_slow)

    def line_ends(self, now: float) -> None:
        """Compare the row with what is expected, before a newline leads to another."""
        if self._start is not None:
            self._compare(now)

    def output(self, data: bytes, progress: StreamProgress, now: float) -> None:
        """Compare the row, which has been fed ``data``, with what is expected."""
        self._prompt.output(data, now)
        self._note(progress, now)
        self._judge(now)
        if self._prompt.waits_since is None and self._confirmed == self._epoch:
            self._epoch += 1

    def reset(self) -> None:
        """Discard all predictions: the screen has changed."""
        self._keys.clear()
        self._unknown.clear()
        self._start = None
        self._entered = None
        self._epoch += 1
        self._prompt.reset()

    def next_timeout(self, now: float) -> float | None:
        """Return when to call ``output`` even without output; None while no answer is awaited.

        The progress is looked at when the answer to the first key is overdue, and then ever less often. Until then
        keys and output call this object, and usually the answer arrives: a timer for each key would cost more than
        all the rest.
        """
        awaited = [(key.message, key.typed_at) for key in self._keys[:1]]
        awaited += [(message, typed_at) for message, typed_at, _ in itertools.islice(self._unknown, 1)]
        if not awaited:
            return None
        message, typed_at = min(awaited)
        for acknowledged, at in self._acknowledged:
            if acknowledged >= message:
                return at + ECHO_TIME
        due_at = typed_at + self._round_trip + ECHO_TIME
        return max(due_at, now + max(LOOK_INTERVAL, (now - due_at) / 4))

    def overlay(self, now: float) -> Overlay | None:
        """Return what to draw over the row as the remote has left it; None if nothing is shown."""
        if self._start is None or not self._keys or not self._is_expected or not self._shows(now):
            return None
        shown = None
        for key in self._keys:
            if key.epoch > self._confirmed:
                break
            shown = key
        if shown is None:
            return None
        same = len(_common(self._text, shown.text))
        column = self._start + text_width(shown.text[:same])
        text = shown.text[same:]
        width = max(text_width(text), text_width(self._text[same:]))
        cursor = self._start + text_width(shown.text[: shown.cursor])
        covered = self._row.cells(column, column + width + 1)
        if covered is None or not (covered[0].text and covered[-1].text):
            return None  # unknown, the last column, or half of a wide character
        return Overlay(column, text, width, cursor, self._is_very_slow)

    # --- predicting

    def _predict(self, event: bytes, message: int, now: float) -> None:
        if self._unknown:
            self._unknown.append((message, now, event))
            return
        if self._start is None and not self._begin():
            self._forget(message, now, event)
            return
        self._expect(event, message, now)

    def _enter(self, now: float) -> None:
        """Note that a line is entered. If its text is echoed, the prompt in front of it is learned."""
        self._prompt.entered(now, is_ahead=bool(self._unknown))
        self._entered = None
        if self._start is not None and self._before.startswith(self._line_prompt) and not self._unknown:
            self._entered = self._keys[-1].text if self._keys else self._text
            self._learn()

    def _learn(self) -> None:
        if self._entered is not None and not self._keys:
            if self._text == self._entered and any(map(_shows_echo, self._text)):
                self._prompt.echoed(self._line_prompt)
            self._entered = None

    def _begin(self) -> bool:
        """Let the typed text begin at the cursor. Returns False if the row is unknown up to there, or goes on."""
        row, column = self._row, self._row.column
        before = None if column is None else row.text(0, column)
        if column is None or before is None or not row.ends_at(column):
            return False
        self._start, self._before, self._text, self._cursor = column, before, "", 0
        self._prompt.typed_behind(before)
        if self._start_row != row.rows_left:
            self._line_prompt, self._start_row = before, row.rows_left
        self._is_expected = True
        return True

    def _expect(self, event: bytes, message: int, now: float) -> None:
        assert self._start is not None
        text, cursor = (self._keys[-1].text, self._keys[-1].cursor) if self._keys else (self._text, self._cursor)
        if event in _BACKSPACES and cursor == len(text) > 0:
            text, cursor = text[:-1], cursor - 1
        elif event in _LEFTS and cursor > 0:
            cursor -= 1
        elif event in _RIGHTS and cursor < len(text):
            cursor += 1
        elif _is_plain(event) and cursor == len(text):
            text += event.decode()
            cursor += 1
            if self._start + text_width(text) >= self._row.columns - 1:
                self._forget(message, now, event)
                return
        else:
            self._forget(message, now, event)
            return
        self._keys.append(_Key(message, now, self._epoch, text, cursor))

    def _forget(self, message: int, now: float, event: bytes) -> None:
        """Record a key with an unknown effect: nothing is predicted until it is answered."""
        self._epoch += 1
        self._unknown.append((message, now, event))

    # --- judging

    @property
    def _last_acknowledged(self) -> int:
        """The number of messages acknowledged."""
        return self._acknowledged[-1][0] if self._acknowledged else self._answered

    def _note(self, progress: StreamProgress, now: float) -> bool:
        """Take over the progress. Returns whether more messages are answered than before."""
        if progress.acknowledged > self._last_acknowledged:
            self._acknowledged.append((progress.acknowledged, progress.acknowledged_at))
        answered = self._answered
        while self._acknowledged and now >= self._acknowledged[0][1] + ECHO_TIME:
            self._answered = self._acknowledged.popleft()[0]
        if (round_trip := progress.round_trip_time) is not None:
            self._round_trip = round_trip
            self._is_slow = round_trip > (FAST if self._is_slow else SLOW)
            self._is_very_slow = round_trip > (NOT_UNDERLINED if self._is_very_slow else UNDERLINED)
        return self._answered > answered

    def _judge(self, now: float) -> None:
        if self._start is not None:
            self._compare(now)
        if self._unknown and not self._keys:
            self._take_up()

    def _compare(self, now: float) -> None:
        """Find the key whose state the row has reached, and confirm the keys up to it."""
        answered = sum(key.message <= self._answered for key in self._keys)
        states = [(self._text, self._cursor), *((key.text, key.cursor) for key in self._keys)]
        reached = next((place for place in range(answered, len(states)) if self._looks_like(*states[place])), None)
        self._is_expected = reached is not None
        if reached is None:
            if answered or not self._keys:
                self._unexpected()
            else:
                self._epoch += 1  # output that is no echo, or an incomplete echo
            return
        if reached:
            self._confirm(self._keys[:reached], now)
            self._text, self._cursor = states[reached]
            del self._keys[:reached]
            self._learn()

    def _confirm(self, keys: list[_Key], now: float) -> None:
        """Show the predictions of the epoch of ``keys``, whose echo has arrived, if that proves that the echo is on."""
        waits_since = self._prompt.waits_since
        if waits_since is None:
            return
        before = self._text
        for key in keys:
            if key.typed_at >= waits_since and len(key.text) > len(before) and _shows_echo(key.text[-1]):
                if not self._prompt.may_read_ahead:
                    self._confirmed = max(self._confirmed, key.epoch)
                elif key.message <= self._last_acknowledged:
                    self._prompt.echoes_keys(now)
                    return
            before = key.text

    def _unexpected(self) -> None:
        """Discard the predictions: one was wrong, or the row has changed without a key."""
        keys = self._keys
        self._keys = []
        self._start = None
        self._entered = None
        self._epoch += 1
        # The effect of the unanswered keys is now unknown; keys typed later are predicted once these are answered.
        waiting = [(key.message, key.typed_at, b"") for key in keys if key.message > self._answered]
        self._unknown.extendleft(reversed(waiting))

    def _take_up(self) -> None:
        """Predict the keys typed after an unknown one, once it is answered and none of them can be partly answered."""
        while self._unknown and self._unknown[0][0] <= self._answered:
            self._unknown.popleft()
        if any(message <= self._last_acknowledged for message, _, _ in self._unknown):
            return
        if any(not event or len(event) > LONGEST_READ for _, _, event in self._unknown):
            return
        if self._unknown and not _is_predictable(self._unknown[0][2]):
            return
        if self._unknown and self._start is None and not self._begin():
            return
        waiting, self._unknown = self._unknown, deque()
        while waiting:
            message, typed_at, event = waiting.popleft()
            self._expect(event, message, typed_at)
            if self._unknown:
                self._unknown.extend(waiting)
                return

    def _looks_like(self, text: str, cursor: int) -> bool:
        assert self._start is not None
        row = self._row
        return (
            row.column == self._start + text_width(text[:cursor])
            and row.text(0, self._start) == self._before
            and row.text(self._start, self._start + text_width(text)) == text
        )

    def _shows(self, now: float) -> bool:
        return self.shows_all or (self.mode is PredictMode.AUTO and now >= self._keys[0].typed_at + PATIENCE)


def _events(data: bytes) -> list[bytes] | None:
    """Return the keys of one read; None if it is something else, such as a paste."""
    if data in _LEFTS or data in _RIGHTS:
        return [data]
    try:
        return [character.encode() for character in data.decode()] if b"\x1b" not in data else None
    except UnicodeDecodeError:
        return None


def _is_plain(event: bytes) -> bool:
    """Whether a key is a character of a certain width."""
    try:
        character = event.decode()
    except UnicodeDecodeError:
        return False
    width = character_width(character) if len(character) == 1 else 0
    return character.isprintable() and width > 0 and width_range(character) == (width, width)


def _shows_echo(character: str) -> bool:
    """Whether a character in the row was certainly typed, and does not stand for another one."""
    return character.isalnum() and character not in _MASKS


def _is_predictable(event: bytes) -> bool:
    return _is_plain(event) or event in (*_BACKSPACES, *_LEFTS, *_RIGHTS)


def text_width(text: str) -> int:
    """Return the number of cells that a text occupies."""
    return sum(map(character_width, text))


def _common(first: str, second: str) -> str:
    length = 0
    for left, right in zip(first, second, strict=False):
        if left != right:
            break
        length += 1
    return first[:length]
