"""What becomes of an order whose time is over: the file goes home, and people are told.

An order that expires is rewritten in its place to take the data to the host of its origin, for which it
has another 14 days; on the way and at home the file lies in return bays. What expires on its way home is
deleted. A file that never left home goes into the return bay if it waits in a bay of ours; a file that
somebody has in a directory of his own stays there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from cyrus_sync.common.directory import Directory, copy_all
from cyrus_sync.shipping.bays import INCOMING, Bay, choose_bay, free_name_in
from cyrus_sync.shipping.datafile import DataFile
from cyrus_sync.shipping.notify import tell, tell_administrator
from cyrus_sync.shipping.order import Order
from cyrus_sync.shipping.site import Site


class Held(Protocol):
    """A locked order file (`shipping.sender.LockedOrder`)."""

    order: Order

    @property
    def path(self) -> Path: ...

    def write(self, order: Order) -> None: ...

    def remove(self) -> None: ...


def at_end_of_time(site: Site, lock: Held, data: DataFile) -> None:
    """Deal with an expired order, or with one on its way home that is home already."""
    order = lock.order
    if order.returning:
        if site.is_me(order.origin):
            _take_home(site, lock, data)
        else:
            _give_up(site, lock, data)
        return
    left = " ".join(order.remaining())
    if site.is_me(order.origin):
        _take_home(site, lock, data)
        return
    lock.write(order.turned_round(site.clock()))
    site.log.error(f"{lock.path} has expired; {data.name} returns to {order.origin}, not sent to {left}")
    tell(
        site,
        lock.order,
        f"{data.name} could not be delivered to {left}",
        f"The shipping order has expired at {site.name}. The file returns to {order.origin}.\n",
    )


def welcome_home(site: Site, order: Order, path: Path) -> None:
    """A file has come back to this host and lies in `path`: tell those who wanted to know, and the
    administrator."""
    left = " ".join(order.undelivered)
    site.log.error(f"{path} has come back; it could not be delivered to {left}")
    text = (
        f"The file has come back to {site.name} and lies in\n  {path}\n"
        f"To send it again, make a new order: mkorder -data {path} -fship {left}\n"
    )
    tell(site, order, f"{path.name} has come back undelivered", text)
    if order.notify and set(order.notify) != set(site.conf.administrators):
        tell_administrator(site, order, f"{path.name} has come back undelivered", text)


def _take_home(site: Site, lock: Held, data: DataFile) -> None:
    order = lock.order if lock.order.returning else lock.order.turned_round(site.clock())
    kept = data.path
    if data.descriptor is None:
        site.log.error(f"{lock.path} has come to its end, and its data file {data.path} is not there")
        text = f"Its data file is not there any more (it may be in a return bay):\n  {data.path}\n"
        tell(site, order, f"{data.name} could not be delivered to {' '.join(order.undelivered)}", text)
        lock.remove()
        return
    if site.in_a_bay(data.directory):
        bay = choose_bay(site.return_bays(order.storage_class), os.fstat(data.descriptor).st_size)
        kept = _move(data, data.descriptor, bay)
    # Told first: killed in between, it is told twice, which is better than never.
    welcome_home(site, order, kept)
    lock.remove()


def _give_up(site: Site, lock: Held, data: DataFile) -> None:
    order = lock.order
    data.remove()
    lock.remove()
    site.log.error(f"deleted {data.path}: it has expired on its way back to {order.origin}")
    tell_administrator(
        site,
        order,
        f"{data.name} was deleted",
        f"It could not be delivered, nor be brought back to {order.origin} in time. "
        f"{site.name} has deleted it.\n",
    )


def _move(data: DataFile, descriptor: int, bay: Bay) -> Path:
    """Move a file into the bay's ``incoming``, whole or not at all."""
    inode = os.fstat(descriptor).st_ino
    with bay.open(INCOMING) as incoming:
        while True:
            wanted = free_name_in(incoming, data.name)
            try:
                data.directory.move(data.name, wanted, incoming, inode)
            except FileExistsError:
                continue
            except OSError:  # another file system
                if _copied(descriptor, wanted, bay, incoming):
                    data.remove()
                    return incoming.path / wanted
                continue
            incoming.sync()
            data.directory.sync()
            return incoming.path / wanted


def _copied(descriptor: int, wanted: str, bay: Bay, incoming: Directory) -> bool:
    """False if the name has been taken meanwhile."""
    with incoming.new_file() as copy:
        copy_all(descriptor, copy.descriptor)
        bay.adopt(copy.descriptor)
        copy.sync()
        try:
            copy.rename(wanted)
        except FileExistsError:
            copy.discard()
            return False
        incoming.sync()
        return True
