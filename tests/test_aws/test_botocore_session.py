"""botocore's sessions and clients as this package makes them."""

from __future__ import annotations

import botocore.session
import pytest

from session_manager_plugin.aws.botocore_session import create_session
from session_manager_plugin.aws.settings import AwsSettings


@pytest.mark.slow
@pytest.mark.parametrize("service", ["kms", "ssm", "sts", "sso", "sso-oidc"])
@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1", "a-region-nobody-knows-1"])
def test_the_addresses_are_botocores_though_most_are_forgotten(service: str, region: str) -> None:
    """The addresses of all services take 6 MB; what is left must give the same for those that are called."""
    ours, everything = create_session(AwsSettings()), botocore.session.Session()
    assert len(ours.get_available_services()) == len(everything.get_available_services())
    clients = [session.create_client(service, region_name=region) for session in (ours, everything)]
    urls, regions = ([getattr(client.meta, fact) for client in clients] for fact in ("endpoint_url", "region_name"))
    assert urls[0] == urls[1]
    assert regions[0] == regions[1]
    for client in clients:
        client.close()
