"""Random lives of a family: everybody changes mail everywhere, packets suffer, importers die.

A `History` is driven by one seed. It knows which messages were accepted and not given up by anybody, and says
at the end whether all sites have them and hold the same.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from unittest.mock import patch
from uuid import UUID

from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.model import MailboxState, Record, Seen
from cyrus_sync.common.names import Owner, is_deleted, root_of
from cyrus_sync.common.stores import open_kept
from cyrus_sync.common.stores.mailstore import MailReader, MailStore, MailWriter
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.multisite.errors import WentBack
from cyrus_sync.multisite.export import ExportOptions
from cyrus_sync.multisite.importing import Import
from cyrus_sync.multisite.mastership import hand_over, take_over
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.replay.names import give_back
from cyrus_sync.multisite.restoring import begin
from tests.multisite.world import Site, exchange_until_quiet, family_of

FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "$Junk", "Label")
FOLDERS = ("Work", "Play", "Work.Sub", "Old")


class Killed(BaseException):
    """The importer died here."""


@dataclass
class History:
    """`directory` holds everything. `users` and `shared` (top-level mailboxes) are born at random sites.
    `ways`: what happens besides what always does (`WAYS`)."""

    directory: Path
    seed: int
    names: tuple[str, ...] = ("boston", "sanfran", "bangalore")
    users: tuple[str, ...] = ("bob", "eve")
    shared: tuple[str, ...] = ()
    ways: frozenset[str] = frozenset()
    accepted: dict[bytes, str] = field(default_factory=dict)
    """GUID -> what it is, of every message that a site took and nobody has removed."""
    story: list[str] = field(default_factory=list)
    lost: int = 0
    killed: int = 0
    damaged: int = 0
    late: int = 0
    twice: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._seconds = 1_700_000_000.0
        self._patches = ExitStack()
        # Every site has one clock, on which a change takes anything from no time to seconds; and what is
        # random otherwise comes of the seed, too.
        clock = patch.dict(NativeStore.__init__.__kwdefaults__, clock=self.clock)
        ids = random.Random(self.seed)
        self._patches.enter_context(clock)
        self._patches.enter_context(patch("secrets.choice", ids.choice))
        self._patches.enter_context(patch("uuid.uuid4", lambda: UUID(int=ids.getrandbits(128), version=4)))
        self.owners = [Owner("user", name) for name in self.users]
        self.owners += [Owner("shared", name) for name in self.shared]
        self.acts = [*ACTS, *(act for way in sorted(self.ways) for act in WAYS[way])]
        self.sites = family_of(self.directory, *self.names, clock=self._log_clock)
        self.flying: list[tuple[Site, Path]] = []
        self.unaware: list[Site] = []
        """Sites that were restored from a backup, and nobody has said so yet."""
        self._count = 0
        self._now = 1_700_000_000
        for owner in self.owners:
            self._born(self.chance.choice(self.sites), owner)
        if "born twice" in self.ways:
            for owner in self.owners:
                self._provisioned(owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def _log_clock(self) -> float:
        """For the log and its packets: it says which was made first."""
        self._seconds += 1
        return self._seconds

    def clock(self) -> float:
        self._seconds += self.chance.choice((0, 0, 0.3, 1, 3))
        return self._seconds

    def _born(self, site: Site, owner: Owner) -> None:
        with site.store() as store, store.write(owner) as writer:
            writer.create(root_of(owner))
        self.story.append(f"{owner} born at {site.name}")

    def _provisioned(self, owner: Owner) -> None:
        """Whoever meets a user first makes him, with a folder for what he sends."""
        for site in self.sites:
            with site.store() as store, store.write(owner) as writer:
                if (
                    owner.kind == "user"
                    and writer.mailbox(root_of(owner)) is None
                    and self.chance.random() < 0.6
                ):
                    writer.create(root_of(owner))
                    sent = f"{root_of(owner)}.Sent"
                    writer.create(sent)
                    writer.annotate(sent, "/specialuse", owner.name, b"\\Sent")
                    self.story.append(f"{owner} provisioned at {site.name}")

    # -- one step

    def step(self) -> None:
        """Something happens somewhere."""
        if self.unaware and self.chance.random() < 0.15:
            self._restore(self.unaware.pop(0))
        what = self.chance.random()
        if what < 0.6:
            self.change(self.chance.choice(self.sites))
        elif what < 0.8:
            self.send()
        else:
            self.arrive()

    def change(self, site: Site) -> None:
        """A user of the site does something."""
        owner = self.chance.choice(self.owners)
        if "going back" in self.ways and self.chance.random() < 0.06:
            self._go_back(site)
            return
        if "handing over" in self.ways and self.chance.random() < 0.12:
            self._hand_over(site, owner)
            return
        with site.store() as store:
            with store.read(owner) as reader:
                mailboxes = in_use(reader)
                if not any(s.name == root_of(owner) for s in mailboxes):
                    if self.chance.random() < 0.2:
                        self._born_again(site, store, owner)
                    return
                mailbox = self.chance.choice(mailboxes)
                records = live(reader, mailbox)
            act = self.chance.choice(self.acts)
            self.story.append(f"{site.name}: {act.__name__} {mailbox.name}")
            try:
                if act is _rename:
                    self._rename(store, owner, mailbox)
                elif act is _leave:
                    self._leave(store, owner)
                else:
                    with store.write(owner) as writer:
                        act(self, writer, mailbox, records)
            except StoreError:
                raise
            except CyrusSyncError as error:
                self.story.append(f"   {error}")

    def _rename(self, store: MailStore, owner: Owner, mailbox: MailboxState) -> None:
        if mailbox.name == root_of(owner) or mailbox.name.endswith("_INBOX"):
            return  # the INBOX of another site is renamed there
        others = self.owners if "moving away" in self.ways and self.chance.random() < 0.5 else [owner]
        new = f"{root_of(self.chance.choice(others))}.{self.chance.choice(FOLDERS)}"
        self.story.append(f"   to {new}")
        store.rename(mailbox.name, new, log=True)

    def _leave(self, store: MailStore, owner: Owner) -> None:
        """All that a user has here goes with him."""
        if owner.kind != "user" or self.chance.random() < 0.6:
            return
        with store.write(owner) as writer:
            for mailbox in in_use(writer):
                for record in live(writer, mailbox):
                    self.accepted.pop(record.guid, None)
            writer.delete(root_of(owner), delayed=self.delayed())
        self.story.append(f"   {owner} is gone")

    def _go_back(self, site: Site) -> None:
        """A backup is made; or the site burns down, and comes back from the one that there is."""
        backup = site.directory.with_name(f"{site.name}.backup")
        if not backup.exists():
            shutil.copytree(site.directory, backup)
            self.story.append(f"{site.name}: backup")
            return
        if site in self.unaware:
            return
        parts = self.chance.choice((("conf", "spool"), ("conf", "spool"), ("conf",), ("spool",)))
        for part in parts:
            shutil.rmtree(site.directory / part, ignore_errors=True)
            if (backup / part).exists():
                (backup / part).rename(site.directory / part)
            elif part == "spool":
                # The backup is of before the first mail: the administrator says that the partition is right.
                (site.directory / part).mkdir()
                (site.directory / part / ".cyrus-sync-partition").touch()
        shutil.rmtree(backup)
        with closing(open_kept(site.config)) as kept:
            # Who is known to have been made since is not there: the administrator lets him go.
            for owner in kept.care.everybody():
                if kept.care.is_unusable(owner):
                    kept.care.give_up(owner)
        others = [one for one in self.sites if one is not site]
        heard = set().union(*(all_known(one, self.accepted) for one in others))
        with site.store() as store:
            heard |= {guid for owner in store.owners() for guid in site.guids_of(owner)}
        for guid in set(self.accepted) - heard:
            del self.accepted[guid]
        self.story.append(f"{site.name}: {' and '.join(parts)} back from backup")
        if "forgetting" in self.ways and self.chance.random() < 0.6:
            self.unaware.append(site)
        else:
            self._restore(site)

    def _restore(self, site: Site) -> None:
        """The administrator says that the site was restored from a backup."""
        others = [one for one in self.sites if one is not site]
        with site.member(went_back=True) as member:
            begin(member, [member.family.find(one.name) for one in others])
        self.story.append(f"{site.name}: restorereplica")

    def delayed(self) -> bool:
        """Whether the next deletion is a delayed one."""
        return "setting aside" in self.ways and self.chance.random() < 0.5

    def _born_again(self, site: Site, store: MailStore, owner: Owner) -> None:
        try:
            with store.write(owner) as writer:
                writer.create(root_of(owner))
            self.story.append(f"{owner} born again at {site.name}")
        except CyrusSyncError as error:
            self.story.append(f"   {error}")

    def _hand_over(self, site: Site, owner: Owner) -> None:
        """The master hands over; seldom somebody else takes over without asking him."""
        to = self.chance.choice(self.sites)
        with site.member(went_back=True) as member:
            master = member.log.masters.of(owner)
            if master is None or member.sealed or site in self.unaware:
                return
            other = member.family.find(to.name)
            if master.replica == member.family.self_id:
                hand_over(member, owner, other)
                self.story.append(f"{site.name}: {owner} is handed over to {to.name}")
            elif self.chance.random() < 0.1:
                take_over(member, owner, other, site.heard.append)
                self.story.append(f"{site.name}: {owner} is given to {to.name}")

    def message(self) -> tuple[bytes, int, str]:
        self._count += 1
        raw = f"Subject: {self._count}\r\n\r\n{self.chance.random()}\r\n".encode()
        return raw, self._now + self._count, ""

    def accept(self, raw: bytes, where: str) -> None:
        self.accepted[hashlib.sha1(raw).digest()] = f"{where} {raw[:20]!r}"

    # -- packets

    def send(self) -> None:
        source, target = self.chance.sample(self.sites, 2)
        options = ExportOptions(max_size=self.chance.choice((0, 0, 3000, 6000)))
        try:
            paths = source.export_to(target, self.directory / "flying", options)
        except WentBack as error:
            self.story.append(f"{source.name}: {error}")
            return
        self.story.append(f"{source.name} -> {target.name}: {[p.name for p in paths]}")
        self.flying += [(target, path) for path in paths]

    def arrive(self) -> None:
        """One of the packets that are under way meets its fate."""
        if not self.flying:
            return
        place = self.chance.randrange(len(self.flying))
        self.late += place > 0
        target, path = self.flying.pop(place)
        if not path.exists():  # the importer died after it had done its work
            return
        fate = self.chance.random()
        if fate < 0.12:
            self.lose(target, path)
        elif fate < 0.22:
            self.damage(target, path)
            self.flying.append((target, path))
        elif fate < 0.32:
            self.twice += 1
            copy = path.with_name(path.name + ".copy")
            shutil.copy(path, copy)
            self.flying.append((target, copy))
            self.deliver(target, path)
        elif fate < 0.5:
            self.kill(target, path)
        else:
            self.deliver(target, path)

    def deliver(self, target: Site, path: Path) -> None:
        try:
            result = target.import_from([path])
        except WentBack as error:
            self.story.append(f"{target.name}: {error}")
            self.flying.append((target, path))
            return
        self.story.append(f"at {target.name}: {path.name} {[str(e) for e in result.refused.values()]}")
        if path.exists():
            self.flying.append((target, path))

    def lose(self, target: Site, path: Path) -> None:
        """The packet is gone; the sender is told one day, and sends again."""
        self.lost += 1
        path.unlink()
        name = path.name.split("_")[1]
        source = next(site for site in self.sites if site.name == name)
        self.story.append(f"lost: {path.name}")
        with source.member(went_back=True) as member, member.log.db.transaction():
            other = member.family.find(target.name)
            exported = [e for e in member.log.epochs.exports(other.id) if Path(e.packet).name == path.name]
            if exported:
                member.log.epochs.put(other.id, exported[0].row)

    def damage(self, target: Site, path: Path) -> None:
        """A damaged copy arrives first: nothing of it may be applied."""
        self.damaged += 1
        bad = path.with_name(path.name + ".bad")
        octets = bytearray(path.read_bytes())
        if self.chance.random() < 0.5:
            del octets[self.chance.randrange(len(octets)) :]
        else:
            octets[self.chance.randrange(len(octets))] ^= 1 << self.chance.randrange(8)
        bad.write_bytes(octets)
        try:
            target.import_from([])  # ends what somebody has begun who died
            before = target.dump()
            result = target.import_from([bad])
        except WentBack:
            bad.unlink()
            return
        assert bad in result.refused or not bad.exists()
        if bad in result.refused:
            assert target.dump() == before
            bad.unlink(missing_ok=True)

    def kill(self, target: Site, path: Path) -> None:
        """The importer dies somewhere in the middle."""
        self.killed += 1
        self.story.append(f"at {target.name}: {path.name} killed")
        with dying(self.chance.randrange(1, 40)):
            try:
                self.deliver(target, path)
            except Killed:
                self.flying.append((target, path))

    # -- the end

    def finish(self) -> None:
        """Every packet arrives or is forgotten, everybody tells everybody, conflicts are settled."""
        for site in self.unaware:
            self._restore(site)
        for target, path in self.flying:
            if path.exists():
                target.import_from([path])
                path.unlink(missing_ok=True)
        self.flying.clear()
        for source in self.sites:
            self._forget_beliefs(source)
        exchange_until_quiet(self.sites, self.directory)
        for _ in range(12):
            if not self._settle_names():
                break
            exchange_until_quiet(self.sites, self.directory)

    def _forget_beliefs(self, source: Site) -> None:
        """Whatever was lost is sent again."""
        for target in self.sites:
            if target is source:
                continue
            with target.member() as member:
                row = member.log.epochs.row(member.family.self_id)
            with source.member() as member, member.log.db.transaction():
                member.log.epochs.put(member.family.find(target.name).id, row)

    def _settle_names(self) -> bool:
        """Rename one mailbox in conflict, at the site that made it, to a name that nobody has."""
        for site in self.sites:
            with site.member() as member:
                things = member.log.objects.in_conflict()
            if not things:
                continue
            thing = things[0]
            for other in self.sites:
                with other.member() as member:
                    mine = member.family.self_id == thing.creator
                if mine:
                    with other.store() as store:
                        owner = store.owner_of_uniqueid(thing.uniqueid) or thing.owner
                        with store.read(owner) as reader:
                            state = reader.mailbox_by_id(thing.uniqueid)
                    if state is None:
                        continue
                    new = f"{thing.wanted}_{other.name}_{thing.uniqueid[:4]}"
                    if state.name == root_of(owner):
                        new = f"{state.name}.former_{other.name}_{thing.uniqueid[:4]}"
                    with other.store() as store:
                        store.rename(state.name, new, log=True)
                    with other.member() as member:
                        member.record()
                        with_names(member)
                    return True
        return False

    def check(self) -> list[str]:
        """What is wrong, nothing if all is well."""
        found = []
        dumps = {site.name: site.dump() for site in self.sites}
        first = self.sites[0].name
        for name, dump in dumps.items():
            if dump != dumps[first]:
                found.append(f"{name} differs from {first}")
        for site in self.sites:
            with site.store() as store:
                owners = list(store.owners())
                found += [
                    f"{site.name} has {owner} without INBOX" for owner in owners if lacks_root(store, owner)
                ]
            have = {guid for owner in owners for guid in site.guids_of(owner)}
            for guid, what in self.accepted.items():
                if guid not in have:
                    found.append(f"{site.name} lacks {what} {guid.hex()[:8]}")
        return found


def with_names(member: Member) -> None:
    """Give back the names that a rename here has freed."""
    importing = Import(member, lambda _path: None, lambda _line: None)
    importing.run([])


__all__ = ["History", "give_back"]


# -- what users do


def _append(history: History, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    messages = [history.message() for _ in range(history.chance.randint(1, 3))]
    writer.append(mailbox.name, messages)
    for raw, _, _ in messages:
        history.accept(raw, mailbox.name)


def _flag(history: History, writer: MailWriter, mailbox: MailboxState, records: list[Record]) -> None:
    if records:
        uid = history.chance.choice(records).uid
        flag = history.chance.choice(FLAGS)
        if history.chance.random() < 0.6:
            writer.set_flags(mailbox.name, [uid], add=[flag])
        else:
            writer.set_flags(mailbox.name, [uid], remove=[flag])


def _expunge(history: History, writer: MailWriter, mailbox: MailboxState, records: list[Record]) -> None:
    if records:
        record = history.chance.choice(records)
        writer.expunge(mailbox.name, [record.uid])
        history.accepted.pop(record.guid, None)


def _copy(history: History, writer: MailWriter, mailbox: MailboxState, records: list[Record]) -> None:
    if records:
        target = history.chance.choice(in_use(writer))
        move = history.chance.random() < 0.3 and target.name != mailbox.name
        writer.copy(mailbox.name, [history.chance.choice(records).uid], target.name, move=move)


def _create(history: History, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    writer.create(f"{root_of(writer.owner)}.{history.chance.choice(FOLDERS)}")


def _delete(history: History, writer: MailWriter, mailbox: MailboxState, records: list[Record]) -> None:
    if mailbox.name != root_of(writer.owner):
        writer.delete(mailbox.name, delayed=history.delayed())
        for record in records:
            history.accepted.pop(record.guid, None)


def _expire(history: History, writer: MailWriter, _: MailboxState, __: list[Record]) -> None:
    """What was set aside is removed for good."""
    aside = [state for state in writer.mailboxes() if is_deleted(state.name)]
    if aside:
        gone = history.chance.choice(aside)
        for record in live(writer, gone):
            history.accepted.pop(record.guid, None)
        writer.delete(gone.name, delayed=False)


def _leave(history: History, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    raise AssertionError("is done by the history")


def _rename(history: History, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    raise AssertionError("is done by the history")


def _meta(history: History, writer: MailWriter, mailbox: MailboxState, _: list[Record]) -> None:
    chance = history.chance
    match chance.choice((1, 2, 3)) if writer.owner.kind == "shared" else chance.randrange(6):
        case 0:
            writer.subscribe(mailbox.name, chance.random() < 0.6)
        case 1:
            writer.set_acl(mailbox.name, chance.choice(("al", "zoe")), chance.choice(("lrs", "lr", "")))
        case 2:
            writer.annotate(mailbox.name, "/comment", "", str(chance.random()).encode())
        case 3:
            writer.set_quota(root_of(writer.owner), {"STORAGE": chance.randrange(1000, 9000)})
        case 4:
            writer.put_script(chance.choice(("main", "holiday")), b"# %d\r\nkeep;\r\n" % chance.randrange(99))
        case 5:
            writer.set_seen(Seen("f" * 24, 1, chance.randrange(1, 9), history._now, "1:3"))


ACTS: tuple[Callable[[History, MailWriter, MailboxState, list[Record]], None], ...] = (
    _append,
    _append,
    _append,
    _flag,
    _flag,
    _expunge,
    _copy,
    _create,
    _delete,
    _rename,
    _meta,
)

WAYS = {
    "handing over": (),
    "going back": (_append,),
    "forgetting": (),
    "born twice": (_append, _append),
    "setting aside": (_append, _delete, _expire),
    "leaving": (_append, _append, _leave),
    "moving away": (_append, _append, _rename, _rename, _rename),
}
"""What may happen in a history besides, and the acts that come with it. "forgetting" is of "going back"."""


def lacks_root(store: MailStore, owner: Owner) -> bool:
    """Whether a user has mailboxes and no INBOX."""
    with store.read(owner) as reader:
        names = [state.name for state in in_use(reader)]
    return owner.kind == "user" and bool(names) and root_of(owner) not in names


def all_known(site: Site, guids: Iterable[bytes]) -> set[bytes]:
    """Those of the messages that a site has heard of."""
    with site.member(went_back=True) as member:
        return {guid for guid in guids if member.log.operations.introducers(guid)}


def in_use(reader: MailReader) -> list[MailboxState]:
    """The mailboxes that people see."""
    return [
        state
        for state in reader.mailboxes()
        if not is_deleted(state.name) and "#sieve" not in state.name and not state.intermediate
    ]


def live(reader: MailReader, mailbox: MailboxState) -> list[Record]:
    """Its messages."""
    return [one for batch in reader.records(mailbox.uniqueid) for one in batch if not one.expunged]


# -- sudden death


class dying:
    """Within it the process dies, so to speak, at the n-th write to the log or end of a store transaction."""

    def __init__(self, after: int) -> None:
        self._left = after
        self._execute = Database.execute
        self._commit = Database.commit

    def __enter__(self) -> None:
        def count() -> None:
            self._left -= 1
            if self._left == 0:
                raise Killed

        execute, commit = self._execute, self._commit

        def dying_execute(db: Database, statement: str, values: object = ()) -> object:
            if statement.startswith(("INSERT", "DELETE", "UPDATE")):
                count()
            return execute(db, statement, values)  # type: ignore[arg-type]

        def dying_commit(db: Database) -> None:
            count()
            commit(db)

        Database.execute = dying_execute  # type: ignore[method-assign,assignment]
        Database.commit = dying_commit  # type: ignore[method-assign,assignment]

    def __exit__(self, *_: object) -> None:
        Database.execute = self._execute  # type: ignore[method-assign]
        Database.commit = self._commit  # type: ignore[method-assign]
