"""What a host tells Prometheus of its shipping: bays, orders, and what the receiving side has done."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.metrics.shared import add_certificates, add_disks
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.wire.certificates import ends, server_files
from cyrus_sync.shipping.bays import INCOMING, OUTGOING
from cyrus_sync.shipping.errors import BadOrder
from cyrus_sync.shipping.names import ORDER_PREFIX
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.site import Site

MOST_ORDERS = 1000
"""Orders of a bay that are read; how many there are is told of all."""


@dataclass(slots=True)
class Received:
    """What the receiving side counts, in the reactor's thread."""

    files: int = 0
    returned: int = 0
    """Of these, files that came home undelivered."""
    failures: int = 0
    """Transfers that a child process has failed at."""
    strangers: int = 0
    """Connections that have not proved the family key; how many there are now."""


@dataclass(frozen=True)
class ShippingFigures:
    """`look` is a `common.metrics.exporter.Look`."""

    site: Site
    received: Callable[[], Received]

    def look(self) -> Callable[[Sheet], None]:
        received = self.received()

        def fill(sheet: Sheet) -> None:
            counter = sheet.counter
            counter("shipping_files_received_total", "Files that have arrived.", received.files)
            text = "Of these, files of our own that came back undelivered."
            counter("shipping_files_returned_total", text, received.returned)
            counter("shipping_transfer_failures_total", "Transfers that failed here.", received.failures)
            text = "Connections that have not proved the family key."
            sheet.gauge("shipping_strangers", text, received.strangers)
            add_bays(sheet, self.site)
            add_disks(sheet, {str(bay.path): bay.path for bay in self.site.all_bays()})
            add_certificates(sheet, ends(server_files(self.site.server_tls)))

        return fill


def add_bays(sheet: Sheet, site: Site) -> None:
    """What lies in the bays. Blocks."""
    now = site.clock()
    for bay in site.all_bays():
        for part, directory in ((INCOMING, bay.incoming), (OUTGOING, bay.outgoing)):
            found = _in_bay(directory)
            labels = {"bay": str(bay.path), "part": part}
            sheet.gauge("shipping_files", "Files that lie in a bay.", found.files, **labels)
            sheet.gauge("shipping_file_bytes", "Octets of these files.", found.octets, **labels)
            text = "Orders in a bay: files that are to go on from here."
            sheet.gauge("shipping_orders", text, len(found.orders), **labels)
            failing, expired, unread, oldest = 0, 0, 0, None
            for path in heapq.nsmallest(MOST_ORDERS, found.orders):
                try:
                    order = Order.load(path)
                except FileNotFoundError:
                    continue
                except (BadOrder, OSError):
                    unread += 1
                    continue
                failing += bool(order.failures)
                expired += order.expired(now)
                oldest = min(order.created, oldest or order.created)
            for state, count in (("failing", failing), ("expired", expired), ("unreadable", unread)):
                text = "Orders that failed at least once, are past their time, or cannot be read."
                sheet.gauge("shipping_troubled_orders", text, count, state=state, **labels)
            text = "When the oldest order of a bay was written."
            sheet.gauge("shipping_oldest_order_timestamp_seconds", text, oldest, **labels)


@dataclass(slots=True)
class _Found:
    files: int = 0
    octets: int = 0
    orders: list[Path] = field(default_factory=list)


def _in_bay(directory: Path) -> _Found:
    """What is in one directory of a bay; nothing where it cannot be read."""
    found = _Found()
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not entry.is_file(follow_symlinks=False):  # a pipe would be waited for
                    continue
                if entry.name.startswith(ORDER_PREFIX):
                    found.orders.append(directory / entry.name)
                else:
                    found.files += 1
                    found.octets += entry.stat(follow_symlinks=False).st_size
    except OSError:
        return found
    return found
