"""The details of a session's connection, as ``~i`` shows them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from session_manager_plugin.session.session import Session
from session_manager_plugin.utils.logging import redact

_LEAST_COLUMNS = 30
"""The table is not made narrower: the terminal wraps its lines."""
_UNITS = ("byte", "kB", "MB", "GB", "TB")


def connection_details(session: Session, target: str, uptime: float | None, columns: int) -> list[str]:
    """Return the lines of a table of what is known now, no wider than ``columns``.

    ``uptime`` is in seconds; None if the session has not begun.
    """
    # Rich is imported here: no session needs its tables to start.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in _facts(session, target, uptime):
        if value:
            table.add_row(Text(f" {label}:"), Text(printable(value)))
    console = Console(file=io.StringIO(), width=max(columns, _LEAST_COLUMNS), color_system=None)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _facts(session: Session, target: str, uptime: float | None) -> Iterator[tuple[str, str]]:
    """Yield label and value of each fact; the value is empty if it is not known."""
    info = session.get_info()
    began = session.began
    yield "session", session.session_id
    yield "target", target
    yield "uptime", "" if uptime is None else _duration(uptime)
    yield "state", info.get("link") or session.state
    yield "trouble", info.get("trouble") or ""
    yield "latency", _latency(info)
    yield "received", _size(info.get("bytes_received"))
    yield "sent", _size(info.get("bytes_sent"))
    yield "retransmissions", _retransmissions(info)
    yield "reconnects", _number(info.get("reconnects"))
    yield "host", urlsplit(info.get("url") or "").netloc.rpartition("@")[2]
    yield "TLS", info.get("tls") or ""
    if began is not None:
        yield "encryption", f"KMS key {info.get('encryption_key')}" if info.get("encrypted") else "none"
        yield "agent", began.peer_version or "version not announced"
        yield "session type", began.session_type or "Standard_Stream, not announced"


def printable(line: str) -> str:
    """Return ``line`` without secrets and control characters: the far end chooses part of it."""
    return "".join(character if character.isprintable() else "?" for character in redact(line))


def _duration(seconds: float) -> str:
    """Return a time in words: ``1 h 2 min``, ``3 min 4 s``, ``5 s``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _latency(info: dict[str, Any]) -> str:
    if info.get("trouble"):
        return "no answer"
    latency = info.get("latency")
    return "" if latency is None else f"{latency * 1000:.1f} ms"


def _retransmissions(info: dict[str, Any]) -> str:
    count, now = info.get("retransmissions"), info.get("retransmitting")
    return f"{_number(count)}, {now} not acknowledged yet" if now else _number(count)


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _size(size: int | None) -> str:
    """Return a number of bytes in a unit with at most four digits: ``813 bytes``, ``12.3 kB``."""
    if size is None:
        return ""
    amount, unit = float(size), 0
    while amount >= 999.95 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{size} byte{'s' * (size != 1)}"
