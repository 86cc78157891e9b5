"""The help of commands: one screen with the most used options; ``--help --all`` shows everything."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence

import click

ALL = "--all"
"""The option that, with ``--help``, shows everything."""
_HELP = frozenset({"-h", "--help"})
_MIN_WIDTH, _MAX_WIDTH = 30, 100
_MAX_NAME_WIDTH = 30
"""Columns of an option's name. The text of an option with a longer name is on the next line."""
_MAX_DAILY_NAME_WIDTH = 25
"""The same for the first screen."""
_MAX_COMMAND_WIDTH = 40
"""Columns of an example's command line. Explanations are aligned to the longest one up to this."""
_SCREEN_ROWS = 23
"""Rows of the first screen: those of a usual terminal, without the row of the next prompt."""
_WORD = re.compile(r"""(?:'[^']*'|"[^"]*"|\S)+""")
_EXAMPLE = re.compile(r"(.*?)(?: {2,}(.*))?")

DAILY_OPTIONS: Mapping[str, Collection[str]] = {"AWS": ("region", "profile"), "Output": ("verbose", "quiet")}
"""The common options on the first screen of every command, by headings."""
HEADINGS: Mapping[str, Collection[str]] = {
    "Session": ("url", "token", "token_file", "session_id", "target", "stdin_eof"),
    "AWS": ("region", "profile", "endpoint_url", "sign"),
    "Network": (
        "proxy",
        "ca_bundle",
        "dial",
        "bearer",
        "insecure",
        "connect_timeout",
        "keepalive",
        "reconnect_timeout",
    ),
    "Terminal": ("status", "predict", "escape_char", "record", "record_input"),
    "Output": ("as_json", "verbose", "quiet", "log_file", "log_format", "color", "help"),
}
"""The common options, by headings, in the order in which they are shown."""


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Return whether ``--help`` is among the arguments before ``--``."""
    return not _HELP.isdisjoint(_before_dashes(arguments))


def asks_for_everything(arguments: Sequence[str]) -> bool:
    """Return whether ``--help`` and ``--all`` are among the arguments before ``--``."""
    return asks_for_help(arguments) and ALL in _before_dashes(arguments)


def given_color(arguments: Sequence[str]) -> str:
    """Return the last value of ``--color`` among the arguments before ``--``; empty if there is none."""
    before = _before_dashes(arguments)
    for index in reversed(range(len(before))):
        if before[index].startswith("--color="):
            return before[index].partition("=")[2]
        if before[index] == "--color" and index + 1 < len(before):
            return before[index + 1]
    return ""


def _before_dashes(arguments: Sequence[str]) -> Sequence[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def first_sentence(text: str) -> str:
    """Return the first sentence of an option's help, without its full stop."""
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def split_example(line: str) -> tuple[str, str]:
    """Return the command line of an example and its explanation, which may be empty.

    They are separated by two blanks or more; the explanation may be in parentheses.
    """
    match = _EXAMPLE.fullmatch(line.strip())
    assert match is not None
    command, note = match.groups(default="")
    return command, note[1:-1] if note.startswith("(") and note.endswith(")") else note


_LEAST_INDENT = 6
"""Columns before a text below its name, in a terminal that is too narrow for two columns."""


class Page:
    """Lines of a page, wrapped at blanks only, so that options and command lines can be copied."""

    def __init__(self, *, colored: bool) -> None:
        self.width = max(min(shutil.get_terminal_size().columns, _MAX_WIDTH), _MIN_WIDTH)
        self._colored = colored
        self._lines: list[str] = []

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def add(self, text: str, *, indent: int = 0, hanging: int | None = None) -> None:
        """Add a paragraph. Lines after the first are indented by ``hanging`` columns, by default like the first."""
        first, rest = " " * indent, " " * (indent if hanging is None else hanging)
        self._lines += _wrap(text, self.width, first, rest) or [""]

    def add_heading(self, text: str) -> None:
        """Add the heading of a group."""
        self._lines.append(self._styled(f"{text}:", bold=True))

    def add_table(self, rows: Sequence[tuple[str, str]], name_width: int) -> None:
        """Add names and their texts, in two columns."""
        for name, text in rows:
            shown = self._styled(name, fg="cyan")
            longest_word = max(map(len, text.split()), default=0)
            column = max(_LEAST_INDENT, min(name_width + 4, self.width - longest_word))
            lines = _wrap(text, self.width, " " * column, " " * column)
            if len(name) > column - 4 or not lines:
                self._lines += [f"  {shown}", *lines]
            else:
                self._lines.append(f"  {shown}{lines[0][2 + len(name) :]}")
                self._lines += lines[1:]

    def add_examples(self, examples: str, room: int | None = None) -> None:
        """Add examples. With ``room``, as many as fit on a page of that many lines, but at least one."""
        rows = [split_example(line) for line in examples.strip().splitlines()]
        widths = [len(command) for command, note in rows if note and len(command) <= _MAX_COMMAND_WIDTH]
        column = max(widths, default=0)
        self.add_heading("Examples")
        for number, (command, note) in enumerate(rows):
            lines = [f"  {command:<{column}}  {note}".rstrip()]
            if len(lines[0]) > self.width:
                lines = [f"  {part}" for part in _cut(command, self.width - 2)]
                lines += _wrap(note, self.width, "      ", "      ")
            if room is None or number == 0 or len(self._lines) + len(lines) <= room:
                self._lines += lines

    def _styled(self, text: str, *, bold: bool = False, fg: str | None = None) -> str:
        return click.style(text, bold=bold or None, fg=fg) if self._colored else text


def _without_choices(name: str) -> str:
    """Return ``--option CHOICE`` for ``--option [a|b|c]``, to leave room for the text."""
    return re.sub(r" \[.*\|.*\]$", " CHOICE", name)


def _wrap(text: str, width: int, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False
    )


def _cut(command: str, width: int) -> Iterator[str]:
    """Split a command line at blanks outside quotes, so that the pieces can be pasted."""
    line, *words = _WORD.findall(command)
    for word in words:
        if len(line) + len(word) + 3 > width:
            yield f"{line} \\"
            line = f"    {word}"
        else:
            line = f"{line} {word}"
    yield line


def command_page(
    context: click.Context,
    groups: Mapping[str, Collection[str]],
    more_groups: Mapping[str, Collection[str]],
    examples: str,
    *,
    everything: bool,
) -> Page:
    """Return the help of a command.

    ``groups`` are the headings of the first screen, each with the names of its parameters; without groups, the first
    screen shows all options that are not common. ``more_groups`` are further headings of the whole help.
    """
    page = Page(colored=bool(context.color))
    command = context.command
    help_option = command.get_help_option(context)
    options = {
        "help" if parameter is help_option else parameter.name or "": record
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) and isinstance(parameter, click.Option)
    }
    helps = {parameter.name: first_sentence(getattr(parameter, "help", None) or "") for parameter in command.params}
    page.add(f"Usage: {context.command_path} {' '.join(command.collect_usage_pieces(context))}", hanging=7)
    page.add("")
    paragraphs = [" ".join(paragraph.split()) for paragraph in (command.help or "").strip().split("\n\n")]
    for paragraph in paragraphs if everything else paragraphs[:1]:
        page.add(paragraph)
        page.add("")
    if everything:
        headings = _all_headings(options, groups, more_groups)
        rows = {heading: [options[name] for name in names] for heading, names in headings.items()}
    else:
        headings = _daily_headings(options, groups)
        rows = {
            heading: [(_without_choices(options[name][0]), helps[name]) for name in names if name in helps]
            for heading, names in headings.items()
        }
    limit = _MAX_NAME_WIDTH if everything else _MAX_DAILY_NAME_WIDTH
    names = [name for group in rows.values() for name, _ in group if len(name) <= limit]
    name_width = max(map(len, names), default=0)
    for heading, group in rows.items():
        if group:
            page.add_heading(heading)
            page.add_table(group, name_width)
            if everything:
                page.add("")
    if everything:
        page.add_examples(examples)
    else:
        page.add_examples(examples, room=_SCREEN_ROWS - 1)
        page.add(f"All options: {context.command_path} --help --all. Man page: smp help --man {command.name}")
    return page


def _daily_headings(options: Mapping[str, object], groups: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    if not groups:
        common = {name for names in HEADINGS.values() for name in names}
        groups = {"Options": [name for name in options if name not in common]}
    headings = {heading: [name for name in names if name in options] for heading, names in groups.items()}
    shown = {name for names in headings.values() for name in names}
    for heading, names in DAILY_OPTIONS.items():
        headings.setdefault(heading, []).extend(name for name in names if name in options and name not in shown)
    return headings


def _all_headings(
    options: Mapping[str, object], groups: Mapping[str, Collection[str]], more_groups: Mapping[str, Collection[str]]
) -> dict[str, list[str]]:
    headings: dict[str, list[str]] = {}
    shown: set[str] = set()
    for source in (groups, more_groups, HEADINGS):
        for heading, names in source.items():
            found = [name for name in names if name in options and name not in shown]
            headings.setdefault(heading, []).extend(found)
            shown.update(found)
    rest = [name for name in options if name not in shown]
    if rest:
        headings["Other options" if groups else "Options"] = rest
    return headings


def group_page(context: click.Context, commands: Mapping[str, str], groups: Mapping[str, Collection[str]]) -> Page:
    """Return the help of ``smp``: ``commands`` with their summaries, below the headings of ``groups``."""
    page = Page(colored=bool(context.color))
    page.add(f"Usage: {context.command_path} COMMAND [OPTIONS]", hanging=7)
    page.add("")
    page.add(" ".join((context.command.help or "").split()))
    page.add("")
    name_width = max(map(len, commands))
    for heading, names in groups.items():
        page.add_heading(heading)
        page.add_table([(name, commands[name].rstrip(".")) for name in names if name in commands], name_width)
    page.add(f"Options of a command: {context.command_path} COMMAND --help. Version: {context.command_path} --version")
    return page
