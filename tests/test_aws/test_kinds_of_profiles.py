"""Profiles of every kind, as botocore reads them from the AWS CLI's files: what goes wrong, and what is said of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path

import pytest

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.aws.aws_errors import aws_failure
from session_manager_plugin.aws.botocore_session import find_frozen_credentials
from session_manager_plugin.aws.profile import login_profile, mfa_serial
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.aws.systems_manager import SystemsManager
from session_manager_plugin.errors import ConfigurationError
from tests.support.raw_server import Peer, RawServer, Request, http_answer, read_request

ROLE, DEVICE = "arn:aws:iam::111122223333:role/r", "arn:aws:iam::111122223333:mfa/alice"
START_URL = "https://corp.awsapps.com/start"
LOGIN = "arn:aws:iam::111122223333:user/alice"
CONFIG = f"""\
[profile login]
login_session = {LOGIN}
[profile sso]
sso_session = corp
sso_account_id = 111122223333
sso_role_name = dev
[profile "my team"]
sso_session = corp
sso_account_id = 111122223333
sso_role_name = dev
[sso-session corp]
sso_start_url = {START_URL}
sso_region = us-east-1
[profile legacy]
sso_start_url = https://old.awsapps.com/start
sso_region = us-east-1
sso_account_id = 111122223333
sso_role_name = dev
[profile of-sso]
role_arn = {ROLE}
source_profile = sso
[profile failing]
credential_process = sh -c "echo the vault is locked >&2; exit 3"
[profile absent]
credential_process = /nonexistent/helper
[profile garbled]
credential_process = echo hello
[profile expired]
credential_process = cat {{home}}/expired.json
[profile process]
credential_process = cat {{home}}/valid.json
[profile loop]
role_arn = {ROLE}
source_profile = loop-2
[profile loop-2]
role_arn = {ROLE}
source_profile = loop
[profile of-nobody]
role_arn = {ROLE}
source_profile = nobody
[profile no-token]
role_arn = {ROLE}
web_identity_token_file = /nonexistent/token
[profile keys]
aws_access_key_id = {{key}}
aws_secret_access_key = secret
[profile role]
role_arn = {ROLE}
source_profile = keys
[profile mfa]
role_arn = {ROLE}
source_profile = keys
mfa_serial = {DEVICE}
[profile of-mfa]
role_arn = {ROLE}2
source_profile = mfa
[profile user-mfa]
aws_access_key_id = AKIAUNUSED
mfa_serial = {DEVICE}
"""


def keys(expiration: str) -> str:
    """What a credential process prints."""
    return json.dumps(
        {"Version": 1, "AccessKeyId": "AKIAP", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": expiration}
    )


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user of the AWS CLI, with a login that has expired."""
    for name in os.environ:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    configure(tmp_path, "AKIAXXXXXXXXXXXXXXXX")
    (tmp_path / "expired.json").write_text(keys("2020-01-01T00:00:00Z"))
    (tmp_path / "valid.json").write_text(keys("2100-01-01T00:00:00Z"))
    log_in(tmp_path, "2020-01-01T00:00:00Z")
    return tmp_path


def log_in(home: Path, expiration: str) -> None:
    """Keep the token of `aws sso login` as the AWS CLI does."""
    token = {"startUrl": START_URL, "region": "us-east-1", "accessToken": "sso-token", "expiresAt": expiration}
    cache = home / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (cache / f"{hashlib.sha1(b'corp').hexdigest()}.json").write_text(json.dumps(token))


def configure(home: Path, key: str) -> None:
    """Write the config file; ``key`` is the access key of the profile ``keys``."""
    (home / ".aws").mkdir(exist_ok=True)
    (home / ".aws" / "config").write_text(CONFIG.replace("{home}", str(home)).replace("{key}", key))


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ("login", "profiles of aws login need an extra package; install python-session-manager-plugin[login]"),
        ("sso", "the SSO login has expired or was never made; run aws sso login --profile sso"),
        ("my team", "the SSO login has expired or was never made; run aws sso login --profile 'my team'"),
        ("legacy", "the SSO login has expired or was never made; run aws sso login --profile legacy"),
        ("of-sso", "the SSO login has expired or was never made; run aws sso login --profile sso"),
        ("failing", "the credential process failed: the vault is locked; check the credential_process of the profile"),
        ("absent", "/nonexistent/helper: No such file or directory; check the credential_process and the files of"),
        ("garbled", "a credential process or a cache file of the AWS CLI holds no JSON; run aws sts get-caller-iden"),
        ("expired", "the credentials of the profile have expired; renew them where they come from"),
        ("loop", "['loop', 'loop-2']; repair the AWS config file"),
        ("of-nobody", 'The source_profile "nobody" referenced in the profile "of-nobody" does not exist; repair the'),
        ("no-token", "/nonexistent/token: No such file or directory; check the credential_process and the files of"),
        (
            "mfa",
            f"the profile needs an MFA code of {DEVICE}; run smp ls --profile mfa at a terminal, which asks for it",
        ),
        ("of-mfa", f"the profile needs an MFA code of {DEVICE}; run smp ls --profile of-mfa at a terminal"),
    ],
)
def test_what_is_said_of_a_profile(profile: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if profile == "login":
        monkeypatch.setattr("botocore.credentials.EC", None)  # as without botocore[crt]
    settings = AwsSettings(profile=profile)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - of many classes
        find_frozen_credentials(settings)
    failure = aws_failure(raised.value, "StartSession failed", permission="ssm:StartSession", profile=profile)
    assert sentence in str(failure)
    assert "\n" not in str(failure)


def test_the_profile_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "of-sso")
    assert login_profile(None, os.environ) == "sso"
    monkeypatch.setenv("AWS_DEFAULT_PROFILE", "keys")  # to botocore it comes first
    assert login_profile(None, os.environ) == "keys"
    assert login_profile("login", os.environ) == "login"
    assert login_profile(None, {"HOME": os.environ["HOME"]}) is None


@pytest.mark.parametrize(
    ("profile", "serial"),
    [("mfa", DEVICE), ("of-mfa", DEVICE), ("role", None), ("user-mfa", None), ("loop", None), (None, None)],
)
def test_which_profiles_need_a_code(profile: str | None, serial: str | None) -> None:
    assert mfa_serial(profile, os.environ) == serial


def test_a_credential_process_that_works() -> None:
    assert find_frozen_credentials(AwsSettings(profile="process")).access_key == "AKIAP"


def test_a_login_of_the_aws_cli(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore takes the credentials from the AWS CLI's cache; `botocore[crt]` renews them."""
    monkeypatch.setattr("botocore.credentials.EC", object())
    cache = home / ".aws" / "login" / "cache"
    cache.mkdir(parents=True)
    access = {"accessKeyId": "AKIAL", "secretAccessKey": "s", "sessionToken": "t", "accountId": "111122223333"}
    token = {"accessToken": {**access, "expiresAt": "2100-01-01T00:00:00Z"}, "refreshToken": "r", "dpopKey": "k"}
    file = cache / f"{hashlib.sha256(LOGIN.encode()).hexdigest()}.json"
    file.write_text(json.dumps({**token, "clientId": "arn:aws:signin:::devtools/same-device"}))
    assert find_frozen_credentials(AwsSettings(profile="login")).access_key == "AKIAL"
    file.unlink()
    with pytest.raises(Exception, match="login") as raised:
        find_frozen_credentials(AwsSettings(profile="login"))
    failure = aws_failure(raised.value, "StartSession failed", permission="ssm:StartSession", profile="login")
    assert str(failure).endswith("the login has expired or was never made; run aws login --profile login")


async def test_an_sso_login(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Request] = []

    async def portal(peer: Peer) -> None:
        requests.append(await read_request(peer.reader))
        keys = {"accessKeyId": "AKIAS", "secretAccessKey": "s", "sessionToken": "t", "expiration": 4102444800000}
        peer.write(http_answer(200, body=json.dumps({"roleCredentials": keys}).encode()))
        peer.end()

    log_in(home, "2100-01-01T00:00:00Z")
    # botocore looks up the home once, when it is imported.
    monkeypatch.setattr("botocore.tokens.SSOTokenProvider._SSO_TOKEN_CACHE_DIR", str(home / ".aws" / "sso" / "cache"))
    async with RawServer(portal) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSO", f"http://127.0.0.1:{server.port}")
        found = await asyncio.to_thread(find_frozen_credentials, AwsSettings(profile="sso"))
    assert found.access_key == "AKIAS"
    assert "role_name=dev" in requests[0].line
    assert requests[0].values("x-amz-sso_bearer_token") == ["sso-token"]


async def test_roles_are_kept_where_the_aws_cli_keeps_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        configure(home, sandbox.access_key_id)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sandbox.endpoint_url)

        def settings(profile: str) -> AwsSettings:
            return AwsSettings(sandbox.region, profile, sandbox.endpoint_url)

        assert (await SystemsManager(settings("role")).start_session("local")).token
        (kept,) = (home / ".aws" / "cli" / "cache").iterdir()
        credentials = json.loads(kept.read_bytes())["Credentials"]
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
        started = SystemsManager(settings("role"))
        assert (await started.start_session("local")).token
        assert credentials["AccessKeyId"].startswith("ASIA")


async def test_a_code_that_was_given_elsewhere_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session whose credentials have expired goes on when the AWS CLI or smp has asked for a new code."""
    async with Sandbox() as sandbox:
        configure(home, sandbox.access_key_id)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sandbox.endpoint_url)
        of_session = AwsSettings(sandbox.region, "mfa", sandbox.endpoint_url)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="needs an MFA code"):
                await SystemsManager(of_session).start_session("local")
        elsewhere = AwsSettings(sandbox.region, "mfa", sandbox.endpoint_url)
        asked: list[str] = []

        def ask(serial: str) -> str:
            asked.append(serial)
            return "123456"

        elsewhere.credentials.ask = ask
        assert (await SystemsManager(elsewhere).start_session("local")).token
        assert asked == [DEVICE]
        assert (await SystemsManager(of_session).start_session("local")).token
