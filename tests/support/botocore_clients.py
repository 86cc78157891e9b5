"""botocore's clients of a sandbox."""

from __future__ import annotations

import asyncio
from functools import cache
from types import TracebackType
from typing import Any, Self

import botocore.session
from botocore.config import Config
from botocore.loaders import create_loader

from session_manager_plugin.agent import Sandbox


@cache
def _data_loader() -> Any:
    """One for all tests of a process: it keeps what it has read."""
    return create_loader()


class AwsClients:
    """Calls the sandbox's APIs with botocore, in threads: it blocks. Nothing is retried.

    ``await clients("ec2", "describe_instances", InstanceIds=[…])``
    """

    def __init__(self, sandbox: Sandbox, credentials: dict[str, Any] | None = None) -> None:
        """``credentials`` are GetAccessToken's; the sandbox's own without them."""
        self._endpoint_url = sandbox.endpoint_url
        self._region = sandbox.region
        self._session = botocore.session.Session()
        self._session.register_component("data_loader", _data_loader())
        if credentials is None:
            self._session.set_credentials(
                sandbox.access_key_id, sandbox.secret_access_key, sandbox.session_token or None
            )
        else:
            self._session.set_credentials(
                credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"]
            )
        self._clients: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for client in self._clients.values():
            client.close()

    def client(self, service: str) -> Any:
        """botocore's client of one service."""
        if service not in self._clients:
            self._clients[service] = self._session.create_client(
                service,
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                config=Config(retries={"total_max_attempts": 1}, proxies={}),
            )
        return self._clients[service]

    async def __call__(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        client = self.client(service)
        answer: dict[str, Any] = await asyncio.to_thread(getattr(client, operation), **parameters)
        return answer

    async def pages(self, service: str, operation: str, size: int, **parameters: Any) -> list[dict[str, Any]]:
        """Every page of a paginated call, as botocore's paginator asks for them."""

        def collect() -> list[dict[str, Any]]:
            paginator = self.client(service).get_paginator(operation)
            return list(paginator.paginate(PaginationConfig={"PageSize": size}, **parameters))

        return await asyncio.to_thread(collect)
