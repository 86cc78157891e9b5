"""A list at a terminal that is filtered by typing, to choose one of its rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.controls import BufferControl, FormattedTextControl
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth

from session_manager_plugin.terminal.capabilities import is_utf8
from session_manager_plugin.terminal.fuzzy import find_fuzzy
from session_manager_plugin.utils.text import printable, shorten

_GAP = "  "
_LABEL = "target> "
_LEAST_NAME = 20
"""Cells of the first column, at least, before another column is left out for it."""
_KEYS = "Enter starts, Esc leaves"
_STYLE = Style.from_dict({"selected": "reverse", "head": "bold", "note": "ansibrightblack"})


class Picker:
    """A list of rows, each with an id and cells of text; rows may be added while it is shown.

    ``headings`` are the column headings. Long texts of the first column are cut with an ellipsis to make room for the
    others. Columns that do not fit all the same are left out on the right, but for the second. The list is drawn on
    standard error, in the alternate screen, which is left however the choice ends, and while Ctrl-Z has stopped the
    program.
    """

    def __init__(self, headings: Sequence[str], *, color: bool) -> None:
        self._headings = list(headings)
        self._rows: dict[str, tuple[str, ...]] = {}
        self._ids: list[str] = []
        self._lines: list[str] = []
        self._found: list[int] = []
        self._widths = [len(each) for each in headings]
        self._ellipsis = "…" if is_utf8(os.environ) else ".."
        self._selected = 0
        self._has_moved = False
        self.is_interrupted = False
        """Whether Ctrl-C has ended ``choose``."""
        self._top = 0
        self.note = "loading"
        """Shown beside the number of rows."""
        self._query = Buffer(multiline=False, on_text_changed=lambda _buffer: self._filter())
        self._application: Application[str | None] = self._make_application(color)

    def add(self, rows: Mapping[str, Sequence[str]]) -> None:
        """Add rows by id. A row with a known id replaces the earlier row."""
        for row_id, cells in rows.items():
            self._rows[row_id] = tuple(printable(cell) for cell in cells)
        order = sorted(self._rows, key=lambda each: (self._rows[each][0] == "", self._rows[each][0], each))
        chosen = self._current() if self._has_moved else None
        self._ids = order
        self._lines = [" ".join(self._rows[each]).lower() for each in order]
        columns = zip(self._headings, *self._rows.values(), strict=True)
        self._widths = [max(map(_cell_count, column)) for column in columns]
        self._filter(chosen)
        self._application.invalidate()

    def close(self, error: Exception | None = None) -> None:
        """End ``choose`` with ``error``."""
        if self._application.is_running and error is not None:
            self._application.exit(exception=error)

    async def choose(self) -> str | None:
        """Show the list until a row is chosen: return its id, or None after Esc, Ctrl-C or Ctrl-D."""
        return await self._application.run_async(handle_sigint=False)

    def filter(self, query: str) -> list[str]:
        """Return the ids of the rows that match ``query``, the best first."""
        return [self._ids[index] for index in find_fuzzy(self._lines, query)]

    def _filter(self, chosen: str | None = None) -> None:
        self._found = find_fuzzy(self._lines, self._query.text)
        ids = [self._ids[index] for index in self._found] if chosen is not None else []
        self._selected = ids.index(chosen) if chosen in ids else 0
        self._has_moved = self._selected > 0
        self._top = 0

    def _current(self) -> str | None:
        return self._ids[self._found[self._selected]] if self._selected < len(self._found) else None

    def _move(self, by: int) -> None:
        self._has_moved = True
        self._selected = max(0, min(len(self._found) - 1, self._selected + by))

    def _make_application(self, color: bool) -> Application[str | None]:
        # No cursor position request: a late answer would be sent to the session as input.
        output = Vt100_Output(sys.stderr, _size, term=os.environ.get("TERM"), enable_cpr=False)
        query = Window(BufferControl(self._query))
        body = [
            VSplit([Window(FormattedTextControl(_LABEL), width=len(_LABEL)), query], height=1),
            Window(FormattedTextControl(self._render_head), height=1),
            Window(FormattedTextControl(self._render_rows)),
            Window(FormattedTextControl(self._render_note), height=1),
        ]
        application: Application[str | None] = Application(
            Layout(HSplit(body)),
            key_bindings=self._bindings(),
            full_screen=True,
            style=_STYLE,
            output=output,
            color_depth=None if color else ColorDepth.DEPTH_1_BIT,
            mouse_support=False,
        )
        application.ttimeoutlen = application.timeoutlen = 0.05  # seconds after which a lone Esc counts as a key
        return application

    def _bindings(self) -> KeyBindings:
        bindings = KeyBindings()
        moves = {"up": -1, "c-p": -1, "down": 1, "c-n": 1, "tab": 1, "s-tab": -1}
        for key, by in moves.items():
            bindings.add(key)(lambda _event, by=by: self._move(by))
        bindings.add("pageup")(lambda _event: self._move(-self._height()))
        bindings.add("pagedown")(lambda _event: self._move(self._height()))

        @bindings.add("enter")
        def _choose(event: KeyPressEvent) -> None:
            if (chosen := self._current()) is not None:
                event.app.exit(result=chosen)

        @bindings.add("escape", eager=True)
        @bindings.add("c-d")
        def _leave(event: KeyPressEvent) -> None:
            event.app.exit(result=None)

        @bindings.add("c-c")
        def _interrupt(event: KeyPressEvent) -> None:
            self.is_interrupted = True
            event.app.exit(result=None)

        @bindings.add("c-z")
        def _suspend(event: KeyPressEvent) -> None:
            event.app.suspend_to_background()

        return bindings

    def _height(self) -> int:
        return max(1, _size().rows - 3)

    def _render_head(self) -> StyleAndTextTuples:
        return [("class:head", self._line("  ", self._headings))]

    def _render_rows(self) -> StyleAndTextTuples:
        height = self._height()
        self._top = max(min(self._top, self._selected), self._selected - height + 1)
        shown: StyleAndTextTuples = []
        for position in range(self._top, min(self._top + height, len(self._found))):
            is_selected = position == self._selected
            cells = self._rows[self._ids[self._found[position]]]
            line = self._line("> " if is_selected else "  ", cells)
            shown.append(("class:selected" if is_selected else "", f"{line}\n"))
        return shown

    def _render_note(self) -> StyleAndTextTuples:
        count = f"{len(self._found)}/{len(self._ids)}"
        return [("class:note", _GAP.join(part for part in (count, self.note, _KEYS) if part)[: _size().columns])]

    def _line(self, mark: str, cells: Sequence[str]) -> str:
        room = _size().columns - 1
        widths = self._fitting_widths(room - len(mark))
        texts = [shorten(cell, width, _cell_count, self._ellipsis) for cell, width in zip(cells, widths, strict=False)]
        padded = (text + " " * (width - _cell_count(text)) for text, width in zip(texts, widths, strict=True))
        return shorten(mark + _GAP.join(padded), room, _cell_count, "")

    def _fitting_widths(self, room: int) -> list[int]:
        """Return the widths of the columns that fit into ``room`` cells, at least two."""
        name, *others = self._widths
        count = 1
        while (
            count < len(others) and min(name, _LEAST_NAME) + sum(others[: count + 1]) + len(_GAP) * (count + 1) <= room
        ):
            count += 1
        left = room - sum(others[:count]) - len(_GAP) * count
        return [min(name, max(left, len(self._headings[0]))), *others[:count]]


def _cell_count(text: str) -> int:
    return len(text) if text.isascii() else get_cwidth(text)


def _size() -> Size:
    columns, rows = os.get_terminal_size(sys.stderr.fileno())
    return Size(rows=rows, columns=columns)
