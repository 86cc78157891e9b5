"""Loggers that redact secrets in their records, and the logging configuration of the command line.

The library does not configure logging: every logger is a child of ``session_manager_plugin``, which has a
``NullHandler``, so nothing is written until ``configure`` is called or the embedding program installs handlers. Records
are redacted by the loggers, before any handler, so handlers of other programs receive redacted records too.
"""

import contextlib
import json
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import quote
from weakref import WeakSet

from session_manager_plugin.utils.log_handlers import (
    ROOT,
    FileHandler,
    JsonFormatter,
    OwnHandler,
    Silence,
    StderrFormatter,
    StderrHandler,
    TextFormatter,
)

LogFormat = Literal["text", "json"]

SHORTEST_SECRET = 8
"""Characters. A shorter value is not registered, because redacting it would garble ordinary words."""

_MOST_SECRETS = 256
"""Secrets without a living owner that are kept. A further one replaces the oldest."""

DETAILS_LIMIT = 4 * 1024 * 1024
"""Bytes at which the file of details becomes ``NAME.1`` and a new one is begun."""

_EXPLAINED = ("botocore.credentials", "botocore.tokens")
"""Loggers of libraries that are enabled at ``-vv``. botocore's other loggers would log whole requests and responses,
keys included."""

PRINTED = "is_printed"
"""Attribute of a record (``extra``): true if the same text is printed, so that it is not written to stderr too."""

_HIDDEN = "***"


def _token_parameter(end: str) -> re.Pattern[str]:
    """Return a pattern for a ``token`` parameter whose value ends before ``&``, ``#`` or a character of the set
    ``end``.

    Any letter of the name may be percent-encoded. The second alternative is for a URL inside a parameter of another
    URL, where ``?``, ``&`` and ``=`` are percent-encoded.
    """
    letters = "".join(f"(?:{c}|%{ord(c):02x}|%{ord(c.upper()):02x})" for c in "token")
    name = rf"(?:[?&;#]|%3f|%26|%3b){letters}"
    plain = rf"(?P<plain>{name}=)[^&#{end}]+"
    nested = rf"(?P<nested>{name}%3d)(?:(?!%26|%23)[^&#{end}])+"
    return re.compile(f"{plain}|{nested}", re.IGNORECASE)


_TOKEN_IN_URL = _token_parameter("")
_TOKEN_IN_TEXT = _token_parameter(r"\s\"'<>")
# Up to the last @: a password that is not percent-encoded may hold characters that end the authority of a URL. A port
# followed by a path is not a password: paths hold @ too, as in session ids.
_URL_PASSWORD = re.compile(r"(://(?!\[)[^:\s]*:)(?!\d{1,5}(?:[/?#]|\Z))\S*(?=@)")
_AUTHORIZATION = re.compile(r"(authorization\W{1,4}(?:bearer|basic)\s+)[^\s\"']+", re.IGNORECASE)
# AWS's names of secrets, in JSON, in headers, and in Python's representations of both.
_AWS_SECRET = re.compile(
    r"((?:TokenValue|SessionToken|SecretAccessKey|Plaintext|X-Amz-Security-Token|(?:access|refresh|id)Token|clientSecret)"
    r"\\?[\"']?\s{0,4}[:=]\s{0,4}b?\\?[\"']?)[^\s\"',;&}\\]+",
    re.IGNORECASE,
)


class _Process:
    """The owner of secrets of the whole process."""


PROCESS = _Process()
"""See ``register_secret``: for secrets of the whole process, such as the password of a proxy."""
_secrets_lock = threading.Lock()
_secrets: dict[str, set[str]] = {}
_owners: dict[str, WeakSet[object]] = {}
"""The living owners of a secret, by its value."""
_spellings: tuple[str, ...] = ()


def register_secret(value: str, *, owner: object | None = None, shortest: int = SHORTEST_SECRET) -> None:
    """Replace ``value`` by ``***`` in every later log record.

    Its percent-encoded and JSON-escaped spellings are replaced as well. A value shorter than ``shortest`` is ignored.
    The secret is registered as long as ``owner`` exists; after that, or without an owner, until ``_MOST_SECRETS``
    further secrets without an owner were registered.
    """
    if len(value) < shortest:
        return
    with _secrets_lock:
        _secrets.pop(value, None)
        encoded = {quote(value, safe, errors="surrogatepass") for safe in ("/", "")}
        _secrets[value] = {value, json.dumps(value)[1:-1], *encoded}
        if owner is not None:
            _owners.setdefault(value, WeakSet()).add(owner)
        _forget_surplus()


def _forget_surplus() -> None:
    """Forget the oldest secrets without a living owner, beyond ``_MOST_SECRETS``. ``_secrets_lock`` must be held."""
    global _spellings
    ownerless = [value for value in _secrets if not _owners.get(value)]
    for value in ownerless[: max(0, len(ownerless) - _MOST_SECRETS)]:
        del _secrets[value]
        _owners.pop(value, None)
    # The longest first, so that a secret that begins with another one is replaced as a whole.
    _spellings = tuple(sorted(set().union(*_secrets.values()), key=len, reverse=True))


def _hide_token(match: re.Match[str]) -> str:
    return f"{match['plain'] or match['nested']}{_HIDDEN}"


def redact_url(url: str) -> str:
    """Return ``url`` with ``***`` for the value of its ``token`` parameter and for the password of its user-info.

    Everything else stays unchanged. Any text is accepted, since malformed URLs in error messages are redacted too.
    """
    return redact(_TOKEN_IN_URL.sub(_hide_token, url))


def redact(text: str) -> str:
    """Return ``text`` with ``***`` for registered secrets, tokens and passwords of URLs, authorization headers,
    keys."""
    for spelling in _spellings:
        text = text.replace(spelling, _HIDDEN)
    text = _TOKEN_IN_TEXT.sub(_hide_token, text)
    text = _URL_PASSWORD.sub(rf"\1{_HIDDEN}", text)
    text = _AWS_SECRET.sub(rf"\1{_HIDDEN}", text)
    return _AUTHORIZATION.sub(rf"\1{_HIDDEN}", text)


class RedactingFilter(logging.Filter):
    """Redacts the message, traceback and stack of every record.

    In a record without secrets, message and arguments stay separate.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact ``record`` in place; always true."""
        try:
            message = record.getMessage()
        except Exception:
            # Arguments that do not match the message: ``logging`` would print them unredacted in its error
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
    """Return the logger ``name`` of this package; a name outside it (``"gateway"``) is placed under it."""
    if name != ROOT and not name.startswith(f"{ROOT}."):
        name = f"{ROOT}.{name}"
    logger = logging.getLogger(name)
    logger.addFilter(_REDACTING)
    return logger


get_logger(ROOT).addHandler(logging.NullHandler())


def _installed() -> list[OwnHandler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, OwnHandler)]


def hold_lines() -> None:
    """Hold lines for the terminal back while a session uses its screen. A log file still receives them."""
    for handler in _installed():
        if isinstance(handler, StderrHandler):
            handler.hold_lines()


def release_lines() -> None:
    """Write the lines that were held back. Idempotent."""
    for handler in _installed():
        if isinstance(handler, StderrHandler):
            handler.release_lines()


@contextlib.contextmanager
def lines_written_by(write: Callable[[str], None]) -> Iterator[None]:
    """Write lines to standard error with ``write`` during the block.

    It is called from any thread, must not block, and may raise ``RuntimeError`` if it can no longer write.
    """
    handlers = [handler for handler in _installed() if isinstance(handler, StderrHandler)]
    for handler in handlers:
        handler.write_line = write
    try:
        yield
    finally:
        for handler in handlers:
            handler.write_line = None


def configure(
    verbosity: int,
    log_file: Path | None,
    log_format: LogFormat,
    *,
    details: Path | None = None,
    program: str = "smp",
) -> Path | None:
    """Configure logging for a command, replacing an earlier configuration.

    ``verbosity`` counts the ``-v``: 0 writes nothing to stderr, 1 from INFO on, 2 or more from DEBUG on.
    ``log_file`` is appended to, from INFO on, or from DEBUG on at 2; it is created with mode 0600, and a file
    that exists keeps its mode. Raises ``OSError`` when it cannot be opened; then the earlier configuration stays.

    ``details`` is a file that every record is appended to, in a directory that is created if necessary; stderr then
    gets nothing below INFO. Returns its path, or None if it cannot be written, which is no error.

    Libraries log from WARNING on. The first failure of writing to a file is reported on stderr, with the name
    ``program`` in front.
    """
    kept = None
    stderr = None if sys.stderr is None else StderrHandler(sys.stderr)

    def failed(path: Path, error: OSError) -> None:
        if stderr is not None:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                stderr.put(f"{program}: the log file {path} cannot be written to: {error.strerror}")

    files: list[OwnHandler] = []
    if log_file is not None:
        files.append(FileHandler(log_file, failed))
    if details is not None:
        with contextlib.suppress(OSError):
            files.append(_details_handler(details, failed))
            kept = details
    handlers = files.copy()
    if stderr is not None and (verbosity > 0 or files):
        handlers.append(stderr)
        stderr.addFilter(lambda record: not getattr(record, PRINTED, False))
        if verbosity == 0:
            stderr.setLevel(logging.CRITICAL + 1)
        elif kept is not None:
            stderr.setLevel(logging.INFO)

    everything = logging.getLogger()
    for installed in _installed():
        everything.removeHandler(installed)
        installed.close()
    for handler in handlers or [Silence()]:
        handler.addFilter(_REDACTING)
        if log_format == "json":
            handler.setFormatter(JsonFormatter())
        else:
            handler.setFormatter(TextFormatter() if handler in files else StderrFormatter())
        everything.addHandler(handler)
    level = logging.DEBUG if verbosity > 1 else logging.INFO
    get_logger(ROOT).setLevel(level if handlers else logging.NOTSET)
    for name in _EXPLAINED:
        logging.getLogger(name).setLevel(logging.DEBUG if handlers and verbosity > 1 else logging.NOTSET)
    return kept


def _details_handler(path: Path, failed: Callable[[Path, OSError], None]) -> FileHandler:
    """Return a handler for the file of details, whose size is limited. Raises ``OSError``."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > DETAILS_LIMIT:
            path.replace(path.with_name(f"{path.name}.1"))
    return FileHandler(path, failed)
