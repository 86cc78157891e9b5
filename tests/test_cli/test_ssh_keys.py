"""Keys for EC2 Instance Connect, and the file of a private key."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from session_manager_plugin.agent import Sandbox
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.cli import ssh_keys
from session_manager_plugin.cli.environment import Environment
from session_manager_plugin.cli.ssh_keys import KeyFile, accepted_key, key_path, make_key_pair, read_public_key
from session_manager_plugin.errors import AccessDenied, ConfigurationError, ConnectError, UsageError
from tests.support.sandbox_credentials import use_credentials
from tests.support.waiting import wait_until

WEB = "i-0a1b2c3d4e5f60001"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl bob@home"


def test_a_key_pair() -> None:
    pair = make_key_pair()
    assert pair.private.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    public = load_pem_private_key(pair.private, None).public_key()
    assert public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() == pair.public
    assert pair.private.decode() not in repr(pair)


def test_a_public_key_is_read(tmp_path: Path) -> None:
    file = tmp_path / "key.pub"
    file.write_text(f"{PUBLIC}\n")
    assert read_public_key(str(file)) == PUBLIC


@pytest.mark.parametrize(
    "text",
    ["-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n", "", "hello", f"{PUBLIC}\n{PUBLIC}\n", f"ssh-rsa {'A' * 5000}"],
)
def test_what_is_no_public_key(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(UsageError, match="is no public key") as raised:
        read_public_key(str(file))
    assert "b3Bl" not in str(raised.value)


def test_a_file_that_is_absent(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="/absent cannot be read: No such file"):
        read_public_key(str(tmp_path / "absent"))


def test_the_file_of_a_private_key(tmp_path: Path) -> None:
    path = tmp_path / "smp" / "ssh" / "key"
    file = KeyFile(path)
    file.write(b"secret")
    assert path.read_bytes() == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    file.remove()
    assert not os.listdir(path.parent)
    file.remove()


def test_a_file_that_another_connection_has_replaced_stays(tmp_path: Path) -> None:
    first, second = KeyFile(tmp_path / "key"), KeyFile(tmp_path / "key")
    first.write(b"one")
    second.write(b"two")
    first.remove()
    assert (tmp_path / "key").read_bytes() == b"two"
    second.remove()
    assert not os.listdir(tmp_path)


def test_a_place_where_no_file_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"private key .* cannot be written"):
        KeyFile(tmp_path / "file" / "key").write(b"secret")
    with pytest.raises(ConfigurationError, match="set HOME"):
        key_path(Environment(variables={}), WEB, "bob")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(variables={"HOME": str(tmp_path)})


async def test_a_new_key_is_accepted_before_ssh_can_find_it(
    monkeypatch: pytest.MonkeyPatch, environment: Environment
) -> None:
    path = key_path(environment, WEB, "bob")
    async with Sandbox() as sandbox:
        settings = settings_of(sandbox, monkeypatch)
        async with accepted_key(environment, settings, WEB, "bob", None) as pushing:
            await wait_until(lambda: bool(sandbox.public_keys) or pushing.done())
            await pushing
            (key,) = sandbox.public_keys
            private = load_pem_private_key(path.read_bytes(), None)
        assert not path.exists()
    assert (key.instance_id, key.user) == (WEB, "bob")
    assert private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() == key.key


async def test_the_file_exists_as_long_as_the_key_is_accepted(
    monkeypatch: pytest.MonkeyPatch, environment: Environment
) -> None:
    monkeypatch.setattr(ssh_keys, "KEY_LIFETIME", 0.0)
    path = key_path(environment, WEB, "bob")
    async with (
        Sandbox() as sandbox,
        accepted_key(environment, settings_of(sandbox, monkeypatch), WEB, "bob", None) as pushing,
    ):
        await pushing
        await wait_until(lambda: not path.exists())


@pytest.mark.parametrize(("target", "user"), [("mi-0a1b2c3d4e5f60004", "bob"), (WEB, "../bob"), (WEB, "")])
async def test_what_instance_connect_cannot_serve(environment: Environment, target: str, user: str) -> None:
    with pytest.raises(UsageError, match="EC2 Instance Connect"):
        async with accepted_key(environment, AwsSettings(), target, user, PUBLIC):
            pass


async def test_a_refusal(monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    async with Sandbox() as sandbox:
        settings = settings_of(sandbox, monkeypatch)
        with pytest.raises(ConnectError, match=r"SendSSHPublicKey failed: EC2InstanceNotFoundException.*--region"):
            async with accepted_key(environment, settings, "i-00000000", "bob", PUBLIC) as pushing:
                await pushing
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN00000")
        with pytest.raises(AccessDenied):
            async with accepted_key(environment, settings_of(sandbox), WEB, "bob", PUBLIC) as pushing:
                await pushing


def settings_of(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch | None = None) -> AwsSettings:
    """Settings that reach the sandbox; with ``monkeypatch`` its credentials are put into the environment."""
    if monkeypatch is not None:
        use_credentials(sandbox, monkeypatch)
    return AwsSettings(sandbox.region, endpoint_url=sandbox.endpoint_url)


async def test_leaving_early(environment: Environment) -> None:
    """The call goes on in its thread, but nothing is written any more."""
    settings = AwsSettings("eu-west-1", endpoint_url="http://127.0.0.1:9")
    async with accepted_key(environment, settings, WEB, "bob", None) as pushing:
        await asyncio.sleep(0)
    assert pushing.cancelled()
    assert not key_path(environment, WEB, "bob").exists()
