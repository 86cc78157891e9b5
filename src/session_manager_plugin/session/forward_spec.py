"""What ``-L`` and ``-D`` of ``smp forward`` ask for.

The forms of ``-L``, those of kubectl and ssh, in this order::

    LOCAL:PORT                   a port of the target itself
    LOCAL:HOST:PORT              a port of a host that the target reaches
    BIND:LOCAL:HOST:PORT
    LOCAL:rds:NAME[:PORT]        the endpoint of an RDS instance or cluster
    BIND:LOCAL:rds:NAME[:PORT]

LOCAL is a port, 0 or nothing for any that is free, or the path of a unix socket, which begins with ``/`` or ``.``.
IPv6 addresses stand in brackets.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from session_manager_plugin.errors import UsageError

RDS = "rds"
_FIELD = re.compile(r"\[([^][]*)\]|([^][:]*)")
_PORT = re.compile("[0-9]{1,5}")
_RDS_NAME = re.compile("[A-Za-z][A-Za-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """Where a forwarded port listens: ``port`` (0: any that is free) of ``host``, or ``path``, a unix socket.

    An empty ``host`` is loopback, both families.
    """

    host: str = ""
    port: int = 0
    path: str | None = None


@dataclass(frozen=True, slots=True)
class ForwardSpec:
    """One forwarded port. An empty ``host`` is the target itself; ``rds`` names a database instead of a host.

    ``port`` is None where the database's own is meant.
    """

    local: LocalAddress
    host: str
    port: int | None
    rds: str = ""

    @property
    def is_on_target(self) -> bool:
        """Whether the port is one of the target itself."""
        return not self.rds and is_loopback_name(self.host)

    @property
    def remote(self) -> str:
        """The destination as a person writes it."""
        if self.rds:
            return f"{RDS}:{self.rds}" + ("" if self.port is None else f":{self.port}")
        host = f"[{self.host}]" if ":" in self.host else self.host or "localhost"
        return f"{host}:{self.port}"


def parse_forward(text: str) -> ForwardSpec:
    """Return what the value of ``-L`` asks for. Raises ``UsageError``, which quotes it and names the forms."""
    fields = _fields(text)
    if fields and fields[0][:1] in ("/", "."):
        local, rest = LocalAddress(path=fields[0]), fields[1:]
    elif len(fields) >= 4 and fields[1] != RDS:
        local, rest = LocalAddress(fields[0], _local_port(text, fields[1])), fields[2:]
    elif len(fields) >= 2:
        local, rest = LocalAddress(port=_local_port(text, fields[0])), fields[1:]
    else:
        raise _wrong(text)
    if rest[:1] == [RDS] and len(rest) in (2, 3) and _RDS_NAME.fullmatch(rest[1]):
        return ForwardSpec(local, "", _remote_port(text, rest[2]) if len(rest) == 3 else None, rest[1])
    if len(rest) not in (1, 2):
        raise _wrong(text)
    return ForwardSpec(local, rest[0] if len(rest) == 2 else "", _remote_port(text, rest[-1]))


def parse_socks(text: str) -> LocalAddress:
    """Return where the SOCKS server of ``-D [BIND:]PORT`` listens. Raises ``UsageError``."""
    fields = _fields(text)
    if len(fields) not in (1, 2):
        raise UsageError(f"-D {text}: expected PORT or BIND:PORT, as in 1080 or [::1]:1080")
    return LocalAddress(fields[0] if len(fields) == 2 else "", _local_port(text, fields[-1]))


def is_loopback_name(host: str) -> bool:
    """Whether ``host``, as the target sees it, is the target itself.

    Agents from 3.3.4851 on refuse these in the document for remote hosts (product contract 1.9).
    """
    if not host or host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _fields(text: str) -> list[str]:
    """Return the fields that colons separate; none where brackets, which enclose a field with colons, do not match."""
    fields: list[str] = []
    position = 0
    while True:
        match = _FIELD.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ":"):
            return []
        fields.append(match[1] if match[1] is not None else match[2])
        if match.end() == len(text):
            return fields
        position = match.end() + 1


def _local_port(text: str, field: str) -> int:
    if not field:
        return 0
    if not _PORT.fullmatch(field) or int(field) > 65535:
        raise UsageError(f"{text}: {field!r} is not a local port; expected 0 to 65535, or the path of a unix socket")
    return int(field)


def _remote_port(text: str, field: str) -> int:
    if not _PORT.fullmatch(field) or not 0 < int(field) <= 65535:
        raise UsageError(f"{text}: {field!r} is not a port; expected 1 to 65535")
    return int(field)


def _wrong(text: str) -> UsageError:
    return UsageError(
        f"-L {text}: expected LOCAL:PORT, LOCAL:HOST:PORT, BIND:LOCAL:HOST:PORT or LOCAL:rds:NAME, "
        "with IPv6 addresses in brackets"
    )
