"""What befalls the sites of a history: fires, backups, restores, bad disks, and being made anew."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Protocol

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_kept
from cyrus_sync.multisite.creation import replace_replica, snapshot_for
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import MultisiteError, TooLate, WentBack
from cyrus_sync.multisite.restoring import begin
from tests.multisite.world import Site


class Struck(Protocol):
    """What a disaster may know of the history that it strikes."""

    chance: Random
    directory: Path
    sites: list[Site]
    owners: list[Owner]
    ways: frozenset[str]
    accepted: dict[bytes, str]
    story: list[str]
    unaware: list[Site]


# -- fires


def go_back(history: Struck, site: Site) -> None:
    """A backup is made; or the site burns down, and comes back from the one that there is. Sometimes the fire
    takes other sites, too."""
    if not _backup_of(site).exists():
        shutil.copytree(site.directory, _backup_of(site))
        history.story.append(f"{site.name}: backup")
        return
    struck = [one for one in history.sites if one is site or history.chance.random() < 0.25]
    struck = [one for one in struck if one not in history.unaware and _backup_of(one).exists()]
    for one in struck:
        _come_back(history, one)
    _forget_unheard(history, struck)
    for one in struck:
        if "forgetting" in history.ways and history.chance.random() < 0.6:
            history.unaware.append(one)
        else:
            restore(history, one)


def _backup_of(site: Site) -> Path:
    return site.directory.with_name(f"{site.name}.backup")


def _come_back(history: Struck, site: Site) -> None:
    backup = _backup_of(site)
    parts = history.chance.choice((("conf", "spool"), ("conf", "spool"), ("conf",), ("spool",)))
    for part in parts:
        shutil.rmtree(site.directory / part, ignore_errors=True)
        if (backup / part).exists():
            (backup / part).rename(site.directory / part)
        elif part == "spool":
            # The backup is of before the first mail: the administrator says that the partition is right.
            (site.directory / part).mkdir()
            (site.directory / part / ".cyrus-sync-partition").touch()
    shutil.rmtree(backup)
    let_go(site)
    history.story.append(f"{site.name}: {' and '.join(parts)} back from backup")


def let_go(site: Site) -> None:
    """Who is known to have been made since the backup is not there: the administrator lets him go."""
    with closing(open_kept(site.config)) as kept:
        for owner in kept.care.everybody():
            if kept.care.is_unusable(owner):
                kept.care.give_up(owner)


def _forget_unheard(history: Struck, struck: list[Site]) -> None:
    """What only these sites had is lost by the fire, and not by us."""
    heard = set[bytes]()
    for site in history.sites:
        if site not in struck:
            heard |= _all_known(site, history.accepted)
        heard |= guids_at(site)
    for guid in set(history.accepted) - heard:
        del history.accepted[guid]


def _all_known(site: Site, guids: Iterable[bytes]) -> set[bytes]:
    """Those of the messages that a site has heard of."""
    with site.member(went_back=True) as member:
        return {guid for guid in guids if member.log.operations.introducers(guid)}


def guids_at(site: Site) -> set[bytes]:
    """Live messages of everybody."""
    with site.store() as store:
        owners = list(store.owners())
    return {guid for owner in owners for guid in site.guids_of(owner)}


def restore(history: Struck, site: Site) -> None:
    """The administrator says that the site was restored from a backup."""
    others = [one for one in history.sites if one is not site]
    with site.member(went_back=True) as member:
        begin(member, [member.family.find(one.name) for one in others])
    history.story.append(f"{site.name}: restorereplica")


# -- bad disks


def rot(history: Struck, site: Site, owner: Owner) -> None:
    """A bit of a message changes where it is stored. It may be the only copy: nobody owes the message."""
    with site.store() as store:
        if owner not in set(store.owners()):
            return
        directory = Path(store.directory_of(owner))  # type: ignore[attr-defined]
    found = sorted(site.guids_of(owner))
    if not found:
        return
    guid = history.chance.choice(found)
    with closing(sqlite3.connect(directory / "index.sqlite")) as index:
        place = index.execute("SELECT pack, offset, length FROM messages WHERE guid = ?", (guid,)).fetchone()
    if place is None:
        return
    pack, offset, length = place
    (path,) = directory.glob(f"pack-*{pack}.zst")
    octets = bytearray(path.read_bytes())
    octets[offset + length // 2] ^= 1
    path.write_bytes(octets)
    history.accepted.pop(guid, None)
    history.story.append(f"{site.name}: a message of {owner} rots: {guid.hex()[:8]}")


# -- made anew


def make_anew(history: Struck, site: Site, maker: Site, *, force: bool = False) -> bool:
    """The site is made anew from a snapshot of another one, after it has told that one what it has. `force`:
    also where it cannot tell all that it has."""
    where = history.directory / "anew"
    if site in history.unaware or maker in history.unaware:
        return False
    try:
        refused = maker.import_from(site.export_to(maker, where)).refused
    except (WentBack, TooLate) as error:
        history.story.append(f"{site.name} is not made anew: {error}")
        return False
    if refused:
        history.story.append(f"{site.name} is not made anew: {refused}")
        return False
    try:
        with maker.member() as member:
            maker.packets += 1
            target = member.family.find(site.name)
            made = snapshot_for(
                member,
                target,
                lambda number, _size: where / f"snap_{maker.name}_{maker.packets}_{number}",
                ExportOptions(max_size=6000),
            )
        replace_replica(
            site.config, made.paths, force=force, warn=site.heard.append, notice=site.heard.append
        )
    except (WentBack, MultisiteError) as error:
        history.story.append(f"{site.name} is not made anew: {error}")
        return False
    history.story.append(f"{site.name} is made anew by {maker.name}")
    if force:
        _forget_unheard(history, [site])
    return True
