"""The CA bundle of a profile: the same that botocore takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from session_manager_plugin.aws.botocore_session import create_session
from session_manager_plugin.aws.profile import ca_bundle
from session_manager_plugin.aws.settings import AwsSettings

CONFIG = """\
[default]
ca_bundle = /default.pem
[profile work]
region = eu-west-1
ca_bundle=/work.pem
[profile "two words"]
ca_bundle = /words.pem
[profile both]
ca_bundle = /config.pem
[profile none]
region = eu-west-1
[named]
ca_bundle = /no-profile.pem
"""
CREDENTIALS = "[both]\nca_bundle = /credentials.pem\n[only]\nca_bundle = /only.pem\n"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of an AWS user."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, text in (("AWS_CONFIG_FILE", CONFIG), ("AWS_SHARED_CREDENTIALS_FILE", CREDENTIALS)):
        path = tmp_path / name
        path.write_text(text)
        monkeypatch.setenv(name, str(path))


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("given", "profile", "variables", "expected"),
    [
        (None, None, {}, "/default.pem"),
        (None, "default", {}, "/default.pem"),
        (None, "work", {}, "/work.pem"),
        (None, "two words", {}, "/words.pem"),
        (None, "both", {}, "/credentials.pem"),
        (None, "only", {}, "/only.pem"),
        (None, "none", {}, None),
        (None, None, {"AWS_PROFILE": "work"}, "/work.pem"),
        (None, None, {"AWS_PROFILE": "work", "AWS_DEFAULT_PROFILE": "both"}, "/credentials.pem"),
        (None, "both", {"AWS_PROFILE": "work"}, "/credentials.pem"),
        (None, "work", {"AWS_CA_BUNDLE": "/variable.pem"}, "/variable.pem"),
        ("/given.pem", "work", {"AWS_CA_BUNDLE": "/variable.pem"}, "/given.pem"),
    ],
)
def test_it_is_the_one_that_botocore_takes(
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    profile: str | None,
    variables: Mapping[str, str],
    expected: str | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert ca_bundle(given, profile, os.environ) == expected
    if given is None:
        assert create_session(AwsSettings(profile=profile)).get_config_variable("ca_bundle") == expected


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("profile", ["missing", "named"])
def test_a_profile_that_is_not_there_has_none(profile: str) -> None:
    assert ca_bundle(None, profile, os.environ) is None


@pytest.mark.parametrize(
    "text", ["ca_bundle", "[profile 'x]\nca_bundle = y", "[default]\n[default]\nca_bundle = y", "\x00"]
)
def test_what_is_wrong_with_a_file_is_for_botocore_to_say(tmp_path: Path, text: str) -> None:
    config = tmp_path / "config"
    config.write_text(text)

    assert ca_bundle(None, None, {"AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": "/none"}) is None
