"""Fixtures of a real pair; the ``conftest.py`` of whoever uses them names them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sync_client.real import Pair, Replica, paired, serving_replica


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A replica that listens, for all tests of a module in turn."""
    with serving_replica(tmp_path_factory.mktemp("replica")) as made:
        yield made


@pytest.fixture
def pair(tmp_path: Path, replica: Replica) -> Iterator[Pair]:
    """A new master beside the replica, which is empty."""
    with paired(tmp_path, replica) as made:
        yield made
