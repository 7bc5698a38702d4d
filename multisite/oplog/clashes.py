"""Clashes of names that were noticed (`multisite.replay.foreseen`) and that no master has settled yet."""

from __future__ import annotations

from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import owner_from

LEFT, CLASH = "left", "clash"
"""Kinds of items of the shadow: by name, mailboxes that only wait for the master; by uniqueid, clashes."""


class Clash(NamedTuple):
    """A mailbox of `owner` that the replica `creator` (id) made, by its operation `number`: it wants the name
    that the mailbox `other` has."""

    owner: Owner
    uniqueid: str
    wanted: str
    creator: str
    number: int
    other: str


def foreseen(log: Log) -> list[Clash]:
    """All clashes that no master has settled yet."""
    noted = log.shadows.of_kind(CLASH)
    found = [Clash(owner_from(text), uniqueid, *value) for text, uniqueid, value in noted]
    return [one for one in found if is_open(log, one.owner, one.creator, one.number)]


def forget_settled(log: Log) -> None:
    """Forget what masters have settled."""
    for kind in (LEFT, CLASH):
        for text, key, value in log.shadows.of_kind(kind):
            owner = owner_from(text)
            if not is_open(log, owner, value[1], value[2]):
                log.shadows.drop_item(owner, kind, key)


def is_open(log: Log, owner: Owner, origin: str, number: int) -> bool:
    """Whether the owner's master has not answered an operation."""
    return bool(log.masters.settled(owner).get(origin, 0) < number)
