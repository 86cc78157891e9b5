"""Where forwarded connections go, and the session document for that."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from session_manager_plugin.session.document_names import PORT_FORWARDING, PORT_FORWARDING_TO_HOST
from session_manager_plugin.session.forward_spec import is_loopback_name
from session_manager_plugin.utils.hosts import join_host_and_port


@dataclass(frozen=True, slots=True)
class Destination:
    """A port of ``host``: a name that the target resolves, or an address; empty for the target itself.

    Destinations are equal if a session to one serves the other too: ``localhost`` and ``127.0.0.1``, ``DB`` and ``db``.
    """

    host: str = field(compare=False)
    port: int
    normalized_host: str = field(init=False, repr=False)
    """The host in the one spelling that is compared; empty for the target itself."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "normalized_host", _normalized(self.host))

    def __str__(self) -> str:
        return join_host_and_port(self.host or "localhost", self.port)

    @property
    def document(self) -> str:
        """The session document. Agents refuse loopback in the document for remote hosts (since 3.3.4851)."""
        return PORT_FORWARDING_TO_HOST if self.normalized_host else PORT_FORWARDING

    @property
    def parameters(self) -> dict[str, list[str]]:
        """The parameters of the document."""
        port = {"portNumber": [str(self.port)]}
        return {"host": [self.host], **port} if self.normalized_host else port


def _normalized(host: str) -> str:
    if is_loopback_name(host):
        return ""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()
