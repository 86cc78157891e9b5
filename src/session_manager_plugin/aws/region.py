"""The AWS region, and where it was found."""

from __future__ import annotations

import os
from typing import NamedTuple

from session_manager_plugin.aws.botocore_session import create_session
from session_manager_plugin.aws.settings import AwsSettings

_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")


class Region(NamedTuple):
    """A region, and the option, variable or profile that names it."""

    name: str
    source: str


def find_region(settings: AwsSettings) -> Region | None:
    """Return the region of the settings, of AWS_REGION, AWS_DEFAULT_REGION or the profile; None if none is set.

    May block while botocore is imported and the config file is read. Raises botocore's exceptions.
    """
    if settings.region:
        return Region(settings.region, "--region")
    for name in _VARIABLES:
        if value := os.environ.get(name):
            return Region(value, name)
    session = create_session(settings)
    configured = session.get_config_variable("region")
    return Region(configured, f"profile {session.profile or 'default'}") if configured else None
