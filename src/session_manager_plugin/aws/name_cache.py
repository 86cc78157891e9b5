"""A cache file with the names of targets, for completion by the Tab key.

Importing this module does not import botocore.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from session_manager_plugin.aws.profile import region_of
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.utils.private_files import replace_file

if TYPE_CHECKING:
    from session_manager_plugin.aws.managed_instances import ManagedInstance

MAX_AGE = 300.0
"""Seconds for which names count as current."""
_REFRESH_INTERVAL = 30.0
"""Least seconds between two refreshes: a failed one is not repeated at each Tab."""


@dataclass(frozen=True, slots=True)
class CachedTarget:
    """A target in the cache."""

    id: str
    name: str
    ip: str
    platform: str


class NameCache:
    """The file of one account, region, profile and endpoint in the user's cache directory.

    The account is that of the access key in the environment, or else of the profile. The file is readable for its
    owner only. Without a home directory nothing is kept.
    """

    def __init__(self, settings: AwsSettings, variables: Mapping[str, str] | None = None) -> None:
        variables = os.environ if variables is None else variables
        directory = _directory(variables)
        key = (
            variables.get("AWS_ACCESS_KEY_ID", "") if settings.profile is None else "",
            settings.profile or variables.get("AWS_PROFILE") or variables.get("AWS_DEFAULT_PROFILE") or "",
            settings.region or region_of(settings.profile, variables) or "",
            settings.endpoint_url or variables.get("AWS_ENDPOINT_URL_SSM") or variables.get("AWS_ENDPOINT_URL") or "",
        )
        digest = hashlib.sha256("\0".join(key).encode(errors="surrogateescape")).hexdigest()[:16]
        self._path = None if directory is None else directory / f"targets-{digest}.json"

    def read(self) -> tuple[list[CachedTarget], bool]:
        """Return the targets, and whether they are current: younger than ``MAX_AGE``."""
        if self._path is None:
            return [], False
        try:
            age = time.time() - self._path.stat().st_mtime
            targets = [CachedTarget(*fields) for fields in json.loads(self._path.read_bytes())]
        except (OSError, ValueError, TypeError):
            return [], False
        return targets, 0 <= age < MAX_AGE

    def write(self, instances: Sequence[ManagedInstance]) -> None:
        """Store the online instances. Does nothing if the file cannot be written."""
        if self._path is None:
            return
        fields = [(each.id, each.name, each.ip, each.platform) for each in instances if each.online]
        with contextlib.suppress(OSError):
            replace_file(self._path, json.dumps(fields).encode())

    def begin_refresh(self) -> bool:
        """Whether to refresh the names now; False if a refresh began less than ``_REFRESH_INTERVAL`` ago."""
        if self._path is None:
            return False
        marker = self._path.with_suffix(".refresh")
        with contextlib.suppress(OSError):
            if 0 <= time.time() - marker.stat().st_mtime < _REFRESH_INTERVAL:
                return False
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            marker.touch(mode=0o600)
            os.utime(marker)
        except OSError:
            return False
        return True


def _directory(variables: Mapping[str, str]) -> Path | None:
    """The directory of our caches (XDG Base Directory 0.8: relative values are ignored)."""
    cache = variables.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        home = variables.get("HOME", "")
        if not os.path.isabs(home):
            return None
        cache = os.path.join(home, ".cache")
    return Path(cache, "smp")
