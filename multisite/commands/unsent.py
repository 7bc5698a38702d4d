"""Packets on their way into a bay, and the note of them that outlives a crash.

A packet in a bay is sent only if there is an order for it. An export first believes its packets delivered,
and then writes their orders. Between the two the command may be killed, or the disk be full. So the note is
written before the first packet, and removed after the last order. The next command that finds a note writes
the missing orders; or it removes the packets, if the export had not come to believe in them.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from cyrus_sync.common.directory import Directory
from cyrus_sync.common.files import remove, write_over
from cyrus_sync.multisite.member import Member
from cyrus_sync.shipping.bays import Bay
from cyrus_sync.shipping.errors import ShippingError
from cyrus_sync.shipping.names import order_name
from cyrus_sync.shipping.placing import measured_open, new_order, place_order
from cyrus_sync.shipping.site import Site

FILE = "unsent.json"


@dataclass(frozen=True, slots=True)
class Unsent:
    """The packets for one target, and what their orders are to say. `host` is where they go."""

    host: str
    storage_class: str
    expires: int | None = None
    notify: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    paths: tuple[str, ...] = field(default=())

    def note(self, directory: Path) -> None:
        """Write it down, durably."""
        write_over(directory / FILE, json.dumps(asdict(self)).encode(), 0o600)

    def with_packet(self, path: Path) -> Unsent:
        """The same note with one packet more."""
        return replace(self, paths=(*self.paths, os.fspath(path)))

    def write_orders(self, site: Site) -> list[tuple[Path, Path]]:
        """Give every packet that has none an order: packet and order."""
        paths = [Path(path) for path in self.paths]
        return [(path, self._order(site, path)) for path in paths if path.exists() and not has_order(path)]

    def _order(self, site: Site, path: Path) -> Path:
        order = new_order(
            site,
            path,
            [self.host],
            storage_class=self.storage_class,
            expires=self.expires,
            notify=self.notify,
            comments=self.comments,
        )
        with Directory.of(path) as outgoing:
            descriptor = outgoing.open_plain(path.name)
            try:
                _check_ours(site, path, os.fstat(descriptor))
                order = measured_open(order, path, descriptor)
            finally:
                os.close(descriptor)
        return place_order(site, order)

    def command(self, path: str) -> str:
        """What a person can type to have the packet sent."""
        words = ["multitool mkorder -data", path, f"-sclass {self.storage_class}", self.host]
        return " ".join(words)


def bay_of(site: Site, path: Path) -> Bay:
    """The bay in whose ``outgoing`` a packet lies."""
    return next((bay for bay in site.all_bays() if bay.outgoing == path.parent), Bay(path.parent.parent))


def _check_ours(site: Site, path: Path, about: os.stat_result) -> None:
    """No order is made for what others have put in the place of a packet."""
    if about.st_nlink != 1 or about.st_uid not in (os.geteuid(), bay_of(site, path).path.stat().st_uid):
        raise ShippingError(f"{path} has been replaced by somebody; no shipping order is made for it")


def has_order(path: Path) -> bool:
    """Whether there is an order for the packet."""
    return path.with_name(order_name(path.name)).exists()


def forget(directory: Path) -> None:
    """All packets have their orders."""
    remove(directory / FILE)


def found(directory: Path) -> Unsent | None:
    """The note that an earlier command left."""
    try:
        values = json.loads((directory / FILE).read_text(encoding="utf-8"))
        return Unsent(
            values["host"],
            values["storage_class"],
            values["expires"],
            tuple(values["notify"]),
            tuple(values["comments"]),
            tuple(values["paths"]),
        )
    except FileNotFoundError:
        return None


def resume(member: Member, site: Site) -> list[tuple[Path, Path]]:
    """Finish what an earlier command left; packets and orders that were written now."""
    left = found(member.directory)
    if left is None:
        return []
    if left.paths and _believed(member, left.paths[0]):
        orders = left.write_orders(site)
    else:
        orders = []
        for path in map(Path, left.paths):
            with contextlib.suppress(FileNotFoundError), Directory.of(path) as outgoing:
                outgoing.unlink(path.name)
    forget(member.directory)
    return orders


def _believed(member: Member, path: str) -> bool:
    return any(export.packet == path for export in member.log.epochs.exports())
