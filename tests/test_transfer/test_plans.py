"""The plans of copies, alone: any split of the bytes, every kind of damage."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.errors import CopyFailed, RemoteProtocolError
from session_manager_plugin.transfer.download_plan import Data, DownloadParser, EntryEnded, Event, Finished
from session_manager_plugin.transfer.names import RemotePath, base_name, escape_name, parse_location, partial_name
from session_manager_plugin.transfer.upload_plan import FRAME_SIZE, WINDOW_SIZE, UploadPlan


def _printed(contents: bytes, *, encoding: str = "base64", gzipped: bool = False) -> bytes:
    """Return what a target prints that sends one file."""
    data = gzip.compress(contents) if gzipped else contents
    if encoding == "hex":
        lines = b"".join(b" " + data[at : at + 16].hex(" ").encode() + b"\n" for at in range(0, len(data), 16))
    else:
        lines = base64.encodebytes(data)
    name = (b"n\xff".hex() if encoding == "hex" else base64.b64encode(b"n\xff").decode()).encode()
    return b":h %b sha256 1 1\n:f 0 0 %d 640 1000000000 %d =%b\n%b:e sha256 %b\n:q 1\n" % (
        encoding.encode(),
        gzipped,
        len(contents),
        name,
        lines,
        hashlib.sha256(contents).hexdigest().encode(),
    )


def _joined(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Data))


@given(
    contents=st.binary(max_size=2000),
    encoding=st.sampled_from(["base64", "hex"]),
    gzipped=st.booleans(),
    cuts=st.lists(st.integers(0, 6000), max_size=8),
)
def test_any_split_of_the_bytes_results_in_the_same_file(
    contents: bytes, encoding: str, gzipped: bool, cuts: list[int]
) -> None:
    printed = _printed(contents, encoding=encoding, gzipped=gzipped)
    parser = DownloadParser()
    events: list[Event] = []
    start = 0
    for cut in [*sorted(cut for cut in cuts if cut < len(printed)), len(printed)]:
        events += parser.receive_data(printed[start:cut])
        start = cut
    assert _joined(events) == contents
    assert events[-2:] == [EntryEnded("sha256", hashlib.sha256(contents).hexdigest()), Finished(1)]
    assert parser.finished


@given(position=st.integers(0, 5000), byte=st.integers(0, 255), gzipped=st.booleans())
def test_a_changed_byte_is_an_error_or_shows_in_the_digest(position: int, byte: int, gzipped: bool) -> None:
    contents = random.Random(7).randbytes(1500)
    printed = bytearray(_printed(contents, gzipped=gzipped))
    position %= len(printed)
    changed = printed[position] != byte
    printed[position] = byte
    try:
        events = DownloadParser().receive_data(bytes(printed))
    except RemoteProtocolError:
        assert changed
        return
    ends = [event for event in events if isinstance(event, EntryEnded)]
    if _joined(events) != contents:
        assert not ends or ends[0].digest != hashlib.sha256(_joined(events)).hexdigest()


@pytest.mark.parametrize(
    "printed",
    [
        b"sh: 1: not found\n",
        b":q 0\n",
        b":h base64 sha256 1\n",
        b":h rot13 sha256 1 1\n",
        b":h base64 sha256 1 1\n:h base64 sha256 1 1\n",
        b":h base64 sha256 1 1\n:e sha256 00\n",
        b":h base64 sha256 1 1\nQUJD\n",
        b":h base64 sha256 1 1\n:f 0 0 0 644 1 3 =YQ==\n:q 1\n",
        b":h base64 sha256 1 1\n:f 0 0 0 644 1 3 =YQ==\n=QUJ\n",
        b":h base64 sha256 1 1\n:f 0 0 1 644 1 3 =YQ==\nQUJD\n",
        b":h base64 sha256 1 1\n:f 0 0 1 644 1 3 =YQ==\n:e sha256 %b\n" % (b"0" * 64),
        b":h base64 sha256 1 1\n:f 0 0 0 999 1 3 =YQ==\n",
        b":h base64 sha256 1 1\n:q 0\n:q 0\n",
        b"x" * 200_000,
    ],
)
def test_what_the_script_cannot_have_printed_is_an_error(printed: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        DownloadParser().receive_data(printed)


HELLO = b":h sha256 sha256 0022 1 1 1 directory\n"


@given(cuts=st.lists(st.integers(0, 60), max_size=6))
def test_any_split_of_the_answers_counts_the_same(cuts: list[int]) -> None:
    plan = UploadPlan()
    plan.receive_data(HELLO)
    plan.frame(b"a" * 10)
    plan.frame(b"b" * 20)
    plan.end_file("")
    answers = b":k\n:k\n:o\n:q\n"
    edges = [0, *sorted(cut for cut in cuts if cut < len(answers)), len(answers)]
    counted = sum(plan.receive_data(answers[start:end]) for start, end in itertools.pairwise(edges))
    assert counted == 30
    assert plan.settled
    assert plan.finished


def test_the_window_holds_at_most_four_mebibytes() -> None:
    plan = UploadPlan()
    assert not plan.may_send
    plan.receive_data(HELLO)
    for _ in range(WINDOW_SIZE // FRAME_SIZE):
        assert plan.may_send
        plan.frame(bytes(FRAME_SIZE))
    assert not plan.may_send
    plan.receive_data(b":k\n")
    assert plan.may_send


def test_a_target_that_may_read_too_much_gets_one_piece_at_a_time() -> None:
    plan = UploadPlan()
    plan.receive_data(HELLO.replace(b"1 directory", b"0 directory"))
    plan.frame(b"a")
    assert not plan.may_send
    plan.receive_data(b":k\n")
    assert plan.may_send
    plan.end_file("")
    assert not plan.may_send


def test_a_frame_is_compressed_where_that_helps() -> None:
    plan = UploadPlan()
    plan.receive_data(HELLO)
    assert plan.frame(bytes(10_000)).startswith(b"z ")
    noise = random.Random(1).randbytes(10_000)
    assert plan.frame(noise) == b"r 10000\n" + noise


def test_the_target_s_reason_is_the_sentence() -> None:
    plan = UploadPlan()
    plan.receive_data(HELLO)
    with pytest.raises(CopyFailed, match=r"^a: Permission denied$"):
        plan.receive_data(b":x a: Permission denied\n")


def test_files_that_the_target_cannot_write() -> None:
    plan = UploadPlan()
    plan.receive_data(HELLO)
    plan.end_file("")
    plan.end_file("")
    plan.receive_data(b":n a: b: Permission denied\n:f\n")
    assert plan.refused == [("a: b", "Permission denied")]
    assert not plan.settled
    assert not plan.succeeded
    plan.receive_data(b":o\n")
    assert plan.settled
    assert plan.succeeded


@pytest.mark.parametrize("answer", [b":f\n", b":k\n", b":o\n", b"$ \n", b":h a\n", HELLO + HELLO, HELLO + b":k\n"])
def test_an_answer_that_fits_nothing_is_an_error(answer: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        UploadPlan().receive_data(answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i-1:/etc/hosts", RemotePath("i-1", b"/etc/hosts")),
        ("web 1:", RemotePath("web 1", b"")),
        ("web:", RemotePath("web", b"")),
        ("web:a:b", RemotePath("web", b"a:b")),
        ("web:a\nb", RemotePath("web", b"a\nb")),
        ("ecs:c/s:/x", RemotePath("ecs:c/s", b"/x")),
        ("tag:Name=web:/x", RemotePath("tag:Name=web", b"/x")),
        ("./a:b", None),
        ("/a:b", None),
        ("file", None),
        ("-", None),
        (":x", None),
    ],
)
def test_locations_are_told_apart_as_scp_does(text: str, expected: RemotePath | None) -> None:
    assert parse_location(text) == expected


def test_names() -> None:
    assert escape_name(b"a b'\xff\n-") == "=a\\0040b\\0047\\0377\\0012-"
    assert [base_name(path) for path in (b"a/b/", b"/", b"..", b"x/.", b"")] == [b"b", b"", b"", b"", b""]
    assert partial_name(b"x" * 255, "0a") == b"." + b"x" * 200 + b".smp-0a"
