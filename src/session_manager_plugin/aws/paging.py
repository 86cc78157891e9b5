"""Operations of AWS with paged responses. Every function here blocks; call it in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from session_manager_plugin.aws.aws_errors import aws_failure
from session_manager_plugin.aws.botocore_session import CallLimits, call
from session_manager_plugin.aws.settings import AwsSettings

LIMITS = CallLimits(10.0, 20.0, 6, mode="adaptive")
"""Adaptive, because accounts with thousands of instances are throttled."""
TOKENS = {"ecs": "nextToken"}
"""The name of the next page's token by service, if it is not ``NextToken``."""


def read_pages(
    settings: AwsSettings,
    service: str,
    operation: str,
    request: Mapping[str, Any],
    receive: Callable[[Mapping[str, Any]], None],
) -> None:
    """Call ``operation`` (``DescribeInstances``) until the last page, and pass each response to ``receive``.

    If the credentials expire in between, the first pages are passed a second time. Raises the exceptions of
    ``aws_failure``.
    """
    token_field = TOKENS.get(service, "NextToken")

    def read(client: Any) -> None:
        from botocore import xform_name

        method, page = getattr(client, xform_name(operation)), dict(request)
        while True:
            answer = method(**page)
            receive(answer)
            if not (token := answer.get(token_field)):
                return
            page[token_field] = token

    call_service(settings, service, operation, read)


def call_service(
    settings: AwsSettings, service: str, operation: str, work: Callable[[Any], Any], *, limits: CallLimits = LIMITS
) -> Any:
    """Return ``work(client)`` for a client of ``service``. Raises like ``read_pages``."""
    try:
        return call(settings, service, limits, work)
    except Exception as error:
        raise aws_failure(
            error, f"{operation} failed", permission=f"{service}:{operation}", profile=settings.profile
        ) from error
