"""Credentials that are found once for many calls."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.aws.credentials import CredentialCache
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.systems_manager import SystemsManager
from tests.support.waiting import DEADLINE


class Lookup:
    """Counts the lookups; each returns the next result or raises it."""

    def __init__(self, *results: object) -> None:
        self._results = list(results)
        self.count = 0

    def __call__(self) -> object:
        self.count += 1
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


def test_they_are_found_once() -> None:
    cache, lookup = CredentialCache(), Lookup("one", "two")
    assert [cache.find(lookup) for _ in range(3)] == ["one"] * 3
    assert lookup.count == 1


def test_they_are_looked_up_anew() -> None:
    """When they were refused, when they are too old for the caller, after a lookup that found none or failed."""
    cache, lookup = CredentialCache(), Lookup("one", "two", None, OSError("no network"), "three")
    assert cache.find(lookup) == "one"
    cache.forget()
    assert cache.find(lookup) == "two"
    assert cache.find(lookup, max_age=-1.0) is None
    with pytest.raises(OSError, match="no network"):
        cache.find(lookup)
    assert cache.find(lookup) == "three"


def test_calls_at_the_same_time_share_a_lookup() -> None:
    cache, began, may_end = CredentialCache(), threading.Event(), threading.Event()
    lookups = []

    def look_up() -> str:
        lookups.append("begun")
        began.set()
        assert may_end.wait(DEADLINE)
        return "one"

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(cache.find, look_up)
        assert began.wait(DEADLINE)
        others = [pool.submit(cache.find, look_up, max_age=-1.0) for _ in range(3)]
        cache.forget()  # not the lookup that runs
        may_end.set()
        assert [each.result(DEADLINE) for each in (first, *others)] == ["one"] * 4
    assert lookups == ["begun"]


def test_settings_have_their_own() -> None:
    assert AwsSettings().credentials is not AwsSettings().credentials
    assert AwsSettings("eu-west-1") == AwsSettings("eu-west-1")


async def test_credentials_that_have_changed_are_tried_when_the_old_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that another tool rewrites once an hour, in a session of several hours."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    async with Sandbox() as sandbox:
        systems_manager = SystemsManager(AwsSettings(sandbox.region, endpoint_url=sandbox.endpoint_url))
        file.write_text(f"[default]\naws_access_key_id = {sandbox.access_key_id}\naws_secret_access_key = x\n")
        await systems_manager.start_session("local")
        sandbox.access_key_id = "AKIAOFTHISHOUR00"
        file.write_text("[default]\naws_access_key_id = AKIAOFTHISHOUR00\naws_secret_access_key = y\n")
        assert (await systems_manager.start_session("local")).token
