"""The lines of sh, run by dash, bash and busybox over pipes, with the plans at the other end."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from session_manager_plugin.errors import CopyFailed
from session_manager_plugin.transfer.download_plan import (
    Data,
    DownloadParser,
    EntryEnded,
    EntryFailed,
    EntryStarted,
    Event,
    Finished,
    Hello,
    Kind,
    Problem,
    Warned,
)
from session_manager_plugin.transfer.scripts import BLOCK_SIZE, download_script, upload_script
from session_manager_plugin.transfer.upload_plan import FRAME_SIZE, UploadPlan
from tests.test_transfer.shells import SHELLS, start_script, tools_directory

AWKWARD_NAMES = (b"a b", b"new\nline\n", b'it\'s "$HOME" `x` \\n', b"-rf", b"\xff\xfe", "ünïcode".encode(), b"*", b"=")
CONTENTS = bytes(range(256)) * 300 + b"\xef\xbf\xbd" * 1000


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """The name of a shell."""
    return str(request.param)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The target's home directory."""
    directory = tmp_path / "home"
    directory.mkdir()
    return directory


@pytest.fixture
def run_download(tmp_path: Path, home: Path, shell: str) -> Callable[..., list[Event]]:
    """Return what runs a download's script and returns the events."""

    def run(
        *paths: bytes,
        recursive: bool = False,
        tar: bool = True,
        skip: int = 0,
        offset: int = 0,
        size: int | None = None,
        without: frozenset[str] = frozenset(),
    ) -> list[Event]:
        directory = tools_directory(tmp_path, shell, without)
        script = download_script(paths, recursive=recursive, tar=tar, skip=skip, offset=offset, size=size)
        process = start_script(directory, home, script)
        output, errors = process.communicate()
        assert errors == b""
        return DownloadParser().receive_data(output)

    return run


def _files(events: list[Event]) -> dict[bytes, bytes]:
    """Return the files by their names; each digest is compared."""
    files: dict[bytes, bytes] = {}
    name = b""
    for event in events:
        if isinstance(event, EntryStarted) and event.kind is not Kind.DIRECTORY:
            name, files[event.name] = event.name, b""
        elif isinstance(event, Data):
            files[name] += event.data
        elif isinstance(event, EntryEnded) and event.digest:
            assert hashlib.new(event.algorithm, files[name]).hexdigest() == event.digest
    return files


def _problems(events: list[Event]) -> dict[bytes, str]:
    return {event.name: event.text for event in events if isinstance(event, Problem)}


def test_every_name_and_every_byte_arrives(home: Path, run_download: Callable[..., list[Event]]) -> None:
    for name in AWKWARD_NAMES:
        (home / os.fsdecode(name)).write_bytes(CONTENTS)
    (home / "empty").touch()
    events = run_download(*AWKWARD_NAMES, b"empty")
    assert _files(events) == {**dict.fromkeys(AWKWARD_NAMES, CONTENTS), b"empty": b""}
    assert events[-1] == Finished(len(AWKWARD_NAMES) + 1)


def test_a_pattern_is_expanded_unless_a_file_has_that_very_name(
    home: Path, run_download: Callable[..., list[Event]]
) -> None:
    for name in ("[a]*", "a 1", "a 2", "b"):
        (home / name).write_text(name)
    assert set(_files(run_download(b"[a]*", b"? [12]"))) == {b"[a]*", b"a 1", b"a 2"}


def test_a_file_that_cannot_be_sent_is_named(home: Path, run_download: Callable[..., list[Event]]) -> None:
    (home / "directory").mkdir()
    os.symlink("nowhere", home / "dangling")
    os.mkfifo(home / "fifo")
    (home / "link").symlink_to("file")
    (home / "file").write_text("x")
    events = run_download(b"absent*", b"directory", b"dangling", b"fifo", b"link")
    assert _problems(events) == {
        b"absent*": "No such file or directory",
        b"directory": "is a directory (-r copies directories)",
        b"dangling": "is a link to nothing",
        b"fifo": "is not a regular file",
    }
    assert _files(events) == {b"link": b"x"}


@pytest.mark.parametrize("offset", [1, 131_072, 131_073, 150_000])
@pytest.mark.parametrize("whole", [os.urandom(150_000), bytes(150_000)], ids=["noise", "zeros"])
def test_a_download_goes_on_where_it_was_cut(
    home: Path, run_download: Callable[..., list[Event]], offset: int, whole: bytes
) -> None:
    for name in ("1", "2", "3"):
        (home / name).write_bytes(whole)
    events = run_download(b"1", b"2", b"3", skip=1, offset=offset)
    starts = [(event.index, event.offset) for event in events if isinstance(event, EntryStarted)]
    assert starts == [(1, offset), (2, 0)]
    assert b"".join(event.data for event in events if isinstance(event, Data)) == whole[offset:] + whole


def test_of_a_file_that_has_grown_no_more_is_sent(home: Path, run_download: Callable[..., list[Event]]) -> None:
    (home / "log").write_bytes(CONTENTS * 2)
    (home / "other").write_bytes(CONTENTS)
    events = run_download(b"log", b"other", offset=70_000, size=len(CONTENTS))
    started, other = (event for event in events if isinstance(event, EntryStarted))
    ended = next(event for event in events if isinstance(event, EntryEnded))
    assert (started.size, other.size) == (len(CONTENTS), len(CONTENTS))
    assert b"".join(event.data for event in events if isinstance(event, Data)) == CONTENTS[70_000:] + CONTENTS
    assert ended.digest == hashlib.sha256(CONTENTS).hexdigest()


@pytest.mark.parametrize("without", [frozenset[str](), frozenset({"tee"})], ids=["read once", "read twice"])
def test_a_file_whose_size_is_0_is_sent_to_its_end(
    run_download: Callable[..., list[Event]], without: frozenset[str]
) -> None:
    """The files of proc and some others have no size."""
    events = run_download(b"/proc/version", b"/proc/self/limits", without=without)
    files = _files(events)
    assert files[b"version"] == Path("/proc/version").read_bytes()
    assert files[b"limits"].startswith(b"Limit")
    assert sum(isinstance(event, EntryEnded) and bool(event.digest) for event in events) == 2


def test_a_file_that_cannot_be_read_to_its_end_is_named(home: Path, run_download: Callable[..., list[Event]]) -> None:
    (home / "file").write_bytes(CONTENTS)
    events = run_download(b"/proc/self/mem", b"file")
    assert [event.text for event in events if isinstance(event, EntryFailed)] == ["Input/output error"]
    assert [event.name for event in events if isinstance(event, EntryStarted)] == [b"mem", b"file"]
    assert isinstance(events[-1], Finished)


FAR = 5 << 30
"""An offset that does not fit in 32 bits."""
NO_DIGESTS = frozenset({"sha256sum", "sha512sum", "sha1sum", "md5sum"})
"""For files that take too long to be read."""


def test_a_download_goes_on_behind_4_gib(home: Path, run_download: Callable[..., list[Event]]) -> None:
    with (home / "sparse").open("wb") as file:
        file.seek(FAR)
        file.write(b"the end")
    events = run_download(b"sparse", offset=FAR, without=NO_DIGESTS)
    assert _files(events) == {b"sparse": b"the end"}
    assert [event.size for event in events if isinstance(event, EntryStarted)] == [FAR + 7]


def test_without_a_home_directory_a_path_starts_at_the_root(
    tmp_path: Path, home: Path, run_download: Callable[..., list[Event]]
) -> None:
    (home / "file").write_text("x")
    home.rename(tmp_path / "moved")
    path = os.fsencode(tmp_path / "moved" / "file")
    assert _files(run_download(path, path[1:])) == {b"file": b"x"}


@pytest.mark.parametrize(
    ("missing", "encoding", "algorithm"),
    [
        ({"base64"}, "hex", "sha256"),
        ({"sha256sum"}, "base64", "sha512"),
        ({"sha256sum", "sha512sum", "sha1sum"}, "base64", "md5"),
        ({"sha256sum", "sha512sum", "sha1sum", "md5sum", "gzip", "stat"}, "base64", "none"),
    ],
)
def test_a_missing_tool_is_replaced(
    home: Path, run_download: Callable[..., list[Event]], missing: set[str], encoding: str, algorithm: str
) -> None:
    (home / "file").write_bytes(CONTENTS)
    events = run_download(b"file", without=frozenset(missing))
    hello = events[0]
    assert isinstance(hello, Hello)
    assert (hello.encoding, hello.algorithm) == (encoding, algorithm)
    assert _files(events) == {b"file": CONTENTS}


def test_without_an_encoder_the_sentence_names_both(home: Path, run_download: Callable[..., list[Event]]) -> None:
    events = run_download(b"file", without=frozenset({"base64", "od"}))
    assert events == [Problem(b"", "the target has neither base64 nor od, which copies need")]


def _tree(top: Path) -> None:
    (top / "sub dir" / ".hidden").mkdir(parents=True)
    (top / "sub dir" / ".hidden" / "file\n").write_bytes(CONTENTS)
    (top / "empty").touch()
    (top / "link").symlink_to("empty")
    os.utime(top / "empty", (1_000_000_000, 1_000_000_000))
    (top / "empty").chmod(0o640)


def test_a_directory_is_sent_as_an_archive_that_follows_links(
    home: Path, run_download: Callable[..., list[Event]]
) -> None:
    _tree(home / "top")
    events = run_download(b"top/", recursive=True)
    ((name, archive),) = _files(events).items()
    assert name == b"top"
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        names = {member.name.removeprefix("./"): member.isreg() or member.islnk() for member in members}
    assert names == {
        "top": False,
        "top/sub dir": False,
        "top/sub dir/.hidden": False,
        "top/sub dir/.hidden/file\n": True,
        "top/empty": True,
        "top/link": True,
    }
    assert not [event for event in events if isinstance(event, Warned)]


def test_an_archive_goes_on_where_it_was_cut(
    tmp_path: Path, home: Path, shell: str, run_download: Callable[..., list[Event]]
) -> None:
    _tree(home / "top")
    (archive,) = _files(run_download(b"top", recursive=True)).values()
    process = start_script(
        tmp_path / "bin", home, download_script([b"top"], recursive=True, tar=True, skip=0, offset=65536)
    )
    events = DownloadParser().receive_data(process.communicate()[0])
    assert b"".join(event.data for event in events if isinstance(event, Data)) == archive[65536:]
    (end,) = [event for event in events if isinstance(event, EntryEnded)]
    assert end.digest == hashlib.sha256(archive).hexdigest()


def test_without_tar_a_directory_is_sent_file_by_file(home: Path, run_download: Callable[..., list[Event]]) -> None:
    _tree(home / "top")
    events = run_download(b"top", recursive=True, without=frozenset({"tar"}))
    assert _files(events) == {b"top/sub dir/.hidden/file\n": CONTENTS, b"top/empty": b"", b"top/link": b""}
    started = {event.name: event for event in events if isinstance(event, EntryStarted)}
    assert started[b"top/empty"].mode == 0o640
    assert started[b"top/empty"].time == 1_000_000_000
    assert started[b"top/sub dir"].kind is Kind.DIRECTORY


# Uploads.


@pytest.fixture
def run_upload(tmp_path: Path, home: Path, shell: str) -> Callable[..., UploadPlan]:
    """Return what runs an upload's script with the bytes that a function of the plan returns."""

    def run(
        destination: bytes, orders: Callable[[UploadPlan], bytes], without: frozenset[str] = frozenset()
    ) -> UploadPlan:
        process = start_script(tools_directory(tmp_path, shell, without), home, upload_script(destination))
        assert process.stdout is not None
        plan = UploadPlan()
        plan.receive_data(process.stdout.readline())
        try:
            plan.receive_data(process.communicate(orders(plan))[0])
        finally:
            process.kill()
            process.wait()
        return plan

    return run


def _send_file(plan: UploadPlan, name: bytes, contents: bytes, digest: str | None = None) -> bytes:
    frames = [contents[at : at + FRAME_SIZE] for at in range(0, len(contents), FRAME_SIZE)]
    digest = hashlib.sha256(contents).hexdigest() if digest is None else digest
    return (
        plan.start_file(name, 0o640, 1_000_000_000, ".smp-partial")
        + b"".join(plan.frame(frame) for frame in frames)
        + plan.end_file(digest)
    )


def test_files_take_their_names_modes_and_times(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    large = os.urandom(FRAME_SIZE + 1) + bytes(FRAME_SIZE)

    def orders(plan: UploadPlan) -> bytes:
        sent = b"".join(_send_file(plan, name, CONTENTS) for name in AWKWARD_NAMES)
        return sent + _send_file(plan, b"large", large) + _send_file(plan, b"empty", b"") + plan.finish()

    plan = run_upload(b".", orders)
    assert plan.finished
    assert {os.fsencode(path.name): path.read_bytes() for path in home.iterdir()} == {
        **dict.fromkeys(AWKWARD_NAMES, CONTENTS),
        b"large": large,
        b"empty": b"",
    }
    assert (home / "large").stat().st_mode & 0o777 == 0o640
    assert (home / "large").stat().st_mtime == 1_000_000_000


@pytest.mark.parametrize("missing", [{"sha256sum", "sha512sum", "sha1sum", "md5sum"}, {"gzip"}, {"stat", "readlink"}])
def test_an_upload_does_without_a_tool(home: Path, run_upload: Callable[..., UploadPlan], missing: set[str]) -> None:
    plan = run_upload(b"name", lambda plan: _send_file(plan, b"", CONTENTS) + plan.finish(), without=frozenset(missing))
    assert plan.finished
    assert (home / "name").read_bytes() == CONTENTS


def test_a_damaged_file_does_not_take_its_name(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    (home / "name").write_text("before")
    plan = run_upload(b"name", lambda plan: _send_file(plan, b"", CONTENTS, "0" * 64) + plan.finish())
    assert plan.refused == [("name", "damaged on the way, its sha256 differs")]
    assert (plan.finished, plan.succeeded) == (True, False)
    assert [path.name for path in home.iterdir()] == ["name"]
    assert (home / "name").read_text() == "before"


def test_an_upload_that_is_cut_leaves_nothing(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    with contextlib.suppress(CopyFailed):
        run_upload(b"name", lambda plan: _send_file(plan, b"", CONTENTS)[:1000])
    assert not list(home.iterdir())


def _begin_upload(process: subprocess.Popen[bytes]) -> UploadPlan:
    """Send the beginning of a file, and wait until it is written."""
    assert process.stdin is not None
    assert process.stdout is not None
    plan = UploadPlan()
    plan.receive_data(process.stdout.readline())
    process.stdin.write(plan.start_file(b"", 0o640, None, ".smp-partial") + plan.frame(CONTENTS))
    process.stdin.flush()
    plan.receive_data(process.stdout.readline())
    return plan


def test_a_second_hang_up_does_not_keep_the_partial_file(tmp_path: Path, home: Path, shell: str) -> None:
    tools = tools_directory(tmp_path, shell, frozenset({"rm"}))
    (tools / "rm").write_text('#!/bin/sh\nkill -HUP 0\nexec /bin/rm "$@"\n')
    (tools / "rm").chmod(0o755)
    process = start_script(tools, home, upload_script(b"name"))
    _begin_upload(process)
    os.killpg(process.pid, signal.SIGHUP)
    process.communicate()
    assert not list(home.iterdir())


def test_a_file_whose_directory_disappears_is_named(tmp_path: Path, home: Path, shell: str) -> None:
    (home / "there").mkdir()
    process = start_script(tools_directory(tmp_path, shell), home, upload_script(b"there/name"))
    plan = _begin_upload(process)
    shutil.rmtree(home / "there")
    plan.receive_data(process.communicate(plan.end_file("0" * 64) + plan.finish())[0])
    assert plan.refused == [("there/name", "was removed while it was copied")]
    assert plan.finished


def test_a_part_of_a_file_that_was_removed_is_not_written(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    """The session that has begun the file was terminated first."""

    def orders(plan: UploadPlan) -> bytes:
        return plan.start_part(b"", 0, ".smp-partial") + plan.frame(CONTENTS) + plan.end_part() + plan.finish()

    with pytest.raises(CopyFailed, match="name: "):
        run_upload(b"name", orders)
    assert not list(home.iterdir())


def test_a_part_is_written_behind_4_gib(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    (home / ".smp-partial").write_bytes(b"begin")

    def orders(plan: UploadPlan) -> bytes:
        part = plan.start_part(b"", FAR // BLOCK_SIZE, ".smp-partial")
        return part + plan.frame(b"the end") + plan.end_part() + plan.finish()

    assert run_upload(b"name", orders).finished
    with (home / ".smp-partial").open("rb") as file:
        assert file.read(5) == b"begin"
        file.seek(FAR)
        assert file.read() == b"the end"


def test_what_cannot_be_written_is_named(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    def orders(plan: UploadPlan) -> bytes:
        names = (b"absent/name", b"directory", b"file/name", b"name")
        return b"".join(_send_file(plan, name, CONTENTS) for name in names) + plan.finish()

    (home / "directory").mkdir()
    (home / "file").touch()
    plan = run_upload(b".", orders)
    assert [name for name, _ in plan.refused] == ["absent/name", "directory", "file/name"]
    assert plan.refused[1][1] == "Is a directory"
    assert plan.finished
    assert (home / "name").read_bytes() == CONTENTS
    assert {path.name for path in home.rglob("*")} == {"directory", "file", "name"}
    assert not (home / "file").read_bytes()


def test_a_file_that_could_not_be_read_to_its_end_is_removed(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    def orders(plan: UploadPlan) -> bytes:
        begin = plan.start_file(b"", 0o640, None, ".smp-partial") + plan.frame(CONTENTS)
        return begin + plan.drop_file() + plan.finish()

    plan = run_upload(b"name", orders)
    assert (plan.finished, plan.refused) == (True, [])
    assert not list(home.iterdir())


def test_a_full_disk_is_named(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    with pytest.raises(CopyFailed, match=r"^/dev/full: No space left on device$"):
        run_upload(b"/dev/full", lambda plan: _send_file(plan, b"", os.urandom(100_000)))
    assert Path("/dev/full").is_char_device()


def _archive(top: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT, dereference=True) as archive:
        archive.add(top, ".")
    return buffer.getvalue()


def _send_archive(plan: UploadPlan, archive: bytes, digest: str | None = None) -> bytes:
    return (
        plan.start_file(b"top", 0o755, 1_000_000_000, ".smp-partial", archive=True)
        + plan.frame(archive)
        + plan.end_file(hashlib.sha256(archive).hexdigest() if digest is None else digest)
        + plan.finish()
    )


def test_a_tree_is_unpacked_and_merged(tmp_path: Path, home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    _tree(tmp_path / "source")
    archive = _archive(tmp_path / "source")
    (home / "top" / "sub dir").mkdir(parents=True)
    (home / "top" / "sub dir" / "kept").write_text("kept")
    (home / "top" / "empty").write_text("before")
    assert run_upload(b".", lambda plan: _send_archive(plan, archive)).finished
    assert [path.name for path in home.iterdir()] == ["top"]
    assert (home / "top" / "sub dir" / "kept").read_text() == "kept"
    assert (home / "top" / "sub dir" / ".hidden" / "file\n").read_bytes() == CONTENTS
    assert (home / "top" / "empty").read_bytes() == b""
    assert (home / "top" / "empty").stat().st_mtime == 1_000_000_000


def test_a_tree_is_merged_but_for_what_cannot_be_written(
    tmp_path: Path, home: Path, run_upload: Callable[..., UploadPlan]
) -> None:
    _tree(tmp_path / "source")
    (home / "top" / "empty" / "kept").mkdir(parents=True)
    (home / "top" / "sub dir" / ".hidden" / "file\n" / "kept").mkdir(parents=True)
    plan = run_upload(b".", lambda plan: _send_archive(plan, _archive(tmp_path / "source")))
    assert {name for name, _ in plan.refused} == {"top/empty", "top/sub dir/.hidden/file "}
    assert (plan.finished, plan.succeeded) == (True, False)
    assert (home / "top" / "link").is_file()
    assert (home / "top" / "empty" / "kept").is_dir()
    assert [path.name for path in home.iterdir()] == ["top"]


def test_a_tree_takes_its_name_when_it_is_whole(
    tmp_path: Path, home: Path, run_upload: Callable[..., UploadPlan]
) -> None:
    _tree(tmp_path / "source")
    assert run_upload(b".", lambda plan: _send_archive(plan, _archive(tmp_path / "source"))).finished
    assert (home / "top").stat().st_mode & 0o777 == 0o755
    assert (home / "top" / "empty").stat().st_mode & 0o777 == 0o640


def test_a_damaged_tree_leaves_nothing(tmp_path: Path, home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    _tree(tmp_path / "source")
    plan = run_upload(b".", lambda plan: _send_archive(plan, _archive(tmp_path / "source"), "0" * 64))
    assert plan.refused == [("top", "damaged on the way, its sha256 differs")]
    assert plan.finished
    assert not list(home.iterdir())


def test_what_is_no_archive_leaves_nothing(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    plan = run_upload(b".", lambda plan: _send_archive(plan, b"no archive" * 1000))
    assert [name for name, _ in plan.refused] == ["top"]
    assert plan.finished
    assert not list(home.iterdir())


def test_directories_are_made_without_tar(home: Path, run_upload: Callable[..., UploadPlan]) -> None:
    def orders(plan: UploadPlan) -> bytes:
        return (
            plan.make_directory(b"")
            + plan.make_directory(b"a b")
            + _send_file(plan, b"a b/file", CONTENTS)
            + plan.settle_directory(b"a b", 0o711, 1_000_000_000)
            + plan.finish()
        )

    assert run_upload(b"top", orders, without=frozenset({"tar"})).finished
    assert (home / "top" / "a b" / "file").read_bytes() == CONTENTS
    assert (home / "top" / "a b").stat().st_mode & 0o777 == 0o711


def test_what_is_below_a_directory_that_cannot_be_made_is_not_named(
    home: Path, run_upload: Callable[..., UploadPlan]
) -> None:
    def orders(plan: UploadPlan) -> bytes:
        return (
            plan.make_directory(b"in the way")
            + plan.make_directory(b"in the way/sub")
            + _send_file(plan, b"in the way/sub/file", CONTENTS)
            + _send_file(plan, b"in the way too", CONTENTS)
            + plan.settle_directory(b"in the way", 0o711, 1_000_000_000)
            + plan.finish()
        )

    (home / "in the way").touch()
    plan = run_upload(b".", orders)
    assert plan.refused == [("in the way", "File exists")]
    assert plan.finished
    assert (home / "in the way too").read_bytes() == CONTENTS
