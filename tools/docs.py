"""Writes `man/` and `completions/` from the command tree, and screens into documents; `make docs` runs it.

click-man makes the pages; what it leaves out (fonts of the options, exit statuses, variables, files, examples) is added
here. `man/session-manager-plugin.1` is written by hand: that program has no command tree.

The output depends on the source tree alone. The date of the pages is that of the version in CHANGELOG.md.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import click
from click_man.core import generate_man_page

from session_manager_plugin import __version__
from session_manager_plugin.cli.click_options import Command
from session_manager_plugin.cli.completion import SCRIPTS
from session_manager_plugin.cli.help_page import split_example
from session_manager_plugin.cli.main import COMMANDS, smp
from tools.manual import BUGS, DETAILS, ENVIRONMENT, EXIT_STATUS, FILES, GROUP_EXAMPLES, SEE_ALSO

ROOT = Path(__file__).parents[1]
COMPLETIONS = {"bash": "smp.bash", "zsh": "_smp", "fish": "smp.fish"}
"""The file of each shell's script; zsh and fish find them by these names."""
_VERSION_HEADING = re.compile(rf"^## {re.escape(__version__)}\b.*?(\d{{4}}-\d\d-\d\d)", re.MULTILINE)
_CAPTURE = re.compile(r"<!-- capture: ([\w-]+) -->\n.*?<!-- end of capture -->", re.DOTALL)
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)")


def generated() -> dict[Path, str]:
    """Every generated file, by its path in the repository."""
    files = {Path("completions", COMPLETIONS[shell]): script for shell, script in SCRIPTS.items()}
    root = _context_of(smp, "smp", None)
    files[Path("man", "smp.1")] = page(root)
    for name in COMMANDS:
        command = smp.get_command(root, name)
        assert command is not None
        files[Path("man", f"smp-{name}.1")] = page(_context_of(command, name, root))
    return files


def captured() -> dict[Path, str]:
    """The documents that show screens, with what stands in docs/screens now."""
    return {
        path.relative_to(ROOT): text
        for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
        if (text := _CAPTURE.sub(_with_screen, path.read_text()))
        if _CAPTURE.search(text)
    }


def _with_screen(mark: re.Match[str]) -> str:
    screen = (ROOT / "docs" / "screens" / f"{mark[1]}.txt").read_text()
    return f"<!-- capture: {mark[1]} -->\n```text\n{screen}```\n<!-- end of capture -->"


def _context_of(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(command, parent=parent, info_name=name, **command.context_settings)


def page(context: click.Context) -> str:
    """The man page of a command, or of the whole group."""
    command = context.command
    name = context.command_path.replace(" ", "-")
    summary = COMMANDS.get(command.name or "", "sessions of AWS Systems Manager Session Manager")
    shown = _Shown(context, summary)
    text = generate_man_page(_context(context, shown), version=f"smp {__version__}", date=release_date())
    body = _repair(text, name, context.command_path)
    if name == "smp":
        body += _section("COMMANDS", [_entry(rf"\fBsmp\-{each}\fR(1)", line) for each, line in COMMANDS.items()])
    for title, parts in DETAILS.get(name, ()):
        body += _section(title, map(_part, parts))
    body += _section(
        "EXIT STATUS", [_entry(rf"\fB{_text(s)}\fR", _prose(t)) for s, t in EXIT_STATUS.get(name, EXIT_STATUS[""])]
    )
    body += _section("ENVIRONMENT", _environment(context))
    body += _section(
        "FILES", [_entry(rf"\fI{_text(path)}\fR", _prose(what)) for path, what in FILES.get(name, FILES[""])]
    )
    body += _section("EXAMPLES", _examples(command))
    if name in BUGS:
        body += _section("BUGS", map(_part, BUGS[name]))
    related = COMMANDS if name == "smp" else [each for each in SEE_ALSO.get(name, ()) if each in COMMANDS]
    others = ["smp"] * (name != "smp") + [f"smp-{each}" for each in related] + ["session-manager-plugin"]
    return body + ".SH SEE ALSO\n" + ",\n".join(rf"\fB{_text(other)}\fR(1)" for other in others) + "\n"


def release_date() -> str:
    """The date of this version in CHANGELOG.md, as 2026-11-22."""
    match = _VERSION_HEADING.search((ROOT / "CHANGELOG.md").read_text())
    if match is None:
        raise SystemExit(f"CHANGELOG.md has no heading '## {__version__} - YYYY-MM-DD'")
    return match[1]


class _Shown(click.Command):
    """A command as click-man is to see it: its texts as roff, its options with both names in bold."""

    def __init__(self, context: click.Context, summary: str) -> None:
        command = context.command
        super().__init__(command.name, params=command.get_params(context), add_help_option=False)
        self._command = command
        self.short_help = _text(summary.rstrip("."))
        self.short_help = self.short_help[:1].lower() + self.short_help[1:]
        paragraphs = (command.help or "").replace("\b\n", "").strip().split("\n\n")
        self.help = "\n\n".join(_prose(" ".join(paragraph.split())) for paragraph in paragraphs)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return self._command.collect_usage_pieces(ctx)


def _context(context: click.Context, command: click.Command) -> click.Context:
    return click.Context(command, parent=context.parent, info_name=context.info_name)


def _repair(text: str, name: str, command_path: str) -> str:
    """click-man's page with one word for its title, and fonts and escapes where it has none."""
    lines = text.splitlines()
    title = f'.TH "{name.upper()}" "1" "{release_date()}" "smp {__version__}" "User Commands"'
    result: list[str] = []
    section, option = "", False
    for line in lines:
        if line.startswith(".TH "):
            result.append(title)
        elif line.startswith(".SH "):
            section = line[4:]
            result.append(line)
        elif section == "SYNOPSIS" and not line.startswith(".B"):
            result.append(re.sub(r"[A-Z][A-Z-]+", r"\\fI\g<0>\\fR", line))
        elif line == ".B " + command_path:
            result.append(f".B {_text(command_path)}")
        elif option:
            result.append(_option_line(line))
        elif section == "OPTIONS" and not line.startswith("."):
            result.append(_prose(line))
        elif line == ".PP" and result[-1].startswith(".SH "):
            pass
        else:
            result.append(line)
        option = line == ".TP"
    return "\n".join(result) + "\n"


def _option_line(line: str) -> str:
    r"""`\fB\-v,\fP \-\-verbose` of click-man, with names in bold and what they take in italics."""
    plain = line.replace(r"\fB", "").replace(r"\fP", "").replace("\\-", "-")
    names, _, value = plain.partition("  ") if "  " in plain else (plain, "", "")
    words = names.split()
    shown = []
    for word in words:
        bare = word.rstrip(",")
        font = r"\fB" if bare.startswith("-") else r"\fI"
        shown.append(rf"{font}{_text(bare)}\fR{word[len(bare) :]}")
    return " ".join(shown) + value


def _section(title: str, parts: Iterable[str]) -> str:
    text = "".join(parts)
    return f".SH {title}\n{text.removeprefix('.PP' + chr(10))}" if text else ""


def _part(part: str | tuple[str, str]) -> str:
    """A paragraph, or a tag and its text."""
    return f".PP\n{_prose(part)}\n" if isinstance(part, str) else _entry(rf"\fB{_text(part[0])}\fR", _prose(part[1]))


def _entry(tag: str, text: str) -> str:
    return f".TP\n{tag}\n{text}\n"


def _environment(context: click.Context) -> list[str]:
    """The variables that options read, then those that the command itself does."""
    entries = {}
    for parameter in context.command.params:
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str):
            entries[parameter.envvar] = f"The default of {parameter.opts[-1]}."
    names = ENVIRONMENT.get(context.info_name or "", ())
    entries |= {name: text for name, text in names if name not in entries}
    return [_entry(rf"\fB{_text(name)}\fR", _prose(text)) for name, text in sorted(entries.items())]


def _examples(command: click.Command) -> list[str]:
    lines = command.examples if isinstance(command, Command) else GROUP_EXAMPLES
    parts = []
    for line in lines.strip().splitlines():
        example, note = split_example(line)
        if note:
            parts.append(f".PP\n{_prose(note[:1].upper() + note[1:])}:\n")
        parts.append(f".PP\n.RS 4\n.EX\n{_text(example)}\n.EE\n.RE\n")
    return parts


def _text(text: str) -> str:
    """Text that roff prints as it is, hyphens and quotes included; none of its lines is a request."""
    text = text.replace("\\", r"\e").replace("-", r"\-").replace("`", r"\(ga").replace("'", r"\(aq")
    text = text.replace("^", r"\(ha").replace("~", r"\(ti")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def _prose(text: str) -> str:
    """A paragraph: options in bold, hyphens of words left to be hyphens."""
    pieces = _OPTION.split(text)
    shown = []
    for number, piece in enumerate(pieces):
        if number % 2:
            shown.append(rf"\fB{_text(piece)}\fR")
        else:
            shown.append(re.sub(r"(?<=[a-z])\\-(?=[a-z])", "-", _text(piece)))
    return re.sub(r"^([.'])", r"\\&\1", "".join(shown), flags=re.MULTILINE)


def main() -> None:
    """Write what differs, remove pages of commands that are gone."""
    files = generated()
    for path, text in captured().items():
        (ROOT / path).write_text(text)
    for path, text in files.items():
        target = ROOT / path
        target.parent.mkdir(exist_ok=True)
        if not target.exists() or target.read_text() != text:
            target.write_text(text)
            sys.stdout.write(f"{path}\n")
    for page_file in (ROOT / "man").glob("smp*.1"):
        if page_file.relative_to(ROOT) not in files:
            page_file.unlink()
            sys.stdout.write(f"{page_file.relative_to(ROOT)} removed\n")


if __name__ == "__main__":
    main()
