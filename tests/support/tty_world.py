"""A remote terminal with a shell and programs that turn its echo off, behind a slow link: the clock is a number."""

from __future__ import annotations

from collections.abc import Callable, Generator
from enum import Enum

from session_manager_plugin.terminal.predict_mode import PredictMode
from tests.support.echo_world import EchoWorld


class Wants(Enum):
    """What a program waits for."""

    LINE = "line"
    KEY = "key"


Steps = Generator[float | Wants, str, None]
"""A program: it yields the seconds for which it sleeps, or what it reads and is sent."""

EDITOR_PROMPT = b"\x1b[?2004huser@host:~$ "


class TtyWorld(EchoWorld):
    """The shell edits lines itself (`edits`, as bash) or leaves that to the terminal (as dash).

    `commands` are the programs it can start, by their lines. `hidden` collects what was typed without echo.
    """

    def __init__(
        self,
        seed: int,
        commands: dict[str, Callable[[TtyWorld], Steps]],
        *,
        edits: bool,
        mode: PredictMode = PredictMode.ALWAYS,
        prompt: bytes = b"$ ",
    ) -> None:
        self._commands = commands
        self.echoes, self.is_canonical = True, True
        self.hidden = ""
        self._edits = edits
        self._typed = ""
        self._wants: Wants | None = None
        super().__init__(seed, mode, prompt=EDITOR_PROMPT if edits else prompt)
        self._program = self._edited_shell() if edits else self._plain_shell()
        self._go_on("")

    # --- the terminal's line discipline

    def begin(self) -> None:
        """The shell shows its first prompt by itself."""

    def _edit(self, data: bytes) -> None:
        for character in data.decode():
            self._input(character)
        self._serve()

    def _input(self, character: str) -> None:
        if character == "\x7f" and self.is_canonical:
            if self._typed and self._typed[-1] != "\n":
                self._typed = self._typed[:-1]
                if self.echoes:
                    self.output(b"\x08 \x08")
            return
        character = "\n" if character == "\r" else character
        if self.echoes:
            self.output(b"\r\n" if character == "\n" else character.encode())
        elif self.is_canonical:
            self.hidden += character
        self._typed += character

    def set_echo(self, echoes: bool, *, flushes: bool = False) -> None:
        """tcsetattr(3): TCSAFLUSH if `flushes`, else TCSADRAIN."""
        self.echoes = echoes
        if flushes:
            self._typed = ""

    def _serve(self) -> None:
        """Let the program read."""
        while self._wants is not None:
            if self._wants is Wants.KEY and self._typed:
                read, self._typed = self._typed[:1], self._typed[1:]
            elif self._wants is Wants.LINE and "\n" in self._typed:
                read, _, self._typed = self._typed.partition("\n")
            else:
                return
            self._wants = None
            self._go_on(read)

    def _go_on(self, read: str) -> None:
        step = self._program.send(read) if read or self._begun else next(self._program)
        self._begun = True
        if isinstance(step, Wants):
            self._wants = step
            self._serve_later()
        else:
            self._at(self.now + step, lambda: self._go_on(""))

    _begun = False

    def _serve_later(self) -> None:
        self._at(self.now, self._serve)

    # --- the shells

    def _run(self, line: str) -> Steps:
        yield self.dice.uniform(0.001, 0.01)
        if command := self._commands.get(line):
            yield from command(self)

    def _plain_shell(self) -> Steps:
        while True:
            self.output(self.prompt)
            yield from self._run((yield Wants.LINE))

    def _edited_shell(self) -> Steps:
        while True:
            self.echoes = self.is_canonical = False
            self.output(self.prompt)
            line = ""
            while (key := (yield Wants.KEY)) != "\n":
                if key == "\x7f":
                    if line:
                        line = line[:-1]
                        self.output(b"\x08\x1b[K")
                    continue
                line += key
                self.output(key.encode())
            self.output(b"\r\n\x1b[?2004l\r")
            self.echoes = self.is_canonical = True
            yield from self._run(line)


# --- the ways to ask for something without echo


def read_s(world: TtyWorld) -> Steps:
    """bash's `read -s -p`: the echo is turned off, then the prompt shown; typed-ahead input is kept."""
    world.set_echo(False)
    world.output(b"password: ")
    yield Wants.LINE
    world.set_echo(True)
    world.output(b"\r\n")


def stty(world: TtyWorld) -> Steps:
    """`printf prompt; stty -echo; read; stty echo`: the prompt is shown first, and stty takes its time to start."""
    world.output(b"password: ")
    yield world.dice.choice((0.002, 0.005, 0.05, 0.5))
    world.set_echo(False)
    yield Wants.LINE
    yield 0.002
    world.set_echo(True)
    world.output(b"\r\n")


def stty_bare(world: TtyWorld) -> Steps:
    """The same without a prompt, or with something else in the row."""
    yield world.dice.choice((0.002, 0.05, 0.5))
    world.output(world.dice.choice((b"", b"working... ")))
    yield world.dice.choice((0.002, 0.05, 0.5))
    world.set_echo(False)
    yield Wants.LINE
    world.set_echo(True)
    world.output(b"\r\n")


def getpass(world: TtyWorld) -> Steps:
    """getpass(3): typed-ahead input is discarded, then the prompt shown."""
    yield world.dice.uniform(0.01, 0.2)
    world.set_echo(False, flushes=True)
    world.output(b"password: ")
    yield Wants.LINE
    world.output(b"\r\n")
    world.set_echo(True)


def ssh(world: TtyWorld) -> Steps:
    """ssh's prompt, after a connection was made; refused, and asked for again."""
    yield world.dice.uniform(0.05, 1.0)
    for attempt in range(world.dice.choice((1, 2))):
        if attempt:
            yield world.dice.uniform(0.5, 2.0)
            world.output(b"denied, please try again.\r\n")
        world.set_echo(False, flushes=True)
        world.output(b"user@host's password: ")
        yield Wants.LINE
        world.output(b"\r\n")
        world.set_echo(True)


def sudo(world: TtyWorld) -> Steps:
    """sudo with pwfeedback: a star for each character."""
    world.set_echo(False, flushes=True)
    yield from _read_with_stars(world, b"[sudo] password for user: ", b"\r\n")


def masked(world: TtyWorld) -> Steps:
    """A line editor that masks, as fish's `read --silent`: bracketed paste is on."""
    world.set_echo(False)
    yield from _read_with_stars(world, b"\x1b[?2004hread> ", b"\r\n\x1b[?2004l\r")


def _read_with_stars(world: TtyWorld, prompt: bytes, end: bytes) -> Steps:
    """Read a line key by key; the echo is already off."""
    world.is_canonical = False
    world.output(prompt)
    while (key := (yield Wants.KEY)) != "\n":
        world.hidden += key
        world.output(b"*")
    world.output(end)
    world.set_echo(True)
    world.is_canonical = True


def name_and_password(world: TtyWorld) -> Steps:
    """A name with echo, then a password without, at prompts of the same look."""
    world.output(b"> ")
    yield Wants.LINE
    yield world.dice.uniform(0.001, 0.3)
    world.output(b"> ")
    yield world.dice.choice((0.0, 0.003, 0.05))
    world.set_echo(False)
    yield Wants.LINE
    world.set_echo(True)
    world.output(b"\r\n")


def late(world: TtyWorld) -> Steps:
    """Silent for long, as a program that connects first; then it turns the echo off."""
    yield world.dice.uniform(0.5, 2.5)
    world.set_echo(False)
    yield Wants.LINE
    world.set_echo(True)
    world.output(b"\r\n")


def sleep(world: TtyWorld) -> Steps:
    """A command that takes its time."""
    yield world.dice.uniform(0.3, 2.0)


WAYS: dict[str, Callable[[TtyWorld], Steps]] = {
    "read_s": read_s,
    "stty": stty,
    "stty_bare": stty_bare,
    "getpass": getpass,
    "ssh": ssh,
    "sudo": sudo,
    "masked": masked,
    "name_and_password": name_and_password,
    "late": late,
}
