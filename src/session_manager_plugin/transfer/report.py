"""The options, the progress and the results of a copy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CopyOptions:
    """``recursive``: directories are copied. ``preserve``: modes and times are kept. ``streams``: sessions at the same
    time, each of which carries a part of a large file."""

    recursive: bool = False
    preserve: bool = False
    streams: int = 1


@dataclass(frozen=True)
class Progress:
    """``name`` is being copied. ``done`` bytes of all files are copied; ``total`` is the sum of the known sizes.
    ``checking`` is the size of a file whose bytes have all arrived, while the target computes its digest; else 0."""

    name: str
    done: int
    total: int
    checking: int = 0


@dataclass(frozen=True)
class CopiedFile:
    """One complete file or directory: the number of its bytes, and their digest in hexadecimal."""

    name: str
    size: int
    digest: str


@dataclass
class CopyReport:
    """What a copy reports; pass one to ``copy`` to follow it.

    The functions are called in the event loop: ``on_progress`` while bytes are copied, ``on_copied`` with each file or
    directory that is complete, ``on_problem`` with the name of a file that is not copied and the reason, ``on_notice``
    with a sentence for the user. ``files`` and ``problems`` collect the results. ``partial`` and ``sessions`` are what
    remains if the process ends now: the incomplete file or directory, as a phrase for the user and empty if there is
    none, and the ids of the sessions that the copy has started and not terminated yet.
    """

    on_progress: Callable[[Progress], None] = field(default=lambda _progress: None, repr=False)
    on_copied: Callable[[CopiedFile], None] = field(default=lambda _file: None, repr=False)
    on_problem: Callable[[str, str], None] = field(default=lambda _name, _text: None, repr=False)
    on_notice: Callable[[str], None] = field(default=lambda _sentence: None, repr=False)
    files: list[CopiedFile] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    partial: str = field(default="", repr=False)
    sessions: list[str] = field(default_factory=list, repr=False)
    _name: str = field(default="", init=False, repr=False)
    _done: int = field(default=0, init=False, repr=False)
    _total: int = field(default=0, init=False, repr=False)
    _unchecked: bool = field(default=False, init=False, repr=False)
    """Whether ``on_notice`` was called about a file without a digest."""

    @property
    def current(self) -> str:
        """The name of the file or directory that is being copied; empty if there is none."""
        return self._name

    def expect(self, size: int) -> None:
        """Add ``size`` to the bytes to be copied."""
        self._total += size

    def start(self, name: str) -> None:
        """Report that the file ``name`` begins."""
        self._name = name
        self.advance(0)

    def advance(self, size: int) -> None:
        """Add ``size`` to the bytes copied."""
        self._done += size
        self._total = max(self._total, self._done)
        self.on_progress(Progress(self._name, self._done, self._total))

    def checking(self, size: int) -> None:
        """Report that the target computes the digest of the current file, which has ``size`` bytes."""
        self.on_progress(Progress(self._name, self._done, self._total, size))

    def copied(self, name: str, size: int, digest: str) -> None:
        """Report a complete file."""
        if not digest and not self._unchecked:
            self._unchecked = True
            self.on_notice("the copy is not checked: the target has no sha256sum and no other tool for a digest")
        self._name = ""
        self.files.append(CopiedFile(name, size, digest))
        self.on_copied(self.files[-1])

    def problem(self, name: str, text: str) -> None:
        """Report a file that is not copied, and why. The same problem is reported once."""
        if (name, text) not in self.problems:
            if name == self._name:
                self._name = ""
            self.problems.append((name, text))
            self.on_problem(name, text)
