"""A master's random life: everything that users, deliveries and an administrator do to mail, by a seed.

`alive` is what the operations promise: how often each message stands unexpunged in the store, wherever.
A replication that loses a message, or makes two of one, shows there, even if both ends agree on it.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.model import Record, Seen
from cyrus_sync.common.names import SERVER, Owner, inbox_of, is_deleted, is_inbox, owner_of
from cyrus_sync.common.sieve import SIEVE_FOLDER
from cyrus_sync.common.stores.native.care.rename import rename_user
from cyrus_sync.common.stores.native.store import NativeStore

USERS = ("ann", "ben", "cia", "dan")
SHARED = "lists"
FOLDERS = ("a", "b", "c", "a.x", "a.x.deep", "b.y")
FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "\\Answered", "Work", "$Junk", "NonJunk")


class Life:
    """`step` does one thing. Names of users change: a rename makes ``ann`` to ``ann2`` and back."""

    def __init__(self, store: NativeStore, seed: int) -> None:
        self.store = store
        self.chance = random.Random(seed)
        self.alive: Counter[bytes] = Counter()
        self.did: Counter[str] = Counter()
        self.story: list[str] = []
        self.forgotten: set[str] = set()
        """Uniqueids of mailboxes whose \\Seen went with a user who read them."""
        self.number = 0
        self.users = list(USERS)
        for user in self.users:
            self._begin(user)
        with store.write(Owner("shared", SHARED)) as writer:
            writer.create(SHARED)
        often = [self.append] * 6 + [self.flag] * 4 + [self.expunge] * 2 + [self.copy] * 2 + [self.create] * 3
        self._deeds: list[Callable[[], None]] = [
            *often,
            self.unexpunge,
            self.rename,
            self.rename,
            self.rename_tree,
            self.swap,
            self.to_somebody_else,
            self.delete,
            self.recreate,
            self.annotate,
            self.annotate_the_server,
            self.acl,
            self.quota,
            self.subscribe,
            self.sieve,
            self.seen_by_another,
        ]
        self._rare: list[Callable[[], None]] = [self.rename_a_user, self.recreate_a_user]

    def step(self) -> None:
        """One operation. What cannot be done as things stand (a name is taken, …) is no operation."""
        deed = self.chance.choice(self._rare if self.chance.random() < 0.01 else self._deeds)
        try:
            deed()
        except CyrusSyncError as error:
            self._tell(deed.__name__, "refused:", error)
        else:
            self.did[deed.__name__] += 1

    def _tell(self, *words: object) -> None:
        self.story.append(" ".join(map(str, words)))
        del self.story[:-2000]

    # -- what there is

    def _begin(self, user: str) -> None:
        with self.store.write(Owner("user", user)) as writer:
            writer.create(inbox_of(user))
            for folder in ("a", "b"):
                writer.create(f"{inbox_of(user)}.{folder}")

    def _boxes(self, *, inboxes: bool = True, shared: bool = True) -> list[str]:
        owners = [Owner("user", user) for user in self.users]
        if shared:
            owners.append(Owner("shared", SHARED))
        found = []
        for owner in owners:
            with self.store.read(owner) as reader:
                found += [m.name for m in reader.mailboxes() if not (m.intermediate or is_deleted(m.name))]
        found = [name for name in found if SIEVE_FOLDER not in name]
        return [name for name in found if inboxes or not (is_inbox(name) or name == SHARED)]

    def _box(self, *, inboxes: bool = True, shared: bool = True) -> str:
        return self.chance.choice(self._boxes(inboxes=inboxes, shared=shared))

    def _records(self, name: str) -> list[Record]:
        with self.store.read(owner_of(name)) as reader:
            state = reader.mailbox(name)
            return [] if state is None else [r for batch in reader.records(state.uniqueid) for r in batch]

    def _some(self, records: list[Record], *, expunged: bool = False) -> list[Record]:
        wanted = [record for record in records if record.expunged == expunged]
        return self.chance.sample(wanted, min(len(wanted), self.chance.randint(1, 4)))

    def _free_name(self, user: str) -> str:
        return f"{inbox_of(user)}.{self.chance.choice(FOLDERS)}"

    # -- messages

    def append(self) -> None:
        name = self._box()
        made = []
        for _ in range(self.chance.choice([1, 1, 1, 2, 5, 12])):
            self.number += 1
            body = self.chance.randbytes(self.chance.choice([10, 300, 2000, 30_000])).hex()
            raw = f"From: x@example.org\r\nSubject: number {self.number}\r\n\r\n{body}\r\n".encode()
            flags = self.chance.choice(["", "", "\\Seen", "Work \\Flagged"])
            made.append((raw, 1_700_000_000 + self.number, flags))
        with self.store.write(owner_of(name)) as writer:
            uids = writer.append(name, made)
        self.alive.update(hashlib.sha1(raw).digest() for raw, _, _ in made)
        self._tell("append", name, uids)

    def flag(self) -> None:
        name = self._box()
        uids = [record.uid for record in self._some(self._records(name))]
        flags = self.chance.sample(FLAGS, 2)
        with self.store.write(owner_of(name)) as writer:
            if self.chance.random() < 0.6:
                writer.set_flags(name, uids, add=flags)
            else:
                writer.set_flags(name, uids, remove=flags)
        self._tell("flag", name, uids, flags)

    def expunge(self) -> None:
        name = self._box()
        gone = self._some(self._records(name))
        with self.store.write(owner_of(name)) as writer:
            writer.expunge(name, [record.uid for record in gone])
        self.alive.subtract(record.guid for record in gone)
        self._tell("expunge", name, [record.uid for record in gone])

    def unexpunge(self) -> None:
        name = self._box()
        back = self._some(self._records(name), expunged=True)
        with self.store.write(owner_of(name)) as writer:
            uids = writer.unexpunge(name, [record.uid for record in back])
        self.alive.update(record.guid for record in self._records(name) if record.uid in uids)
        self._tell("unexpunge", name, [record.uid for record in back], uids)

    def copy(self) -> None:
        name = self._box(shared=False)
        mine = [one for one in self._boxes() if owner_of(one) == owner_of(name) and one != name]
        if not mine:
            return
        target, move = self.chance.choice(mine), self.chance.random() < 0.5
        taken = self._some(self._records(name))
        with self.store.write(owner_of(name)) as writer:
            writer.copy(name, [record.uid for record in taken], target, move=move)
        if not move:
            self.alive.update(record.guid for record in taken)
        self._tell("move" if move else "copy", name, [record.uid for record in taken], target)

    # -- mailboxes

    def create(self) -> None:
        name = self._free_name(self.chance.choice(self.users))
        with self.store.write(owner_of(name)) as writer:
            writer.create(name)
        self._tell("create", name)

    def rename(self) -> None:
        old = self._box(inboxes=False)
        new = self._free_name(owner_of(old).name)
        self.store.rename(old, new, log=True)
        self._tell("rename", old, new)

    def rename_tree(self) -> None:
        boxes = self._boxes(inboxes=False)
        tops = [name for name in boxes if any(one.startswith(name + ".") for one in boxes)]
        if not tops:
            return
        old = self.chance.choice(tops)
        new = self._free_name(owner_of(old).name)
        if new.startswith(old) or any(one == new or one.startswith(new + ".") for one in boxes):
            return
        for name in [old, *(one for one in boxes if one.startswith(old + "."))]:
            self.store.rename(name, new + name[len(old) :], log=True)
        self._tell("rename tree", old, new)

    def swap(self) -> None:
        one = self._box(inboxes=False)
        others = [b for b in self._boxes(inboxes=False) if owner_of(b) == owner_of(one) and b != one]
        if not others:
            return
        other, between = self.chance.choice(others), f"{inbox_of(owner_of(one).name)}.between"
        for old, new in ((one, between), (other, one), (between, other)):
            self.store.rename(old, new, log=True)
        self._tell("swap", one, other)

    def to_somebody_else(self) -> None:
        old = self._box(inboxes=False)
        new = self._free_name(self.chance.choice(self.users))
        self.store.rename(old, new, log=True)
        self._tell("rename to another user", old, new)

    def delete(self) -> None:
        name = self._box(inboxes=False)
        self._delete(name, delayed=self.chance.random() < 0.5)

    def _delete(self, name: str, *, delayed: bool) -> None:
        held = [record.guid for record in self._records(name) if not record.expunged]
        with self.store.write(owner_of(name)) as writer:
            writer.delete(name, delayed=delayed)
        if not delayed:
            self.alive.subtract(held)
        self._tell("delete", name, "delayed" if delayed else "at once")

    def recreate(self) -> None:
        name = self._box(inboxes=False)
        self._delete(name, delayed=self.chance.random() < 0.5)
        with self.store.write(owner_of(name)) as writer:
            writer.create(name)
        self._tell("create again", name)

    # -- users

    def rename_a_user(self) -> None:
        old = self.chance.choice(self.users)
        new = old.removesuffix("2") if old.endswith("2") else old + "2"
        self._note_seen(old)
        rename_user(self.store, old, new)
        self.users[self.users.index(old)] = new
        self._tell("rename user", old, new)

    def recreate_a_user(self) -> None:
        user = self.chance.choice(self.users)
        self._note_seen(user)
        with self.store.write(Owner("user", user)) as writer:
            writer.delete(inbox_of(user), delayed=True)
        self._tell("delete user", user)
        if self.chance.random() < 0.9:
            self._begin(user)
            self._tell("create user again", user)
        else:
            self.users.remove(user)
            new = f"new{self.number}"
            self._begin(new)
            self.users.append(new)
            self._tell("create user", new)

    def _note_seen(self, user: str) -> None:
        with self.store.read(Owner("user", user)) as reader:
            self.forgotten.update(seen.uniqueid for seen in reader.meta(with_sieve=False).seen)

    # -- all else

    def annotate(self) -> None:
        name = self._box()
        uids = [0, *(record.uid for record in self._some(self._records(name)))]
        uid = self.chance.choice(uids)
        entry = self.chance.choice(["/comment", "/vendor/example.org/x"])
        value = self.chance.choice([None, b"x", "čaj".encode(), b"\0\xff\r\n{3}", b"long " * 400])
        with self.store.write(owner_of(name)) as writer:
            writer.annotate(name, entry, self.chance.choice(["", "ann"]), value, uid=uid)
        self._tell("annotate", name, uid, entry)

    def annotate_the_server(self) -> None:
        with self.store.write(SERVER) as writer:
            writer.annotate("", "/motd", "", self.chance.choice([None, b"hello", b"%d" % self.number]))
        self._tell("annotate the server")

    def acl(self) -> None:
        name = self._box()
        with self.store.write(owner_of(name)) as writer:
            writer.set_acl(
                name, self.chance.choice(["zoe", "anyone"]), self.chance.choice(["", "lrs", "lrw"])
            )
        self._tell("acl", name)

    def quota(self) -> None:
        root = self._box()
        limits = self.chance.choice([None, {"STORAGE": 900_000}, {"MESSAGE": 50_000, "STORAGE": 800_000}])
        with self.store.write(owner_of(root)) as writer:
            writer.set_quota(root, limits)
        self._tell("quota", root, limits)

    def subscribe(self) -> None:
        user = self.chance.choice(self.users)
        name = self._box()
        with self.store.write(Owner("user", user)) as writer:
            writer.subscribe(name, self.chance.random() < 0.7)
        self._tell("subscribe", user, name)

    def sieve(self) -> None:
        user = self.chance.choice(self.users)
        with self.store.write(Owner("user", user)) as writer:
            name = self.chance.choice(["one", "two"])
            deed = self.chance.choice(["put", "put", "activate", "none", "delete"])
            if deed == "put":
                writer.put_script(name, f"# {self.number}\r\nkeep;\r\n".encode())
            elif deed == "delete":
                writer.activate_script(None)
                writer.delete_script(name)
            else:
                writer.activate_script(name if deed == "activate" else None)
        self._tell("sieve", user, deed, name)

    def seen_by_another(self) -> None:
        name, reader_of_it = self._box(), self.chance.choice(self.users)
        with self.store.read(owner_of(name)) as reader:
            state = reader.mailbox(name)
        assert state is not None
        now = 1_700_000_000 + self.number
        with self.store.write(Owner("user", reader_of_it)) as writer:
            writer.set_seen(Seen(state.uniqueid, now, state.last_uid, now, f"1:{max(1, state.last_uid)}"))
        self._tell("seen", reader_of_it, name)

    # -- the promise

    def standing(self) -> Counter[bytes]:
        """How often each message, scripts apart, stands unexpunged in the master's store now."""
        found: Counter[bytes] = Counter()
        for owner in list(self.store.owners()):
            with self.store.read(owner) as reader:
                for state in reader.mailboxes():
                    if SIEVE_FOLDER in state.name:
                        continue
                    for batch in reader.records(state.uniqueid):
                        found.update(record.guid for record in batch if not record.expunged)
        return found

    def promised(self) -> Counter[bytes]:
        return +self.alive
