"""Defaults of a link, in seconds. In a module of their own because the help of the commands shows them, and must not
import an event loop and a websocket library for that."""

from __future__ import annotations

KEEPALIVE = 15.0
"""Between two pings: below the idle limits of NAT routers and proxies."""
CONNECT_TIMEOUT = 30.0
"""For one attempt to connect: a proxy that asks for a person's consent may take that long."""
RECONNECT_TIMEOUT = 900.0
"""For restoring a lost connection: longer than a walk between two offices."""
