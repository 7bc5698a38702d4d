"""What every test may count on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _umask_of_its_own() -> Iterator[None]:
    """Daemons whose ``main`` runs within a test set the umask; the next test shall not see it."""
    before = os.umask(0o022)
    yield
    os.umask(before)
