"""Fixtures for the tests of the communicator."""

from __future__ import annotations

import pytest

from tests.support.certificates import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that nobody trusts unless told to."""
    return Authority(tmp_path_factory.mktemp("authority"))
