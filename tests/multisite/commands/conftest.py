from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.multisite.commands.kit import Server, family
from tests.ports import free_port


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two replicas, `bangalore` and `boston_hub`, of the family `dev`; nobody receives yet."""
    bangalore, boston_hub = family(tmp_path, "bangalore", "boston_hub", port=free_port(), called="dev")
    try:
        yield bangalore, boston_hub
    finally:
        bangalore.stop()
        boston_hub.stop()


@pytest.fixture
def three(tmp_path: Path) -> tuple[Server, Server, Server]:
    """Replicas of the family `mail`, with a user bob and his INBOX everywhere."""
    boston, sanfran, bangalore = family(tmp_path, "boston_hub", "sanfran_hub", "bangalore")
    return boston, sanfran, bangalore
