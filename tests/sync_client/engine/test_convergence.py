"""Whatever happens on either side, and wherever a run is cut off: in the end both are the same, and no
message is lost that one of them accepted and nobody expunged.

ENGINE_FUZZ_RUNS sets how many random histories are played (a few by default).
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common.errors import ConnectionLost, CyrusSyncError
from cyrus_sync.common.model import Seen
from cyrus_sync.common.stores.native.care.expire import drop_expunged
from cyrus_sync.common.stores.native.store import NativeStore
from tests.sync_client.engine.lines import BrokenLine
from tests.sync_client.engine.world import (
    ALICE,
    INBOX,
    World,
    content,
    deliver,
    finish,
    guid_of,
    names,
    records,
    write,
)

RUNS = int(os.environ.get("ENGINE_FUZZ_RUNS", "12"))
FIRST = int(os.environ.get("ENGINE_FUZZ_FIRST", "0"))
BOXES = ["user.alice." + name for name in ("a", "b", "c", "d", "a.x", "b.y")]


class History:
    """Random changes to one or both sides, and what they promise about messages."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.count = 0
        self.accepted: dict[str, set[bytes]] = {}
        """GUIDs by uniqueid of the mailbox."""
        self.expunged: set[tuple[str, bytes]] = set()
        self.did: list[str] = []

    def on(self, store: NativeStore, actions: list[Callable[[NativeStore], None]], count: int) -> None:
        for _ in range(count):
            action = self.random.choice(actions)
            try:
                action(store)
            except CyrusSyncError as error:
                self.did.append(f"  ({error})")

    def _box(self, store: NativeStore) -> str:
        return self.random.choice(names(store))

    def _note(self, store: NativeStore, *words: object) -> None:
        side = "master" if store is self.world.master else "replica"
        self.did.append(f"{side}: {' '.join(map(str, words))}")

    def _some(self, store: NativeStore, box: str) -> list[int]:
        live = [record.uid for record in records(store, box) if not record.expunged]
        return self.random.sample(live, min(len(live), self.random.randint(1, 3)))

    def _uniqueid(self, store: NativeStore, box: str) -> str:
        with store.read(ALICE) as reader:
            found = reader.mailbox(box)
        assert found is not None
        return found.uniqueid

    # -- what may happen

    def deliver(self, store: NativeStore) -> None:
        box = self._box(store)
        texts = []
        for _ in range(self.random.randint(1, 4)):
            self.count += 1
            texts.append(f"number {self.count}")
        uniqueid = self._uniqueid(store, box)
        uids = deliver(store, box, *texts)
        self.accepted.setdefault(uniqueid, set()).update(map(guid_of, texts))
        self._note(store, "deliver", box, uids)

    def flags(self, store: NativeStore) -> None:
        box = self._box(store)
        uids = self._some(store, box)
        with write(store) as writer:
            flag = self.random.choice(["\\Seen", "\\Flagged", "\\Deleted", "Work", "$Junk"])
            if self.random.random() < 0.7:
                writer.set_flags(box, uids, add=[flag])
            else:
                writer.set_flags(box, uids, remove=[flag])
        self._note(store, "flags", box, uids)

    def expunge(self, store: NativeStore) -> None:
        box = self._box(store)
        uids = self._some(store, box)
        uniqueid = self._uniqueid(store, box)
        for record in records(store, box):
            if record.uid in uids:
                self.expunged.add((uniqueid, record.guid))
        with write(store) as writer:
            writer.expunge(box, uids)
        self._note(store, "expunge", box, uids)

    def annotate(self, store: NativeStore) -> None:
        box = self._box(store)
        uid = self.random.choice([0, *self._some(store, box)])
        value = self.random.choice([None, b"x", b"caf\xc3\xa9", b"\x00\xff"])
        with write(store) as writer:
            writer.annotate(box, self.random.choice(["/comment", "/a/b"]), "alice", value, uid=uid)
        self._note(store, "annotate", box, uid, value)

    def acl(self, store: NativeStore) -> None:
        box = self._box(store)
        with write(store) as writer:
            writer.set_acl(box, "bob", self.random.choice(["", "lrs", "lrswi"]))
        self._note(store, "acl", box)

    def create(self, store: NativeStore) -> None:
        box = self.random.choice(BOXES)
        with write(store) as writer:
            writer.create(box)
        self._note(store, "create", box)

    def rename(self, store: NativeStore) -> None:
        old, new = self._box(store), self.random.choice(BOXES)
        if old != INBOX:
            self.world.clock.now += 1
            store.rename(old, new, log=True)
            self._note(store, "rename", old, new)

    def swap(self, store: NativeStore) -> None:
        have = [box for box in names(store) if box in BOXES]
        if len(have) > 1:
            one, other = self.random.sample(have, 2)
            tmp = "user.alice.tmp"
            store.rename(one, tmp, log=True)
            store.rename(other, one, log=True)
            store.rename(tmp, other, log=True)
            self._note(store, "swap", one, other)

    def delete(self, store: NativeStore) -> None:
        box = self._box(store)
        if box != INBOX:
            uniqueid = self._uniqueid(store, box)
            delayed = self.random.random() < 0.5
            with write(store) as writer:
                writer.delete(box, delayed=delayed)
            if uniqueid not in content(store)["boxes"]:
                self.accepted.pop(uniqueid, None)
                self.expunged |= {(uniqueid, guid_of(f"number {n}")) for n in range(self.count + 1)}
            self._note(store, "delete", box, delayed)

    def copy(self, store: NativeStore) -> None:
        source, target = self._box(store), self._box(store)
        if source != target:
            uids = self._some(store, source)
            with write(store) as writer:
                writer.copy(source, uids, target)
            self._note(store, "copy", source, target, uids)

    def clean_up(self, store: NativeStore) -> None:
        with store.transaction(ALICE) as transaction:
            drop_expunged(transaction, int(self.world.clock.now) + 1)
        self._note(store, "clean up")

    def others(self, store: NativeStore) -> None:
        box = self._box(store)
        with write(store) as writer:
            writer.subscribe(box, self.random.random() < 0.7)
            writer.set_quota(INBOX, self.random.choice([None, {"STORAGE": 7}, {"MESSAGE": 3}]))
            writer.set_seen(Seen(f"id{self.random.randint(1, 3)}", 1, self.count, 1, "1:2"))
            writer.put_script(self.random.choice(["one", "two"]), f"# {self.count}\r\nkeep;\r\n".encode())
            writer.activate_script(self.random.choice(["one", "two", None]))
        self._note(store, "others", box)

    # -- runs

    def run(self) -> None:
        """A run that may be cut off."""
        world = self.world
        line = BrokenLine(world.store_replica(), self.random.randint(0, 25), self.random.random() < 0.5)
        engine = world.engine(line, batchsize=self.random.choice([2, 5, 8192]))
        try:
            if self.random.random() < 0.3:
                finish(engine.mailboxes(names(world.master)))
            else:
                finish(engine.user("alice"))
            self.did.append("run: complete")
        except CyrusSyncError as error:
            self.did.append(f"run: {error}"[:300])
            if not isinstance(error, ConnectionLost) and not line.broken:
                raise

    def check(self) -> None:
        """After one more whole run both sides are equal, another finds nothing to do, nothing is lost."""
        world = self.world
        world.sync()
        assert content(world.replica) == content(world.master)
        assert world.sync() == [("GET USER", "alice")]
        alive: dict[str, set[bytes]] = {}
        for uniqueid, (_, _, rows) in content(world.master)["boxes"].items():
            alive[uniqueid] = {row.guid for row in rows}
        for uniqueid, guids in self.accepted.items():
            lost = (
                guids - alive.get(uniqueid, set()) - {guid for box, guid in self.expunged if box == uniqueid}
            )
            assert not lost, f"lost in {uniqueid}: {[guid.hex() for guid in lost]}"

    def check_no_doubles(self) -> None:
        """No message was adopted twice, whatever was interrupted (nothing was copied on purpose)."""
        for uniqueid, (_, _, rows) in content(self.world.master)["boxes"].items():
            guids = [row.guid for row in rows]
            assert len(guids) == len(set(guids)), f"doubles in {uniqueid}"


def play(
    seed: int,
    turns: int,
    play_turn: Callable[[History], None],
    *,
    copies: bool,
    make_world: Callable[[Path], World] = World,
    make_history: type[History] = History,
) -> None:
    directory = Path(
        tempfile.mkdtemp(prefix="engine-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    )
    world = make_world(directory)
    history = make_history(world, seed)
    try:
        with write(world.master) as writer:
            writer.create(INBOX)
        history.deliver(world.master)
        world.sync()
        for _ in range(turns):
            play_turn(history)
            history.run()
        history.check()
        if not copies:
            history.check_no_doubles()
    except BaseException as error:
        error.add_note(f"seed {seed}:\n" + "\n".join(history.did))
        raise
    finally:
        world.close()
        shutil.rmtree(directory)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_a_replica_follows_its_master_through_anything(seed: int) -> None:
    def turn(history: History) -> None:
        h = history
        actions = [h.deliver, h.deliver, h.flags, h.expunge, h.annotate, h.acl, h.create, h.create]
        actions += [h.rename, h.swap, h.delete, h.copy, h.clean_up, h.others]
        h.on(h.world.master, actions, h.random.randint(1, 8))

    play(seed, 8, turn, copies=True)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_two_sides_that_both_changed_are_merged_without_loss(seed: int) -> None:
    play(seed, 6, change_both, copies=False)


def change_both(history: History) -> None:
    """Some changes on either side."""
    h = history
    common = [h.deliver, h.deliver, h.flags, h.expunge, h.annotate]
    h.on(h.world.master, [*common, h.create, h.rename, h.swap, h.acl, h.others], h.random.randint(0, 5))
    h.on(h.world.replica, [*common, h.rename, h.acl], h.random.randint(0, 5))
