"""What becomes of an order whose time is over: the file goes home, and people are told.

An order that expires is rewritten in its place to take the data to the host of its origin, for which it
has another 14 days; on the way and at home the file lies in return bays. What expires on its way home is
deleted. A file that never left home goes into the return bay if it waits in a bay of ours; a file that
somebody has in a directory of his own stays there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Protocol

from common.files import sync_directory
from multisite.shipping.bays import Bay, choose_bay, free_name
from multisite.shipping.files import remove, rename_new, temporary_in
from multisite.shipping.notify import tell, tell_administrator
from multisite.shipping.order import Order
from multisite.shipping.site import Site


class Held(Protocol):
    """A locked order file (`multisite.shipping.sender.LockedOrder`)."""

    path: Path
    order: Order

    def write(self, order: Order) -> None: ...

    def remove(self) -> None: ...


def at_end_of_time(site: Site, lock: Held, data_path: Path) -> None:
    """Deal with an expired order, or with one on its way home that is home already."""
    order = lock.order
    if order.returning:
        if site.is_me(order.origin):
            _take_home(site, lock, data_path)
        else:
            _give_up(site, lock, data_path)
        return
    left = " ".join(order.remaining())
    if site.is_me(order.origin):
        _take_home(site, lock, data_path)
        return
    lock.write(order.turned_round(site.clock()))
    site.log.error(f"{lock.path} has expired; {data_path.name} returns to {order.origin}, not sent to {left}")
    tell(
        site,
        lock.order,
        f"{data_path.name} could not be delivered to {left}",
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


def _take_home(site: Site, lock: Held, data_path: Path) -> None:
    order = lock.order if lock.order.returning else lock.order.turned_round(site.clock())
    kept = data_path
    if not data_path.exists():
        site.log.error(f"{lock.path} has come to its end, and its data file {data_path} is not there")
        text = f"Its data file is not there any more (it may be in a return bay):\n  {data_path}\n"
        tell(site, order, f"{data_path.name} could not be delivered to {' '.join(order.undelivered)}", text)
        lock.remove()
        return
    if site.in_a_bay(data_path.parent):
        bay = choose_bay(site.return_bays(order.storage_class), data_path.stat().st_size)
        kept = _move(data_path, bay)
    # Told first: killed in between, it is told twice, which is better than never.
    welcome_home(site, order, kept)
    lock.remove()


def _give_up(site: Site, lock: Held, data_path: Path) -> None:
    order = lock.order
    remove(data_path)
    lock.remove()
    site.log.error(f"deleted {data_path}: it has expired on its way back to {order.origin}")
    tell_administrator(
        site,
        order,
        f"{data_path.name} was deleted",
        f"It could not be delivered, nor be brought back to {order.origin} in time. "
        f"{site.name} has deleted it.\n",
    )


def _move(path: Path, bay: Bay) -> Path:
    """Move a file into the bay's ``incoming``, whole or not at all."""
    while True:
        wanted = free_name(bay.incoming / path.name)
        try:
            rename_new(path, wanted)
        except FileExistsError:
            continue
        except OSError:  # another file system
            temporary = temporary_in(bay.incoming)
            try:
                shutil.copyfile(path, temporary)
                with temporary.open("rb+") as file:
                    bay.adopt(file.fileno())
                    os.fsync(file.fileno())
                rename_new(temporary, wanted)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync_directory(wanted.parent)
            remove(path)
            return wanted
        sync_directory(wanted.parent)
        sync_directory(path.parent)
        return wanted
