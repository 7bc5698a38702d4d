"""The store as of a time: whatever was done, what was there before can be read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import CyrusSyncError, NotRemembered
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.stores.native import history
from cyrus_sync.common.stores.native.care.expire import expire
from cyrus_sync.common.stores.native.care.past import PastStore, begins, roll_back
from cyrus_sync.common.stores.native.care.rename import rename_user
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.mailstore.canonical import write_yaml
from cyrus_sync.mailstore.state import Scope, state_of
from tests.common.stores.conformance import StoreConformance
from tests.common.stores.tools import (
    ALICE,
    INBOX,
    START,
    Clock,
    Log,
    Stage,
    apply,
    bodies_in,
    layout_in,
    message,
    native_store,
    record_of,
    records_in,
    update_of,
)  # fmt: skip


def dumped(source, *owners: Owner) -> str:
    """All of these owners, or of everybody."""
    lines: list[str] = []
    write_yaml(state_of(source, owners or source.owners(), server=True, scope=Scope()), lines.append)
    return "".join(lines)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    store = native_store(tmp_path, clock=clock)
    with store.write(ALICE) as writer:
        writer.create(INBOX)
        writer.create(INBOX + ".Work")
        writer.append(INBOX, [(message(n), START - 5, "") for n in range(5)])
    yield store
    store.close()


def test_flags_names_rights_and_expunged_messages_are_as_they_were(store, clock):
    dumps = {}

    def step(work) -> None:
        clock.now += 10
        with store.write(ALICE) as writer:
            work(writer)
        dumps[int(clock.now)] = dumped(store)

    step(lambda w: w.set_flags(INBOX, [1, 2], add=["\\Seen", "$Label"]))
    step(lambda w: w.expunge(INBOX, [2]))
    step(lambda w: w.copy(INBOX, [3], INBOX + ".Work", move=True))
    step(lambda w: w.set_acl(INBOX, "bob", "lrs"))
    step(lambda w: w.annotate(INBOX, "/comment", "", b"x\xff", uid=1))
    step(lambda w: w.annotate(INBOX, "/comment", "", b"box"))
    step(lambda w: w.annotate(INBOX, "/comment", "", b"", uid=1))
    step(lambda w: w.set_quota(INBOX, {"STORAGE": 1000}))
    step(lambda w: w.subscribe(INBOX + ".Work"))
    step(lambda w: w.set_quota(INBOX, {"STORAGE": 2000}))
    step(lambda w: w.subscribe(INBOX + ".Work", False))
    step(lambda w: w.unexpunge(INBOX, [2]))
    clock.now += 10
    store.rename(INBOX + ".Work", INBOX + ".Play", log=True)
    step(lambda w: w.set_flags(INBOX + ".Play", [1], add=["\\Seen"]))
    step(lambda w: w.set_quota(INBOX, None))
    step(lambda w: w.delete(INBOX + ".Play", delayed=False))
    step(lambda w: w.create(INBOX + ".Play"))
    step(lambda w: w.delete(INBOX))
    for moment, text in dumps.items():
        for later in (0, 9):
            assert dumped(PastStore(store, moment + later)) == text, moment - START


@pytest.mark.covers("Other errors", "NotRemembered")
def test_a_time_before_the_owner_came_is_refused(store):
    with pytest.raises(NotRemembered, match="the history begins at"), PastStore(store, START - 1).read(ALICE):
        pass


def test_what_is_bounded_forgets_the_oldest_and_says_so(store, clock, monkeypatch):
    monkeypatch.setattr(history, "MOST_OCTETS", 2000)
    monkeypatch.setattr(history, "_LOOK_EVERY", 50)
    for number in range(199):
        clock.now += 1
        with store.write(ALICE) as writer:
            writer.set_acl(INBOX, "bob", "lr" + "swi"[number % 3])
    texts = [(int(clock.now), dumped(store))]
    clock.now += 1
    with store.write(ALICE) as writer:
        writer.set_acl(INBOX, "bob", "")
    with store.read(ALICE) as reader:
        (octets,) = reader.connection.execute("SELECT sum(length(was)) FROM history").fetchone()
        since = begins(reader.connection)
    assert octets <= 2000 and START < since < clock.now - 1
    for moment, text in texts:
        assert dumped(PastStore(store, moment)) == text
    assert PastStore(store, since).exists(ALICE)
    with pytest.raises(NotRemembered):
        PastStore(store, since - 1).exists(ALICE)


def test_a_change_of_many_thousand_records_is_kept_in_several_rows_and_taken_back(store, clock, monkeypatch):
    monkeypatch.setattr(history, "_FULL", 3)
    before = dumped(store)
    clock.now += 10
    with store.write(ALICE) as writer:
        with suppress(ValueError), writer.savepoint():
            writer.set_flags(INBOX, [1, 2, 3, 4], add=["lost"])
            raise ValueError
        writer.set_flags(INBOX, [1, 2], add=["first"])
        with writer.savepoint():
            writer.set_flags(INBOX, [1, 2, 3, 4], add=["second"])
            writer.expunge(INBOX, [1, 2, 3, 4])
        writer.unexpunge(INBOX, [1, 2, 3])
    with store.read(ALICE) as reader:
        assert reader.connection.execute("SELECT count(*) > 1 FROM history").fetchone() == (1,)
    assert dumped(PastStore(store, START)) == before


def test_what_was_noted_before_a_savepoint_is_taken_back_after_what_it_spilled(store, clock, monkeypatch):
    monkeypatch.setattr(history, "_FULL", 4)
    before = dumped(store)
    clock.now += 10
    with store.write(ALICE) as writer:
        with writer.savepoint():
            writer.set_flags(INBOX, [1], add=["\\Flagged"])
        with writer.savepoint():
            writer.set_flags(INBOX, [1, 2, 3, 4], add=["\\Answered"])
    assert dumped(PastStore(store, START)) == before


def test_what_was_noted_before_a_savepoint_is_kept_where_that_spills_and_is_undone(store, clock, monkeypatch):
    monkeypatch.setattr(history, "_FULL", 4)
    before = dumped(store)
    clock.now += 10
    with store.write(ALICE) as writer:
        with writer.savepoint():
            writer.set_flags(INBOX, [1], add=["\\Flagged"])
        with suppress(ValueError), writer.savepoint():
            writer.set_flags(INBOX, [1, 2, 3, 4], add=["\\Answered"])
            raise ValueError
        writer.set_flags(INBOX, [2], add=["\\Seen"])
    assert dumped(PastStore(store, START)) == before


# -- what expire leaves for it

DAY = 86400


@pytest.fixture
def replica(tmp_path, clock):
    """A replica with two mailboxes, three messages in each."""
    store = native_store(tmp_path / "replica", clock=clock)
    for at, name in enumerate((INBOX, INBOX + ".x")):
        raws = [message(10 * at + n) for n in (1, 2, 3)]
        records = [record_of(raw, uid, last_updated=START - 9 * DAY) for uid, raw in enumerate(raws, 1)]
        apply(store, update_of(name, records), Stage(*raws))
    clock.now += DAY
    yield store
    store.close()


def test_what_was_expunged_long_ago_counts_from_when_it_came_here(replica, clock):
    before = dumped(replica)
    clock.now += 1
    with replica.write(ALICE) as writer:
        writer.apply_expunge(INBOX, "id-" + INBOX, [2])  # leaves the time of the record as it is
    clock.now += DAY
    expire(replica, ALICE, 2 * DAY)
    with closing(PastStore(replica, START + DAY)) as past:
        assert dumped(past) == before
        assert bodies_in(past) == [message(1), message(2), message(3)]
    clock.now += 2 * DAY
    expire(replica, ALICE, 2 * DAY)
    assert [record.uid for record in records_in(replica)] == [1, 3]
    with pytest.raises(NotRemembered):
        PastStore(replica, START + DAY).exists(ALICE)


def test_a_mailbox_that_was_set_aside_long_ago_counts_from_when_that_came_here(replica, clock):
    before = dumped(replica)
    clock.now += 1
    replica.rename(INBOX + ".x", f"DELETED.{INBOX}.x.{START - 9 * DAY:X}", log=False)
    expire(replica, ALICE, 2 * DAY)
    assert dumped(PastStore(replica, START + DAY)) == before
    clock.now += 3 * DAY
    assert expire(replica, ALICE, 2 * DAY).mailboxes == 1


def test_messages_of_records_that_were_replaced_stay_as_long_as_the_history(replica, clock):
    before = dumped(replica)
    clock.now += 1
    raw = message(77)
    with replica.write(ALICE) as writer:
        records = [record_of(raw, 2, modseq=50)]
        writer.impose_mailbox(update_of(INBOX, records, highestmodseq=60, last_uid=3), Stage(raw), drop=[3])
    expire(replica, ALICE, 2 * DAY)
    with closing(PastStore(replica, START + DAY)) as past:
        assert dumped(past) == before
        assert bodies_in(past) == [message(1), message(2), message(3)]
    clock.now += 3 * DAY
    assert expire(replica, ALICE, 2 * DAY).messages == 2


def test_who_is_renamed_is_known_by_the_old_name_for_a_time_before(store, clock):
    before = dumped(store, ALICE)
    clock.now += 10
    rename_user(store, "alice", "carol")
    with closing(PastStore(store, START)) as past:
        assert dumped(past, ALICE) == before
        assert bodies_in(past) == [message(n) for n in range(5)]
        with pytest.raises(NotRemembered):
            past.exists(Owner("user", "carol"))


def test_a_clock_that_was_ahead_by_more_than_a_day_makes_the_history_begin_anew(store, clock):
    clock.now += 400 * DAY
    with store.write(ALICE) as writer:
        writer.set_acl(INBOX, "bob", "lr")
    clock.now -= 399 * DAY
    expire(store, ALICE, 2 * DAY)
    with pytest.raises(NotRemembered):
        PastStore(store, int(clock.now) - 1).exists(ALICE)
    assert dumped(PastStore(store, int(clock.now))) == dumped(store)


# -- whatever a store can be asked to do


def tables(connection: sqlite3.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All that a time is known by."""
    found = {}
    for name in ("mailboxes", "records", "annotations", "quotas", "subscriptions", "seen"):
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        kept = ", ".join(one for one in columns if one not in {"deletedmodseq", "unlinked"})
        found[name] = sorted(connection.execute(f"SELECT {kept} FROM {name}"))
    return found


class RememberingStore(NativeStore):
    """Looks after every change whether it can be taken back."""

    @contextmanager
    def transaction(self, owner: Owner, **how: Any) -> Iterator[Any]:
        before, last = None, 0
        with suppress(CyrusSyncError), self.read(owner) as reader:
            if self.find(owner) is not None:
                before = tables(reader.connection)
                (last,) = reader.connection.execute("SELECT coalesce(max(seq), 0) FROM history").fetchone()
        try:
            with super().transaction(owner, **how) as transaction:
                yield transaction
        finally:
            if before is not None:
                self.look_back(owner, before, last)

    def look_back(self, owner: Owner, before: dict[str, list[tuple[Any, ...]]], last: int) -> None:
        with closing(sqlite3.connect("", isolation_level=None)) as copy:
            with suppress(CyrusSyncError), self.read(owner) as reader:
                reader.connection.backup(copy)
            if not copy.execute("SELECT 1 FROM sqlite_schema").fetchone():
                return  # gone, or not to be read
            copy.execute("UPDATE history SET at = seq > ?", (last,))
            roll_back(copy, 0)
            after = tables(copy)
            for name, rows in before.items():
                assert after[name] == rows, name


class TestEveryVerbCanBeTakenBack(StoreConformance):
    def make(self, path: Path, log: Log, clock: Clock) -> MailStore:
        return RememberingStore(LocalHome(layout_in(path)), action_log=log, clock=clock)
