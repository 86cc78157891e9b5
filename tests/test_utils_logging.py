"""utils/logging.py: what is hidden, and what `configure` turns on."""

import io
import json
import logging
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager_plugin.utils.log_handlers import HELD_LIMIT
from session_manager_plugin.utils.logging import (
    DETAILS_LIMIT,
    SHORTEST_SECRET,
    RedactingFilter,
    configure,
    get_logger,
    hold_lines,
    redact,
    redact_url,
    register_secret,
    release_lines,
)

STREAM_URL = "wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/user-0123?role=publish_subscribe"


class Captured(logging.Handler):
    """A handler as an embedding program would install: no filter of ours on it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def _logging_off_afterwards() -> Iterator[None]:
    yield
    configure(0, None, "text")


@pytest.fixture
def captured() -> Iterator[Captured]:
    handler = Captured()
    logger = get_logger("test")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"{STREAM_URL}&token=AAEAAbc+/=", f"{STREAM_URL}&token=***"),
        (f"{STREAM_URL}&token=AAE&sessionId=s", f"{STREAM_URL}&token=***&sessionId=s"),
        ("ws://h/p?token=AAE%2Bb%2F%3D#top", "ws://h/p?token=***#top"),
        ("ws://h/p?TOKEN=AAE&a=%20b", "ws://h/p?TOKEN=***&a=%20b"),
        ("ws://h/p?%74o%6Ben=AAE", "ws://h/p?%74o%6Ben=***"),
        ("ws://h/p?a=1;token=AAE", "ws://h/p?a=1;token=***"),
        ("ws://h/p?token=one&token=two", "ws://h/p?token=***&token=***"),
        ("ws://h/p?token=a 'b\"c<d>", "ws://h/p?token=***"),
        (
            "ws://h/p?next=ws%3A%2F%2Fo%2F%3Ftoken%3DAAE%26b%3Dc",
            "ws://h/p?next=ws%3A%2F%2Fo%2F%3Ftoken%3D***%26b%3Dc",
        ),
        ("ws://h/p?tokens=3&mytoken=4&token=", "ws://h/p?tokens=3&mytoken=4&token="),
        ("http://user:pass@proxy:3128/", "http://user:***@proxy:3128/"),
        ("http://user:p@ss@proxy:3128", "http://user:***@proxy:3128"),
        ("http://user@proxy:3128/a:b@c", "http://user@proxy:3128/a:b@c"),
        ("ws://[::1]:8080/p?x=a@b", "ws://[::1]:8080/p?x=a@b"),
        ("http://bob:Secret1/x@proxy:3128", "http://bob:***@proxy:3128"),
        ("http://bob:Secret1?x@proxy:3128", "http://bob:***@proxy:3128"),
        ("http://bob:Secret1#x@proxy:3128", "http://bob:***@proxy:3128"),
        ("http://bob:12/34:5@6@proxy:3128/", "http://bob:12/34:5@6@proxy:3128/"),  # a port, and a path
        ("http://bob:123456/7@proxy:3128", "http://bob:***@proxy:3128"),
        ("http://b@b/b:Secret1/x@proxy", "http://b@b/b:***@proxy"),
        ("ws://h:8080/data-channel/alice@example.com-0?a=b", "ws://h:8080/data-channel/alice@example.com-0?a=b"),
        ("ws://[broken?token=AAE", "ws://[broken?token=***"),
        ("", ""),
    ],
)
def test_redact_url(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@given(token=st.text(min_size=1), other=st.text(alphabet=st.characters(codec="ascii"), max_size=20))
def test_redact_url_hides_every_encoded_token_and_nothing_else(token: str, other: str) -> None:
    value = quote(token, safe="", errors="surrogatepass")
    rest = f"&other={quote(other, safe='')}"
    assert redact_url(f"{STREAM_URL}&token={value}{rest}") == f"{STREAM_URL}&token=***{rest}"


def test_redact_hides_tokens_in_running_text() -> None:
    text = 'cannot open "ws://h/?token=AAE" (tried ws://u:p@h/?token=AAE twice)'
    assert redact(text) == 'cannot open "ws://h/?token=***" (tried ws://u:***@h/?token=*** twice)'


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer ",
        "authorization: bearer ",
        "Proxy-Authorization: Basic ",
        "'Authorization': 'Bearer ",
    ],
)
def test_redact_hides_authorization_headers(header: str) -> None:
    assert redact(f"{header}dXNlcjpwYXNz") == f"{header}***"


def test_registered_secret_is_hidden_in_each_of_its_spellings() -> None:
    register_secret('se/cr"et+=é')
    spellings = ['se/cr"et+=é', "se%2Fcr%22et%2B%3D%C3%A9", "se/cr%22et%2B%3D%C3%A9", 'se/cr\\"et+=\\u00e9']
    assert redact(" ".join(spellings)) == "*** *** *** ***"


def test_a_secret_that_begins_another_leaves_nothing_of_it() -> None:
    register_secret("shared-beginning")
    register_secret("shared-beginning-and-more")
    assert redact("shared-beginning-and-more, shared-beginning") == "***, ***"


def test_a_short_secret_is_not_registered() -> None:
    word = "session"
    assert len(word) == SHORTEST_SECRET - 1
    register_secret(word)
    assert redact("the session began") == "the session began"


def test_a_secret_that_no_encoding_holds_is_hidden_too() -> None:
    register_secret("bytes-\udcff-of-argv")
    assert redact("got bytes-\udcff-of-argv") == "got ***"


class Owner:
    """Something that has a secret."""


def test_a_secret_is_kept_as_long_as_it_is_in_use() -> None:
    """One process holds more than 256 sessions."""
    owner, other = Owner(), Owner()
    register_secret("a-live-secret", owner=owner)
    register_secret("a-live-secret", owner=other)
    for number in range(600):
        register_secret(f"of-a-later-session-{number}")
    assert redact("a-live-secret") == "***"
    del owner
    register_secret("one-more-secret")
    assert redact("a-live-secret") == "***"
    del other
    register_secret("yet-another-secret")
    assert redact("a-live-secret") == "a-live-secret"


def test_as_many_secrets_as_sessions_that_live_are_kept() -> None:
    owners = [Owner() for _ in range(600)]
    for number, owner in enumerate(owners):
        register_secret(f"token-of-session-{number}", owner=owner)
    assert redact("token-of-session-0 token-of-session-599") == "*** ***"


def test_secrets_without_an_owner_are_bounded_and_the_oldest_is_forgotten() -> None:
    register_secret("kept-by-being-registered-again")
    register_secret("the-oldest-of-them")
    for number in range(255):
        register_secret(f"filler-number-{number}")
        register_secret("kept-by-being-registered-again")
    assert redact("kept-by-being-registered-again") == "***"
    assert redact("filler-number-0 filler-number-254") == "*** ***"
    assert redact("the-oldest-of-them") == "the-oldest-of-them"


def test_a_foreign_handler_gets_redacted_records(captured: Captured) -> None:
    register_secret("AAEAA-in-a-record")
    get_logger("test").info("token %s of %s", "AAEAA-in-a-record", "ws://h/?token=x")
    assert captured.lines == ["token *** of ws://h/?token=***"]


def test_tracebacks_and_stacks_are_redacted(captured: Captured) -> None:
    register_secret("AAEAA-in-a-traceback")
    try:
        raise ValueError("no AAEAA-in-a-traceback here")
    except ValueError:
        get_logger("test").exception("failed", stack_info=True)
    (line,) = captured.lines
    assert "ValueError: no *** here" in line
    assert "Stack (most recent call last)" in line
    assert "AAEAA-in-a-traceback" not in line.replace('"AAEAA-in-a-traceback"', "")


def test_a_record_without_secrets_keeps_its_arguments() -> None:
    record = logging.LogRecord("n", logging.INFO, __file__, 1, "%s of %d", ("one", 2), None)
    assert RedactingFilter().filter(record)
    assert (record.msg, record.args) == ("%s of %d", ("one", 2))


def test_arguments_that_do_not_fit_are_left_out(captured: Captured) -> None:
    get_logger("test").info("one %s", "AAEAA", "ws://h/?token=AAEAA")
    assert captured.lines == ["one %s"]


def test_names_are_placed_under_the_package() -> None:
    package = "session_manager_plugin"
    assert get_logger("gateway").name == f"{package}.gateway"
    assert get_logger(f"{package}.protocol.reliable").name == f"{package}.protocol.reliable"
    assert get_logger(package).name == package
    assert get_logger(f"{package}s").name == f"{package}.{package}s"


def test_silent_until_configured(capfd: pytest.CaptureFixture[str]) -> None:
    get_logger("test").error("nobody asked")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("verbosity", "on_stderr", "in_file"),
    [
        (0, [], ["INFO"]),
        (1, ["coarse"], ["INFO"]),
        (2, ["debug: fine", "coarse"], ["DEBUG", "INFO"]),
    ],
)
def test_levels(
    verbosity: int,
    on_stderr: list[str],
    in_file: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(verbosity, tmp_path / "log", "text")
    get_logger("test").debug("fine")
    get_logger("test").info("coarse")
    configure(0, None, "text")
    get_logger("test").error("after it was turned off")

    out, err = capsys.readouterr()
    assert out == ""
    assert re.findall(r"(?m)^smp: \[\d+\.\d{3}\] (.*)$", err) == on_stderr
    assert [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()] == in_file


def test_text_lines_hold_no_control_characters(tmp_path: Path) -> None:
    configure(0, tmp_path / "log", "text")
    get_logger("test").info("far end says %s", "\x1b[2Jgone\r\x9b31m é")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO session_manager_plugin\.test: "
        r"far end says \\x1b\[2Jgone\\x0d\\x9b31m é\n",
        (tmp_path / "log").read_text("utf-8"),
    )


def test_json_lines(tmp_path: Path) -> None:
    configure(0, tmp_path / "log", "json")
    register_secret("AAEAA-in-json")
    try:
        raise OSError("AAEAA-in-json")
    except OSError:
        get_logger("test").exception("two\nlines")
    get_logger("test").info("%d done", 1)
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert first["message"] == "two\nlines"
    assert first["exception"].endswith("OSError: ***")
    assert set(second) == {"time", "level", "logger", "message"}
    assert (second["level"], second["logger"], second["message"]) == (
        "INFO",
        "session_manager_plugin.test",
        "1 done",
    )


def test_the_log_file_is_private_and_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    old_umask = os.umask(0)
    try:
        configure(0, log, "text")
    finally:
        os.umask(old_umask)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    get_logger("test").info("first")
    configure(0, log, "text")
    get_logger("test").info("second")
    assert [line.split()[-1] for line in log.read_text().splitlines()] == ["first", "second"]


def test_a_file_that_cannot_be_opened_leaves_logging_as_it_was(tmp_path: Path) -> None:
    log = tmp_path / "log"
    configure(0, log, "text")
    with pytest.raises(FileNotFoundError):
        configure(2, tmp_path / "absent" / "log", "text")
    get_logger("test").info("still here")
    assert log.read_text().endswith("still here\n")


def test_a_file_that_cannot_be_written_to_any_more_is_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    configure(0, Path("/dev/full"), "text", program="session-manager-plugin")
    for _ in range(3):
        get_logger("test").info("lost")
    sentence = "session-manager-plugin: the log file /dev/full cannot be written to: No space left on device\n"
    assert capfd.readouterr() == ("", sentence)


def test_a_log_that_nobody_reads_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    reading = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        configure(0, tmp_path / "log", "text")
        for _ in range(3000):
            get_logger("test").info("a line of 30 characters or more")
        received = os.read(reading, 1 << 20)
        get_logger("test").info("next")
        *_, dropped, last = os.read(reading, 1 << 20).decode().splitlines()
    finally:
        os.close(reading)
    left = 3000 - received.count(b"\n")
    assert re.search(r": lines dropped because nothing read this log: (\d+)$", dropped)
    assert left - 1 <= int(dropped.split()[-1]) <= left
    assert last.endswith(": next")


def test_a_log_whose_reader_has_gone_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "log")
    reading = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    configure(0, tmp_path / "log", "text")
    os.close(reading)
    get_logger("test").info("lost")
    get_logger("test").info("lost")
    assert capfd.readouterr().err == f"smp: the log file {tmp_path / 'log'} cannot be written to: Broken pipe\n"


def test_lines_on_a_terminal_return_to_the_first_column(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure(1, None, "text")
    get_logger("test").info("two\nlines")
    assert terminal.getvalue().endswith("two\r\nlines\r\n")


def test_lines_are_held_while_the_terminal_shows_something_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure(1, tmp_path / "log", "text")
    hold_lines()
    get_logger("test").info("first")
    get_logger("test").info("second")
    assert terminal.getvalue() == ""
    assert (tmp_path / "log").read_text().count("\n") == 2
    release_lines()
    release_lines()
    get_logger("test").info("third")
    assert [line.split()[-1] for line in terminal.getvalue().splitlines()] == ["first", "second", "third"]


def test_held_lines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure(1, None, "text")
    hold_lines()
    for number in range(HELD_LIMIT + 7):
        get_logger("test").info("line %d", number)
    release_lines()
    *_, last, left_out = terminal.getvalue().splitlines()
    assert last.endswith(f"line {HELD_LIMIT - 1}")
    assert left_out == "smp: 7 more lines were left out; --log-file keeps all"


def test_lines_for_a_file_or_a_pipe_are_not_held(capsys: pytest.CaptureFixture[str]) -> None:
    configure(1, None, "text")
    hold_lines()
    get_logger("test").info("at once")
    assert capsys.readouterr().err.endswith("at once\n")


def test_details_go_to_a_file_and_stages_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    details = tmp_path / "state" / "smp" / "smp.log"
    assert configure(2, None, "text", details=details) == details
    get_logger("test").debug("fine")
    get_logger("test").info("coarse")
    assert [line.split()[-1] for line in details.read_text().splitlines()] == ["fine", "coarse"]
    assert stat.S_IMODE(details.stat().st_mode) == 0o600
    assert stat.S_IMODE(details.parent.stat().st_mode) == 0o700
    assert "fine" not in (told := capsys.readouterr().err)
    assert "coarse" in told


def test_details_that_cannot_be_written_are_told_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "state").touch()
    assert configure(2, None, "text", details=tmp_path / "state" / "smp" / "smp.log") is None
    get_logger("test").debug("fine")
    assert "fine" in capsys.readouterr().err


def test_details_do_not_grow_for_ever(tmp_path: Path) -> None:
    details = tmp_path / "smp.log"
    details.write_bytes(b"x" * (DETAILS_LIMIT + 1))
    configure(2, None, "text", details=details)
    get_logger("test").info("fresh")
    assert details.read_text().count("\n") == 1
    assert (tmp_path / "smp.log.1").stat().st_size == DETAILS_LIMIT + 1


def test_a_symbolic_link_in_a_shared_directory_is_refused(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "precious").write_text("kept")
    (shared / "log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic link in a directory that others can write to"):
        configure(0, shared / "log", "text")
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_symbolic_link_in_a_directory_of_ones_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    configure(0, tmp_path / "log", "text")
    get_logger("test").info("here")
    assert (tmp_path / "elsewhere").read_text().endswith("here\n")


def test_libraries_are_heard_from_warning_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    library = logging.getLogger("some.library")
    configure(2, tmp_path / "log", "json")
    library.info("not this")
    library.warning("GET /?token=AAEAA")
    configure(0, None, "text")
    library.warning("without a log nobody hears it")
    assert [json.loads(line)["message"] for line in (tmp_path / "log").read_text().splitlines()] == ["GET /?token=***"]
    assert "nobody" not in capfd.readouterr().err


def test_credentials_are_explained_where_everything_is_asked_for(tmp_path: Path) -> None:
    configure(2, tmp_path / "log", "text")
    logging.getLogger("botocore.credentials").debug("Looking for credentials via: env")
    logging.getLogger("botocore.endpoint").debug("headers")
    assert (tmp_path / "log").read_text().count("\n") == 1
    configure(1, tmp_path / "log", "text")
    assert not logging.getLogger("botocore.credentials").isEnabledFor(logging.DEBUG)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            """Response body: b'{"CiphertextBlob":"AQ","Plaintext":"c2VjcmV0"}'""",
            """Response body: b'{"CiphertextBlob":"AQ","Plaintext":"***"}'""",
        ),
        ("{'Plaintext': b's3cret', 'KeyId': 'k'}", "{'Plaintext': b'***', 'KeyId': 'k'}"),
        ('"{\\"TokenValue\\":\\"AAEAA\\"}"', '"{\\"TokenValue\\":\\"***\\"}"'),
        ("x-amz-security-token:IQoJb3==\nx", "x-amz-security-token:***\nx"),
        ("{'X-Amz-Security-Token': 'IQoJb3=='}", "{'X-Amz-Security-Token': '***'}"),
        ("SecretAccessKey=wJalr/x&a=1", "SecretAccessKey=***&a=1"),
    ],
)
def test_secrets_of_aws_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_broken_stderr_disturbs_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, intact = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", broken)
    configure(1, None, "text")
    broken.close()
    monkeypatch.setattr(sys, "stderr", intact)
    get_logger("test").info("into the void")
    assert intact.getvalue() == ""


def test_handlers_redact_what_other_loggers_of_the_package_say(tmp_path: Path) -> None:
    configure(0, tmp_path / "log", "text")
    logging.getLogger("session_manager_plugin.made.elsewhere").info("GET /?token=AAEAA HTTP/1.1")
    assert (tmp_path / "log").read_text().endswith("GET /?token=*** HTTP/1.1\n")
