"""Drive `smp demo` through a pseudo-terminal, as a person would: prompt, a command, its answer, exit.

    python3 tests/support/drive_demo.py [--deadline SECONDS] [-- COMMAND …]

COMMAND is `smp demo` unless given. Exits 0 when the session answered, the command ended with status 0 and the
terminal has the attributes it had before; else 1, with what went wrong and the last of what was shown.
Standard library only: it runs in the empty environment that the wheel was installed into.
"""

import argparse
import contextlib
import os
import re
import select
import signal
import sys
import termios
import time

# A prompt's last character and its blank, then nothing or the escape sequences that follow a prompt.
PROMPT = re.compile(rb"[#$%>] (?=\x1b|\Z)")
# On a line of its own, so not in the echo of the command; escape sequences may stand right before it.
ANSWER = re.compile(rb"(?:[\r\n]|\x1b\[[0-9;?]*[A-Za-z])42\r?\n")

SHOWN_ON_FAILURE = 4096
"""Bytes of the end of the output."""


class Failed(Exception):
    """The demo did not do what it should; the text says what."""


class TerminalProgram:
    """A program on a pseudo-terminal of its own, 80×24, every wait ended by one common deadline."""

    def __init__(self, command: list[str], deadline: float) -> None:
        """Start `command`; `deadline` is in seconds from now."""
        self.output = bytearray()
        self._exit_status: int | None = None
        self._ends_at = time.monotonic() + deadline
        # The slave end stays open here, so that its attributes outlive the program.
        self._master, self._slave = os.openpty()
        termios.tcsetwinsize(self._slave, (24, 80))
        self._attributes = termios.tcgetattr(self._slave)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._master)
                os.login_tty(self._slave)
                os.execvpe(command[0], command, {**os.environ, "TERM": "xterm-256color"})
            except OSError as error:
                os.write(2, f"{command[0]}: {error}\n".encode())
            finally:
                os._exit(127)

    def wait_for(self, pattern: re.Pattern[bytes], what: str, *, start: int = 0) -> None:
        """Read until `pattern` stands in the output from byte `start` on; raises `Failed` otherwise."""
        while not pattern.search(self.output, start):
            if self._read_some(what):
                continue
            status = self._status()
            if status is not None:
                raise Failed(f"the program ended with status {status} before {what} came")

    def send(self, data: bytes) -> int:
        """Type `data`; gives the length of the output so far."""
        os.write(self._master, data)
        return len(self.output)

    def wait_for_end(self) -> int:
        """Read until the program has ended, and give its exit status; a signal counts as 128 + its number."""
        while (status := self._status()) is None:
            self._read_some("the end of the program")
        return status

    def attributes_kept(self) -> bool:
        """Whether the terminal's attributes are those it had before the program was started."""
        return termios.tcgetattr(self._slave) == self._attributes

    def kill(self) -> None:
        """End the program if it still runs, and give the terminal back."""
        if self._status() is None:
            # login_tty made it the leader of a group of its own; before that there is the process alone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._slave)
        os.close(self._master)

    def _read_some(self, what: str) -> bool:
        """Read what is there, or within the next 50 ms; false when nothing is."""
        if time.monotonic() > self._ends_at:
            raise Failed(f"{what} did not come in time")
        readable, _, _ = select.select([self._master], [], [], 0.05)
        if readable:
            self.output += os.read(self._master, 65536)
        return bool(readable)

    def _status(self) -> int | None:
        """The exit status once the program has ended."""
        if self._exit_status is None:
            pid, wait_status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(wait_status)
                self._exit_status = code if code >= 0 else 128 - code
        return self._exit_status


def drive(program: TerminalProgram) -> None:
    """Go through one session; raises `Failed`."""
    program.wait_for(PROMPT, "a prompt")
    asked_at = program.send(b"echo $((40+2))\r")
    program.wait_for(ANSWER, "the answer 42", start=asked_at)
    program.send(b"exit\r")
    status = program.wait_for_end()
    if status != 0:
        raise Failed(f"the program ended with status {status}")
    if not program.attributes_kept():
        raise Failed("the terminal was left with other attributes than it had")


def main() -> int:
    """Run the command of the command line and say how it went."""
    parser = argparse.ArgumentParser(description="Drive `smp demo` through a pseudo-terminal.")
    parser.add_argument("--deadline", type=float, default=60.0, metavar="SECONDS", help="for all of it (60)")
    parser.add_argument("command", nargs="*", default=["smp", "demo"], metavar="COMMAND")
    arguments = parser.parse_args()
    program = TerminalProgram(arguments.command, arguments.deadline)
    try:
        drive(program)
    except Failed as failure:
        shown = bytes(program.output[-SHOWN_ON_FAILURE:])
        print(f"{' '.join(arguments.command)}: {failure}. The terminal was shown:\n{shown!r}", file=sys.stderr)
        return 1
    finally:
        program.kill()
    print(f"{' '.join(arguments.command)}: a session, its answer, status 0, the terminal as before")
    return 0


if __name__ == "__main__":
    sys.exit(main())
