"""botocore's clients that are used again: making one takes longer than a call. Importing this imports no botocore."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any


class KeptClients:
    """One client for each key, made with certain credentials. Any thread may call its methods, and use its clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[Hashable, tuple[object, Any]] = {}

    def get(self, key: Hashable, credentials: object, make: Callable[[], Any]) -> Any:
        """Return the client of ``key``; ``make`` makes one if there is none, or one with other credentials.

        Blocks, and raises what ``make`` raises.
        """
        with self._lock:
            kept_credentials, client = self._clients.get(key, (None, None))
            if client is None or kept_credentials != credentials:
                client = make()
                self._clients[key] = credentials, client
            return client
