"""Making orders and putting them, with their data, where shipping_server finds them.

The data is durable under its name before its order appears.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from common.files import sync_directory
from multisite.shipping.bays import choose_bay, free_name
from multisite.shipping.conf import DEFAULT_CLASS
from multisite.shipping.digest import digest_file, digest_flow
from multisite.shipping.errors import ShippingError
from multisite.shipping.files import rename_new, temporary_in, write_all, write_temporary
from multisite.shipping.names import alternatives, bay_name, order_name
from multisite.shipping.order import Order
from multisite.shipping.site import Site


def new_order(
    site: Site,
    data: Path,
    destinations: Iterable[str],
    *,
    storage_class: str = DEFAULT_CLASS,
    expires: int | None = None,
    notify: Iterable[str] = (),
    comments: Iterable[str] = (),
) -> Order:
    """An order for the file `data` (absolute path). `expires` in seconds since 1970, 0 = never, None = what
    the class says. `BadFileName` if no bay could hold such a name."""
    bay_name(data.name)
    now = int(site.clock())
    lifetime = site.conf.expiration(storage_class)
    if expires is None:
        expires = now + lifetime if lifetime else 0
    order = Order(
        data_path=os.fspath(data),
        original_path=os.fspath(data),
        origin=site.name,
        destinations=tuple(dict.fromkeys(destinations)),
        created=now,
        expires=expires,
        storage_class=storage_class,
        notify=tuple(notify),
        comments=tuple(comments),
    )
    if not order.has_room():
        raise ShippingError("too many destinations, or too long a comment, for one order; make several")
    return order


def measured(order: Order, data: Path) -> Order:
    """The order with size and digest of its file, by which every receiver checks it."""
    with data.open("rb") as file:
        return replace(order, size=os.fstat(file.fileno()).st_size, digest=digest_file(file.fileno()))


def place_order(site: Site, order: Order) -> Path:
    """Write the order beside its data, which lies in ``outgoing`` of a bay; it gets the bay's owner and
    mode. The path of the order."""
    written = write_order(Path(order.data_path).with_name(order_name(order.data_name)), order)
    bay = next((bay for bay in site.all_bays() if bay.outgoing == written.parent), None)
    if bay:
        with written.open("rb") as file:
            bay.adopt(file.fileno())
    return written


def write_order(wanted: Path, order: Order) -> Path:
    """Write a new order file; the name that it got, `wanted` or ``wanted_<n>``."""
    temporary = write_temporary(wanted.parent, order.text(), 0o640)
    for name in alternatives(wanted.name):
        try:
            rename_new(temporary, wanted.with_name(name))
        except FileExistsError:
            continue
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(wanted.parent)
        return wanted.with_name(name)
    raise AssertionError("unreachable")


def place_copy(site: Site, data: Path, order: Order) -> tuple[Path, Order]:
    """Copy `data` into ``outgoing`` of a bay of its class, then write the order there."""
    with data.open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        bay = choose_bay(site.bays(order.storage_class), size)
        temporary = temporary_in(bay.outgoing)
        try:
            with temporary.open("xb+") as target:
                fcntl.flock(target, fcntl.LOCK_EX)
                size, digest = digest_flow(
                    lambda block: os.readv(source.fileno(), [block]),
                    lambda block: write_all(target.fileno(), block),
                )
                bay.adopt(target.fileno())
                os.fsync(target.fileno())
            while True:
                path = free_name(bay.outgoing / bay_name(data.name))
                try:
                    rename_new(temporary, path)
                    break
                except FileExistsError:
                    continue
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    order = replace(order, data_path=os.fspath(path), size=size, digest=digest)
    try:
        return place_order(site, order), order
    except BaseException:
        path.unlink(missing_ok=True)
        raise
