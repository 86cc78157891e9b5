"""Versions of the official agent at which its behaviour, and the sandbox's, changes."""

from __future__ import annotations

from typing import Final

LOOPBACK_DENIED_FROM: Final = "3.3.4851.0"
"""The first version that refuses loopback addresses and those of container credentials as a remote host."""
DEFAULT_AGENT_VERSION: Final = "3.3.987.0"
"""Older than ``LOOPBACK_DENIED_FROM``, because a sandbox forwards to loopback addresses."""
