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

from common.files import sync_directory
from multisite.shipping import downhost
from multisite.shipping.digest import digest_file
from multisite.shipping.errors import BadOrder, CannotReach, ShippingError
from multisite.shipping.files import remove, write_temporary
from multisite.shipping.names import bay_name, same_host
from multisite.shipping.order import LONGEST_ORDER, REFUSED, UNREACHED, Order
from multisite.shipping.returns import at_end_of_time
from multisite.shipping.site import Site
from multisite.shipping.transfer import Header, send_file


class LockedOrder:
    """An order file that this process works on. `take` gives None if another one does, or if it is gone."""

    def __init__(self, path: Path, descriptor: int, order: Order) -> None:
        self.path = path
        self._descriptor = descriptor
        self.order = order

    @classmethod
    def take(cls, path: Path) -> Self | None:
        """`BadOrder` if it is not an order."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BadOrder("not a plain file")
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            about = os.fstat(descriptor)
            if path.stat().st_ino != about.st_ino:
                raise BlockingIOError  # replaced between open and lock: whoever did it has the lock
            return cls(path, descriptor, Order.parse(os.pread(descriptor, LONGEST_ORDER + 1, 0)))
        except (BlockingIOError, FileNotFoundError):
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def owner(self) -> int:
        """The user who owns the order."""
        return os.fstat(self._descriptor).st_uid

    def write(self, order: Order) -> None:
        """Replace the file, durably and still locked."""
        about = os.fstat(self._descriptor)
        temporary = write_temporary(self.path.parent, order.text(), stat.S_IMODE(about.st_mode))
        try:
            descriptor = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
            with contextlib.suppress(PermissionError):
                os.fchown(descriptor, about.st_uid, about.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(about.st_mode))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            temporary.rename(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(self.path.parent)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self.order = order

    def remove(self) -> None:
        remove(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class Data:
    """The open data file of an order."""

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
    except (ShippingError, OSError) as error:
        site.log.complain(f"{path}: {error}; the order stays")
    return False


def _carry_out(site: Site, lock: LockedOrder) -> bool:
    data_path = _checked_data_path(lock)
    local = tuple(one for one in lock.order.remaining() if site.is_me(one))
    if local and not lock.order.returning:
        lock.write(lock.order.delivered(local, site.name, site.clock()))
    if not lock.order.remaining():
        _clean_up(site, lock, data_path)
        return True
    if lock.order.expired(site.clock()) or (lock.order.returning and local):
        at_end_of_time(site, lock, data_path)
        return True
    try:
        descriptor = os.open(data_path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ShippingError(f"its data file {data_path} is not there") from None
    try:
        data = _measured(lock, data_path, descriptor)
        tried = [_ship_over(site, lock, hop, data) for hop in _hops(site, lock.order)]
    finally:
        os.close(descriptor)
    if not lock.order.remaining():
        _clean_up(site, lock, data_path)
    return all(tried)


def _checked_data_path(lock: LockedOrder) -> Path:
    """Where the data must be: beside the order, in a directory in which we may do everything."""
    directory = lock.path.absolute().parent
    given = Path(lock.order.data_path)
    if given.parent != Path() and given.parent.resolve() != directory.resolve():
        raise ShippingError(f"its data file {given} is not in the directory of the order")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise ShippingError(f"reading, writing and searching {directory} must be permitted")
    return directory / given.name


def _measured(lock: LockedOrder, path: Path, descriptor: int) -> Data:
    order = lock.order
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        raise ShippingError(f"{path} is not a plain file")
    if os.geteuid() not in (0, about.st_uid):
        raise ShippingError(f"{path} belongs to somebody else; only its owner and root can ship it")
    if os.geteuid() == 0 and lock.owner not in (0, about.st_uid):
        # Else whoever may write into a bay could have root ship any file, by a link to it.
        raise ShippingError(f"{path} does not belong to the owner of the order")
    if order.size is not None and about.st_size != order.size:
        raise ShippingError(f"{path} has {about.st_size} bytes, the order was made for {order.size}")
    bay_name(path.name)
    # A digest from the making of the order also finds what was damaged since; the receiver checks it.
    return Data(descriptor, about.st_size, order.digest or digest_file(descriptor))


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


def _ship_over(site: Site, lock: LockedOrder, group: tuple[str, tuple[str, ...]], data: Data) -> bool:
    hop, destinations = group
    name = lock.path.name
    if downhost.is_down(site, hop):
        site.log.info(f"{name}: {hop} did not answer a while ago and is left alone for now")
        return True
    order = lock.order
    carried = replace(order, data_path=order.data_name)
    header = Header(carried, destinations, hop, site.name, data.size, data.digest)
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


def _clean_up(site: Site, lock: LockedOrder, data_path: Path) -> None:
    """Everybody has it. The order goes last: an order without data and without destinations is harmless."""
    if any(site.is_me(one) for one in lock.order.destinations):
        site.log.info(f"kept {data_path}: this host is a destination of it")
    else:
        remove(data_path)
    lock.remove()
