"""Whole copies: the local part and the lines of sh, with sessions that are processes of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import inspect
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from session_manager_plugin.errors import ConnectionLost, CopyFailed
from session_manager_plugin.transfer.download import download
from session_manager_plugin.transfer.local_files import Attributes, archive, walk
from session_manager_plugin.transfer.local_tree import PartialTree
from session_manager_plugin.transfer.report import CopyOptions, CopyReport, Progress
from session_manager_plugin.transfer.scripts import MIN_PARTED_SIZE
from session_manager_plugin.transfer.sessions import CopyChannel
from session_manager_plugin.transfer.upload import upload
from session_manager_plugin.transfer.upload_plan import WINDOW_SIZE
from tests.support.waiting import DEADLINE
from tests.test_transfer.script_sessions import ScriptChannel, ScriptSessions
from tests.test_transfer.shells import SHELLS, tools_directory

NOISE = random.Random(1).randbytes(300_000) + b"\xef\xbf\xbd" * 1000 + bytes(range(256))
LOST = ConnectionLost("cut")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The local directory."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def sessions(tmp_path: Path) -> ScriptSessions:
    """Sessions with the tools of this machine and dash."""
    home = tmp_path / "home"
    home.mkdir()
    return ScriptSessions(tools_directory(tmp_path, "dash"), home)


async def _download(
    sessions: ScriptSessions,
    *paths: bytes,
    to: bytes = b".",
    recursive: bool = False,
    preserve: bool = False,
    streams: int = 1,
) -> CopyReport:
    report = CopyReport()
    async with asyncio.timeout(DEADLINE):
        await download(sessions, paths, to, CopyOptions(recursive, preserve, streams), report)
    return report


async def _upload(
    sessions: ScriptSessions,
    *paths: bytes,
    to: bytes = b"",
    recursive: bool = False,
    preserve: bool = False,
    streams: int = 1,
) -> CopyReport:
    report = CopyReport()
    async with asyncio.timeout(DEADLINE):
        await upload(sessions, paths, to, CopyOptions(recursive, preserve, streams), report)
    return report


async def test_a_cancelled_download_removes_its_file_before_the_session_is_terminated(
    sessions: ScriptSessions, here: Path
) -> None:
    (sessions.home / "file").write_bytes(NOISE * 40)
    left: list[set[str]] = []

    class Watched(ScriptSessions):
        @contextlib.asynccontextmanager
        async def _session(
            self, words: list[str], channel: ScriptChannel, terminal: bool
        ) -> AsyncIterator[CopyChannel]:
            async with super()._session(words, channel, terminal) as opened:
                try:
                    yield opened
                finally:
                    left.append(_names(here))

    begun = asyncio.Event()
    report = CopyReport(on_progress=lambda progress: begun.set() if progress.done else None)
    copying = asyncio.ensure_future(
        download(Watched(sessions.tools, sessions.home), [b"file"], b"copy", CopyOptions(), report)
    )
    async with asyncio.timeout(DEADLINE):
        await begun.wait()
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)
    assert left == [set()]


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_the_sessions_of_a_cancelled_copy_end_together(
    sessions: ScriptSessions, here: Path, direction: str
) -> None:
    """One is being started, and is cancelled once only, or its clean-up would be interrupted."""
    ending = asyncio.Barrier(3)
    opened_two, starting = asyncio.Event(), asyncio.Event()

    class Watched(ScriptSessions):
        @contextlib.asynccontextmanager
        async def _session(
            self, words: list[str], channel: ScriptChannel, terminal: bool
        ) -> AsyncIterator[CopyChannel]:
            if len(self.channels) == 2:
                self.channels.append(channel)
                try:
                    await opened_two.wait()
                    starting.set()
                    await asyncio.Event().wait()
                finally:
                    await ending.wait()
            async with super()._session(words, channel, terminal) as opened:
                try:
                    if channel is not self.channels[0]:
                        opened_two.set()
                    yield opened
                finally:
                    await ending.wait()

    watched = Watched(sessions.tools, sessions.home)
    _make_large((here if direction == "up" else sessions.home) / "file")
    if direction == "down":
        os.truncate(sessions.home / "file", 1 << 34)  # no part of it is complete before the end
    copy = upload if direction == "up" else download
    copying = asyncio.ensure_future(
        copy(watched, [b"file"], b"" if direction == "up" else b".", CopyOptions(streams=3), CopyReport())
    )
    async with asyncio.timeout(DEADLINE):
        await starting.wait()
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)
    assert copying.cancelled()
    assert ending.n_waiting == 0


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_links_that_lead_back_are_named_and_the_rest_is_copied(
    tmp_path: Path, here: Path, shell: str, direction: str
) -> None:
    """tar would follow a link to a directory above forever."""
    (tmp_path / "home").mkdir()
    sessions = ScriptSessions(tools_directory(tmp_path, shell), tmp_path / "home")
    top = (here if direction == "up" else sessions.home) / "tree"
    (top / "a").mkdir(parents=True)
    (top / "b").mkdir()
    (top / "a" / "file").write_text("file")
    for link, to in {"a/up": "..", "a/across": "../b", "b/across": "../a", "root": "/", "self": "self"}.items():
        (top / link).symlink_to(to)
    copy = _upload if direction == "up" else _download
    report = await copy(sessions, b"./tree/", recursive=True)
    copied = (sessions.home if direction == "up" else here) / "tree"
    assert (copied / "a" / "file").read_text() == (copied / "b" / "across" / "file").read_text() == "file"
    upward = ("a/across/across", "a/up", "b/across/across", "b/across/up", "root")
    assert sorted(report.problems)[:-1] == [(f"./tree/{name}", "is a link to a directory above it") for name in upward]
    assert max(report.problems) in {
        ("./tree/self", "is a link to nothing"),
        ("./tree/self", "Too many levels of symbolic links"),
    }


@pytest.mark.parametrize("shell", ["dash", "busybox"])
async def test_a_link_to_a_directory_beside_is_no_loop(tmp_path: Path, here: Path, shell: str) -> None:
    (tmp_path / "home").mkdir()
    sessions = ScriptSessions(tools_directory(tmp_path, shell), tmp_path / "home")
    (sessions.home / "tree" / "a").mkdir(parents=True)
    (sessions.home / "tree" / "b").mkdir()
    (sessions.home / "tree" / "b" / "file").write_text("file")
    (sessions.home / "tree" / "a" / "link").symlink_to("../b")
    report = await _download(sessions, b"tree", recursive=True)
    assert (here / "tree" / "a" / "link" / "file").read_text() == "file"
    assert [file.name for file in report.files] == ["tree"]  # one archive
    assert not report.problems


@pytest.mark.parametrize("missing", [set(), {"tar"}], ids=["tar", "file by file"])
@pytest.mark.parametrize(
    ("direction", "typed"),
    [*(("up", name) for name in ("tree", "./tree/", ".")), *(("down", name) for name in ("tree", "~/tree", ".", ""))],
)
async def test_a_problem_is_named_as_it_was_typed(
    tmp_path: Path, here: Path, missing: set[str], direction: str, typed: str
) -> None:
    (tmp_path / "home").mkdir()
    sessions = ScriptSessions(tools_directory(tmp_path, "dash", frozenset(missing)), tmp_path / "home")
    tree = (here if direction == "up" else sessions.home) / "tree"
    tree.mkdir()
    (tree / "nothing").symlink_to("absent")
    os.mkfifo(tree / "pipe")
    (tree / "file").write_text("file")
    if direction == "up":
        report = await _upload(sessions, os.fsencode(typed), to=b"copy", recursive=True)
    else:
        report = await _download(sessions, os.fsencode(typed), to=b"copy", recursive=True)
    below = "/tree" if typed in (".", "") else ""
    prefix = f"{typed.rstrip('/')}{below}".lstrip("/")
    assert sorted(name for name, _ in report.problems) == [f"{prefix}/nothing", f"{prefix}/pipe"]


def test_a_tree_is_walked_and_merged_without_recursion(here: Path) -> None:
    levels, problems = 200, []
    (here / "deep" / "/".join("d" * levels)).mkdir(parents=True)

    def report(name: bytes, text: str) -> None:
        problems.append((name, text))

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        entries = list(walk(b"deep", report))
        data = b"".join(archive(entries, 0o022, report, preserve=False))
        for _ in range(2):  # the second time it is merged
            tree = PartialTree(b"back", b"", Attributes(preserve=False), report, report)
            tree.write(data)
            assert tree.commit()
    finally:
        sys.setrecursionlimit(limit)
    assert (here / "back" / "/".join("d" * levels)).is_dir()
    assert not problems


@pytest.mark.parametrize("missing", [set(), {"tar"}], ids=["tar", "file by file"])
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_slash_after_a_new_name_is_for_directories(
    tmp_path: Path, here: Path, missing: set[str], direction: str
) -> None:
    (tmp_path / "home").mkdir()
    sessions = ScriptSessions(tools_directory(tmp_path, "dash", frozenset(missing)), tmp_path / "home")
    source, copied = (here, sessions.home) if direction == "up" else (sessions.home, here)
    (source / "tree").mkdir()
    (source / "tree" / "file").write_text("file")
    copy = _upload if direction == "up" else _download
    await copy(sessions, b"tree", to=b"new/", recursive=True)
    assert (copied / "new" / "file").read_text() == "file"
    with pytest.raises(CopyFailed, match="absent/: No such file or directory"):
        await copy(sessions, b"tree/file", to=b"absent/", recursive=True)
    assert _names(copied) == {"new"}


async def test_a_tree_is_merged_into_other_file_systems(
    sessions: ScriptSessions, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory ``mount`` and all below it are as if they were on another one."""
    for name in ("mount/file", "mount/new/inner", "mount/old/file", "file"):
        (sessions.home / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (sessions.home / "tree" / name).write_text(name)
    (sessions.home / "tree" / "mount" / "new").chmod(0o750)
    (here / "tree" / "mount" / "old").mkdir(parents=True)
    (here / "tree" / "mount" / "old" / "file").write_text("before")
    replace = os.replace

    def replace_in_one(source: bytes, destination: bytes) -> None:
        in_mount = os.fsencode(here / "tree" / "mount") + b"/"
        if source.startswith(in_mount) != destination.startswith(in_mount):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(source, destination)

    monkeypatch.setattr(os, "replace", replace_in_one)
    report = await _download(sessions, b"tree", recursive=True)
    assert not report.problems
    for name in ("mount/file", "mount/new/inner", "mount/old/file", "file"):
        assert (here / "tree" / name).read_text() == name
    assert (here / "tree" / "mount" / "new").stat().st_mode & 0o777 == 0o750 & ~_umask()
    assert _names(here / "tree") == {"mount", "file"}
    assert _names(here / "tree" / "mount") == {"file", "new", "old"}


async def test_a_tree_is_merged_into_a_directory_whose_parent_is_on_another_file_system(
    sessions: ScriptSessions, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sessions.home / "tree").mkdir()
    (sessions.home / "tree" / "file").write_text("file")
    (here / "tree").mkdir()
    replace, inside = os.replace, os.fsencode(here / "tree") + b"/"

    def replace_inside(source: bytes, destination: bytes) -> None:
        assert source.startswith(inside)
        replace(source, destination)

    monkeypatch.setattr(os, "replace", replace_inside)
    await _download(sessions, b"tree", recursive=True)
    assert (here / "tree" / "file").read_text() == "file"


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_file_there_and_back(tmp_path: Path, here: Path, shell: str) -> None:
    (tmp_path / "home").mkdir()
    sessions = ScriptSessions(tools_directory(tmp_path, shell), tmp_path / "home")
    (here / "first").write_bytes(NOISE)
    (here / "first").chmod(0o750)
    report = await _upload(sessions, b"first", to=b"a new name")
    assert (sessions.home / "a new name").read_bytes() == NOISE
    assert (sessions.home / "a new name").stat().st_mode & 0o777 == 0o750
    assert [(file.name, file.size) for file in report.files] == [("first", len(NOISE))]
    report = await _download(sessions, b"a new name")
    assert (here / "a new name").read_bytes() == NOISE
    assert [(file.name, file.size) for file in report.files] == [("a new name", len(NOISE))]
    assert _names(here) == {"first", "a new name"}
    assert _names(sessions.home) == {"a new name"}


@pytest.mark.parametrize(
    "missing",
    [
        {"base64"},
        {"gzip"},
        {"sha256sum"},
        {"tar"},
        {"stat", "readlink"},
        {"sha256sum", "sha512sum", "sha1sum", "md5sum"},
    ],
    ids=lambda missing: min(missing) if len(missing) < 3 else "all digests",
)
async def test_a_missing_tool_is_done_without(tmp_path: Path, here: Path, missing: set[str]) -> None:
    (tmp_path / "home").mkdir()
    sessions = ScriptSessions(tools_directory(tmp_path, "busybox", frozenset(missing)), tmp_path / "home")
    (here / "tree" / "sub").mkdir(parents=True)
    (here / "tree" / "sub" / "file").write_bytes(NOISE)
    notices: list[str] = []
    options, report = CopyOptions(recursive=True), CopyReport(on_notice=notices.append)
    async with asyncio.timeout(DEADLINE):
        await upload(sessions, [b"tree"], b"there", options, report)
        await download(sessions, [b"there"], b"back", options, report)
    assert (here / "back" / "sub" / "file").read_bytes() == NOISE
    assert not report.problems
    unchecked = "the copy is not checked: the target has no sha256sum and no other tool for a digest"
    assert notices == ([unchecked] if len(missing) > 2 else [])


@pytest.mark.parametrize("missing", [set(), {"tar"}], ids=["tar", "file by file"])
@pytest.mark.parametrize("preserve", [False, True])
async def test_a_directory_that_is_there_keeps_its_mode_unless_modes_are_kept(
    tmp_path: Path, here: Path, missing: set[str], preserve: bool
) -> None:
    home = tmp_path / "home"
    sessions = ScriptSessions(tools_directory(tmp_path, "dash", frozenset(missing)), home)
    for directory in (here / "tree" / "old", here / "tree" / "new", home / "tree" / "old"):
        directory.mkdir(parents=True)
        directory.chmod(0o750)
    (home / "tree" / "old").chmod(0o711)
    await _upload(sessions, b"tree", recursive=True, preserve=preserve)
    modes = {name: (home / "tree" / name).stat().st_mode & 0o777 for name in ("old", "new")}
    assert modes == {"old": 0o750 if preserve else 0o711, "new": 0o750}


async def test_without_an_encoder_nothing_is_downloaded(tmp_path: Path, here: Path) -> None:
    (tmp_path / "home").mkdir()
    tools = tools_directory(tmp_path, "busybox", frozenset({"base64", "od"}))
    with pytest.raises(CopyFailed, match="the target has neither base64 nor od"):
        await _download(ScriptSessions(tools, tmp_path / "home"), b"file")


async def test_a_file_that_is_removed_before_it_is_read_is_named(sessions: ScriptSessions, here: Path) -> None:
    stat = sessions.tools / "stat"
    program = stat.readlink()
    stat.unlink()
    stat.write_text(f'#!/bin/sh\ncase "$*" in *gone) exit 1;; esac\nexec {program} "$@"\n')
    stat.chmod(0o755)
    for name in ("1", "gone", "2"):
        (sessions.home / name).write_bytes(NOISE)
    report = await _download(sessions, b"1", b"gone", b"2")
    assert report.problems == [("gone", "No such file or directory")]
    assert [file.name for file in report.files] == ["1", "2"]


@pytest.mark.parametrize("tool", ["dd", "head", "tr", "mv"])
async def test_a_missing_tool_that_is_needed_is_named(tmp_path: Path, here: Path, tool: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for directory in (here, home):
        (directory / "file").write_bytes(NOISE)
    sessions = ScriptSessions(tools_directory(tmp_path, "dash", frozenset({tool})), home)
    missing = rf"the target has no {tool}, which copies need|the shell on the target could not be used .*{tool}"
    if tool != "mv":
        with pytest.raises(CopyFailed, match=missing):
            await _download(sessions, b"file", to=b"copy")
    if tool != "head":
        with pytest.raises(CopyFailed, match=missing):
            await _upload(sessions, b"file", to=b"copy")
    assert _names(here) == _names(home) == {"file"}


@pytest.mark.parametrize("loss", [None, LOST], ids=["stopped", "lost"])
async def test_a_download_that_is_cut_goes_on_in_another_session(
    sessions: ScriptSessions, here: Path, loss: ConnectionLost | None
) -> None:
    (sessions.home / "file").write_bytes(NOISE)
    sessions.stops = [(150_000, loss), (150_001, loss), (100, loss)]
    await _download(sessions, b"file")
    assert (here / "file").read_bytes() == NOISE
    assert len(sessions.channels) == 4
    encoded = len(NOISE) * 4 // 3 * 77 // 76
    assert sum(channel.printed for channel in sessions.channels) < encoded + len(sessions.channels) * 500


async def test_a_tree_that_is_cut_goes_on_in_another_session(sessions: ScriptSessions, here: Path) -> None:
    (sessions.home / "tree" / "sub").mkdir(parents=True)
    (sessions.home / "tree" / "noise").write_bytes(NOISE)
    (sessions.home / "tree" / "sub" / "noise").write_bytes(NOISE)
    sessions.stops = [(300_000, LOST), (600_000, LOST)]
    await _download(sessions, b"tree", recursive=True)
    assert (here / "tree" / "noise").read_bytes() == NOISE
    assert (here / "tree" / "sub" / "noise").read_bytes() == NOISE
    assert _names(here) == {"tree"}


async def test_a_link_that_is_lost_again_and_again_is_given_up(sessions: ScriptSessions, here: Path) -> None:
    (sessions.home / "file").write_bytes(NOISE)
    sessions.stops = [(10, LOST)] * 10
    with pytest.raises(CopyFailed, match=r"^file: nothing arrived in 5 sessions in a row \(cut\)"):
        await _download(sessions, b"file")
    assert len(sessions.channels) == 5
    assert not _names(here)


async def test_a_session_that_somebody_terminates_ends_the_copy_with_a_sentence(
    sessions: ScriptSessions, here: Path
) -> None:
    _make_large(sessions.home / "file")

    def terminate(progress: Progress) -> None:
        (channel,) = sessions.channels
        if progress.done and not channel.killed:
            channel.terminate()

    with pytest.raises(CopyFailed, match=r"^file: the session was ended before the copy was complete: somebody"):
        async with asyncio.timeout(DEADLINE):
            await download(sessions, [b"file"], b".", CopyOptions(), CopyReport(on_progress=terminate))
    assert not _names(here)


async def test_a_script_that_ends_too_early_is_reported_with_its_own_words(
    sessions: ScriptSessions, here: Path
) -> None:
    (sessions.tools / "base64").unlink()
    (sessions.tools / "base64").write_text("#!/bin/sh\necho no room >&2; kill -9 0\n")
    (sessions.tools / "base64").chmod(0o755)
    (sessions.home / "file").write_bytes(NOISE)
    with pytest.raises(CopyFailed, match=r"^file: the target stopped before the copy was complete: no room$"):
        await _download(sessions, b"file")


async def test_where_commands_are_denied_a_shell_sends_the_file(sessions: ScriptSessions, here: Path) -> None:
    (sessions.home / "file").write_bytes(NOISE)
    sessions.commands_denied = True
    notices: list[str] = []
    report = CopyReport(on_notice=notices.append)
    async with asyncio.timeout(DEADLINE):
        await download(sessions, [b"file"], b".", CopyOptions(), report)
    assert (here / "file").read_bytes() == NOISE
    assert len(notices) == 1
    assert "AWS-StartNonInteractiveCommand" in notices[0]


@pytest.mark.parametrize(
    "existing", ["", "file", "directory"], ids=["a new name", "an existing file", "into a directory"]
)
async def test_a_destination_as_scp_takes_it(sessions: ScriptSessions, here: Path, existing: str) -> None:
    (sessions.home / "file").write_bytes(NOISE)
    (sessions.home / "file").chmod(0o755)
    if existing == "directory":
        (here / "there").mkdir()
    elif existing:
        (here / "there").write_text("before")
        (here / "there").chmod(0o600)
    await _download(sessions, b"file", to=b"there")
    arrived = here / "there" / "file" if existing == "directory" else here / "there"
    assert arrived.read_bytes() == NOISE
    assert arrived.stat().st_mode & 0o777 == (0o600 if existing == "file" else 0o755 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def test_what_cannot_be_read_is_named_and_the_rest_is_copied(sessions: ScriptSessions, here: Path) -> None:
    for name in ("1", "2"):
        (sessions.home / name).write_text(name)
    report = await _download(sessions, b"1", b"absent", b"2")
    assert report.problems == [("absent", "No such file or directory")]
    assert _names(here) == {"1", "2"}
    (here / "directory").mkdir()
    report = await _upload(sessions, b"absent", b"directory", b"1")
    assert report.problems == [
        ("absent", "No such file or directory"),
        ("directory", "is a directory (-r copies directories)"),
    ]


@pytest.mark.parametrize("shell", ["dash", "busybox"])
async def test_a_link_to_nothing_is_named(tmp_path: Path, here: Path, shell: str) -> None:
    home = tmp_path / "home"
    sessions = ScriptSessions(tools_directory(tmp_path, shell), home)
    for directory in (here, home):
        (directory / "tree").mkdir(parents=True)
        (directory / "tree" / "link").symlink_to("nothing")
        (directory / "tree" / "file").touch()
    report = await _upload(sessions, b"tree", b"tree/link", to=b"", recursive=True)
    assert report.problems == [("tree/link", "is a link to nothing")]
    report = await _download(sessions, b"tree/link")
    assert report.problems == [("tree/link", "is a link to nothing")]
    report = await _download(sessions, b"tree", to=b"down", recursive=True)
    by_tar = "is a link to nothing, or was removed meanwhile" if shell == "dash" else "No such file or directory"
    assert report.problems == [("tree/link", by_tar)]
    assert _names(here / "down") == {"file"}


async def test_a_file_that_does_not_fit_is_named_and_leaves_nothing(sessions: ScriptSessions, here: Path) -> None:
    (here / "file").write_bytes(NOISE)
    with pytest.raises(CopyFailed, match=r"^/dev/full: No space left on device$"):
        await _upload(sessions, b"file", to=b"/dev/full")
    (sessions.home / "file").write_bytes(NOISE)
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        await _download(sessions, b"file", to=b"/dev/full")


@pytest.mark.parametrize(("size", "streams"), [(10, 1), (MIN_PARTED_SIZE, 1), (MIN_PARTED_SIZE, 2)])
async def test_one_file_of_several_that_cannot_be_written_is_named(
    sessions: ScriptSessions, here: Path, size: int, streams: int
) -> None:
    for directory in (here, sessions.home):
        (directory / "into" / "2").mkdir(parents=True)
    for directory in (here, sessions.home):
        for name in ("1", "2", "3"):
            (directory / name).write_bytes(name.encode() * size)
    report = await _download(sessions, b"1", b"2", b"3", to=b"into", streams=streams)
    assert report.problems == [("into/2", "Is a directory")]
    assert [file.name for file in report.files] == ["1", "3"]
    report = await _upload(sessions, b"1", b"2", b"3", to=b"into", streams=streams)
    assert report.problems == [("into/2", "Is a directory")]
    assert [file.name for file in report.files] == ["1", "3"]
    for directory in (here, sessions.home):
        assert _names(directory / "into") == {"1", "2", "3"}
        assert (directory / "into" / "3").read_bytes() == b"3" * size


@pytest.mark.parametrize("missing", [set(), {"tar"}], ids=["tar", "file by file"])
async def test_a_tree_is_copied_but_for_what_cannot_be_written(tmp_path: Path, here: Path, missing: set[str]) -> None:
    home = tmp_path / "home"
    sessions = ScriptSessions(tools_directory(tmp_path, "dash", frozenset(missing)), home)
    for top in (here / "tree", home / "tree"):
        for directory in ("a directory/sub", "another"):
            (top / directory).mkdir(parents=True)
            (top / directory / "file").write_text("new")
    for top in (here / "there", home / "there"):
        (top / "another" / "file").mkdir(parents=True)
        (top / "a directory").write_text("in the way")
    await _check_partial_tree(await _upload(sessions, b"tree/.", to=b"there", recursive=True, preserve=True), home)
    await _check_partial_tree(await _download(sessions, b"tree/.", to=b"there", recursive=True, preserve=True), here)
    assert (_names(here), _names(home)) == ({"tree", "there"}, {"tree", "there"})


async def _check_partial_tree(report: CopyReport, directory: Path) -> None:
    assert {name.removeprefix(f"{directory}/") for name, _ in report.problems} == {
        "there/a directory",
        "there/another/file",
    }
    assert (directory / "there" / "a directory").read_text() == "in the way"
    assert not list((directory / "there" / "another" / "file").iterdir())


@pytest.mark.parametrize("tree", [False, True])
async def test_a_file_that_becomes_shorter_is_named_and_the_rest_is_copied(
    sessions: ScriptSessions, here: Path, tree: bool
) -> None:
    (here / "tree").mkdir()
    for name in ("1", "2"):
        (here / "tree" / name).write_bytes(NOISE)
    file = here / "tree" / "1"
    report = CopyReport(on_progress=lambda progress: os.truncate(file, 7) if progress.name else None)
    sources = [b"tree"] if tree else [b"tree/1", b"tree/2"]
    async with asyncio.timeout(DEADLINE):
        await upload(sessions, sources, b"", CopyOptions(recursive=True), report)
    ((name, text),) = report.problems
    assert (name, text.split(";")[0]) == ("tree/1", "became shorter while it was copied")
    arrived = sessions.home / "tree" if tree else sessions.home
    assert (arrived / "2").read_bytes() == NOISE
    assert _names(arrived) == ({"1", "2"} if tree else {"2"})


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="no file without a size, as /proc has on Linux")
async def test_a_file_without_a_size_is_copied_to_its_end(sessions: ScriptSessions, here: Path) -> None:
    assert (await _upload(sessions, b"/proc/version", to=b"version")).problems == []
    assert (sessions.home / "version").read_bytes().startswith(b"Linux version ")


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="no file without a size, as /proc has on Linux")
async def test_a_file_without_a_size_in_an_archive_is_named(sessions: ScriptSessions, here: Path) -> None:
    (here / "tree").mkdir()
    (here / "tree" / "version").symlink_to("/proc/version")
    (here / "tree" / "empty").touch()
    report = await _upload(sessions, b"tree", to=b"", recursive=True)
    assert [(name, text.split(",")[0]) for name, text in report.problems] == [("tree/version", "is empty in the copy")]
    assert _names(sessions.home / "tree") == {"version", "empty"}


def _make_large(path: Path) -> None:
    path.touch()
    os.truncate(path, 64 * WINDOW_SIZE)


async def test_an_upload_that_is_cancelled_leaves_nothing(sessions: ScriptSessions, here: Path) -> None:
    _make_large(here / "file")
    begun = asyncio.Event()
    report = CopyReport(on_progress=lambda progress: begun.set() if progress.done else None)
    copying = asyncio.ensure_future(upload(sessions, [b"file"], b"", CopyOptions(), report))
    async with asyncio.timeout(DEADLINE):
        await begun.wait()
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        while _names(sessions.home):  # noqa: ASYNC110 - the shell removes it when its terminal is closed
            await asyncio.sleep(0.001)


async def test_a_download_that_is_cancelled_leaves_nothing(sessions: ScriptSessions, here: Path) -> None:
    _make_large(sessions.home / "file")
    begun = asyncio.Event()
    report = CopyReport(on_progress=lambda progress: begun.set() if progress.done else None)
    copying = asyncio.ensure_future(download(sessions, [b"file"], b".", CopyOptions(), report))
    async with asyncio.timeout(DEADLINE):
        await begun.wait()
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
    assert not _names(here)


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_large_file_over_several_streams(tmp_path: Path, here: Path, shell: str) -> None:
    (tmp_path / "home").mkdir()
    sessions = ScriptSessions(tools_directory(tmp_path, shell), tmp_path / "home")
    data = NOISE * 28 + b"end"
    (here / "large").write_bytes(data)
    (here / "small").write_bytes(b"small")
    options, report = CopyOptions(streams=3), CopyReport()
    async with asyncio.timeout(DEADLINE):
        await upload(sessions, [b"large", b"small", b"large"], b"", options, report)
    assert len(sessions.channels) == 3
    assert (sessions.home / "large").read_bytes() == data
    sessions.stops = [(100_000, LOST), (1_000_000, LOST), (2_000_000, LOST)]
    async with asyncio.timeout(DEADLINE):
        await download(sessions, [b"small", b"large"], b".", options, report)
    assert (here / "large").read_bytes() == data
    assert {file.digest for file in report.files if file.name == "large"} == {hashlib.sha256(data).hexdigest()}
    assert len(sessions.channels) == 3 + 3 + 3
    assert _names(here) == _names(sessions.home) == {"large", "small"}


async def test_one_stream_that_fails_ends_all(sessions: ScriptSessions, here: Path) -> None:
    (sessions.home / "file").write_bytes(bytes(16 * 1024 * 1024))
    sessions.stops = [(10**9, None), (1000, CopyFailed("gone")), (10**9, None)]
    with pytest.raises(CopyFailed, match="gone"):
        async with asyncio.timeout(DEADLINE):
            await download(sessions, [b"file"], b".", CopyOptions(streams=3), CopyReport())
    assert not _names(here)


async def test_a_tree_there_and_back_keeps_modes_and_times(sessions: ScriptSessions, here: Path) -> None:
    top = here / "tree"
    (top / "sub dir" / "empty").mkdir(parents=True)
    (top / "sub dir" / "new\nline").write_bytes(NOISE)
    (top / "link").symlink_to("sub dir")
    (top / os.fsdecode(b"\xff")).write_text("x")
    (top / "sub dir" / "new\nline").chmod(0o4711)
    for path in [*top.rglob("*"), top]:
        os.utime(path, (1_000_000_000, 1_000_000_000))
    await _upload(sessions, b"tree", recursive=True, preserve=True)
    await _download(sessions, b"tree", to=b"back", recursive=True, preserve=True)
    back = here / "back"
    assert _facts(back) == _facts(top)
    assert (back / "link" / "new\nline").read_bytes() == NOISE
    assert _names(here) == {"tree", "back"}
    assert _names(sessions.home) == {"tree"}


def _facts(top: Path) -> dict[str, tuple[int, int]]:
    paths = [top]
    for parent, directories, files in os.walk(top, followlinks=True):
        paths += [Path(parent, name) for name in (*directories, *files)]
    facts = {str(path.relative_to(top)): path.stat() for path in paths}
    return {name: (stat.st_mode, int(stat.st_mtime)) for name, stat in facts.items()}


@pytest.mark.parametrize("kind", ["file", "appended", "pipe"])
@pytest.mark.parametrize("linked", [False, True])
async def test_an_open_descriptor_is_written_and_not_replaced(
    sessions: ScriptSessions, here: Path, kind: str, linked: bool
) -> None:
    """As ``/dev/stdout``, ``/dev/fd/3``, or ``>(command)`` of a shell."""
    (sessions.home / "file").write_bytes(b"copied\n")
    if kind == "pipe":
        reading, descriptor = os.pipe()
    else:
        flags = os.O_APPEND if kind == "appended" else 0
        descriptor = os.open(here / "log", os.O_WRONLY | os.O_CREAT | flags, 0o600)
        reading = os.open(here / "log", os.O_RDONLY)
    try:
        name = f"/dev/fd/{descriptor}"
        if linked:
            (here / "link").symlink_to(name)
            name = "link"
        os.write(descriptor, b"before\n")
        report = await _download(sessions, b"file", to=name.encode())
        assert not report.problems
        os.write(descriptor, b"after\n")
        assert os.read(reading, 100) == b"before\ncopied\nafter\n"
    finally:
        os.close(descriptor)
        os.close(reading)


async def test_a_directory_replaces_regular_files_only(sessions: ScriptSessions, here: Path) -> None:
    (sessions.home / "tree").mkdir()
    (here / "tree").mkdir()
    for name in ("pipe", "link", "output", "plain"):
        (sessions.home / "tree" / name).write_bytes(b"new")
    os.mkfifo(here / "tree" / "pipe")
    os.mkfifo(here / "elsewhere")
    (here / "tree" / "link").symlink_to("../elsewhere")
    (here / "tree" / "plain").write_bytes(b"old")
    log = os.open(here / "log", os.O_WRONLY | os.O_CREAT)
    try:
        (here / "tree" / "output").symlink_to(f"/dev/fd/{log}")
        report = await _download(sessions, b"tree", recursive=True)
    finally:
        os.close(log)
    assert sorted(report.problems) == [
        (f"./tree/{name}", "is not a regular file") for name in ("link", "output", "pipe")
    ]
    assert (here / "tree" / "plain").read_bytes() == b"new"
    assert (here / "tree" / "pipe").is_fifo()
    assert (here / "elsewhere").is_fifo()
    assert (here / "log").read_bytes() == b""
