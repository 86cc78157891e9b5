"""Host names of AWS services: the service, the region, and whether a host belongs to AWS."""

from __future__ import annotations

import re
from typing import NamedTuple

AWS_SUFFIXES = (
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "api.aws",
    "api.aws.hci.ic.gov",
    "api.aws.ic.gov",
    "api.aws.scloud",
    "api.cloud-aws.adc-e.uk",
    "c2s.ic.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
    "sc2s.sgov.gov",
)
"""The DNS suffixes of all partitions, dual-stack ones included, from botocore's ``data/partitions.json`` and
``data/endpoints.json``. Reading those files would slow down every start; a test compares them with this table."""
_GATEWAY_SERVICES = frozenset({"ssmmessages", "ssmmessages-fips"})
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")


class AwsService(NamedTuple):
    """A service's endpoint in a region."""

    name: str
    """The name in the endpoint: ``ssmmessages``, ``ssmmessages-fips``."""
    region: str

    @property
    def is_message_gateway(self) -> bool:
        """Whether the service opens data channels."""
        return self.name in _GATEWAY_SERVICES


def is_aws_host(host: str) -> bool:
    """Return whether ``host`` belongs to AWS.

    AWS's message gateway reads the token from the first message, so the URL and headers need none.
    """
    return _suffix_of(_normalized(host)) is not None


def aws_service(host: str) -> AwsService | None:
    """Return the service and the region in the name of an AWS endpoint; None for any other host.

    The name is ``SERVICE.REGION.SUFFIX``, or for a VPC endpoint ``vpce-ID.SERVICE.REGION.vpce.SUFFIX``.
    """
    name = _normalized(host)
    suffix = _suffix_of(name)
    if suffix is None:
        return None
    match name.removesuffix(f".{suffix}").split("."):
        case [service, region]:
            pass
        case [endpoint, service, region, "vpce"] if endpoint.startswith("vpce-"):
            pass
        case _:
            return None
    return AwsService(service, region) if _REGION.fullmatch(region) else None


def _normalized(host: str) -> str:
    return host.lower().rstrip(".")


def _suffix_of(name: str) -> str | None:
    return max((suffix for suffix in AWS_SUFFIXES if name.endswith(f".{suffix}")), key=len, default=None)
