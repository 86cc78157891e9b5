"""Versions of the official agent that decide what the sandbox's agent does."""

from __future__ import annotations

from typing import Final

LOOPBACK_DENIED_FROM: Final = "3.3.4851.0"
"""The first that refuses its own machine as a remote host, and the addresses of container credentials."""
DEFAULT_AGENT_VERSION: Final = "3.3.987.0"
"""Before ``LOOPBACK_DENIED_FROM``: whatever a sandbox can forward to is on loopback."""
