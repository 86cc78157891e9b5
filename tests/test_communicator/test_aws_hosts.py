"""Host names of AWS services, and the region in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore
import pytest

from session_manager_plugin.communicator.aws_hosts import AWS_SUFFIXES, AwsService, aws_service, is_aws_host

DATA = Path(botocore.__file__).parent / "data"


def suffixes(data: Any) -> Iterator[str]:
    """Every DNS suffix that botocore's data names, at any depth."""
    if isinstance(data, list):
        for value in data:
            yield from suffixes(value)
    elif isinstance(data, dict):
        for key, value in data.items():
            if key in ("dnsSuffix", "dualStackDnsSuffix"):
                yield value
            else:
                yield from suffixes(value)


@pytest.mark.parametrize("name", ["partitions.json", "endpoints.json"])
def test_every_suffix_that_botocore_knows_is_known(name: str) -> None:
    missing = set(suffixes(json.loads((DATA / name).read_text()))) - set(AWS_SUFFIXES)
    assert not missing, f"AWS_SUFFIXES is stale: add {sorted(missing)}"


@pytest.mark.parametrize(
    "host",
    [
        "ssmmessages.eu-west-1.amazonaws.com",
        "SSMMESSAGES.EU-WEST-1.AMAZONAWS.COM.",
        "ssmmessages.cn-north-1.amazonaws.com.cn",
        "ssmmessages.eu-west-1.api.aws",
        "ssmmessages.us-iso-east-1.c2s.ic.gov",
        "ssmmessages.us-iso-east-1.api.aws.ic.gov",
        "ssmmessages.us-isob-east-1.api.aws.scloud",
        "ssmmessages.eu-isoe-west-1.api.cloud-aws.adc-e.uk",
        "ssmmessages.us-isof-south-1.api.aws.hci.ic.gov",
    ],
)
def test_aws_hosts(host: str) -> None:
    assert is_aws_host(host)


@pytest.mark.parametrize("host", ["gateway.example", "notamazonaws.com", "amazonaws.com.evil.example", "localhost", ""])
def test_hosts_that_are_not_aws(host: str) -> None:
    assert not is_aws_host(host)
    assert aws_service(host) is None


@pytest.mark.parametrize(
    ("host", "service"),
    [
        ("ssmmessages.eu-west-1.amazonaws.com", ("ssmmessages", "eu-west-1")),
        ("SSMMessages.EU-WEST-1.amazonaws.com.", ("ssmmessages", "eu-west-1")),
        ("ssmmessages.cn-north-1.amazonaws.com.cn", ("ssmmessages", "cn-north-1")),
        ("ssmmessages.eusc-de-east-1.api.amazonwebservices.eu", ("ssmmessages", "eusc-de-east-1")),
        ("ssmmessages-fips.us-gov-west-1.amazonaws.com", ("ssmmessages-fips", "us-gov-west-1")),
        ("vpce-0123-abcd.ssmmessages.eu-west-1.vpce.amazonaws.com", ("ssmmessages", "eu-west-1")),
        ("vpce-0123-abcd-eu-west-1a.ssmmessages.eu-west-1.vpce.amazonaws.com", ("ssmmessages", "eu-west-1")),
        ("vpce-0123-abcd.ssmmessages.cn-north-1.vpce.amazonaws.com.cn", ("ssmmessages", "cn-north-1")),
    ],
)
def test_the_message_gateway_and_its_region(host: str, service: tuple[str, str]) -> None:
    found = aws_service(host)
    assert found == AwsService(*service)
    assert found.is_message_gateway


@pytest.mark.parametrize(
    "host",
    [
        "ssm.eu-west-1.amazonaws.com",
        "ssmmessages.amazonaws.com",
        "ssmmessages.s3.eu-west-1.amazonaws.com",
        "ssmmessages.s3-eu-west-1.amazonaws.com",
        "ssmmessages.eu-west-1.elb.amazonaws.com",
        "evil.ssmmessages.eu-west-1.amazonaws.com",
        "evil.ssmmessages.eu-west-1.vpce.amazonaws.com",
    ],
)
def test_hosts_of_aws_that_are_no_message_gateway(host: str) -> None:
    """Some of them are a customer's: what is signed for them would be in that customer's hands."""
    service = aws_service(host)
    assert service is None or not service.is_message_gateway
