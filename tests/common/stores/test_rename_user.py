"""A user gets another name, with all that is his; interrupted anywhere, doing it again ends it."""

from __future__ import annotations

import pytest

from cyrus_sync.common.errors import CyrusSyncError, MailboxNonexistent
from cyrus_sync.common.model import Seen
from cyrus_sync.common.stores.native.care.rename import rename_user
from cyrus_sync.common.stores.native.care.verify import verify
from tests.common.stores.tools import ALICE, BOB, INBOX, Log, bodies_in, mailbox_in, message, native_store


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def store(tmp_path, log):
    store = native_store(tmp_path, log=log)
    with store.write(ALICE) as writer:
        writer.create(INBOX)
        writer.create(INBOX + ".Work")
        writer.append(INBOX, [(message(1), 1, ""), (message(2), 1, "")])
        writer.append(INBOX + ".Work", [(message(3), 1, "")])
        writer.set_acl(INBOX + ".Work", "carol", "lrs")
        writer.subscribe(INBOX + ".Work")
        writer.subscribe("user.carol")
        writer.set_seen(Seen("other", 1, 2, 3, "1"))
        writer.set_quota(INBOX, {"STORAGE": 100})
        writer.put_script("main", b"keep;")
    log.clear()
    yield store
    for owner in store.owners():
        assert list(verify(store, owner)) == []
    store.close()


def check_bob(store) -> None:
    assert bodies_in(store, "user.bob") == [message(1), message(2)]
    assert bodies_in(store, "user.bob.Work") == [message(3)]
    assert mailbox_in(store, "user.bob.Work").acl == "bob\tlrswipkxtecdan\tcarol\tlrs\t"
    with store.read(BOB) as reader:
        meta = reader.meta(with_sieve=True)
        assert [quota.limits for quota in reader.quotas()] == [{"STORAGE": 100}]
        assert reader.usage()[0].used["MESSAGE"] == 4
    assert meta.subscriptions == ("user.bob.Work", "user.carol")
    assert [seen.uniqueid for seen in meta.seen] == ["other"]
    assert [script.filename for script in meta.sieve] == ["main.script"]
    assert list(store.owners()) == [BOB]


def test_everything_goes_along(store, log):
    rename_user(store, "alice", "bob")
    check_bob(store)
    assert log[:3] == [("RENAME", INBOX, "user.bob"), ("MAILBOX", INBOX), ("MAILBOX", "user.bob")]
    assert log[-2:] == [("UNUSER", "alice"), ("USER", "bob")]


@pytest.mark.parametrize("after", range(4))
def test_a_rename_that_was_interrupted_is_ended_by_another(store, monkeypatch, after):
    real = store.rename
    done = []

    def interrupted(*arguments, **more):
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(real(*arguments, **more))

    monkeypatch.setattr(store, "rename", interrupted)
    if after < 3:
        with pytest.raises(KeyboardInterrupt):
            rename_user(store, "alice", "bob")
    monkeypatch.undo()
    rename_user(store, "alice", "bob")
    check_bob(store)


def test_a_move_that_died_between_its_two_commits_is_ended_by_another(store, monkeypatch):
    publish = store.home.publish

    def die_for_alice(hold, commit):
        if hold.directory.owner == ALICE:
            raise KeyboardInterrupt
        publish(hold, commit)

    monkeypatch.setattr(store.home, "publish", die_for_alice)
    with pytest.raises(KeyboardInterrupt):
        store.rename(INBOX, "user.bob", log=True)
    monkeypatch.undo()
    assert bodies_in(store) == bodies_in(store, "user.bob")
    store.rename(INBOX, "user.bob", log=True)
    with store.read(ALICE) as reader:
        assert reader.mailbox(INBOX) is None
        assert INBOX in [stone.name for stone in reader.tombstones()]
    rename_user(store, "alice", "bob")
    check_bob(store)


def test_an_unknown_user_and_a_taken_name_are_refused(store):
    with pytest.raises(MailboxNonexistent):
        rename_user(store, "nobody", "bob")
    with store.write(BOB) as writer:
        writer.create("user.bob")
    with pytest.raises(CyrusSyncError):
        rename_user(store, "alice", "bob")
    with pytest.raises(MailboxNonexistent):
        rename_user(store, "nobody", "bob")
    assert len(bodies_in(store)) == 2
    with store.write(BOB) as writer:
        writer.delete("user.bob", delayed=False)
