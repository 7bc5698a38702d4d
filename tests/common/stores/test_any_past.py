"""Random lives with a clock that moves: what is read of a time is what was dumped at that time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cyrus_sync.common.errors import CyrusSyncError, NotRemembered
from cyrus_sync.common.model import MailboxAnnotation, MailboxUpdate, MessageBody, Quota, Seen
from cyrus_sync.common.names import Owner, is_deleted
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.common.stores.native.care.expire import expire
from cyrus_sync.common.stores.native.care.past import PastStore
from cyrus_sync.common.stores.native.care.verify import verify
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.mailstore.canonical import write_json
from cyrus_sync.mailstore.state import Scope, state_of
from tests.common.stores.tools import ALICE, BOB, INBOX, START, Clock, Stage, message, native_store, text_of

RETENTION = 40
"""Seconds."""

BOXES = [INBOX, f"{INBOX}.a", f"{INBOX}.a.b", f"{INBOX}.c"]


def dumped(source: Any, owner: Owner) -> str:
    """All that is alive of an owner; what delayed delete has set aside goes with `expire`."""
    tree = state_of(source, [owner], server=False, scope=Scope())
    (found,) = tree["owners"]
    found["mailboxes"] = iter([box for box in found["mailboxes"] if not is_deleted(box["name"])])
    lines: list[str] = []
    write_json(found, lines.append)
    return "".join(lines)


def box(number: int) -> str:
    return BOXES[number % len(BOXES)]


def uids(number: int) -> list[int]:
    return [number % 5 + 1, number % 3 + 2]


Work = Callable[[MailWriter, int, int], object]

WORKS: dict[str, Work] = {
    "create": lambda w, a, b: w.create(box(a)),
    "append": lambda w, a, b: w.append(box(a), [(message(b % 7), START, "\\Seen" if b % 2 else "")]),
    "flag": lambda w, a, b: w.set_flags(box(a), uids(b), add=["\\Seen", f"k{b % 3}"], remove=["\\Flagged"]),
    "unflag": lambda w, a, b: w.set_flags(box(a), uids(b), add=["\\Flagged"], remove=["\\Seen"]),
    "expunge": lambda w, a, b: w.expunge(box(a), uids(b)),
    "unexpunge": lambda w, a, b: w.unexpunge(box(a), uids(b)),
    "move": lambda w, a, b: w.copy(box(a), uids(b), box(b), move=True),
    "delete": lambda w, a, b: w.delete(box(a), delayed=bool(b % 2)),
    "acl": lambda w, a, b: w.set_acl(box(a), f"u{b % 3}", "lrs" if b % 2 else ""),
    "quota": lambda w, a, b: w.set_quota(box(a), {"STORAGE": b} if b % 3 else None),
    "subscribe": lambda w, a, b: w.subscribe(box(a), bool(b % 2)),
    "note": lambda w, a, b: w.annotate(box(a), "/comment", "", b"x" * (b % 3), uid=b % 4),
    "seen": lambda w, a, b: w.set_seen(Seen(f"id{a % 2}", START, b, START, f"1:{b + 1}")),
    "unuser": lambda w, a, b: w.apply_unuser() if b % 5 == 0 else None,
}


class Life:
    """A master, and a replica that is told of it now and then."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.master = native_store(path / "master", clock=self.clock)
        self.replica = native_store(path / "replica", clock=self.clock)
        self.kept: list[tuple[int, NativeStore, Owner, str]] = []

    def close(self) -> None:
        for store in (self.master, self.replica):
            for owner in (ALICE, BOB):
                assert list(verify(store, owner)) == []
            store.close()

    def do(self, name: str, a: int, b: int) -> None:
        with suppress(CyrusSyncError):
            if name == "replicate":
                self.replicate()
            elif name == "rename":
                self.master.rename(box(a), box(b), log=True)
            elif name == "to another":
                new = box(b).replace("alice", "bob")
                with self.master.write(BOB) as writer, suppress(CyrusSyncError):
                    writer.create("user.bob")
                self.master.rename(box(a), new, log=True)
            elif name == "expire":
                for store in (self.master, self.replica):
                    for owner in (ALICE, BOB):
                        expire(store, owner, RETENTION)
            else:
                with self.master.write(ALICE) as writer:
                    WORKS[name](writer, a, b)

    def replicate(self) -> None:
        """Bring the replica to what the master has, in one transaction."""
        with self.master.read(ALICE) as ours, self.replica.write(ALICE) as theirs:
            wanted = {state.uniqueid: state for state in ours.mailboxes()}
            for state in theirs.mailboxes():
                if state.uniqueid not in wanted or wanted[state.uniqueid].name != state.name:
                    theirs.apply_unmailbox(state.name)
            for state in wanted.values():
                records = [record for batch in ours.records(state.uniqueid) for record in batch]
                bodies = [ours.body(record.guid) for record in records]
                stage = Stage(*(text_of(one) for one in bodies if isinstance(one, MessageBody)))
                with suppress(CyrusSyncError):
                    theirs.apply_mailbox(MailboxUpdate(state, [records] if records else []), stage)
            roots = {quota.root: quota for quota in ours.quotas()}
            for quota in theirs.quotas():
                if quota.root not in roots:
                    theirs.apply_unquota(quota.root)
            for root, quota in roots.items():
                theirs.apply_quota(Quota(root, quota.limits, quota.modseq))
            theirs.apply_annotation(MailboxAnnotation("", "/motd", "", b"%d" % len(wanted)))

    def note(self) -> None:
        for store in (self.master, self.replica):
            for owner in (ALICE, BOB):
                self.kept.append((int(self.clock.now), store, owner, dumped(store, owner)))

    def look_back(self) -> None:
        for moment, store, owner, text in self.kept:
            if moment >= self.clock.now - RETENTION:
                assert past(store, owner, moment) in {text, "unknown"}, moment - START


def past(store: NativeStore, owner: Owner, moment: int) -> str:
    """The dump of a time; "unknown" of one who was made later."""
    found = PastStore(store, moment)
    try:
        return dumped(found, owner)
    except NotRemembered:
        with store.read(owner) as reader:
            (since,) = reader.connection.execute("SELECT known_since FROM owner").fetchone()
        assert owner == BOB and since > moment
        return "unknown"
    finally:
        found.close()


STEPS = st.tuples(
    st.sampled_from([*WORKS, "append", "flag", "replicate", "rename", "to another", "expire"]),
    st.integers(0, 11),
    st.integers(0, 11),
    st.integers(0, 9),
)


@given(st.lists(STEPS, min_size=8, max_size=40))
@settings(max_examples=40, deadline=None, database=None)
def test_what_is_read_of_a_time_is_what_was_there(steps: list[tuple[str, int, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        life = Life(Path(directory))
        life.do("create", 0, 0)
        life.do("create", 1, 0)
        life.do("append", 0, 1)
        life.do("append", 0, 2)
        life.do("replicate", 0, 0)
        for name, a, b, seconds in steps:
            life.do(name, a, b)
            if seconds:
                life.note()
                life.clock.now += seconds
        life.note()
        life.clock.now += 1
        life.look_back()
        life.do("expire", 0, 0)
        life.look_back()
        life.close()
