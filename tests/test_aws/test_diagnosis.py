"""What botocore finds on a machine, and what is told of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from botocore.exceptions import (
    ConfigParseError,
    HTTPClientError,
    LoginTokenLoadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    SSLError,
    SSOTokenLoadError,
)

from session_manager_plugin.aws.diagnosis import find_credentials, find_endpoints
from session_manager_plugin.aws.region import Region, find_region
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli.probe.machine import explain
from session_manager_plugin.errors import ConfigurationError
from session_manager_plugin.utils.logging import redact


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The AWS config file of a machine that has nothing else."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "config"


def test_where_the_region_comes_from(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_region(AwsSettings()) is None
    config.write_text("[default]\nregion = eu-north-1\n[profile other]\nregion = eu-south-1\n")
    assert find_region(AwsSettings()) == Region("eu-north-1", "profile default")
    assert find_region(AwsSettings(profile="other")) == Region("eu-south-1", "profile other")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-1")
    assert find_region(AwsSettings()) == Region("us-west-1", "AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert find_region(AwsSettings(profile="other")) == Region("us-west-2", "AWS_REGION")
    assert find_region(AwsSettings(region="us-east-2")) == Region("us-east-2", "--region")


def test_where_the_credentials_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_credentials(AwsSettings()) is None
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = AKIAFILE\naws_secret_access_key = secret\n")
    found = find_credentials(AwsSettings())
    assert found is not None
    assert (found.key_id, found.source, found.profile) == ("AKIAFILE", "the shared credentials file", None)
    assert "secret" not in repr(found)
    (tmp_path / "credentials").write_text("[team]\naws_access_key_id = AKIATEAM\naws_secret_access_key = secret\n")
    found = find_credentials(AwsSettings(profile="team"))
    assert found is not None
    assert (found.key_id, found.profile) == ("AKIATEAM", "team")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    found = find_credentials(AwsSettings())
    assert found is not None
    assert (found.key_id, found.source, found.profile) == ("AKIAENV", "environment variables", None)


@pytest.mark.parametrize(
    ("region", "variables", "ssm", "ssmmessages"),
    [
        ("eu-west-1", [], "ssm.eu-west-1.amazonaws.com", "ssmmessages.eu-west-1.amazonaws.com"),
        ("eu-west-1", ["DUALSTACK"], "ssm.eu-west-1.api.aws", "ssmmessages.eu-west-1.api.aws"),
        ("us-west-2", ["FIPS"], "ssm-fips.us-west-2.amazonaws.com", "ssmmessages-fips.us-west-2.amazonaws.com"),
        ("us-west-2", ["FIPS", "DUALSTACK"], "ssm-fips.us-west-2.api.aws", "ssmmessages-fips.us-west-2.api.aws"),
        ("cn-north-1", [], "ssm.cn-north-1.amazonaws.com.cn", "ssmmessages.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", [], "ssm.us-gov-west-1.amazonaws.com", "ssmmessages.us-gov-west-1.amazonaws.com"),
        ("us-iso-east-1", [], "ssm.us-iso-east-1.c2s.ic.gov", "ssmmessages.us-iso-east-1.c2s.ic.gov"),
    ],
)
def test_endpoints(
    monkeypatch: pytest.MonkeyPatch, region: str, variables: list[str], ssm: str, ssmmessages: str
) -> None:
    for name in variables:
        monkeypatch.setenv(f"AWS_USE_{name}_ENDPOINT", "true")
    endpoints = find_endpoints(AwsSettings(), region)
    assert list(endpoints) == ["ssm", "ssmmessages", "kms", "sts"]
    assert endpoints["ssm"] == f"https://{ssm}"
    assert endpoints["ssmmessages"] == f"https://{ssmmessages}"


def test_endpoints_that_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSMMESSAGES", "https://messages.test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "https://keys.test")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "https://variable.test")
    endpoints = find_endpoints(AwsSettings(endpoint_url="https://option.test"), "eu-west-1")
    assert endpoints == {
        "ssm": "https://option.test",
        "ssmmessages": "https://messages.test",
        "kms": "https://keys.test",
        "sts": "https://sts.eu-west-1.amazonaws.com",
    }
    assert find_endpoints(AwsSettings(), "eu-west-1", ["ssm"]) == {"ssm": "https://variable.test"}
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert find_endpoints(AwsSettings(), "eu-west-1")["ssmmessages"] == "https://ssmmessages.eu-west-1.amazonaws.com"


def test_a_region_that_nobody_knows() -> None:
    with pytest.raises(ConfigurationError, match="no endpoint of ssmmessages is known in the region nowhere"):
        find_endpoints(AwsSettings(), "nowhere", ["ssmmessages"])


def sso_profile(config: Path) -> AwsSettings:
    """A profile with an SSO login that nobody has made."""
    config.write_text(
        "[profile team]\nregion = eu-west-1\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n"
        "[sso-session corp]\nsso_region = eu-west-1\nsso_start_url = https://corp.awsapps.test/start\n"
    )
    return AwsSettings(profile="team")


def test_an_sso_login_that_is_missing(config: Path) -> None:
    settings = sso_profile(config)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is botocore's business
        find_credentials(settings)
    detail, advice = explain(raised.value, settings)
    assert "login has expired or was never made" in detail
    assert advice == "run aws sso login --profile team"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (SSOTokenLoadError(error_msg="gone"), "run aws sso login"),
        (ProfileNotFound(profile="x"), "run aws configure list-profiles to see the profiles"),
        (PartialCredentialsError(provider="env", cred_var="y"), "set the missing one too, or remove the others"),
        (ConfigParseError(path="config"), "repair the AWS config file"),
        (ConfigurationError("asks"), "run `aws sts get-caller-identity` once: it asks, and keeps the answer"),
        (NoCredentialsError(), "set AWS_PROFILE, give --profile, or run aws configure or aws sso login"),
        (LoginTokenLoadError(error_msg="gone"), "run aws login"),
        (json.JSONDecodeError("Expecting value", "", 0), "run aws sts get-caller-identity to see which"),
    ],
)
def test_what_to_do(error: Exception, advice: str) -> None:
    assert explain(error, AwsSettings())[1] == advice


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("ExpiredTokenException", "the credentials have expired: run aws sso login"),
        ("InvalidSignatureException", "check the secret key, and this machine's clock"),
        ("AccessDeniedException", "need the permission for StartSession"),
        ("TargetNotConnected", "AmazonSSMManagedInstanceCore"),
        ("ThrottlingException", "try again in a minute"),
        ("ValidationException", "check the target and the endpoint"),
    ],
)
def test_what_to_do_when_a_call_is_refused(code: str, advice: str) -> None:
    from botocore.exceptions import ClientError

    error = ClientError({"Error": {"Code": code, "Message": "no"}}, "StartSession")
    detail, found = explain(error, AwsSettings())
    assert detail == f"StartSession was refused: {code}: no"
    assert advice in found


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            json.JSONDecodeError("Expecting value", "", 0),
            "a credential process or a cache file of the AWS CLI holds no JSON",
        ),
        (
            SSLError(endpoint_url="https://ssm.x", error="[SSL: ODD] odd thing (_ssl.c:4154)"),
            "SSL validation failed for https://ssm.x odd thing",
        ),
        (
            ProxyConnectionError(proxy_url="http://***:***@x/Secret1@proxy:3128"),
            'Failed to connect to proxy URL: "http://***:***@proxy:3128"',
        ),
    ],
)
def test_no_codes_and_no_secrets_of_libraries(error: Exception, told: str) -> None:
    assert explain(error, AwsSettings())[0] == told


@pytest.mark.parametrize("character", ["/", "?", "#"])
def test_a_password_that_ends_the_proxys_authority(
    config: Path, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    """botocore takes its beginning for a port, and repeats it."""
    config.write_text(
        "[profile role]\nregion = eu-west-1\nrole_arn = arn:aws:iam::123456789012:role/x\nsource_profile = keys\n"
        "[profile keys]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = 0123456789\n"
    )
    monkeypatch.setenv("HTTPS_PROXY", f"http://bob:Word1{character}Word2@127.0.0.1:3128")
    settings = AwsSettings(profile="role")
    with pytest.raises(HTTPClientError) as raised:
        find_credentials(settings)

    detail, advice = explain(raised.value, settings)
    assert detail == "the proxy of HTTPS_PROXY cannot be used: its user or password holds / ? or #"
    assert advice == "percent-encode them as %2F %3F %23"
    assert "Word1" in str(raised.value)
    assert "Word1" not in redact(str(raised.value))
