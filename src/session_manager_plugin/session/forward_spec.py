"""The values of ``-L`` and ``-D`` of ``smp forward``.

The forms of ``-L`` are those of kubectl and ssh, and one for databases::

    LOCAL:PORT                   a port of the target itself
    LOCAL:HOST:PORT              a port of a host that the target reaches
    BIND:LOCAL:HOST:PORT
    LOCAL:rds:NAME[:PORT]        the endpoint of an RDS instance or cluster
    BIND:LOCAL:rds:NAME[:PORT]

LOCAL is a port (0 or empty: any free port), or the path of a unix socket, which begins with ``/`` or ``.``. IPv6
addresses are written in brackets.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from session_manager_plugin.errors import UsageError
from session_manager_plugin.utils.hosts import join_host_and_port

RDS = "rds"
_FIELD = re.compile(r"\[([^][]*)\]|([^][:]*)")
_PORT = re.compile("[0-9]{1,5}")
_RDS_NAME = re.compile("[A-Za-z][A-Za-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """Where a forwarded port listens: on ``port`` (0: any free port) of ``host``, or on the unix socket ``path``.

    An empty ``host`` means loopback, IPv4 and IPv6.
    """

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        return self.path or (join_host_and_port(self.host, self.port) if self.host else f"port {self.port}")


@dataclass(frozen=True, slots=True)
class ForwardSpec:
    """One forwarded port. An empty ``host`` is the target itself; ``rds`` names a database instead of a host.

    ``port`` is None for the port of the database's endpoint.
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
        """The destination in the form of ``-L``."""
        if self.rds:
            return f"{RDS}:{self.rds}" + ("" if self.port is None else f":{self.port}")
        assert self.port is not None  # only the port of a database may be left out
        return join_host_and_port(self.host or "localhost", self.port)


def parse_forward(text: str) -> ForwardSpec:
    """Parse a value of ``-L``. Raises ``UsageError``, which quotes the value and states what is expected."""
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
    """Parse a value of ``-D``, ``[BIND:]PORT``, the address of a SOCKS server. Raises ``UsageError``."""
    fields = _fields(text)
    if len(fields) not in (1, 2):
        raise UsageError(f"-D {text}: expected PORT or BIND:PORT, as in 1080 or [::1]:1080")
    host, port = fields[0] if len(fields) == 2 else "", fields[-1]
    if not _is_local_port(port):
        raise UsageError(f"-D {text}: {port!r} is not a port; expected 0 to 65535")
    return LocalAddress(host, int(port or 0))


def is_loopback_name(host: str) -> bool:
    """Whether ``host``, as the target sees it, is the target itself.

    Agents since 3.3.4851 refuse these names in the document for remote hosts.
    """
    if not host or host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _fields(text: str) -> list[str]:
    """Split ``text`` at the colons outside brackets. Returns an empty list if the brackets do not match."""
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
    if not _is_local_port(field):
        raise UsageError(f"{text}: {field!r} is not a local port; expected 0 to 65535, or the path of a unix socket")
    return int(field or 0)


def _is_local_port(field: str) -> bool:
    return not field or (_PORT.fullmatch(field) is not None and int(field) <= 65535)


def _remote_port(text: str, field: str) -> int:
    if not _PORT.fullmatch(field) or not 0 < int(field) <= 65535:
        raise UsageError(f"{text}: {field!r} is not a port; expected 1 to 65535")
    return int(field)


def _wrong(text: str) -> UsageError:
    return UsageError(
        f"-L {text}: expected LOCAL:PORT, LOCAL:HOST:PORT, BIND:LOCAL:HOST:PORT or LOCAL:rds:NAME, "
        "with IPv6 addresses in brackets"
    )
