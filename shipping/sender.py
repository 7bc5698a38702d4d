"""One order, carried out as far as it can be now.

Every destination is tried once. What has been delivered is written into the order before anything else
happens, so that the next run sends only what is left; data and order are deleted when nothing is left,
the data not if this host is a destination.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from cyrus_sync.common.commands import reason
from cyrus_sync.common.dates import format_datetime
from cyrus_sync.common.directory import Directory, Tampered
from cyrus_sync.shipping import downhost
from cyrus_sync.shipping.datafile import DataFile
from cyrus_sync.shipping.digest import digest_file
from cyrus_sync.shipping.errors import BadOrder, CannotReach, ShippingError
from cyrus_sync.shipping.names import bay_name, same_host
from cyrus_sync.shipping.order import LONGEST_ORDER, REFUSED, UNREACHED, Order
from cyrus_sync.shipping.returns import at_end_of_time
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.transfer import Announcement, send_file


class LockedOrder:
    """An order file that this process works on. `take` gives None if another one does, or if it is gone.

    Its directory stays open, and everything beside the order is done in that."""

    def __init__(self, directory: Directory, name: str, descriptor: int, order: Order) -> None:
        self.directory = directory
        self.name = name
        self._descriptor = descriptor
        self.order = order

    @property
    def path(self) -> Path:
        return self.directory.path / self.name

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """`BadOrder` if it is not an order."""
        try:
            directory = Directory.of(path)
        except FileNotFoundError:
            return None
        try:
            descriptor = directory.open_plain(path.name)
        except FileNotFoundError:
            os.close(directory.descriptor)
            return None
        except Tampered:
            os.close(directory.descriptor)
            raise BadOrder("not a plain file") from None
        except BaseException:
            os.close(directory.descriptor)
            raise
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not directory.holds(path.name, descriptor):
                raise BlockingIOError  # replaced between open and lock: whoever did it has the lock
            if os.fstat(descriptor).st_nlink != 1:
                # Its owner may not be the one who has put it here.
                raise BadOrder("a file that has another name, too")
            text = os.pread(descriptor, LONGEST_ORDER + 1, 0)
            return cls(directory, path.name, descriptor, Order.parse(text))
        except BaseException as error:
            os.close(descriptor)
            os.close(directory.descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise

    def may_order(self, about: os.stat_result) -> bool:
        """True if root may ship, move and delete this file for the order: both have one owner; or root has
        written the order; or the file is nowhere else, and whoever may write into its directory may do as
        much to it by himself."""
        order = os.fstat(self._descriptor)
        if order.st_uid == about.st_uid:
            return True
        directory = os.fstat(self.directory.descriptor).st_mode
        open_to_all = directory & stat.S_IWOTH or (directory & stat.S_ISVTX and directory & stat.S_IWGRP)
        if about.st_nlink == 1 and not open_to_all:
            return True
        others = stat.S_IWGRP | stat.S_IWOTH
        return order.st_uid == 0 and not order.st_mode & others and self.order.digest is not None

    def write(self, order: Order) -> None:
        """Replace the file, durably and still locked."""
        about = os.fstat(self._descriptor)
        with self.directory.new_file(order.text()) as written:
            os.fchmod(written.descriptor, stat.S_IMODE(about.st_mode))
            with contextlib.suppress(PermissionError):
                os.fchown(written.descriptor, about.st_uid, about.st_gid)
            written.sync()
            self._check_held()
            written.rename_over(self.name)
            self.directory.sync()
            os.dup2(written.descriptor, self._descriptor, inheritable=False)
        self.order = order

    def remove(self) -> None:
        self.directory.remove(self.name, self._descriptor)

    def _check_held(self) -> None:
        if not self.directory.holds(self.name, self._descriptor):
            raise ShippingError("the order has been replaced by somebody; it is left alone")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        os.close(self.directory.descriptor)


@dataclass(frozen=True, slots=True)
class Cargo:
    """The open data file of an order, as it is sent."""

    descriptor: int
    size: int
    digest: str


def ship_order(site: Site, path: Path, storage_class: str | None = None) -> bool:
    """Carry out the order in `path`; True if nothing went wrong. Errors are logged and printed here."""
    try:
        lock = LockedOrder.take(path)
        if lock is None:
            return True
        with lock:
            if storage_class and lock.order.storage_class != storage_class:
                return True
            return _carry_out(site, lock)
    except BadOrder as error:
        site.log.complain(f"{path}: {error}")
    except (ShippingError, Tampered, OSError) as error:
        site.log.complain(f"{path}: {reason(error, path)}; the order stays")
    return False


def _carry_out(site: Site, lock: LockedOrder) -> bool:
    with _data_of(lock) as data:
        local = tuple(one for one in lock.order.remaining() if site.is_me(one))
        if local and not lock.order.returning:
            lock.write(lock.order.delivered(local, site.name, site.clock()))
        if not lock.order.remaining():
            _clean_up(site, lock, data)
            return True
        if lock.order.expired(site.clock()) or (lock.order.returning and local):
            at_end_of_time(site, lock, data)
            return True
        if data.descriptor is None:
            raise ShippingError(f"its data file {data.path} is not there")
        cargo = _measured(lock, data.path, data.descriptor)
        tried = [_ship_over(site, lock, hop, cargo) for hop in _hops(site, lock.order)]
        if not lock.order.remaining():
            _clean_up(site, lock, data)
    return all(tried)


def _data_of(lock: LockedOrder) -> DataFile:
    """The data, which must be beside the order, in a directory in which we may do everything. Whatever
    becomes of it, it is the order's to dispose of, or `ShippingError`, `Tampered`."""
    directory = lock.directory
    given = Path(lock.order.data_path)
    if given.parent != Path() and given.parent.resolve() != directory.path.resolve():
        raise ShippingError(f"its data file {given} is not in the directory of the order")
    if not os.access(f"/proc/self/fd/{directory.descriptor}", os.R_OK | os.W_OK | os.X_OK):
        raise ShippingError(f"reading, writing and searching {directory.path} must be permitted")
    bay_name(given.name)
    data = DataFile.open(directory, given.name)
    try:
        if data.descriptor is not None:
            _check_owner(lock, data.path, os.fstat(data.descriptor))
    except BaseException:
        data.close()
        raise
    return data


def _check_owner(lock: LockedOrder, path: Path, about: os.stat_result) -> None:
    if os.geteuid() not in (0, about.st_uid):
        raise ShippingError(f"{path} belongs to somebody else; only its owner and root can ship it")
    if os.geteuid() == 0 and not lock.may_order(about):
        # Else whoever may write into a bay could have root ship or delete any file, by a link to it.
        raise ShippingError(f"{path} does not belong to the owner of the order")


def _measured(lock: LockedOrder, path: Path, descriptor: int) -> Cargo:
    order = lock.order
    about = os.fstat(descriptor)
    if order.size is not None and about.st_size != order.size:
        raise ShippingError(f"{path} has {about.st_size} bytes, the order was made for {order.size}")
    # A digest from the making of the order also finds what was damaged since; the receiver checks it.
    return Cargo(descriptor, about.st_size, order.digest or digest_file(descriptor))


def _hops(site: Site, order: Order) -> list[tuple[str, tuple[str, ...]]]:
    """The remaining destinations by next hop; a route that begins here leads straight on."""
    found: dict[str, tuple[str, ...]] = {}
    for one in order.remaining():
        hop = site.conf.next_hop(one)
        if site.is_me(hop):
            hop = one
        known = next((name for name in found if same_host(name, hop)), hop)
        found[known] = (*found.get(known, ()), one)
    return list(found.items())


def _ship_over(site: Site, lock: LockedOrder, group: tuple[str, tuple[str, ...]], data: Cargo) -> bool:
    hop, destinations = group
    if downhost.is_down(site, hop):
        site.log.complain(
            f"{lock.path}: not sent to {' '.join(destinations)}: {hop} did not answer a while ago and is left"
            f" alone for now (until {format_datetime(int(downhost.until(site, hop)))})"
        )
        return False
    order = lock.order
    carried = replace(order, data_path=order.data_name)
    header = Announcement(carried, destinations, hop, site.name, data.size, data.digest)
    try:
        send_file(site, hop, header, data.descriptor)
    except ShippingError as error:
        flag = REFUSED
        if isinstance(error, CannotReach):
            flag = UNREACHED
            downhost.mark_down(site, hop)
        site.log.complain(f"{lock.path}: not sent to {' '.join(destinations)}: {error}")
        lock.write(order.failed(destinations, hop, flag, site.clock()))
        return False
    downhost.mark_up(site, hop)
    lock.write(order.delivered(destinations, hop, site.clock()))
    over = "" if destinations == (hop,) else f" over {hop}"
    site.log.info(f"sent {order.data_path} ({data.size} bytes) to {' '.join(destinations)}{over}")
    return True


def _clean_up(site: Site, lock: LockedOrder, data: DataFile) -> None:
    """Everybody has it. The order goes last: an order without data and without destinations is harmless."""
    if any(site.is_me(one) for one in lock.order.destinations):
        site.log.info(f"kept {data.path}: this host is a destination of it")
    else:
        data.remove()
    lock.remove()
