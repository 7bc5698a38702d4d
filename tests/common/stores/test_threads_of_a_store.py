"""Many threads on one store: readers, writers, expiry and renames at the same time."""

from __future__ import annotations

import random
import threading
import time

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.care.expire import expire
from cyrus_sync.common.stores.native.care.verify import verify
from tests.common.stores.tools import guid_of, message, native_store, text_of
from tests.deadlines import scaled

SECONDS = 1.5
USERS = [Owner("user", name) for name in ("alice", "bob", "carol")]


def inbox(owner: Owner) -> str:
    return f"user.{owner.name}"


def test_nothing_is_lost_or_torn_when_everything_happens_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("cyrus_sync.common.stores.native.opened._most_open", lambda: 2)
    monkeypatch.setattr("cyrus_sync.common.stores.native.opened._MOST_WARM", 1)
    monkeypatch.setattr("cyrus_sync.common.stores.native.opened._MOST_HOT", 1)
    store = native_store(tmp_path)
    for owner in USERS:
        with store.write(owner) as writer:
            writer.create(inbox(owner))
            writer.create(inbox(owner) + ".x")
    end = time.monotonic() + SECONDS
    kept: dict[Owner, set[bytes]] = {owner: set() for owner in USERS}
    errors: list[BaseException] = []

    def run(work, seed: int) -> None:  # type: ignore[no-untyped-def]
        rnd = random.Random(seed)
        try:
            while time.monotonic() < end:
                work(rnd.choice(USERS), rnd)
        except BaseException as error:
            errors.append(error)

    def append(owner: Owner, rnd: random.Random) -> None:
        raw = message(rnd.randrange(10**9), rnd.choice((0, 3000, 50_000)))
        waste = message(rnd.randrange(10**9), 50_000)
        with store.write(owner, timeout=scaled(30)) as writer:
            kept[owner].add(guid_of(raw))
            uids = writer.append(inbox(owner), [(raw, 1, ""), (waste, 1, "\\Deleted")])
            writer.expunge(inbox(owner), uids[1:])

    def read(owner: Owner, rnd: random.Random) -> None:
        with store.read(owner) as reader:
            state = reader.mailbox(inbox(owner))
            assert state is not None
            assert reader.recalculate_crcs(state.uniqueid) == (state.sync_crc, state.sync_crc_annot)
            guids = [
                record.guid
                for batch in reader.records(state.uniqueid)
                for record in batch
                if not record.expunged
            ]
            for batch in reader.bodies(guids):
                for body in batch:
                    assert guid_of(text_of(body)) == body.guid

    def tidy(owner: Owner, rnd: random.Random) -> None:
        expire(store, owner, -10)

    def move(owner: Owner, rnd: random.Random) -> None:
        name = inbox(owner) + ".x"
        with store.read(owner) as reader:
            here = reader.mailbox(name) is not None
        if here:
            store.rename(name, name + "y", log=True, timeout=scaled(30))
            store.rename(name + "y", name, log=True, timeout=scaled(30))

    works = [append, append, read, read, tidy, move]
    threads = [threading.Thread(target=run, args=(work, seed)) for seed, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for owner in USERS:
        assert list(verify(store, owner)) == []
        with store.read(owner) as reader:
            assert reader.has_guids(kept[owner]) == kept[owner]
    store.close()
