"""Some histories of a fleet (`tests.fleet.histories`), with every kind of trouble; and that the checker sees
what it is there for."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.fleet.histories.history import Complaint, History, Message, Seen
from tests.fleet.histories.parts import RESTING, TROUBLES, NodeProcess, Parts
from tests.fleet.postgres import new_postgres


@pytest.mark.fault
@pytest.mark.timeout(240)
def test_what_clients_of_three_nodes_were_told_goes_together_whatever_went_wrong(
    tmp_path: Path, real_postgres: None
) -> None:
    numbers = itertools.count(1).__next__
    with new_postgres() as postgres:
        postgres.start()
        parts = Parts(tmp_path, postgres)
        try:
            parts.start()
            history = History(parts, 1, numbers)
            history.run(iter(TROUBLES))
            time.sleep(RESTING)
            history.check()
        finally:
            parts.stop()
    answered, _, reads, troubles = history.counts
    assert answered >= 10 and reads >= 10 and troubles == len(TROUBLES)


class Told:
    """A history that is written by a test: one user, one node."""

    def __init__(self) -> None:
        self.end: dict[str, Any] = {}
        node = SimpleNamespace(directory=Path("node0"), ask=lambda **_: self.end)
        self.node = cast(NodeProcess, node)
        parts = cast(Parts, SimpleNamespace(nodes=[node]))
        self.history = History(parts, 7, itertools.count(1).__next__)
        self.user = self.history.users[0]
        self.history.users = [self.user]

    def message(self, number: int, uid: int | None, answered: float = 1.0, **more: Any) -> Message:
        made = Message(self.user, number, 0, 0.5, answered, uid, **more)
        self.history.messages.append(made)
        return made

    def tell(self, *messages: tuple[int, Message, str], modseq: int = 5) -> dict[str, Any]:
        listed = [[uid, one.guid, flags, 1] for uid, one, flags in messages]
        return {"messages": listed, "highestmodseq": modseq, "last_uid": 9, "crc": [1, 1]}

    def read(self, told: dict[str, Any], begun: float = 2.0, *, behind: bool = False) -> None:
        self.history.seen.append(Seen(self.node, self.user, begun, begun + 0.5, told, behind))


@pytest.fixture
def told() -> Told:
    return Told()


def test_what_goes_together_is_no_complaint(told: Told) -> None:
    one, _unknown = told.message(1, 1), told.message(2, None)
    one.tried, one.marks = [1, 2], [(1, 1.5)]
    told.read(told.tell((1, one, "w1")))
    told.read(told.tell(), begun=1.5, behind=True)
    told.end = told.tell((1, one, "\\Seen w2"))
    told.history.check()


def test_each_way_in_which_something_does_not_go_together_is_one(told: Told) -> None:
    one, two = told.message(1, 1), told.message(2, None, refused=True)
    one.tried, one.marks = [1, 2], [(2, 1.5)]
    good = told.tell((1, one, "w2"))
    for end, complaint in (
        (told.tell(), "answered, and is lost"),
        (told.tell((2, one, "w2")), "has UID 2"),
        (told.tell((1, one, "w2"), (2, one, "w2")), "twice"),
        (told.tell((1, one, "w1")), "has mark"),
        (told.tell((1, one, "w2"), (2, two, "")), "refused as overtaken"),
        ({**good, "crc": [1, 2]}, "CRC"),
        ({**good, "last_uid": 0}, "last_uid"),
        ({"error": "gone"}, "cannot read"),
    ):
        told.end = end
        with pytest.raises(Complaint, match=complaint):
            told.history.check()
    told.end = good
    for read, complaint in (
        (told.tell(), "answered before"),
        (told.tell((1, one, "w1")), "has mark"),
        (told.tell((1, one, "w2"), modseq=4), "and then less"),
    ):
        told.history.seen.clear()
        told.read(good, begun=0.0)
        told.read(read)
        with pytest.raises(Complaint, match=complaint):
            told.history.check()
