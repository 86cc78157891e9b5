"""Archives: those of Python, GNU tar and busybox parsed, and ours read by Python."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.errors import RemoteProtocolError
from session_manager_plugin.transfer.archive import END, ArchiveParser, Member, MemberKind, member_header
from tests.support.programs import need
from tests.support.waiting import DEADLINE

LONG = "directory/" * 20 + "ä" * 60
FILES = {"./a": b"x" * 1000, "./empty": b"", f"./{LONG}": bytes(512)}


def _python_archive(tar_format: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        top = tarfile.TarInfo("./")
        top.type, top.mode = tarfile.DIRTYPE, 0o750
        archive.addfile(top)
        for name, data in FILES.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o4640, 1_000_000_000
            archive.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("./link")
        link.type, link.linkname = tarfile.LNKTYPE, f"./{LONG}"
        archive.addfile(link)
        fifo = tarfile.TarInfo("./fifo")
        fifo.type = tarfile.FIFOTYPE
        archive.addfile(fifo)
    return buffer.getvalue()


def _contents(events: list[Member | bytes]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    name = ""
    for event in events:
        if isinstance(event, Member):
            name = os.fsdecode(event.name)
            files[name] = b""
        else:
            files[name] += event
    return files


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_members_their_attributes_and_their_data(tar_format: int) -> None:
    events = ArchiveParser().receive_data(_python_archive(tar_format))
    assert _contents(events) == {"./": b"", **FILES, "./link": b"", "./fifo": b""}
    top, first, *_, link, fifo = (event for event in events if isinstance(event, Member))
    assert (top.kind, top.mode) == (MemberKind.DIRECTORY, 0o750)
    assert (first.kind, first.mode, first.time, first.size) == (MemberKind.FILE, 0o4640, 1_000_000_000, 1000)
    assert (link.kind, os.fsdecode(link.link), link.size) == (MemberKind.HARD_LINK, f"./{LONG}", 0)
    assert fifo.kind is MemberKind.OTHER


@given(
    cuts=st.lists(st.integers(0, 12_000), max_size=8),
    tar_format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_split_results_in_the_same_members(cuts: list[int], tar_format: int) -> None:
    data = _python_archive(tar_format)
    edges = [0, *sorted(cuts), len(data)]
    parser = ArchiveParser()
    events = [event for start, end in itertools.pairwise(edges) for event in parser.receive_data(data[start:end])]
    whole = ArchiveParser().receive_data(data)
    assert [e for e in events if isinstance(e, Member)] == [e for e in whole if isinstance(e, Member)]
    assert _contents(events) == _contents(whole)


@given(at=st.integers(0, 6000), byte=st.integers(0, 255))
def test_a_damaged_archive_results_in_members_or_the_error(at: int, byte: int) -> None:
    data = bytearray(_python_archive(tarfile.PAX_FORMAT))
    data[at] = byte
    with contextlib.suppress(RemoteProtocolError):
        ArchiveParser().receive_data(bytes(data))


@pytest.mark.parametrize("records", [b"11 size=-5\n", b"13 mtime=inf\n", b"9 size=x\n", b"99 path=x\n", b"x path=x\n"])
def test_records_that_cannot_be_right(records: bytes) -> None:
    extension = tarfile.TarInfo("x")
    extension.type, extension.size = tarfile.XHDTYPE, len(records)
    header = extension.tobuf(tarfile.USTAR_FORMAT)
    data = header + records.ljust(512, b"\0") + member_header(b"./a", 0o644, 0, 0, is_directory=False)
    with pytest.raises(RemoteProtocolError, match="cannot be read"):
        ArchiveParser().receive_data(data)


def test_the_archives_of_tar_programs(tmp_path: Path) -> None:
    inner = tmp_path / "top" / ("s" * 99)
    inner.mkdir(parents=True)
    (inner / ("n" * 200)).write_bytes(b"data")
    for program in ("tar", "busybox"):
        need(program)
        words = ["busybox", "tar"] if program == "busybox" else ["tar"]
        made = subprocess.run(
            [*words, "-chf", "-", "-C", tmp_path, "./top"], capture_output=True, check=True, timeout=DEADLINE
        )
        assert b"data" in _contents(ArchiveParser().receive_data(made.stdout)).values()


@pytest.mark.parametrize("time", [-5, 0, 1_000_000_000, 1 << 40])
@pytest.mark.parametrize("size", [0, 7, 0o77777777777, 0o77777777777 + 1])
def test_headers_that_are_sent(time: int, size: int) -> None:
    for name in (b"./short", b"./" + b"l" * 98, b"./" + b"l" * 99, b"./" + b"l" * 509, b"./" + b"l" * 510, b"./\xff\n"):
        header = member_header(name, 0o4755, time, size, is_directory=False)
        (member,) = ArchiveParser().receive_data(header)
        assert member == Member(MemberKind.FILE, name, 0o4755, time, size, b"")
        with tarfile.open(fileobj=io.BytesIO(header + END), errors="surrogateescape", mode="r:") as archive:
            info = archive.next()
        assert info is not None
        assert (os.fsencode(info.name), info.mode, info.mtime, info.size) == (name, 0o4755, time, size)


def test_a_directory_that_is_sent() -> None:
    events = ArchiveParser().receive_data(member_header(b"./d", 0o755, 1, 0, is_directory=True) + END)
    assert events == [Member(MemberKind.DIRECTORY, b"./d", 0o755, 1, 0, b"")]
