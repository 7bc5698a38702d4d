"""The end of a history: everybody tells everybody until nobody has anything to tell, and people settle what
is theirs to settle."""

from __future__ import annotations

import itertools
from pathlib import Path
from random import Random
from typing import Protocol

from cyrus_sync.common.names import root_of
from cyrus_sync.multisite.errors import TooLate
from cyrus_sync.multisite.giving_up import lost
from cyrus_sync.multisite.importing import Import
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.objects import Object
from cyrus_sync.multisite.replay.merging import may_merge
from cyrus_sync.multisite.working import Work
from tests.multisite.disasters import Struck, make_anew
from tests.multisite.world import Site, imported

ROUNDS = 40


class Ending(Struck, Protocol):
    """What the end may know of the history."""

    chance: Random


def settle(history: Ending) -> None:
    """All sites come to the same."""
    for source in history.sites:
        _forget_beliefs(history, source)
    exchange_until_quiet(history)
    for _ in range(12):
        if not any(_settle_at(history, site) for site in history.sites):
            break
        exchange_until_quiet(history)


def exchange_until_quiet(history: Ending) -> None:
    """Packets go wherever they go in this history until nobody has anything to tell; AssertionError if that
    never is. Who is being restored may be told what builds on what it has lost: it keeps that until it has
    its answers. What nobody has any more is given up."""
    kept: dict[str, list[Path]] = {site.name: [] for site in history.sites}
    for turn in range(ROUNDS):
        sent = 0
        for source, target in itertools.permutations(history.sites, 2):
            try:
                paths = source.export_to(target, history.directory / "travel")
            except TooLate as error:
                history.story.append(f"{source.name}: {error}")
                sent += make_anew(history, target, source, force=turn > 3)
                continue
            sent += len(paths)
            kept[target.name] = imported(target, kept[target.name], paths)
        if not sent:
            assert not any(kept.values()), kept
            return
        if turn > len(history.sites) and "rotting" in history.ways:
            for site in history.sites:
                _give_up(history, site)
    raise AssertionError(f"there is still something to tell after {ROUNDS} rounds")


def _forget_beliefs(history: Ending, source: Site) -> None:
    """Whatever was lost is sent again."""
    for target in history.sites:
        if target is source:
            continue
        with target.member() as member:
            row, sealed = member.log.epochs.row(member.family.self_id), member.sealed
        with source.member() as member, member.log.db.transaction():
            replica = member.family.find(target.name).id
            if sealed:  # its own operations may be others than those of the same numbers
                row[replica] = min(row.get(replica, 0), member.log.epochs.row(replica).get(replica, 0))
            member.log.epochs.put(replica, row)


def _give_up(history: Ending, site: Site) -> None:
    """Messages that nobody has any more."""
    with site.member() as member:
        gone = [one.guid for one in lost(member) if not one.silent]
        if gone and not member.sealed:
            Work(member, site.heard.append).give_up(gone)
            history.story.append(f"{site.name} gives up {[guid.hex()[:8] for guid in gone]}")


def _settle_at(history: Ending, site: Site) -> bool:
    """Settle one conflict that a site sees, wherever that is to be done."""
    with site.member() as member:
        things = member.log.objects.in_conflict()
        if not things:
            return False
        thing = things[0]
        work = Work(member, site.heard.append)
        if history.chance.random() < 0.5 and may_merge(member.log, thing) and work.merge([thing]):
            history.story.append(f"{site.name} merges {thing.local}")
            return True
    return any(_rename(other, thing) for other in history.sites)


def _rename(site: Site, thing: Object) -> bool:
    """Rename a mailbox in conflict, at the site that made it, to a name that nobody has."""
    with site.member() as member:
        if member.family.self_id != thing.creator:
            return False
    with site.store() as store:
        owner = store.owner_of_uniqueid(thing.uniqueid) or thing.owner
        with store.read(owner) as reader:
            state = reader.mailbox_by_id(thing.uniqueid)
        if state is None:
            return False
        new = f"{thing.wanted}_{site.name}_{thing.uniqueid[:4]}"
        if state.name == root_of(owner):
            new = f"{state.name}.former_{site.name}_{thing.uniqueid[:4]}"
        store.rename(state.name, new, log=True)
    with site.member() as member:
        member.record()
        _with_names(member)
    return True


def _with_names(member: Member) -> None:
    """Give back the names that a rename here has freed."""
    Import(member, lambda _path: None, lambda _line: None).run([])
