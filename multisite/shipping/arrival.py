"""Putting a file that has come whole into its bay: for this host, for further hosts, or for both.

A file for this host goes into ``incoming``; one that must travel on goes into ``outgoing`` with a new
order; one that does both lies in both (one file, two names). On its way home a file goes into return
bays. Steps are in the ledger before they are taken, `complete` takes those that are left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from common.files import sync_directory
from multisite.shipping.bays import Bay, choose_bay, free_name
from multisite.shipping.errors import Refused, ShippingError
from multisite.shipping.files import (
    TEMPORARY,
    remove,
    rename_new,
    temporary_in,
    write_temporary,
)
from multisite.shipping.ledger import Arrival, Ledger
from multisite.shipping.names import alternatives, bay_name, order_name
from multisite.shipping.order import Order, Passage
from multisite.shipping.site import Site
from multisite.shipping.transfer import Header

_STALE = 86400


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came, and where it lies: `here` for import, `order_path` if it travels on."""

    order: Order
    here: Path | None
    order_path: Path | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with a file that is announced."""

    bay: Bay
    name: str
    here: tuple[str, ...]
    onward: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """Where the data is written first."""
        return self.bay.incoming if self.here else self.bay.outgoing


def plan(site: Site, header: Header, accepted: set[str]) -> Plan | None:
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
    return Plan(choose_bay(bays(order.storage_class), header.size), name, here, onward)


def settle(site: Site, ledger: Ledger, header: Header, chosen: Plan, temporary: Path) -> Arrived:
    """`temporary` in `chosen.directory` is whole and on disk: put it where it belongs."""
    record: dict[str, object] = {
        "destinations": [*chosen.here, *chosen.onward],
        "expires": header.order.expires,
        "time": int(site.clock()),
        "bay": os.fsdecode(chosen.bay.path),
        "name": chosen.name,
        "order": _order_from_here(site, header, chosen).text().decode("utf-8", "surrogateescape"),
    }
    if chosen.here:
        record["here"] = os.fsdecode(temporary)
    if chosen.onward:
        onward = temporary
        if chosen.here:
            onward = temporary_in(chosen.bay.outgoing)
            _same_file(temporary, onward, chosen.bay)
            sync_directory(onward.parent)
        record["onward"] = os.fsdecode(onward)
    sync_directory(temporary.parent)
    arrived = complete(ledger, ledger.arrive(record))
    if arrived is None:
        raise ShippingError(f"{temporary} has vanished before it came into its bay")
    return arrived


def complete(ledger: Ledger, arrival: Arrival) -> Arrived | None:
    """Take the steps that are left. Afterwards the arrival is done and on disk.

    None if its data has vanished before the first step: nobody was told that it has come, so it is forgotten
    and can come again."""
    record = arrival.record
    first = record.get("here") or record["onward"]
    if not arrival.intents and not Path(first).exists():
        if "onward" in record:
            remove(Path(record["onward"]))
        ledger.void(arrival)
        return None
    bay = Bay(Path(record["bay"]))
    here = order_path = None
    order = Order.parse(record["order"].encode("utf-8", "surrogateescape"))
    if "here" in record:
        here = _place(ledger, arrival, "here", bay.incoming / record["name"])
    if "onward" in record:
        data = _place(ledger, arrival, "onward", bay.outgoing / record["name"])
        if "order" not in arrival.intents:
            text = replace(order, data_path=os.fsdecode(data)).text()
            temporary = write_temporary(bay.outgoing, text)
            with temporary.open("rb") as file:
                bay.adopt(file.fileno())
            ledger.intend(arrival, "order", temporary, data.with_name(order_name(data.name)))
        intent = arrival.intents["order"]
        order_path = _rename_order(Path(intent["temporary"]), Path(intent["path"]))
    for directory in (bay.incoming, bay.outgoing):
        sync_directory(directory)
    ledger.finish(arrival)
    return Arrived(order, here, order_path)


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
        except (OSError, ValueError, KeyError, ShippingError) as error:
            site.log.error(f"{path}: {error}")
    for bay in site.all_bays():
        for directory in (bay.incoming, bay.outgoing):
            _sweep(directory)
    return completed


def _sweep(directory: Path) -> None:
    """Remove what killed transfers have left: not locked by a receiver, and a day old."""
    for path in directory.glob(f"{TEMPORARY}*") if directory.is_dir() else ():
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime < _STALE:
                continue
            # Whoever may write into the bay may have put a pipe there, on which a plain open would wait.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            finally:
                os.close(descriptor)


def _place(ledger: Ledger, arrival: Arrival, part: str, wanted: Path) -> Path:
    temporary = Path(arrival.record[part])
    if part in arrival.intents and _is_same(temporary, Path(arrival.intents[part]["path"])):
        temporary.unlink()  # renamed in two steps, and stopped between them
    while temporary.exists():
        path = free_name(wanted)
        ledger.intend(arrival, part, temporary, path)
        with contextlib.suppress(FileExistsError):
            rename_new(temporary, path)
    if part not in arrival.intents:
        raise ShippingError(f"{temporary} has vanished before it came into its bay")
    return Path(arrival.intents[part]["path"])


def _rename_order(temporary: Path, wanted: Path) -> Path:
    names = alternatives(wanted.name)
    path = wanted
    if _is_same(temporary, wanted):
        temporary.unlink()
    while temporary.exists():
        path = wanted.with_name(next(names))
        with contextlib.suppress(FileExistsError):
            rename_new(temporary, path)
    return path


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def _same_file(one: Path, other: Path, bay: Bay) -> None:
    try:
        os.link(one, other)
    except OSError:  # incoming and outgoing are different file systems
        shutil.copyfile(one, other)
        with other.open("rb+") as file:
            bay.adopt(file.fileno())
            os.fsync(file.fileno())


def _order_from_here(site: Site, header: Header, chosen: Plan) -> Order:
    return replace(
        header.order,
        destinations=chosen.onward or header.destinations,
        deliveries=(),
        failures=(),
        size=header.size,
        digest=header.digest,
        route=(*header.order.route, Passage(header.sender, int(site.clock()))),
    )
