"""A fleet whose objects are on a real S3 server, SeaweedFS, which is killed, comes back, and forgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.errors import CyrusSyncError, MailboxLocked
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.settler import Settler
from cyrus_sync.objects.s3 import S3Objects
from cyrus_sync.objects.store import Content, Put, check_back
from tests.common.stores.conformance_nodes import append
from tests.common.stores.tools import ALICE, INBOX, bodies_in, message, random_message
from tests.fleet.nodes import Fleet
from tests.objects.seaweed import Seaweed, bucket, running

LARGE = 300_000
"""Octets of a message that is an object before its commit."""


@pytest.fixture
def seaweed(tmp_path: Path) -> Iterator[Seaweed]:
    (tmp_path / "weed").mkdir()
    with running(tmp_path / "weed") as server:
        yield server


def objects_of(server: Seaweed) -> S3Objects:
    return S3Objects(bucket(server.endpoint, "fleet"), patience=0.5)


def append_large(node, number: int) -> None:
    with node.write(ALICE) as writer:
        writer.append(INBOX, [(random_message(number, LARGE), 1, "")])


@pytest.mark.covers("A fleet: losing a part of it", "5")
def test_a_fleet_on_a_real_s3_server_that_is_killed_and_comes_back(tmp_path, database, seaweed):
    fleet = Fleet(tmp_path, database, objects=objects_of(seaweed))
    here = fleet.node("here")
    append(here, 1)
    append_large(here, 2)
    settled = Settler(here.home.journal, here.home.objects).settle(ALICE)
    assert settled is not None and settled.rows == here.home.journal.head(ALICE).seq
    there = fleet.node("there")
    assert bodies_in(there) == [message(1), random_message(2, LARGE)]
    assert there.home.tallies.spent("reads objects").octets > LARGE
    seaweed.kill()
    append(here, 3)
    with pytest.raises(MailboxLocked):
        append_large(here, 4)
    assert bodies_in(here)[::2] == [message(1), message(3)], "what is in its cache"
    cold = fleet.node("cold")
    with pytest.raises(Away, match="s3://"):
        bodies_in(cold)
    with pytest.raises(CyrusSyncError):
        Settler(here.home.journal, here.home.objects).settle(ALICE)
    seaweed.start()
    append_large(there, 5)
    everything = [message(1), random_message(2, LARGE), message(3), random_message(5, LARGE)]
    for node in (cold, here, there):
        assert bodies_in(node) == everything
    assert Settler(here.home.journal, here.home.objects).settle(ALICE)
    assert bodies_in(fleet.node("later")) == everything
    for node in (here, there, cold):
        node.close()


class Forgetful(S3Objects):
    """A server whose disk loses what it has acknowledged, with its power, before that is read back."""

    def __init__(self, server: Seaweed, lose: Callable[[], None]) -> None:
        super().__init__(bucket(server.endpoint, "fleet"), patience=0.5)
        self._lose = lose

    def put(self, key: str, content: Content, *, check: bool = False) -> Put:
        done = super().put(key, content)
        self._lose()
        if check:
            check_back(self, key, done)
        return done


@pytest.mark.covers("A fleet: losing a part of it", "6")
def test_what_a_real_s3_server_has_acknowledged_and_forgotten_is_still_in_the_journal(
    tmp_path, database, seaweed
):
    fleet = Fleet(tmp_path, database, objects=objects_of(seaweed))
    here = fleet.node("here")
    append(here, 1)
    volumes = [*(tmp_path / "weed").glob("*.dat"), *(tmp_path / "weed").glob("*.idx")]
    sizes = {path: path.stat().st_size for path in volumes}

    def lose() -> None:
        seaweed.kill()
        for path in (*(tmp_path / "weed").glob("*.dat"), *(tmp_path / "weed").glob("*.idx")):
            with path.open("r+b") as file:
                file.truncate(sizes.get(path, 0))
        seaweed.start()

    rows = here.home.journal.head(ALICE).seq
    with pytest.raises(CyrusSyncError):
        Settler(here.home.journal, Forgetful(seaweed, lose)).settle(ALICE)
    assert here.home.journal.head(ALICE).base_seq == 0, "nothing of it is settled"
    assert bodies_in(fleet.node("there")) == [message(1)]
    settled = Settler(here.home.journal, here.home.objects).settle(ALICE)
    assert settled is not None and settled.rows == rows
    assert bodies_in(fleet.node("later")) == [message(1)]
    here.close()
