"""The fleet that imapd.conf describes. `open_home` is what `common.stores` chooses with ``store: fleet``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores import STORE_DIRECTORY
from cyrus_sync.common.stores.native.homes import OwnerHome
from cyrus_sync.common.stores.native.layout import Layout
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.fleet.home import FleetHome
from cyrus_sync.fleet.moving import everybody_here, move_in, move_out
from cyrus_sync.fleet.rebalance import Rebalance
from cyrus_sync.fleet.servers import Servers
from cyrus_sync.fleet.settler import Settler
from cyrus_sync.fleet.tallies import COPIES, READS, Spent
from cyrus_sync.fleet.trim import everything, trim
from cyrus_sync.objects.opening import open_objects


def open_home(cfg: Config, notes: Path, *, readonly: bool = False) -> FleetHome:
    """Nobody is asked anything yet. `notes`: hints of this machine. ConfigError, UsageError."""
    urls = cfg.words("store_journal")
    if not urls:
        raise ConfigError(f"{cfg.where('store_journal')}not set, and store: fleet needs it")
    cache = cache_of(cfg)
    home = FleetHome(
        Servers(urls),
        open_objects(cfg, cfg.string("store_objects") or "s3:"),
        cache,
        notes=notes,
        partitions=cfg.partitions,
        defaultpartition=cfg.defaultpartition,
        readonly=readonly,
    )
    _: OwnerHome = home  # as `common.stores` takes it to be
    return home


def cache_of(cfg: Config) -> Path:
    """This node's cache."""
    return Path(cfg.string("store_cache") or cfg.configdirectory / "cache")


@contextmanager
def open_fleet(cfg: Config) -> Iterator[Opened]:
    """For who looks after it. It need not be the store that is in use (``store``) yet, or any more."""
    home = open_home(cfg, cfg.configdirectory / STORE_DIRECTORY)
    try:
        yield Opened(cfg, home)
    finally:
        home.close()


class Opened:
    """A fleet, and this machine's partitions and cache."""

    def __init__(self, cfg: Config, home: FleetHome) -> None:
        self._home = home
        self._layout = Layout(cfg.partitions, cfg.defaultpartition, cfg.configdirectory / STORE_DIRECTORY)
        self._most = cfg.size("store_cache_size")
        self.settler = Settler(home.journal, home.objects)
        self._servers = home.servers
        self.rebalance = Rebalance(home.servers)

    def status(self) -> dict[str, Any]:
        """Figures, by server and of this machine's cache. `Away`."""
        kept = list(everything(self._home.cache))
        since, counts = self._home.tallies.of_node()
        cache = {
            "users": len(kept), "octets": sum(one.octets for one in kept), "of_at_most": self._most,
            "counted_since": round(since), "asked_for": _sums(counts, "copies", COPIES),
            "messages_read": _sums(counts, "reads", READS),
        }  # fmt: skip
        return {**self._placing(), "servers": self._home.journal.figures(), "cache": cache}

    def _placing(self) -> dict[str, Any]:
        """Servers that are named and have nothing, and how far a rebalance is."""
        apart = [
            {"name": self._servers.at(number).name, "id": number, "drained": drained}
            for number, drained in self._servers.apart().items()
        ]
        layout = self._servers.layout()
        if not layout.moving:
            return {"apart": apart, "rebalance": None}
        left = sum(1 for _ in self.rebalance.misplaced(layout))
        onto = [self._servers.at(number).name for number in layout.following]
        return {"apart": apart, "rebalance": {"onto": onto, "users_to_move": left}}

    def trim(self) -> tuple[int, int]:
        """Keep the cache within its size: how many went, and how many octets."""
        return trim(self._home.cache, self._most)

    def everybody(self) -> list[Owner]:
        """Whoever is in the fleet."""
        return [SERVER] * (self._home.journal.head(SERVER) is not None) + self._home.everybody()

    def everybody_here(self) -> list[Owner]:
        """Whoever is in the partitions of this machine."""
        with closing(LocalHome(self._layout)) as local:
            return everybody_here(local)

    def move_in(self, owner: Owner, timeout: float) -> Path:
        with closing(LocalHome(self._layout)) as local:
            return move_in(local, self._home, owner, timeout)

    def move_out(self, owner: Owner, timeout: float) -> Path:
        with closing(LocalHome(self._layout)) as local:
            return move_out(self._home, local, owner, timeout)


def _sums(counts: Mapping[str, Spent], kind: str, words: Sequence[str]) -> dict[str, Any]:
    """How often each was counted, the octets, and the share of those that took nothing from elsewhere: the
    first of the words."""
    found = {word: counts.get(f"{kind} {word}", Spent()) for word in words}
    total = sum(one.times for one in found.values())
    hits = found[words[0]].times
    sums: dict[str, Any] = {word: one.times for word, one in found.items()}
    return {
        **sums,
        "octets": sum(one.octets for one in found.values()),
        "hit_rate": hits / total if total else None,
    }
