"""Several sites of one family in directories of their own, with packets carried by hand."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.mailstore.canonical import write_yaml
from cyrus_sync.mailstore.state import Scope, state_of
from cyrus_sync.multisite.admission import Gap
from cyrus_sync.multisite.creation import Pin, create_family, import_replica, make_replica
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import Forked
from cyrus_sync.multisite.export import export, packet_name
from cyrus_sync.multisite.importing import Import, Result
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.membership import set_inbox_policy

TRUSTING = Pin(is_right=lambda _keys: True)
"""Somebody who has compared the fingerprint."""


@dataclass
class Site:
    """One server. `heard` collects warnings and notices."""

    name: str
    directory: Path
    heard: list[str] = field(default_factory=list)
    packets: int = 0
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "imapd.conf").write_text(
            f"configdirectory: {self.directory}/conf\n"
            f"partition-default: {self.directory}/spool\n"
            "servername: mail.example.org\n"
            "sync_log: yes\nsync_log_channels: multisite\n"
        )

    @property
    def config(self) -> Config:
        return Config.load(self.directory / "imapd.conf", program="multitool")

    @contextmanager
    def store(self) -> Iterator[MailStore]:
        store = open_store(self.config)
        try:
            yield store
        finally:
            store.close()

    @contextmanager
    def member(self, *, went_back: bool = False) -> Iterator[Member]:
        with Member.open(
            self.config, warn=self.heard.append, clock=self.clock, went_back=went_back
        ) as member:
            yield member

    # -- packets

    def export_to(self, other: Site, where: Path, options: ExportOptions | None = None) -> list[Path]:
        """Write what `other` lacks into `where`."""
        where.mkdir(parents=True, exist_ok=True)
        self.packets += 1
        with self.member() as member:
            target = member.family.find(other.name)
            name = packet_name("sync", self.name, 1e9 + self.packets, 0)
            done = export(
                member, target, lambda number, _size: where / f"{name}_{number}", options or ExportOptions()
            )
        return done.paths

    def import_from(self, paths: Iterable[Path]) -> Result:
        with self.member() as member:
            return Import(member, lambda path: path.unlink(), self.heard.append).run(paths)

    # -- what it holds

    def dump(self) -> str:
        """The complete state, partitions and the mailbox of scripts apart."""
        text = io.StringIO()
        with self.store() as store:
            scope = Scope(partitions=False, sieve_mailbox=False)
            write_yaml(state_of(store, list(store.owners()), server=True, scope=scope), text.write)
        return text.getvalue()

    def guids(self, user: str) -> dict[str, list[bytes]]:
        """Live messages by mailbox name."""
        return self._guids(Owner("user", user))

    def guids_of(self, owner: Owner) -> set[bytes]:
        """Live messages, wherever he has them."""
        return {guid for guids in self._guids(owner).values() for guid in guids}

    def _guids(self, owner: Owner) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        with self.store() as store, store.read(owner) as reader:
            for state in reader.mailboxes():
                found[state.name] = [
                    record.guid
                    for batch in reader.records(state.uniqueid)
                    for record in batch
                    if not record.expunged
                ]
        return found


def family_of(
    directory: Path, *names: str, clock: Callable[[], float] = time.time, inbox: str = ""
) -> list[Site]:
    """Sites of one family, the first of which made it. `inbox`: its policy for INBOXes born twice."""
    sites = [Site(name, directory / name, clock=clock) for name in names]
    create_family(sites[0].config, "mail", sites[0].name, f"{sites[0].name}.example.org")
    if inbox:
        with sites[0].member() as member:
            set_inbox_policy(member, inbox)
    for site in sites[1:]:
        where = directory / f"creation-{site.name}"
        where.mkdir()
        with sites[0].member() as member:
            made = make_replica(
                member,
                site.name,
                f"{site.name}.example.org",
                lambda n, _s, w=where: w / f"repl_{n}",
                ExportOptions(),
            )
        import_replica(site.config, made.paths, TRUSTING, warn=site.heard.append, notice=site.heard.append)
    for site in sites[1:]:
        carry(site, sites[0], directory / "travel")
    for site in sites[1:]:
        carry(sites[0], site, directory / "travel")
    return sites


def carry(source: Site, target: Site, directory: Path) -> None:
    """One exchange from source to target, by hand."""
    result = target.import_from(source.export_to(target, directory))
    assert not result.refused, result.refused


def exchange(sites: list[Site], directory: Path, rounds: int = 3) -> None:
    """Everybody to everybody, so many times."""
    for _ in range(rounds):
        for source in sites:
            for target in sites:
                if source is not target:
                    carry(source, target, directory / "travel")


def exchange_until_quiet(sites: list[Site], directory: Path, most: int = 12) -> None:
    """Everybody to everybody until nobody has anything to tell; AssertionError if that never is.

    Who is being restored may be told what builds on what it has lost: it keeps that until it has its answers.
    """
    kept: dict[str, list[Path]] = {site.name: [] for site in sites}
    for _ in range(most):
        sent = 0
        for source in sites:
            for target in sites:
                if source is not target:
                    paths = source.export_to(target, directory / "travel")
                    sent += len(paths)
                    kept[target.name] = imported(target, kept[target.name], paths)
        if not sent:
            assert not any(kept.values()), kept
            return
    raise AssertionError(f"there is still something to tell after {most} rounds")


def imported(target: Site, kept: list[Path], paths: list[Path]) -> list[Path]:
    """Import; what is left waiting. What was kept may have come to nothing: it has been sent again. Who has
    heard one life of a restored replica waits for its word before it takes what builds on another."""
    with target.member() as member:
        sealed = member.sealed
    refused = target.import_from([*kept, *paths]).refused
    waiting = [path for path, error in refused.items() if isinstance(error, Gap | Forked)]
    gaps = [path for path, error in refused.items() if isinstance(error, Gap)]
    assert (sealed or kept or not gaps) and set(refused) <= {*waiting, *kept}, refused
    return waiting
