"""Credentials that are looked up once for many calls. Importing this module does not import botocore."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class CredentialCache:
    """Keeps botocore's credentials, which refresh themselves if possible. The methods may be called in any thread.

    Only one lookup runs at a time. Other calls wait for its result.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lookup: Future[Any] | None = None
        self._began_at = 0.0
        self._source: Callable[[], Any] | None = None
        self.ask: Callable[[str], str] | None = None
        """Asks a person for an MFA code; the argument is the device's serial number. None: a lookup that needs a code
        raises ``ConfigurationError``."""

    def use(self, source: Callable[[], Any]) -> None:
        """Look credentials up with ``source`` from now on, instead of with the argument of ``find``."""
        with self._lock:
            self._source, self._lookup = source, None

    def find(self, look_up: Callable[[], Any], *, max_age: float = math.inf) -> Any:
        """Return the credentials, or None if there are none. Blocks.

        Calls ``look_up`` if there was no lookup yet, if the last one began more than ``max_age`` seconds ago, found
        nothing or failed, or if ``forget`` was called. Raises the exceptions of ``look_up``.
        """
        with self._lock:
            lookup = self._lookup
            if lookup is not None and (not lookup.done() or self._is_good(lookup, max_age)):
                is_new = False
            else:
                is_new = True
                lookup = self._lookup = Future()
                self._began_at = time.monotonic()
        if is_new:
            try:
                lookup.set_result((self._source or look_up)())
            except BaseException as error:
                lookup.set_exception(error)
        return lookup.result()

    def forget(self) -> None:
        """Look the credentials up again for the next call, because AWS has refused them."""
        with self._lock:
            if self._lookup is not None and self._lookup.done():
                self._lookup = None

    def _is_good(self, lookup: Future[Any], max_age: float) -> bool:
        return (
            time.monotonic() - self._began_at <= max_age and lookup.exception() is None and lookup.result() is not None
        )
