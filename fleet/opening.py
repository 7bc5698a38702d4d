"""The fleet that imapd.conf describes. `open_home` is what `common.stores` chooses with ``store: fleet``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, CyrusSyncError, StoreError
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores import STORE_DIRECTORY, local_home
from cyrus_sync.common.stores.native.homes import OwnerHome
from cyrus_sync.common.stores.native.layout import KINDS
from cyrus_sync.common.stores.trouble import reporting
from cyrus_sync.fleet.errors import Elsewhere
from cyrus_sync.fleet.home import FleetHome
from cyrus_sync.fleet.machine import Machine
from cyrus_sync.fleet.moving import move_in, move_out, register
from cyrus_sync.fleet.moving_home import MovingHome, everybody_here
from cyrus_sync.fleet.rebalance import Rebalance
from cyrus_sync.fleet.servers import Servers
from cyrus_sync.fleet.settler import Settler
from cyrus_sync.fleet.tallies import COPIES, READS, Spent
from cyrus_sync.fleet.trim import everything, trim
from cyrus_sync.objects.opening import open_objects

_MOVERS = 8


def open_home(cfg: Config, *, readonly: bool = False) -> OwnerHome:
    """Nobody is asked anything yet. ConfigError, UsageError."""
    if cfg.string("store") == "moving":
        return _open_moving(cfg, readonly=readonly)
    return _open_fleet(cfg, readonly=readonly)


def _open_moving(cfg: Config, *, readonly: bool = False) -> MovingHome:
    machine = Machine(cfg.configdirectory / STORE_DIRECTORY, cfg.servername)
    fleet = _open_fleet(cfg, machine, readonly=readonly)
    return MovingHome(local_home(cfg, readonly=readonly), fleet, machine)


def _open_fleet(cfg: Config, machine: Machine | None = None, *, readonly: bool = False) -> FleetHome:
    """`machine`: this one, if users in its partitions count."""
    urls = cfg.words("store_journal")
    if not urls:
        raise ConfigError(f"{cfg.where('store_journal')}not set, and store: {cfg.string('store')} needs it")
    return FleetHome(
        Servers(urls),
        open_objects(cfg, cfg.string("store_objects") or "s3:"),
        cache_of(cfg),
        notes=cfg.configdirectory / STORE_DIRECTORY,
        partitions=cfg.partitions,
        defaultpartition=cfg.defaultpartition,
        readonly=readonly,
        machine=lambda: machine.word if machine is not None else "",
    )


def cache_of(cfg: Config) -> Path:
    """This node's cache."""
    return Path(cfg.string("store_cache") or cfg.configdirectory / "cache")


@contextmanager
def open_fleet(cfg: Config) -> Iterator[Opened]:
    """For who looks after it. It need not be the store that is in use (``store``) yet, or any more."""
    moving = _open_moving(cfg) if cfg.string("store") == "moving" else None
    home = moving.fleet if moving is not None else _open_fleet(cfg)
    try:
        yield Opened(cfg, home, moving)
    finally:
        (moving or home).close()


class Opened:
    """A fleet, and this machine's cache."""

    def __init__(self, cfg: Config, home: FleetHome, moving: MovingHome | None) -> None:
        self.moves = Moves(moving) if moving is not None else None
        """For ``store: moving``."""
        self._home = home
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
        machines = Counter[str]()
        for word, count in self._home.claims.counts().items():
            machines[word.partition(" ")[0]] += count
        servers = self._home.journal.figures()
        return {**self._placing(), "machines": machines, "servers": servers, "cache": cache}

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


class Moves:
    """Users of this machine who go into the fleet, or come out of it."""

    def __init__(self, home: MovingHome) -> None:
        self._home = home

    def register(self) -> int:
        """Tell the fleet who is here, unless it knows; how many they are. To be called before anybody moves.
        `StoreError`, `Away`."""
        with reporting(SERVER):
            registered = register(self._home)
            self._home.even_generations()
            return registered

    def everybody(self, *, inwards: bool) -> list[Owner]:
        """Whoever has to go in, or out; with him who is on his way, whatever way that is. `PartitionAway` for
        those who have to go in, if a disk is not mounted."""
        if inwards:
            self._home.local.partitions.check()
            return list(everybody_here(self._home))
        found = [one for one in self._home.fleet.journal.heads() if one == SERVER or one.kind in KINDS]
        return sorted({*found, *self._home.between.everybody()})

    def leaves_server(self) -> bool:
        """Whether annotations of the server stay behind, since the fleet has others."""
        home = self._home
        if home.local.find(SERVER) is None:
            return False
        try:
            row = home.fleet.claims.row(SERVER)
        except Elsewhere:
            return True
        return row is not None and not row.machine

    def move(
        self, owners: Sequence[Owner], timeout: float, *, inwards: bool
    ) -> Iterator[Path | CyrusSyncError | None]:
        """What became of each, in their order, several at once: where he is now, or what is left of him here;
        None where there was nothing to do."""

        def work(owner: Owner) -> Path | CyrusSyncError | None:
            try:
                with reporting(owner):
                    return (move_in if inwards else move_out)(self._home, owner, timeout)
            except CyrusSyncError as error:
                return error
            except (psycopg.Error, EOFError) as error:  # of the others nobody has asked yet
                return StoreError(f"{type(error).__name__}: {error}".strip()).at(user=str(owner))

        with ThreadPoolExecutor(_MOVERS) as pool:
            yield from pool.map(work, owners)

    def end(self) -> bool:
        """Whether nobody of this machine is in the fleet any more: then it is one like any other."""
        if self.everybody(inwards=False):
            return False
        self._home.machine.end()
        return True


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
