"""Making orders and putting them, with their data, where shipping_server finds them.

The data is durable under its name before its order appears.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from cyrus_sync.common.directory import Directory, Tampered, Unfinished
from cyrus_sync.common.files import write_all
from cyrus_sync.shipping.bays import OUTGOING, choose_bay, free_name_in
from cyrus_sync.shipping.conf import DEFAULT_CLASS
from cyrus_sync.shipping.digest import digest_file, digest_flow
from cyrus_sync.shipping.errors import ShippingError
from cyrus_sync.shipping.names import alternatives, bay_name, order_name
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.site import Site

ORDER_MODE = 0o600
"""Of an order outside of all bays."""


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
    descriptor = os.open(data, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return measured_open(order, data, descriptor)
    finally:
        os.close(descriptor)


def measured_open(order: Order, data: Path, descriptor: int) -> Order:
    """The same for a file that is open."""
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        raise ShippingError(f"{data} is not a plain file")
    return replace(order, size=about.st_size, digest=digest_file(descriptor))


def place_order(site: Site, order: Order) -> Path:
    """Write the order beside its data, which lies in ``outgoing`` of a bay; it gets the bay's owner and
    mode. The path of the order."""
    data = Path(order.data_path)
    bay = next((bay for bay in site.all_bays() if bay.outgoing == data.parent), None)
    return write_order(
        data.with_name(order_name(order.data_name)), order, adopt=bay.adopt_order if bay else None
    )


def write_order(wanted: Path, order: Order, adopt: Callable[[int], object] | None = None) -> Path:
    """Write a new order file; the name that it got, `wanted` or ``wanted_<n>``. `adopt` gives the open file
    its owner and mode."""
    with Directory.of(wanted) as directory, directory.new_file(order.text()) as written:
        os.fchmod(written.descriptor, ORDER_MODE)
        if adopt:
            adopt(written.descriptor)
        written.sync()
        for name in alternatives(wanted.name):
            with contextlib.suppress(FileExistsError):
                written.rename(name)
                directory.sync()
                return wanted.with_name(name)
    raise AssertionError("unreachable")


def place_copy(site: Site, data: Path, order: Order) -> tuple[Path, Order]:
    """Copy `data` into ``outgoing`` of a bay of its class, then write the order there."""
    source = os.open(data, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(source)
        if not stat.S_ISREG(about.st_mode):
            raise ShippingError(f"{data} is not a plain file")
        bay = choose_bay(site.bays(order.storage_class), about.st_size)
        with bay.open(OUTGOING) as outgoing, outgoing.new_file() as copy:
            size, digest = digest_flow(
                lambda block: os.readv(source, [block]),
                lambda block: write_all(copy.descriptor, block),
            )
            bay.adopt(copy.descriptor)
            copy.sync()
            name = _named(copy, bay_name(data.name))
            outgoing.sync()
            order = replace(order, data_path=os.fspath(bay.outgoing / name), size=size, digest=digest)
            try:
                return place_order(site, order), order
            except BaseException:
                with contextlib.suppress(Tampered):
                    outgoing.remove(name, copy.descriptor)
                raise
    finally:
        os.close(source)


def _named(copy: Unfinished, wanted: str) -> str:
    while True:
        name = free_name_in(copy.directory, wanted)
        with contextlib.suppress(FileExistsError):
            copy.rename(name)
            return name
