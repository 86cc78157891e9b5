"""Settings of AWS profiles, read without botocore: importing it takes longer than opening a connection."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping

_DEFAULT = "default"
_FILES = (
    ("AWS_SHARED_CREDENTIALS_FILE", os.path.join("~", ".aws", "credentials"), False),
    ("AWS_CONFIG_FILE", os.path.join("~", ".aws", "config"), True),
)
"""Variable and default of each file, and whether its sections are named ``[profile NAME]``. Both hold settings; the
first file wins (botocore, ``Session.full_config``)."""


def ca_bundle(given: str | None, profile: str | None, variables: Mapping[str, str]) -> str | None:
    """Return the file of CA certificates: ``given``, AWS_CA_BUNDLE or the profile's ``ca_bundle``, as botocore does.

    None if none is set. ``profile`` None is the profile that botocore uses by default.
    """
    return given or variables.get("AWS_CA_BUNDLE") or _setting("ca_bundle", profile, variables)


def region_of(profile: str | None, variables: Mapping[str, str]) -> str | None:
    """Return the region of AWS_REGION, AWS_DEFAULT_REGION or the profile, or None."""
    return variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or _setting("region", profile, variables)


def profile_names(variables: Mapping[str, str]) -> list[str]:
    """Return the names of the profiles in the AWS CLI's two files."""
    import configparser
    import shlex

    names: dict[str, None] = {}
    for variable, default, is_config in _FILES:
        parser = configparser.RawConfigParser(default_section="")
        try:
            parser.read_string(_read(os.path.expanduser(variables.get(variable) or default)))
            sections = [shlex.split(section) if is_config else [section] for section in parser.sections()]
        except (configparser.Error, ValueError):
            continue
        for words in sections:
            if not is_config or (len(words) == 2 and words[0] == "profile") or words == [_DEFAULT]:
                names[words[-1]] = None
    return sorted(names)


def mfa_serial(profile: str | None, variables: Mapping[str, str]) -> str | None:
    """Return the MFA device that the role of ``profile`` asks for, or that of a profile that it gets credentials from;
    None if no MFA code is needed."""
    for name in _sources(profile, variables):
        if _setting("role_arn", name, variables) and (serial := _setting("mfa_serial", name, variables)):
            return serial
    return None


def login_profile(profile: str | None, variables: Mapping[str, str]) -> str | None:
    """Return the name of the profile to log in with: ``profile``, or the one with a login that it gets credentials
    from. None for the default profile, if no other one is selected."""
    selected = selected_profile(profile, variables)
    for name in _sources(profile, variables):
        if any(_setting(key, name, variables) for key in ("sso_session", "sso_start_url", "login_session")):
            return name if selected else None
    return selected


def selected_profile(profile: str | None, variables: Mapping[str, str]) -> str | None:
    """Return ``profile`` or, if it is None, that of the environment; None for the default profile."""
    return profile or variables.get("AWS_DEFAULT_PROFILE") or variables.get("AWS_PROFILE")


def _sources(profile: str | None, variables: Mapping[str, str]) -> Iterator[str]:
    """Yield the name of the profile and those of its ``source_profile``, and so on, each once."""
    name: str | None = selected_profile(profile, variables) or _DEFAULT
    seen: set[str] = set()
    while name and name not in seen:
        yield name
        seen.add(name)
        name = _setting("source_profile", name, variables)


def _setting(key: str, profile: str | None, variables: Mapping[str, str]) -> str | None:
    name = selected_profile(profile, variables) or _DEFAULT
    for variable, default, is_config in _FILES:
        text = _read(os.path.expanduser(variables.get(variable) or default))
        if key in text and (value := _value(text, key, name, is_config=is_config)):
            return value
    return None


def _read(path: str) -> str:
    """Return the text of a file, or nothing if it cannot be read: botocore raises that error when it needs the file.

    The file is decoded as arguments and paths are: a profile's name may be an argument, and the value is a path.
    """
    try:
        with open(path, encoding=sys.getfilesystemencoding(), errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _value(text: str, key: str, name: str, *, is_config: bool) -> str | None:
    import configparser
    import shlex

    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read_string(text)
        for section in parser.sections():
            words = shlex.split(section) if is_config else [section]
            if (words == ["profile", name] and is_config) or (words == [name] and (not is_config or name == _DEFAULT)):
                return parser.get(section, key, fallback=None)
    except (configparser.Error, ValueError):
        pass
    return None
