"""Putting a file that has come whole into its bay: for this host, for further hosts, or for both.

A file for this host goes into ``incoming``; one that must travel on goes into ``outgoing`` with a new
order; one that does both lies in both (one file, two names). On its way home a file goes into return
bays. Steps are in the ledger before they are taken; `cyrus_sync.shipping.completing` takes them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cyrus_sync.common.commands import reason
from cyrus_sync.common.directory import Directory, Tampered, Unfinished, copy_all, is_unfinished
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.files import TEMPORARY
from cyrus_sync.shipping.bays import INCOMING, OUTGOING, Bay, choose_bay
from cyrus_sync.shipping.completing import Arrived, complete
from cyrus_sync.shipping.errors import Refused, ShippingError
from cyrus_sync.shipping.ledger import Ledger, name_of
from cyrus_sync.shipping.names import bay_name
from cyrus_sync.shipping.order import Order, Passage
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.transfer import Announcement

_BEING_MADE = 60
"""Seconds that a file may be there before whoever makes it has locked it."""

PARTIAL = f"{TEMPORARY}part_"
_AWAITED = 6 * 3600
"""Seconds for which a part of a file is kept, so that its sender can go on where it was cut off."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with a file that is announced."""

    bay: Bay
    name: str
    here: tuple[str, ...]
    onward: tuple[str, ...]

    @property
    def part(self) -> str:
        """Where in the bay the data is written first."""
        return INCOMING if self.here else OUTGOING


def plan(site: Site, header: Announcement, accepted: set[str]) -> Plan | None:
    """What to do; None if every destination has been served. `ShippingError` if it cannot be taken."""
    order = header.order
    if not site.is_me(header.to):
        raise Refused(f"this host is {site.name}, not {header.to} (names are set with multisite_host)")
    if any(site.is_me(passage.host) for passage in order.route):
        raise Refused(f"the file has been at {site.name} before: the routes go round in a circle")
    left = tuple(one for one in header.destinations if one not in accepted)
    if not left:
        return None
    name = bay_name(order.data_name)
    bays = site.return_bays if order.returning else site.bays
    here = tuple(one for one in left if site.is_me(one))
    onward = tuple(one for one in left if not site.is_me(one))
    known = bays(order.storage_class)
    bay = _begun_in(known, header, INCOMING if here else OUTGOING)
    return Plan(bay or choose_bay(known, header.size), name, here, onward)


def partial_name(header: Announcement) -> str:
    """The temporary name under which a file comes in, by which the rest of it finds what is there."""
    return PARTIAL + name_of(header.order, header.digest)


def _begun_in(bays: Iterable[Bay], header: Announcement, part: str) -> Bay | None:
    """The bay in which a part of the file is already."""
    name = partial_name(header)
    for bay in bays:
        with contextlib.suppress(OSError, Tampered), bay.open(part) as opened:
            if opened.look(name) is not None:
                return bay
    return None


def settle(site: Site, ledger: Ledger, header: Announcement, chosen: Plan, landed: Unfinished) -> Arrived:
    """`landed` in its part of the bay is whole and on disk: put it where it belongs."""
    record: dict[str, object] = {
        "destinations": [*chosen.here, *chosen.onward],
        "expires": header.order.expires,
        "time": int(site.clock()),
        "bay": os.fsdecode(chosen.bay.path),
        "name": chosen.name,
        "order": _order_from_here(site, header, chosen).text().decode("utf-8", "surrogateescape"),
    }
    # As long as `landed` is open, nobody else's file can have its inode.
    inodes: dict[str, int] = {}
    if chosen.here:
        record["here"] = os.fsdecode(landed.path)
        inodes["here"] = landed.inode
    if chosen.onward:
        onward = landed.path
        if chosen.here:
            with chosen.bay.open(OUTGOING) as outgoing:
                name, same = _same_file(landed, outgoing, chosen.bay)
                outgoing.sync()
                onward = outgoing.path / name
        else:
            same = True
        record["onward"] = os.fsdecode(onward)
        if same:
            inodes["onward"] = landed.inode
    landed.directory.sync()
    arrived = complete(ledger, ledger.arrive(record), inodes)
    if arrived is None:
        raise ShippingError(f"{landed.path} has vanished before it came into its bay")
    return arrived


def recover(site: Site) -> list[Arrived]:
    """Complete what a stopped machine has left half done (and return that), forget what is long past."""
    completed: list[Arrived] = []
    directory = site.home / "received"
    for path in sorted(directory.glob("*")) if directory.is_dir() else ():
        try:
            with Ledger.open_path(path) as ledger:
                for arrival in list(ledger.arrivals):
                    if not arrival.done and (found := complete(ledger, arrival)):
                        completed.append(found)
                        site.log.info(f"completed the arrival of {found.here or found.order_path}")
                if ledger.outdated(site.clock()):
                    ledger.forget()
        except Refused:
            continue  # it is being received now
        except (OSError, ValueError, KeyError, CyrusSyncError) as error:
            site.log.error(f"{path}: {reason(error, path)}")
    for bay in site.all_bays():
        for part in (INCOMING, OUTGOING):
            with contextlib.suppress(OSError, Tampered), bay.open(part) as opened:
                _sweep(opened)
    return completed


def _sweep(directory: Directory) -> None:
    """Remove what killed transfers have left: what nobody has locked, and nobody goes on with."""
    for name in filter(is_unfinished, os.listdir(directory.descriptor)):  # noqa: PTH208 (a descriptor, not a path)
        with contextlib.suppress(OSError, Tampered):
            about = directory.look(name)
            kept = _AWAITED if name.startswith(PARTIAL) else _BEING_MADE
            if about is None or time.time() - about.st_mtime < kept:
                continue
            descriptor = directory.open_plain(name)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                directory.remove(name, descriptor)
            finally:
                os.close(descriptor)


def _same_file(landed: Unfinished, outgoing: Directory, bay: Bay) -> tuple[str, bool]:
    """The file under a temporary name in `outgoing`, too: that name, and whether it is no copy."""
    try:
        return landed.link(outgoing), True
    except OSError:  # incoming and outgoing are different file systems
        with outgoing.new_file() as copy:
            copy_all(landed.descriptor, copy.descriptor)
            bay.adopt(copy.descriptor)
            copy.sync()
            return copy.name, False


def _order_from_here(site: Site, header: Announcement, chosen: Plan) -> Order:
    return replace(
        header.order,
        destinations=chosen.onward or header.destinations,
        deliveries=(),
        failures=(),
        size=header.size,
        digest=header.digest,
        route=(*header.order.route, Passage(header.sender, int(site.clock()))),
    )
