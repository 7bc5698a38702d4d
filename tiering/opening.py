"""The tiering that imapd.conf describes. `open_far` is what `common.stores` opens when a far pack is read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, MailboxLocked, StoreError
from cyrus_sync.common.farfigures import REPORT
from cyrus_sync.common.files import make_directories, private, write_over
from cyrus_sync.common.stores import STORE_DIRECTORY, disk
from cyrus_sync.common.stores.native.farpack import read_far
from cyrus_sync.common.stores.native.layout import KINDS, Layout
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.objects.opening import open_objects
from cyrus_sync.objects.store import ObjectStore
from cyrus_sync.tiering.cache import BlockCache
from cyrus_sync.tiering.carrier import SMALLEST, Carrier, Tiered
from cyrus_sync.tiering.ledger import Ledger
from cyrus_sync.tiering.reading import BlockReader

log = logging.getLogger(__name__)

CACHE = "far"
_LOCK = "tier.lock"
_PATIENCE = 3.0
"""Seconds for which a request of somebody who reads mail is repeated."""

LEAST_KEEP = 86400
"""Seconds for which a needless object is kept at least: it may be one that somebody has just put."""


def open_far(cfg: Config) -> BlockReader:
    """Nothing is asked yet. ConfigError, UsageError."""
    cache = BlockCache(cfg.configdirectory / STORE_DIRECTORY / CACHE, cfg.size("s3_tier_cache"))
    return BlockReader(_objects(cfg, _PATIENCE), cache)


def _objects(cfg: Config, patience: float) -> ObjectStore:
    return open_objects(cfg, cfg.string("s3_tier_objects") or "s3:", patience=patience)


@contextmanager
def open_tiering(cfg: Config) -> Iterator[Tiering]:
    """For `mailstore tier`; there is one at a time: `MailboxLocked`. ConfigError, UsageError."""
    if cfg.string("store") != "local":
        raise ConfigError(
            f"{cfg.where('store')}in a fleet all packs are in store_objects: there are no tiers, and nothing"
            " goes there on the way into one"
        )
    notes = cfg.configdirectory / STORE_DIRECTORY
    layout = Layout(cfg.partitions, cfg.defaultpartition, notes)
    make_directories(notes)
    with open(notes / _LOCK, "ab", opener=private) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MailboxLocked("another mailstore tier is at work") from None
        objects = _objects(cfg, 10.0)
        store = NativeStore(LocalHome(layout, far=open_far(cfg)), servername=cfg.servername)
        with contextlib.closing(Tiering(store, layout, objects, Ledger(notes))) as tiering:
            yield tiering


class Tiering:
    """One run."""

    def __init__(
        self,
        store: NativeStore,
        layout: Layout,
        objects: ObjectStore,
        ledger: Ledger,
        *,
        smallest: int = SMALLEST,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._layout = layout
        self._objects = objects
        self._ledger = ledger
        self._clock = clock
        self.carrier = Carrier(store, objects, ledger, smallest=smallest, clock=clock)
        self.everybody = store.home.everybody

    def close(self) -> None:
        self._store.close()
        self._objects.close()

    def forget_needless(self, keep: int) -> int:
        """Delete the objects that no owner's directory has named for `keep` seconds; how many. `StoreError`
        where that cannot be told of all: then none."""
        self._store.home.check()
        due = self._ledger.look(self._named(), int(self._clock()), max(keep, LEAST_KEEP))
        if due:
            self.carrier.check_place()
            self._objects.delete(due)
            self._ledger.strike_out(due)
        return len(due)

    def _named(self) -> Iterator[str]:
        """Every key that is named anywhere, also by who was set aside. `StoreError`."""
        tops = [top / kind for kind in KINDS.values() for top in self._layout.partitions.values()]
        with _seeing():
            for path in (path for top in tops for path in _directories(top)):
                for file in _listed(path):
                    if file.suffix == ".far":
                        yield from _key(file)

    def report(self, total: Tiered, failed: int, *, over: bool) -> None:
        """Leave the figures of a run over everybody to those who tell them; nothing if all is `over`."""
        path = self._store.home.notes / Path(REPORT).name
        if over:
            path.unlink(missing_ok=True)
            return
        document = {
            "ended": int(self._clock()),
            "near": total.near,
            "far": total.far,
            "failed": failed,
        }
        with contextlib.suppress(OSError):
            write_over(path, json.dumps(document).encode() + b"\n")


def _directories(top: Path) -> Iterator[Path]:
    """Where owners are, or were. Raises OSError."""
    for group in _listed(top):
        yield from (path for path in _listed(group) if path.is_dir())


def _listed(directory: Path) -> list[Path]:
    """Nothing for what is gone, or called otherwise since: that is looked at the next time. OSError."""
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _key(path: Path) -> Iterator[str]:
    """Of a far pack, which may have come back meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        yield read_far(path).key


@contextmanager
def _seeing() -> Iterator[None]:
    """Let trouble say what could not be seen."""
    try:
        yield
    except OSError as error:
        raise StoreError(disk.why(error)) from error
