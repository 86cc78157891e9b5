"""What the tests of the communicator share."""

from __future__ import annotations

import pytest

from tests.support.certificates import Authority


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own proxies are not the tests'."""
    for name in ("ws", "wss", "http", "https", "socks", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that nobody trusts unless told to."""
    return Authority(tmp_path_factory.mktemp("authority"))
