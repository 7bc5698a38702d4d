"""Finding orders, and having them carried out, several at a time by child processes.

For other packages: `deliver` ships the orders that they have just written, `poll` does what
``shipping_server -poll`` does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.files import TEMPORARY
from cyrus_sync.shipping import children, worker
from cyrus_sync.shipping.children import run_children
from cyrus_sync.shipping.errors import BadOrder, ShippingError
from cyrus_sync.shipping.names import ORDER_PREFIX
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.site import Site


def poll(site: Site, storage_class: str | None = None) -> bool:
    """Carry out the caller's orders in the outgoing bays and return bays; True if nothing went wrong."""
    directories = [bay.outgoing for bay in site.all_bays(storage_class)]
    found = [path for directory in directories for path in orders_in(directory)]
    return all(deliver(site, [path for path in found if _is_ours(path)], storage_class))


def deliver(site: Site, orders: Iterable[Path], storage_class: str | None = None) -> list[bool]:
    """Carry out these orders; for each, whether nothing went wrong. Orders of other classes, and those
    that another run works on, are left alone, which is not wrong."""
    paths = list(orders)
    if len({os.fspath(path) for path in paths}) != len(paths):
        paths = list(dict.fromkeys(paths))
    if len(paths) == 1:  # nobody waits for it, and starting a child takes longer than sending a small file
        return [_deliver_one(site, paths[0], storage_class)]
    jobs = [worker.ship(path, storage_class) for path in paths]
    return [status == 0 for status in run_children(lambda: children.start(site), jobs)]


def _deliver_one(site: Site, order: Path, storage_class: str | None) -> bool:
    from cyrus_sync.shipping.sender import ship_order  # not loaded where there is nothing to send

    try:
        return ship_order(site, order, storage_class)
    except CyrusSyncError as error:
        site.log.complain(f"{order}: {error}")
        return False


def sources(paths: Sequence[Path]) -> list[Path]:
    """The orders that the operands of a command name: files as they are, of directories all that is an order,
    whatever its name."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found.extend(one for one in sorted(path.iterdir()) if is_order(one))
        elif path.exists():
            found.append(path)
        else:
            raise ShippingError(f"{path}: no such file or directory")
    return list(dict.fromkeys(found))


def is_order(path: Path) -> bool:
    """Whether a file is named as an order is, or can be read as one."""
    if path.name.startswith(ORDER_PREFIX):
        return True
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.name.startswith(TEMPORARY):
            return False
        Order.load(path)
    except (OSError, BadOrder):
        return False
    return True


def orders_in(directory: Path) -> list[Path]:
    """The files of a directory that are named as orders are, oldest name first."""
    try:
        return sorted(path for path in directory.iterdir() if path.name.startswith(ORDER_PREFIX))
    except FileNotFoundError:
        return []


def _is_ours(path: Path) -> bool:
    try:
        return os.geteuid() in (0, path.lstat().st_uid)
    except FileNotFoundError:
        return False
