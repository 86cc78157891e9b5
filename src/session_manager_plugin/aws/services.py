"""Calls of the Systems Manager API, by botocore and its chain of credentials. Nothing here ever prompts.

botocore is imported when it is needed: it takes longer to import than everything else together.
"""

from __future__ import annotations

import asyncio
import os
from functools import cache
from typing import Any, NoReturn

from session_manager_plugin.aws.helpers import current_helpers
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.utils.logging import get_logger
from session_manager_plugin.utils.proxy_url import register_environments_passwords

CALL_TIMEOUT = 1.5
"""Seconds for connecting, and seconds for the answer: whoever calls is about to leave."""
_CLI_CACHE = os.path.join("~", ".aws", "cli", "cache")
"""Where the AWS CLI keeps the credentials of assumed roles (awscli/customizations/assumerole.py)."""

_CALLED = frozenset({"kms", "ssm", "sts", "oidc", "portal.sso"})
"""The services that we or a chain of credentials call, as botocore's ``endpoints.json`` names them."""


async def terminate_session(
    session_id: str, *, region: str | None = None, profile: str | None = None, endpoint_url: str | None = None
) -> None:
    """Tell Systems Manager to end a session, once and without retries. A failure is logged and nothing else.

    What is None comes from botocore's usual places; the endpoint also from AWS_ENDPOINT_URL_SSM.
    """
    logger = get_logger(__name__)
    try:
        await asyncio.to_thread(_terminate_session, session_id, region, profile, endpoint_url)
    except Exception as error:
        logger.warning("session %s could not be terminated: %s", session_id, error)
    else:
        logger.info("session %s is terminated", session_id)


def _terminate_session(session_id: str, region: str | None, profile: str | None, endpoint_url: str | None) -> None:
    from botocore.config import Config

    config = Config(
        connect_timeout=CALL_TIMEOUT, read_timeout=CALL_TIMEOUT, retries={"total_max_attempts": 1, "mode": "standard"}
    )
    client = create_client("ssm", region=region, profile=profile, endpoint_url=endpoint_url, config=config)
    try:
        client.terminate_session(SessionId=session_id)
    finally:
        client.close()


def create_client(
    service: str, *, region: str | None, profile: str | None, endpoint_url: str | None = None, config: Any = None
) -> Any:
    """A client of a `create_session`."""
    session = create_session(profile)
    return session.create_client(service, region_name=region, endpoint_url=endpoint_url, config=config)


def create_session(profile: str | None) -> Any:
    """A botocore session with credentials from botocore's own chain and the AWS CLI's cache; it never prompts."""
    from botocore.session import Session

    register_environments_passwords()
    session = Session(profile=profile)
    session.register_component("data_loader", _data_loader())
    _forbid_prompts(session)
    return session


@cache
def _data_loader() -> Any:
    """botocore's descriptions of services, read once: a session that resumes many times would read them each time,
    for 6 MB and a tenth of a second. Of the addresses of all services only those are kept that are called. They are
    read when a client is made: finding most credentials takes none."""
    from botocore.loaders import create_loader

    loader = create_loader(os.environ.get("AWS_DATA_PATH"))
    load_data = loader.load_data

    def load(name: str) -> Any:
        data = load_data(name)  # the loader returns the same object each time
        if name == "endpoints":
            for partition in data["partitions"]:
                services = partition["services"]
                partition["services"] = {name: services[name] for name in services.keys() & _CALLED}
        return data

    loader.load_data = load
    return loader


def _forbid_prompts(session: Any) -> None:
    """Roles that need a code are taken from the AWS CLI's cache or not at all; helper programs get no terminal."""
    from botocore.utils import JSONFileCache

    chain = session.get_component("credential_provider")
    cache = JSONFileCache(os.path.expanduser(_CLI_CACHE))
    assume_role = chain.get_provider("assume-role")
    assume_role.cache = cache
    assume_role._prompter = _refuse_prompt
    chain.get_provider("assume-role-with-web-identity").cache = cache
    chain.get_provider("custom-process")._popen = current_helpers().start


def _refuse_prompt(question: str) -> NoReturn:
    raise ConfigurationError(f"the profile asks for something ({question.strip(': ')}), and this is no time to ask")
