"""The steps by which a file that is whole comes into its bay, taken now or after whatever stopped them.

What the ledger says is to be done is done to the files that it means and to no others. While whoever made a
file has it open, its inode tells which it is. Later nothing but the content does: a restore from a backup
gives new inodes, and what others have put in the place of a file may have got its inode.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cyrus_sync.common.directory import Directory, Tampered, Unfinished
from cyrus_sync.shipping.bays import INCOMING, OUTGOING, Bay, free_name_in
from cyrus_sync.shipping.digest import algorithm, digest_file
from cyrus_sync.shipping.errors import ShippingError
from cyrus_sync.shipping.ledger import Arrival, Ledger
from cyrus_sync.shipping.names import alternatives, order_name
from cyrus_sync.shipping.order import LONGEST_ORDER, Order


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came, and where it lies: `here` for import, `order_path` if it travels on."""

    order: Order
    here: Path | None
    order_path: Path | None


def complete(ledger: Ledger, arrival: Arrival, inodes: Mapping[str, int] | None = None) -> Arrived | None:
    """Take the steps that are left. Afterwards the arrival is done and on disk. `inodes`, by part ("here",
    "onward"): of the files that the caller has open.

    None if its data has vanished before the first step: nobody was told that it has come, so it is forgotten
    and can come again. `Tampered` if a file was replaced or changed; before the first step the arrival is
    forgotten, too."""
    bay = Bay(Path(arrival.record["bay"]))
    with bay.open(INCOMING) as incoming, bay.open(OUTGOING) as outgoing:
        return _Steps(ledger, arrival, bay, incoming, outgoing, inodes or {}).take()


@dataclass(frozen=True, slots=True)
class _Steps:
    ledger: Ledger
    arrival: Arrival
    bay: Bay
    incoming: Directory
    outgoing: Directory
    inodes: Mapping[str, int]

    def take(self) -> Arrived | None:
        record = self.arrival.record
        part, where = ("here", self.incoming) if "here" in record else ("onward", self.outgoing)
        if not self.arrival.intents and where.look(Path(record[part]).name) is None:
            self._void()
            return None
        here = order_path = None
        order = Order.parse(record["order"].encode("utf-8", "surrogateescape"))
        try:
            if "here" in record:
                here = self._place("here", self.incoming, order)
            if "onward" in record:
                data = self._place("onward", self.outgoing, order)
                name = self._place_order(replace(order, data_path=os.fsdecode(data)))
                order_path = self.outgoing.path / name
        except Tampered:
            if not self.arrival.intents:
                self._void()
            raise
        for directory in (self.incoming, self.outgoing):
            directory.sync()
        self.ledger.finish(self.arrival)
        return Arrived(order, here, order_path)

    def _void(self) -> None:
        if "onward" in self.arrival.record:
            self.outgoing.unlink(Path(self.arrival.record["onward"]).name)
        self.ledger.void(self.arrival)

    def _place(self, part: str, directory: Directory, order: Order) -> Path:
        """Give the data of one part its name in the bay; where it lies then."""
        record, intents = self.arrival.record, self.arrival.intents
        temporary, known = Path(record[part]).name, self.inodes.get(part)
        if part in intents and _is_same(directory, temporary, intents[part]["path"]):
            directory.unlink(temporary)  # renamed in two steps, and stopped between them
        while directory.look(temporary):
            with _known(directory, temporary, known, lambda one: _is_data(one, order)) as inode:
                name = free_name_in(directory, record["name"])
                self.ledger.intend(self.arrival, part, directory.path / temporary, directory.path / name)
                with contextlib.suppress(FileExistsError):
                    directory.move(temporary, name, directory, inode)
        if part not in intents:
            raise ShippingError(f"{directory.path / temporary} has vanished before it came into its bay")
        return Path(intents[part]["path"])

    def _place_order(self, order: Order) -> str:
        """Write `order`, unless that was done, and give it its name beside its data; that name."""
        intents = self.arrival.intents
        if "order" in intents:
            return _rename_order(self.outgoing, intents["order"], None, order)
        written = unfinished_order(self.bay, self.outgoing, order)
        try:
            wanted = self.outgoing.path / order_name(order.data_name)
            self.ledger.intend(self.arrival, "order", written.path, wanted)
            return _rename_order(self.outgoing, intents["order"], written.inode, order)
        finally:
            written.close()


def unfinished_order(bay: Bay, outgoing: Directory, order: Order) -> Unfinished:
    """An order with the bay's owner and mode, on disk. It has them from the descriptor that made it."""
    written = outgoing.new_file(order.text())
    try:
        bay.adopt_order(written.descriptor)
        written.sync()
    except BaseException:
        written.discard()
        written.close()
        raise
    return written


def _rename_order(outgoing: Directory, intent: dict[str, Any], inode: int | None, order: Order) -> str:
    temporary, wanted = Path(intent["temporary"]).name, Path(intent["path"]).name
    names = alternatives(wanted)
    name = wanted
    if _is_same(outgoing, temporary, wanted):
        outgoing.unlink(temporary)
    while outgoing.look(temporary):
        with _known(outgoing, temporary, inode, lambda one: _is_order(one, order)) as found:
            name = next(names)
            with contextlib.suppress(FileExistsError):
                outgoing.move(temporary, name, outgoing, found)
    return name


@contextlib.contextmanager
def _known(
    directory: Directory, name: str, inode: int | None, is_ours: Callable[[int], bool]
) -> Iterator[int]:
    """The inode of the file `name`, which no other file can get meanwhile: `inode` if there is one, else that
    of what `is_ours`, given a descriptor, says to be ours. `Tampered` if it is not."""
    if inode is not None:
        yield inode
        return
    descriptor = directory.open_plain(name)
    try:
        if not is_ours(descriptor):
            raise Tampered(f"{directory.path / name} is not what has arrived: it was changed or replaced")
        yield os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def _is_data(descriptor: int, order: Order) -> bool:
    digest = order.digest or ""
    return os.fstat(descriptor).st_size == order.size and digest_file(descriptor, algorithm(digest)) == digest


def _is_order(descriptor: int, order: Order) -> bool:
    return os.pread(descriptor, LONGEST_ORDER + 1, 0) == order.text()


def _is_same(directory: Directory, one: str, other: str) -> bool:
    first, second = directory.look(one), directory.look(Path(other).name)
    return first is not None and second is not None and os.path.samestat(first, second)
