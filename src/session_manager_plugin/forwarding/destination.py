"""Where forwarded connections go, and the session document for that."""

from __future__ import annotations

from dataclasses import dataclass

from session_manager_plugin.session.document_names import PORT_FORWARDING, PORT_FORWARDING_TO_HOST
from session_manager_plugin.session.forward_spec import is_loopback_name
from session_manager_plugin.utils.hosts import join_host_and_port


@dataclass(frozen=True, slots=True)
class Destination:
    """A port of ``host``: a name that the target resolves, or an address; empty for the target itself."""

    host: str
    port: int

    def __str__(self) -> str:
        return join_host_and_port(self.host or "localhost", self.port)

    @property
    def document(self) -> str:
        """The session document. Agents refuse loopback in the document for remote hosts (since 3.3.4851)."""
        return PORT_FORWARDING if is_loopback_name(self.host) else PORT_FORWARDING_TO_HOST

    @property
    def parameters(self) -> dict[str, list[str]]:
        """The parameters of the document."""
        port = {"portNumber": [str(self.port)]}
        return port if is_loopback_name(self.host) else {"host": [self.host], **port}
