"""The session documents that AWS owns, and the properties of a session that follow from their names."""

from __future__ import annotations

SHELL = "SSM-SessionManagerRunShell"
SSH = "AWS-StartSSHSession"
COMMAND = "AWS-StartNonInteractiveCommand"
SEPARATE_OUTPUTS = "separateOutputStream"
"""The parameter of ``COMMAND`` that makes the agent send stdout, stderr and the exit status separately."""
INTERACTIVE_COMMAND = "AWS-StartInteractiveCommand"
PORT_FORWARDING = "AWS-StartPortForwardingSession"
"""Forwards to a port of the target. The names of all documents that forward ports begin with this."""
PORT_FORWARDING_TO_HOST = "AWS-StartPortForwardingSessionToRemoteHost"


def forwards_port(document: str) -> bool:
    """Whether a document is known to forward a port."""
    return document.startswith(PORT_FORWARDING)


def needs_handshake(document: str) -> bool:
    """Whether sessions with this document are known to begin with a handshake: those for ports and commands do."""
    return document in (SSH, COMMAND) or forwards_port(document)
