"""Loggers whose records hold no token, and the handlers that the command line turns on.

The library sets nothing up: every logger hangs under `session_manager_plugin`, which has a `NullHandler`, so
nothing is written until `configure` is called or the embedding program installs handlers of its own.
Redaction sits on the loggers, before any handler, so those foreign handlers get clean records too.
"""

import json
import logging
import os
import re
import sys
import threading
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Literal, TextIO
from urllib.parse import quote

LogFormat = Literal["text", "json"]

SHORTEST_SECRET = 8
"""Characters. A shorter value is not registered: replacing it would mangle ordinary words."""

_MOST_SECRETS = 256
"""Registered values kept at once; then the oldest gives way. A sandbox makes one for each of its sessions."""

_ROOT = "session_manager_plugin"
_HIDDEN = "***"


def _token_parameter(end: str) -> re.Pattern[str]:
    """A pattern for a `token` parameter whose value ends before `&`, `#` or a character of the set `end`.

    Any letter of the name may be percent-encoded. The second alternative is a URL inside a parameter of
    another one: there `?`, `&` and `=` are percent-encoded.
    """
    letters = "".join(f"(?:{c}|%{ord(c):02x}|%{ord(c.upper()):02x})" for c in "token")
    name = rf"(?:[?&;#]|%3f|%26|%3b){letters}"
    plain = rf"(?P<plain>{name}=)[^&#{end}]+"
    nested = rf"(?P<nested>{name}%3d)(?:(?!%26|%23)[^&#{end}])+"
    return re.compile(f"{plain}|{nested}", re.IGNORECASE)


_TOKEN_IN_URL = _token_parameter("")
_TOKEN_IN_TEXT = _token_parameter(r"\s\"'<>")
_URL_PASSWORD = re.compile(r"(://[^/?#@:\s]*:)[^/?#\s]+(?=@)")
_AUTHORIZATION = re.compile(r"(authorization\W{1,4}(?:bearer|basic)\s+)[^\s\"']+", re.IGNORECASE)

_secrets_lock = threading.Lock()
_secrets: dict[str, set[str]] = {}
_spellings: tuple[str, ...] = ()


def register_secret(value: str) -> None:
    """Have every later log record show `***` where `value` stands.

    Its percent-encoded and its JSON-escaped spelling are hidden as well. A value shorter than
    `SHORTEST_SECRET` is ignored.
    """
    global _spellings
    if len(value) < SHORTEST_SECRET:
        return
    with _secrets_lock:
        _secrets.pop(value, None)
        encoded = {quote(value, safe, errors="surrogatepass") for safe in ("/", "")}
        _secrets[value] = {value, json.dumps(value)[1:-1], *encoded}
        if len(_secrets) > _MOST_SECRETS:
            del _secrets[next(iter(_secrets))]
        # The longest first: where one secret begins another, the rest of the longer one must not stay.
        _spellings = tuple(sorted(set().union(*_secrets.values()), key=len, reverse=True))


def _hide_token(match: re.Match[str]) -> str:
    return f"{match['plain'] or match['nested']}{_HIDDEN}"


def redact_url(url: str) -> str:
    """Give `url` with `***` for the value of its `token` parameter and for the password of its user-info.

    Everything else stays as it is written, and no text is refused: the URL of an error message about a
    malformed URL goes through here too.
    """
    return redact(_TOKEN_IN_URL.sub(_hide_token, url))


def redact(text: str) -> str:
    """Give `text` with `***` for registered secrets, tokens and passwords of URLs, authorization headers."""
    for spelling in _spellings:
        text = text.replace(spelling, _HIDDEN)
    text = _TOKEN_IN_TEXT.sub(_hide_token, text)
    text = _URL_PASSWORD.sub(rf"\1{_HIDDEN}", text)
    return _AUTHORIZATION.sub(rf"\1{_HIDDEN}", text)


class RedactingFilter(logging.Filter):
    """Lets every record pass, its message, traceback and stack redacted.

    A record that holds nothing secret keeps its message and arguments apart.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact `record` in place; always true."""
        try:
            message = record.getMessage()
        except Exception:
            # Arguments that do not fit the message: `logging` would print them unredacted in its error
            # report.
            message = str(record.msg)
            record.args = None
        redacted = redact(message)
        if redacted != message:
            record.msg, record.args = redacted, None
        if record.exc_info and not record.exc_text:
            record.exc_text = _TRACEBACKS.formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


_TRACEBACKS = logging.Formatter()
_REDACTING = RedactingFilter()


def get_logger(name: str) -> logging.Logger:
    """Give the logger `name` of this package; a name outside it (`"gateway"`) is placed under it."""
    if name != _ROOT and not name.startswith(f"{_ROOT}."):
        name = f"{_ROOT}.{name}"
    logger = logging.getLogger(name)
    logger.addFilter(_REDACTING)
    return logger


get_logger(_ROOT).addHandler(logging.NullHandler())


def _timestamp(record: logging.LogRecord) -> str:
    """UTC, ISO 8601, with milliseconds."""
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# Texts of the far end reach log messages; on a terminal they must not become control sequences.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


class _TextFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER: MESSAGE`, the traceback on lines below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return _timestamp(record)

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(_CONTROLS)


class _JsonFormatter(logging.Formatter):
    """One object on one line: `time`, `level`, `logger`, `message`; `exception` if there is a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _timestamp(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line)


class _OwnHandler(logging.Handler):
    """What `configure` installed, and takes away again."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say nothing: a full disk or a closed stderr must not put a traceback into a running session."""


class _FileHandler(_OwnHandler, logging.FileHandler):
    def _open(self) -> TextIOWrapper:
        return open(
            self.baseFilename,
            "a",
            encoding="utf-8",
            errors="backslashreplace",
            opener=lambda path, flags: os.open(path, flags, 0o600),
        )


class _StderrHandler(_OwnHandler, logging.StreamHandler[TextIO]):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        # A session has the terminal in raw mode, where a line feed alone leaves the column as it is.
        return text.replace("\n", "\r\n") + "\r" if self.stream.isatty() else text


def configure(verbosity: int, log_file: Path | None, log_format: LogFormat) -> None:
    """Turn logging on for a command, in place of what an earlier call turned on.

    `verbosity` counts the `-v`: 0 writes nothing to stderr, 1 from INFO on, 2 or more from DEBUG on.
    `log_file` is appended to, from INFO on, or from DEBUG on at 2; it is created with mode 0600, and a file
    that exists keeps its mode. Raises `OSError` when it cannot be opened; then what was on stays on.
    """
    handlers: list[_OwnHandler] = []
    if log_file is not None:
        handlers.append(_FileHandler(log_file))
    if verbosity > 0:
        handlers.append(_StderrHandler(sys.stderr))

    root = get_logger(_ROOT)
    for installed in root.handlers.copy():
        if isinstance(installed, _OwnHandler):
            root.removeHandler(installed)
            installed.close()
    for handler in handlers:
        handler.addFilter(_REDACTING)
        handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
        root.addHandler(handler)
    if not handlers:
        root.setLevel(logging.NOTSET)
    else:
        root.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
