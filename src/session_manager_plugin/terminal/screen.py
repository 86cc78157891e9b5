"""The terminal's screen, shared by the remote and our last row. Sans-I/O: bytes in, bytes out."""

from __future__ import annotations

import re

from session_manager_plugin.session.protocols import TerminalSize
from session_manager_plugin.terminal import sequences
from session_manager_plugin.terminal.bar_row import BarRow
from session_manager_plugin.terminal.combining import joined_character
from session_manager_plugin.terminal.deferred_output import DeferredOutput
from session_manager_plugin.terminal.questions import (
    QUESTION_FINALS,
    Question,
    question_in_sequence,
)
from session_manager_plugin.terminal.redraw import deferrable_end
from session_manager_plugin.terminal.remote_string import END_STRING, RemoteString
from session_manager_plugin.terminal.screen_state import ABSOLUTE, NO_MARGINS, RESTORE, SAVE
from session_manager_plugin.terminal.screen_tracker import ScreenTracker
from session_manager_plugin.terminal.sequences import SequenceFinder
from session_manager_plugin.terminal.terminal_reports import Report

# With a bar the remote is told a size of one row fewer, and the scroll region ends above the bar, so that the remote's
# output scrolls above it. The output passes through ``feed``, where ``ScreenTracker`` follows and corrects it. After a
# sequence that resets the margins they are set again at once; after one that erases the bar it is drawn again at the
# end of the chunk.
#
# Without a bar the output is not changed or delayed. It is followed nevertheless, to reset the terminal at the end;
# output that only draws is followed when the state is needed (see ``_catch_up``).
#
# With a bar the output of ``feed`` ends at a boundary: between two characters or sequences, where other bytes may be
# inserted. An unfinished sequence or character is held back. There are two exceptions, in which nothing is inserted
# (see ``at_boundary``): inside a string (OSC, DCS, …), which may be long, and inside a sequence whose beginning was
# written before the bar was started. An unfinished character is held back only until ``flush``, because it may be a
# complete character of another encoding.
#
# The owner writes all returned bytes in order, and decides when to draw.

LEAST_ROWS = 3
"""A scroll region has at least two rows; the bar takes the third."""
_CANCEL = b"\x18"
_ASK_POSITION = b"\x1b[6n"
_TO_RESET_OF_MODE = re.compile(rb"[^lc]*[lc]|[^lc]+")
"""Splits output after each byte that may end a switch from the alternate screen: a reset of a mode, or RIS."""
_TAIL = 64
"""Bytes of text that are remembered, to find the last character."""
_REPORTING = (9, 1000, 1001, 1002, 1003, 1004, 2031, 2048)
"""Modes in which the terminal reports without being asked: mouse, focus, colours, size."""


class Screen:
    """Passes the remote's output to the terminal with corrections, and draws our row.

    Every method that returns bytes returns bytes to write to the terminal, in the order of the calls. On fewer than
    ``least_rows`` rows (``LEAST_ROWS`` or more) there is no bar. ``reflow_moves_cursor``: see ``capabilities``.
    """

    def __init__(self, least_rows: int = LEAST_ROWS, *, reflow_moves_cursor: bool = False) -> None:
        self.least_rows = least_rows
        self._size = TerminalSize(80, 24)
        self._tracker = ScreenTracker(self._size)
        self._wants_bar = False
        self._bar = BarRow(reflow_moves_cursor=reflow_moves_cursor)
        self._held = b""  # an unfinished character or sequence, kept until its rest arrives
        self._given = 0  # how many bytes of ``_held`` were written already
        self._tail = b""  # the last bytes that were fed, if they were text
        self._deferred = DeferredOutput()
        self._interrupted = False  # bytes of ours were written after ``_tail``
        self._string = RemoteString()
        self._setup = b""  # to write at the next boundary
        self._waits_for_position = False  # for a notice, or to take the last row
        self._main_shows_bar = False  # the main screen, not shown now, still has a bar that was given up
        self._questions: list[Question] = []
        self._fed = 0
        self._asked_at = -1

    @property
    def has_bar(self) -> bool:
        """Whether the last row is ours."""
        return self._wants_bar and self._size.rows >= self.least_rows

    @property
    def remote_size(self) -> TerminalSize:
        """The size to tell the remote."""
        return TerminalSize(self._size.columns, self._size.rows - self.has_bar)

    @property
    def at_boundary(self) -> bool:
        """Whether bytes of ours may be written now."""
        return (
            not self._string.is_open and not (self._given and self._holds_sequence) and not self._tracker.modes.is_vt52
        )

    @property
    def holds_character(self) -> bool:
        """Whether ``flush`` would return bytes: the beginning of a character, or bytes of another encoding."""
        return self.has_bar and len(self._held) > self._given and not self._string.is_open and not self._holds_sequence

    @property
    def is_special(self) -> bool:
        """Whether the alternate screen is shown, or the remote has set margins or modes that change where text appears.
        Below a scroll region a newline in the last row leads to no other row."""
        tracker = self._tracker
        has_mode = tracker.alternate or tracker.origin or tracker.cursor.has_sides or tracker.modes.inserts
        return bool(has_mode or tracker.has_region)

    @property
    def takes_overlay(self) -> bool:
        """Whether text of ours may stand beside the cursor for a while."""
        return self.at_boundary and not self.is_special

    @property
    def column(self) -> int | None:
        """The column of the cursor, from 0; None if it is not known, or a wrap is due."""
        self._catch_up()
        cursor = self._tracker.cursor
        return None if cursor.slack or cursor.may_wrap else cursor.column

    def leaves_inside_line(self, last_output: bytes) -> bool:
        """Return whether ``leave`` will leave the cursor inside a line; see ``ScreenState``."""
        self._catch_up()
        return self._tracker.leaves_inside_line(last_output)

    @property
    def rows_below(self) -> int | None:
        """How many newlines lead to the last row, from which on they scroll; None if that is not known."""
        self._catch_up()
        cursor = self._tracker.cursor
        return None if self._tracker.has_region or not cursor.is_row_known else cursor.last - cursor.row

    @property
    def pen(self) -> bytes:
        """What sets the colours and attributes in force, after a reset."""
        self._catch_up()
        return self._tracker.pen.attributes

    def interrupt(self) -> None:
        """Something of ours was written at the cursor."""
        self._interrupted = True

    @property
    def damaged(self) -> bool:
        """Whether the bar has to be drawn again although its text has not changed."""
        return self.has_bar and self._tracker.damaged

    def take_answers(self) -> list[bytes]:
        """Return the answers to send to the remote, to requests that the terminal would answer wrongly."""
        answers, self._tracker.answers = self._tracker.answers, []
        return answers

    def take_questions(self) -> list[Question]:
        """Return the remote's requests since the last call that the terminal will answer, in order."""
        questions, self._questions = self._questions, []
        return questions

    @property
    def reports_unasked(self) -> bool:
        """Whether the remote has enabled reports that the terminal sends without being asked."""
        return any(map(self._tracker.modes.has, _REPORTING))

    def take_asked(self) -> list[Report]:
        """Return the reports that the remote has requested from the terminal since the last call, in order."""
        asked, self._tracker.asked = self._tracker.asked, []
        return asked

    def start(self, size: TerminalSize, *, bar: bool) -> bytes:
        """Begin on a terminal of ``size``, with or without a bar. The cursor stays on its character."""
        self._wants_bar = bar
        return self._lay_out(size, moved=False)

    def resize(self, size: TerminalSize) -> bytes:
        """Adapt to a new size of the terminal. Call ``draw`` after this: the old text may be too long now.

        Terminals reset the scroll region on a resize. They leave the old bar below the cursor or, where they wrap rows
        anew, in the cursor's row to the right of it. If there was a bar, everything behind the cursor is therefore
        erased. The remote repaints when its own size changes.
        """
        return self._lay_out(size, moved=True)

    def take_row(self, *, may_ask: bool) -> bytes | None:
        """Take the last row from the remote while its output goes on.

        None if it cannot be taken now: call again after ``locate``, or a little later. The cursor's position is needed
        if the remote has something in the terminal's slot for DECRC; without ``may_ask`` that is given up.
        """
        self._catch_up()
        tracker = self._tracker
        self._waits_for_position = may_ask and tracker.spares_slot and not tracker.cursor.is_known
        if self._waits_for_position or not self.at_boundary:
            return None
        self._main_shows_bar = False
        if self._size.rows < self.least_rows or not (tracker.spares_slot and tracker.cursor.is_known):
            return self.start(self._size, bar=True)
        self._wants_bar = tracker.limited = tracker.damaged = True
        self._fed += 1
        self._interrupted = True
        return self._string.end() + tracker.lay_out_by_address(self.remote_size) + self._repair()

    def release(self) -> bytes:
        """Return the bar's row to the remote."""
        given = b""
        tracker = self._tracker
        if self.has_bar:
            given = tracker.aside(tracker.gives_back(self._row_of_ours()))
            tracker.extend(self._size)
            given += tracker.put_saved_back()
            self._main_shows_bar = bool(tracker.alternate)
        self._wants_bar = tracker.limited = tracker.damaged = False
        if self.at_boundary:
            return given + self._give_held()
        self._setup += given
        return self._give_held()

    def flush(self) -> bytes:
        """Return the unfinished character that is held back, if any, when its rest has not arrived for a while."""
        return self._give_held() if self.holds_character else b""

    def again(self) -> bytes:
        """Return the bytes that restore the remote's screen (main or alternate) and modes, without the bar."""
        self._catch_up()
        return self._tracker.redo()

    def leave(self) -> bytes:
        """Restore the terminal. This object must not be used afterwards."""
        self._catch_up()
        tracker = self._tracker
        pieces = [self.flush(), self._string.end() if self.at_boundary else END_STRING]
        pieces.append(b"\x1b<" if tracker.modes.is_vt52 else b"")
        pieces.append(self._setup)
        if tracker.origin:
            cursor = tracker.cursor
            # Leaving origin mode moves the cursor, so it is addressed. If its position is unknown, the last row is
            # used: there is no text below it that the shell could overwrite.
            row, column = (cursor.row, cursor.column) if cursor.is_known else (self.remote_size.rows - 1, 0)
            pieces += [ABSOLUTE, b"\x1b[%d;%dH" % (row + 1, min(column + 1, self._size.columns))]
        pieces.append(tracker.leave_screens())
        if self.has_bar or self._main_shows_bar:
            pieces += [SAVE, NO_MARGINS, self._row_of_ours(), RESTORE]
            if tracker.main_has_old_bar:
                pieces += [tracker.free_rows(), tracker.erase_behind()]
        elif tracker.has_region:
            pieces += [SAVE, NO_MARGINS, RESTORE]
        pieces.append(tracker.undo())
        return b"".join(pieces)

    def draw(self, text: bytes) -> bytes:
        """Draw ``text`` in the bar. The cursor and its attributes do not change.

        ``text`` is one line, no wider than the terminal, and may contain SGR sequences. If it cannot be drawn now, a
        later ``feed`` draws it; until then ``damaged`` is true.
        """
        self._bar.text = text
        self._tracker.damaged = True
        return self._repair()

    def draw_notice(self, text: bytes) -> bytes:
        """Draw ``text`` over the remote's last row, or erase that with b""; returns b"" if that is not possible now."""
        self._catch_up()
        tracker = self._tracker
        self._waits_for_position = tracker.spares_slot and not tracker.cursor.is_known
        if not self.at_boundary or self._size.rows < 2 or self._waits_for_position:
            return b""
        return self._string.end() + tracker.draw_aside(self._row_of_ours(text))

    def feed(self, data: bytes) -> bytes:
        """Return output of the remote with corrections."""
        if not self._main_shows_bar:
            return self._feed(data)
        out = []
        for piece in _TO_RESET_OF_MODE.findall(data):
            out.append(self._feed(piece))
            if self._main_shows_bar and not self._tracker.alternate:
                self._main_shows_bar = False
                out.append(self._tracker.erase_on_main(self._row_of_ours()))
        return b"".join(out)

    def _feed(self, data: bytes) -> bytes:
        if not data:
            return b""
        unaltered, given = data, b""
        if self._held:
            unaltered = self._held[self._given :] + data
            given = self._held[: self._given]
            data = self._held + data
            self._held, self._given = b"", 0
        if not self.has_bar:
            if not self._defer(data):
                self._catch_up()
                self._follow(data, self._interrupted)
            self._given = len(self._held)
            self._fed += 1
            self._interrupted = False
            return unaltered + self._repair() if self._setup else unaltered
        again = b""
        interrupted = self._interrupted
        if interrupted and self._tail and data[0] >= 0x80 and (joined := joined_character(self._tail, data)):
            again = self._tracker.write_again(joined)
        if not self._string.is_open and b"\x1b" not in data and b"\xc2" not in data:
            corrected = self._tracker.text(self._whole(data), is_binary=sequences.is_binary(data))
            self._tail = (self._tail + corrected)[-_TAIL:]
        else:
            corrected = self._follow(data, interrupted)
        if given:
            corrected = self._after(given, corrected)
        if corrected:
            self._fed += 1
            self._interrupted = False
        if self._setup or self.damaged:
            return again + corrected + self._repair()
        return again + corrected if again else corrected

    def _defer(self, data: bytes) -> bool:
        """Keep ``data`` to follow it later; False if it has to be followed now. An unfinished end is held."""
        tracker = self._tracker
        if self._string.is_open or tracker.modes.is_vt52:
            return False
        end = deferrable_end(data, in_ascii=tracker.pen.is_ascii)
        if end == len(data):
            data = self._whole(data)
        elif sequences.sequence_at(data, end) is None and not sequences.is_hopeless(data[end:]):
            self._held, data = data[end:], data[:end]
        else:
            return False
        if self._deferred.add(data, tracker):
            self._tail = b""
        return True

    def _catch_up(self) -> None:
        """Follow the output that is deferred."""
        if deferred := self._deferred.take():
            held, self._held = self._held, b""
            self._follow(deferred, False)
            self._held = held

    @property
    def wants_position(self) -> bool:
        """Whether to ask the terminal for the cursor's position; at most once between two calls of ``feed``."""
        wanted = self._waits_for_position or (self.has_bar and self._tracker.wants_position)
        return wanted and self._asked_at != self._fed and self.at_boundary

    def ask_position(self) -> tuple[bytes, int]:
        """Return the request for the cursor's position, and its number for ``locate``."""
        self._asked_at = self._fed
        self._interrupted = True
        return _ASK_POSITION, self._fed

    def set_located(self, is_located: bool) -> None:
        """Set whether the terminal answers requests for the cursor's position."""
        self._tracker.is_located = is_located

    def locate(self, question: int, row: int, column: int) -> bytes:
        """Handle the answer to request ``question``. Row and column are counted from 1. Ignored if output was fed since
        the request."""
        self._catch_up()
        waited, self._waits_for_position = self._waits_for_position, False
        if question != self._fed or not (self.has_bar or waited) or not self.at_boundary:
            return b""
        region = self._tracker.locate(row, column)
        self._interrupted = self._interrupted or bool(region)
        return region + self._repair()

    def _follow(self, data: bytes, interrupted: bool) -> bytes:
        out = []
        tracker = self._tracker
        position = 0
        finder = SequenceFinder(data)
        is_binary = sequences.is_binary(data)
        while position < len(data):
            if self._string.is_open:
                stop = self._string.follow(data, position)
                out.append(data[position:stop])
                position = stop
                if self._string.is_open:
                    self._held = data[stop:]
                    break
                out.append(self._string_ended())
                continue
            start = finder.find(position)
            if start == len(data):
                rest = self._whole(data[position:])
                out.append(tracker.text(rest, is_binary=is_binary))
                self._tail = (self._tail + rest)[-_TAIL:]
                break
            if start > position:
                text = data[position:start]
                out.append(tracker.text(text, is_binary=is_binary))
                self._tail = (self._tail + text[-_TAIL:])[-_TAIL:]
            if data[start + 1 : start + 2] == b"[" and (end := tracker.redraw(data, start, finder.has_c2)) > start:
                out.append(data[start:end])
                position, self._tail = end, b""
                continue
            sequence = sequences.sequence_at(data, start)
            if sequence is None:
                rest = data[start:]
                if sequences.is_hopeless(rest):
                    out += [rest, _CANCEL]
                else:
                    self._held = rest
                break
            raw = data[start : sequence.end]
            position = sequence.end
            tail, self._tail = self._tail, b""
            if sequence.kind == "s":
                self._string.begin(sequence.body)
                out.append(raw)
            elif sequence.kind == "c":
                # The terminal obeys the controls first, so they are written first.
                out.append(tracker.text(sequence.body))
                data, position = b"\x1b" + data[position:], 0
                finder = SequenceFinder(data)
            elif sequence.final == "b" and sequence.kind == "[":
                out.append(tracker.repeat(tail, sequence, raw, interrupted=interrupted and not start))
            else:
                written = tracker.sequence(sequence, raw)
                if sequence.final in QUESTION_FINALS and written:
                    self._note_question(question_in_sequence(sequence.kind, sequence.body, sequence.final))
                out.append(written)
        return b"".join(out)

    def _after(self, given: bytes, corrected: bytes) -> bytes:
        """Return what is left to write of ``corrected``, whose uncorrected beginning ``given`` was written already."""
        if not corrected:
            self._given = len(given)  # the sequence is still unfinished
            return b""
        return corrected.removeprefix(given) if corrected.startswith(given) else _CANCEL + corrected

    @property
    def _holds_sequence(self) -> bool:
        """Whether the held bytes are a sequence (begun by ESC or a C1 control) rather than a character."""
        return self._held[:1] == b"\x1b" or (self._held[:1] == b"\xc2" and len(self._held) > 1)

    def _give_held(self) -> bytes:
        """Return the held bytes that are not written yet, and count them as written."""
        held = self._held[self._given :]
        self._given = len(self._held)
        self._fed += bool(held)
        return held

    def _whole(self, text: bytes) -> bytes:
        """Return ``text`` without an unfinished character at its end, which is held back."""
        if text[-1] < 0x80 or not (length := sequences.unfinished_character(text)):
            return text
        self._held = text[-length:]
        return text[:-length]

    def _string_ended(self) -> bytes:
        """Handle the end of a string. With a bar, return what ends it in every terminal: one that is still in it would
        not obey what is drawn."""
        if (command := self._string.command) is not None:
            self._tracker.command(command)
        self._note_question(self._string.question)
        return self._string.end() if self.has_bar else b""

    def _note_question(self, question: Question | None) -> None:
        if question is not None:
            self._questions.append(question)

    def _lay_out(self, size: TerminalSize, *, moved: bool) -> bytes:
        self._catch_up()
        tracker = self._tracker
        had_bar = moved and self.has_bar
        back = b"" if tracker.alternate or not self.has_bar else self._bar.moves_back(size.columns)
        erased = tracker.erase_behind(may_wrap=tracker.cursor.may_wrap) if moved else b""
        self._size = size
        self._fed += 1
        tracker.resize(self.remote_size, moved=moved)
        tracker.limited = tracker.damaged = self.has_bar
        self._bar.text = self._setup = b""
        if self.has_bar:
            self._main_shows_bar = False
            self._setup = self._string.end() + back + tracker.lay_out(erased)
        elif had_bar:
            self._main_shows_bar = bool(tracker.alternate)
            self._setup = back + tracker.free_rows() + erased
        return self._repair()

    def _repair(self) -> bytes:
        """Return the bytes that set the margins and draw the bar, where due and possible now."""
        if not self.at_boundary:
            return b""
        setup, self._setup = self._setup, b""
        if setup:
            self._tracker.cursor.move_to()  # cancels a wrap that is due
        self._interrupted = self._interrupted or bool(setup)
        if not self.damaged or not self._bar.text or self._tracker.is_delicate:
            return setup
        self._tracker.damaged = False
        self._interrupted = True
        return setup + self._tracker.draw_aside(self._row_of_ours(self._bar.text))

    def _row_of_ours(self, text: bytes = b"") -> bytes:
        return self._bar.written(text, wraps=self._tracker.cursor.wraps)
