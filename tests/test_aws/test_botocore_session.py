"""botocore's sessions and clients as this package makes them."""

from __future__ import annotations

import subprocess
import sys

import botocore.session
import pytest
from botocore.exceptions import UnknownServiceError

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


_LISTING = """
import os
from session_manager_plugin.aws.botocore_session import create_session
from session_manager_plugin.aws.settings import AwsSettings

def listdir(path, list_directory=os.listdir):
    print(os.path.basename(path))
    return list_directory(path)

session = create_session(AwsSettings(region="eu-west-1"))
os.listdir = listdir
session.create_client("ssm", aws_access_key_id="unused", aws_secret_access_key="unused")
"""


def test_a_client_is_made_without_listing_all_services() -> None:
    """botocore lists the directories of 400 services for that, which takes as long as the rest of the client. A process
    of its own, since botocore keeps the list."""
    listed = subprocess.check_output([sys.executable, "-c", _LISTING], text=True, timeout=60).split()
    assert set(listed) == {"ssm"}


def test_all_services_are_known_by_name() -> None:
    ours, botocores = create_session(AwsSettings()), botocore.session.Session()
    assert list(ours.get_available_services()) == botocores.get_available_services()
    assert "s3" in ours.get_available_services()
    with pytest.raises(UnknownServiceError, match=r"'s4'.*\bs3\b"):
        ours.create_client("s4", region_name="eu-west-1")
