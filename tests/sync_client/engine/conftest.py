"""Fixtures: a world per test, without waiting for disks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sync_client.engine.world import ALICE, INBOX, World


@pytest.fixture(autouse=True)
def _no_disk_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is the store's own test; here it would only cost time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Master and replica, both empty."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def alice(world: World) -> World:
    """A master with alice's INBOX of two messages, already on the replica."""
    with world.master.write(ALICE) as writer:
        writer.create(INBOX)
        writer.append(INBOX, [(b"Subject: one\r\n\r\n1\r\n", 1_600_000_000, "")])
        writer.append(INBOX, [(b"Subject: two\r\n\r\n2\r\n", 1_600_000_001, "\\Seen")])
    world.sync()
    return world
