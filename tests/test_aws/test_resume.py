"""ResumeSession, by the real botocore against the sandbox's API."""

from __future__ import annotations

import pytest

from session_manager_plugin.agent import Faults, Sandbox
from session_manager_plugin.aws.session_services import SessionServices
from session_manager_plugin.aws.settings import AwsSettings
from session_manager_plugin.errors import AccessDenied, ConfigurationError, ConnectError, SessionExpired
from tests.support.sandbox_credentials import use_credentials

pytestmark = pytest.mark.usefixtures("clean_environment")


def resumer_of(session_id: str, **settings: str) -> SessionServices:
    """Resumes a session with ``AwsSettings``."""
    return SessionServices(AwsSettings(**settings), session_id, "")


async def test_a_fresh_token_and_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        use_credentials(sandbox, monkeypatch)
        started = await sandbox.start_session()
        resumer = resumer_of(started.session_id, endpoint_url=sandbox.endpoint_url)
        first, second = await resumer.resume_session(), await resumer.resume_session()
        assert len({started.token, first.token, second.token}) == 3
        assert first.url == started.stream_url
        assert first.token not in repr(first)


async def test_a_session_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        use_credentials(sandbox, monkeypatch)
        started = await sandbox.start_session()
        sandbox.terminate(started.session_id)
        with pytest.raises(SessionExpired, match=r"^AWS has ended it: it was terminated, or has timed out$"):
            await resumer_of(started.session_id, endpoint_url=sandbox.endpoint_url).resume_session()
        with pytest.raises(SessionExpired, match=r"^AWS knows no such session any more$"):
            await resumer_of("nobody-1", endpoint_url=sandbox.endpoint_url).resume_session()


async def test_credentials_are_looked_up_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        started = await sandbox.start_session()
        resumer = resumer_of(started.session_id, region="us-east-1", endpoint_url=sandbox.endpoint_url)
        with pytest.raises(ConfigurationError, match=r"no AWS credentials; .*aws sso login"):
            await resumer.resume_session()
        use_credentials(sandbox, monkeypatch)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONG")
        with pytest.raises(AccessDenied):
            await resumer.resume_session()
        use_credentials(sandbox, monkeypatch)
        assert (await resumer.resume_session()).token


async def test_what_the_service_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox(faults=Faults(refuse_resume=1)) as sandbox:
        use_credentials(sandbox, monkeypatch)
        started = await sandbox.start_session()
        resumer = resumer_of(started.session_id, endpoint_url=sandbox.endpoint_url)
        with pytest.raises(AccessDenied, match=r"ExpiredTokenException.*run aws sso login"):
            await resumer.resume_session()
        assert (await resumer.resume_session()).token


async def test_an_endpoint_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sandbox() as sandbox:
        use_credentials(sandbox, monkeypatch)
        with pytest.raises(ConnectError, match="check the network"):
            await resumer_of("s", endpoint_url="http://127.0.0.1:1").resume_session()
