"""Random lives of a family: everybody changes mail everywhere, packets suffer, importers die.

A `History` is driven by one seed. Each step draws from a chance of its own, and the clocks from another, so
a step stays what it is, whatever happens in the ones before it. It knows which messages were accepted and not
given up by anybody, and says at the end whether all sites have them and hold the same.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self
from unittest.mock import patch
from uuid import UUID

from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner, root_of
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import TooLate, WentBack
from cyrus_sync.multisite.mastership import hand_over, take_over
from tests.multisite import disasters, settling
from tests.multisite.acts import ACTS, FOLDERS, WAYS, in_use, lacks_root, leave, live, rename
from tests.multisite.dying import Killed, dying
from tests.multisite.world import Site, family_of

DAY = 86400


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

    def __post_init__(self) -> None:
        self._seconds = 1_700_000_000.0
        self._count = 0
        self._patches = ExitStack()
        self.draw("beginning")
        clock = patch.dict(NativeStore.__init__.__kwdefaults__, clock=self.clock)
        self._patches.enter_context(clock)
        self._patches.enter_context(patch("secrets.choice", self._choice))
        # Whoever was made first is not always first.
        self._patches.enter_context(
            patch(
                "cyrus_sync.multisite.creation.new_id",
                lambda: UUID(int=self._ids.getrandbits(128), version=4).hex,
            )
        )
        self._patches.enter_context(
            patch("uuid.uuid4", lambda: UUID(int=self._ids.getrandbits(128), version=4))
        )
        self.owners = [Owner("user", name) for name in self.users]
        self.owners += [Owner("shared", name) for name in self.shared]
        self.acts = [*ACTS, *(act for way in sorted(self.ways) for act in WAYS[way])]
        self.sites = family_of(self.directory, *self.names, clock=self._log_clock)
        self.flying: list[tuple[Site, Path]] = []
        self.unaware: list[Site] = []
        """Sites that were restored from a backup, and nobody has said so yet."""
        self.links = self._links()
        for owner in self.owners:
            self._born(self.chance.choice(self.sites), owner)
        if "born twice" in self.ways:
            for owner in self.owners:
                self._provisioned(owner)

    def draw(self, step: object) -> None:
        """From here on chance is that of a step. The clocks and new ids have theirs."""
        self.chance = Random(f"{self.seed} {step}")
        self._moments = Random(f"moments {self.seed} {step}")
        self._ids = Random(f"ids {self.seed} {step}")

    def _choice(self, some: str) -> str:
        """For new ids."""
        return self._ids.choice(some)

    def _links(self) -> list[tuple[Site, Site]]:
        """From whom to whom packets go: a ring in which they go one way, or everybody to everybody."""
        if "one way" in self.ways:
            return list(zip(self.sites, [*self.sites[1:], self.sites[0]], strict=True))
        return [(one, other) for one in self.sites for other in self.sites if one is not other]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()

    def _log_clock(self) -> float:
        """For the log and its packets: it says which was made first."""
        self._seconds += 1
        return self._seconds

    def clock(self) -> float:
        """Every site has one clock, on which a change takes anything from no time to seconds."""
        self._seconds += self._moments.choice((0, 0, 0.3, 1, 3))
        return self._seconds

    def now(self) -> int:
        """Unix seconds."""
        return int(self._seconds)

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

    def play(self, steps: Iterable[int]) -> list[str]:
        """All of it; what is wrong in the end."""
        for step in steps:
            self.step(step)
        self.finish()
        return self.check()

    def step(self, number: int) -> None:
        """Something happens somewhere."""
        self.draw(number)
        self.story.append(f"-- {number}")
        if self.unaware and self.chance.random() < 0.15:
            disasters.restore(self, self.unaware.pop(0))
        what = self.chance.random()
        if what < 0.6:
            self.change(self.chance.choice(self.sites))
        elif what < 0.8:
            self.send()
        else:
            self.arrive()

    def change(self, site: Site) -> None:
        """Something happens at a site; mostly a user does something."""
        owner = self.chance.choice(self.owners)
        if self._happens("time passing", 0.05):
            days = self.chance.choice((1, 10, 40, 40, 400))
            self._seconds += days * DAY
            self.story.append(f"{days} days pass")
        elif self._happens("going back", 0.06):
            disasters.go_back(self, site)
        elif self._happens("made anew", 0.03):
            disasters.make_anew(
                self, site, self.chance.choice([one for one in self.sites if one is not site])
            )
        elif self._happens("rotting", 0.04):
            disasters.rot(self, site, owner)
        elif self._happens("handing over", 0.12):
            self._hand_over(site, owner)
        else:
            self._act(site, owner)

    def _happens(self, way: str, how_often: float) -> bool:
        """Draws also where that is no way of this history: the rest goes on the same."""
        return self.chance.random() < how_often and way in self.ways

    def _act(self, site: Site, owner: Owner) -> None:
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
                if act is rename:
                    self._rename(store, owner, mailbox)
                elif act is leave:
                    self._leave(store, owner)
                else:
                    with store.write(owner) as writer:
                        act(self, writer, mailbox, records)
            except StoreError as error:
                if "rotting" not in self.ways:
                    raise
                self.story.append(f"   {error}")
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
        """One that nobody has."""
        self._count += 1
        raw = f"Subject: {self._count}\r\n\r\n{self.chance.random()}\r\n".encode()
        return raw, self.now(), ""

    def accept(self, raw: bytes, where: str) -> None:
        """From now on it may not be lost."""
        self.accepted[hashlib.sha1(raw).digest()] = f"{where} {raw[:20]!r}"

    # -- packets

    def send(self) -> None:
        """A site tells another one what that lacks."""
        source, target = self.chance.choice(self.links)
        options = ExportOptions(max_size=self.chance.choice((0, 0, 3000, 6000)))
        try:
            paths = source.export_to(target, self.directory / "flying", options)
        except WentBack as error:
            self.story.append(f"{source.name}: {error}")
            return
        except TooLate as error:
            self.story.append(f"{source.name}: {error}")
            disasters.make_anew(self, target, source)
            return
        self.story.append(f"{source.name} -> {target.name}: {[p.name for p in paths]}")
        self.flying += [(target, path) for path in paths]

    def arrive(self) -> None:
        """One of the packets that are under way meets its fate."""
        if not self.flying:
            return
        target, path = self.flying.pop(self.chance.randrange(len(self.flying)))
        if not path.exists():  # the importer died after it had done its work
            return
        fate = self.chance.random()
        if fate < 0.12:
            self.lose(target, path)
        elif fate < 0.22:
            self.damage(target, path)
            self.flying.append((target, path))
        elif fate < 0.32:
            copy = path.with_name(path.name + ".copy")
            shutil.copy(path, copy)
            self.flying.append((target, copy))
            self.deliver(target, path)
        elif fate < 0.5:
            self.kill(target, path)
        else:
            self.deliver(target, path)

    def deliver(self, target: Site, path: Path) -> None:
        """The packet is imported, or kept."""
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
        self.story.append(f"at {target.name}: {path.name} killed")
        with dying(self.chance.randrange(1, 40)):
            try:
                self.deliver(target, path)
            except Killed:
                self.flying.append((target, path))

    # -- the end

    def finish(self) -> None:
        """Every packet arrives or is forgotten, everybody tells everybody, conflicts are settled."""
        self.draw("end")
        self.story.append("-- end")
        for site in self.unaware:
            disasters.restore(self, site)
        for target, path in self.flying:
            if path.exists():
                target.import_from([path])
                path.unlink(missing_ok=True)
        self.flying.clear()
        settling.settle(self)

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
