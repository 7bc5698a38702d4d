"""Owners who come into being: whole or not at all, many at once, whatever ends the process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MailboxLocked, StoreError, UnknownFailure
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native import local_home, schema
from cyrus_sync.common.stores.native.care.sweep import sweep
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.tools import ALICE, BOB, INBOX, Log, message, native_store
from tests.forking import fork

CAROL = Owner("user", "carol")


def run_and_die(work: Callable[[], None]) -> None:
    """Do it in another process, which is to be killed in the middle."""

    def job() -> int:
        work()
        return 0

    assert os.waitstatus_to_exitcode(os.waitpid(fork(job), 0)[1]) == -signal.SIGKILL


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def create(store: NativeStore, *owners: Owner) -> None:
    together = store.together()
    for owner in owners:
        together.writer(owner, 0).create(f"user.{owner.name}")
    together.commit()


def killed(directory: Path, monkeypatch: pytest.MonkeyPatch, where: str, *owners: Owner) -> None:
    """A process that is killed while it brings owners in."""

    def work() -> None:
        monkeypatch.setattr(local_home, where, die)
        create(native_store(directory, log=Log()), *owners)

    run_and_die(work)


def left(directory: Path) -> list[str]:
    return sorted(path.parent.name for path in directory.rglob("index.sqlite"))


def test_an_empty_user_takes_less_than_16_kib_and_two_files(tmp_path):
    store = native_store(tmp_path)
    create(store, ALICE)
    store.close()
    directory = store.directory_of(ALICE)
    assert directory is not None
    files = list(directory.iterdir())
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) <= 16 * 1024


def test_changes_to_several_owners_end_together(tmp_path):
    log = Log()
    store = native_store(tmp_path, log=log)
    create(store, BOB)
    together = store.together()
    together.writer(ALICE, 0).create(INBOX)
    assert together.may_grow
    assert together.writer(ALICE, 0) is together.writer(ALICE, 0)
    together.writer(BOB, 0).subscribe("user.bob")
    assert not together.may_grow
    assert [owner for owner in (ALICE, BOB) if store.exists(owner)] == [BOB]
    assert log.take() == [("MAILBOX", "user.bob")]
    together.commit()
    assert list(store.owners()) == [ALICE, BOB]
    assert log.take() == [("MAILBOX", INBOX), ("SUB", "bob", "user.bob")]


def test_what_is_undone_leaves_no_trace(tmp_path):
    store = native_store(tmp_path)
    together = store.together()
    together.writer(ALICE, 0).create(INBOX)
    together.undo()
    assert not together and list(store.owners()) == [] and left(tmp_path) == []
    create(store, ALICE)
    assert list(store.owners()) == [ALICE]


def test_if_the_disk_fails_none_of_the_new_owners_is_there(tmp_path, monkeypatch):
    store = native_store(tmp_path)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(local_home, "sync_directory", full)
        with pytest.raises(StoreError, match="No space left"):
            create(store, ALICE, BOB)
    assert list(store.owners()) == [] and left(tmp_path) == []
    assert not store.home.registry.owners()  # type: ignore[attr-defined]
    create(store, ALICE, BOB)
    assert list(store.owners()) == [ALICE, BOB]


def test_one_who_is_held_elsewhere_is_not_waited_for(tmp_path):
    store, other = native_store(tmp_path), native_store(tmp_path)
    create(store, BOB)
    together = store.together()
    together.writer(ALICE, 0).create(INBOX)
    with other.write(BOB) as writer:
        writer.subscribe("user.bob")
        with pytest.raises(MailboxLocked):
            together.writer(BOB, 0)
    together.commit()
    assert store.exists(ALICE)


def test_while_a_process_makes_an_owner_another_waits_for_him(tmp_path):
    store, other = native_store(tmp_path), native_store(tmp_path)
    together = store.together()
    together.writer(ALICE, 0).create(INBOX)
    with pytest.raises(MailboxLocked), other.write(ALICE, timeout=0.1) as writer:
        writer.create(INBOX)
    together.commit()
    with pytest.raises(UnknownFailure), other.write(ALICE) as writer:
        writer.create(INBOX)


@pytest.mark.parametrize("where", ["_sync_all", "_show"])
def test_a_kill_before_owners_are_shown_loses_none_who_is_registered(tmp_path, monkeypatch, where):
    killed(tmp_path, monkeypatch, where, ALICE, BOB)
    assert left(tmp_path) == [".new-alice", ".new-bob"]
    log = Log()
    store = native_store(tmp_path, log=log)
    registered = where == "_show"
    assert list(store.owners()) == ([ALICE, BOB] if registered else [])
    if registered:
        sweep(store)
        assert log.take() == [("MAILBOX", INBOX), ("MAILBOX", "user.bob")]
    else:
        create(store, ALICE, BOB)
    with store.write(ALICE) as writer:
        writer.append(INBOX, [(message(1), 1, "")])
    store.close()
    assert left(tmp_path) == ["alice", "bob"]


def test_a_kill_behind_that_leaves_the_lines_to_the_next_start(tmp_path, monkeypatch):
    shown: list[Path] = []
    show = local_home._show

    def die_at_the_second(path: Path) -> None:
        shown.append(path)
        if len(shown) > 1:
            die()
        show(path)

    def work() -> None:
        monkeypatch.setattr(local_home, "_show", die_at_the_second)
        create(native_store(tmp_path, log=Log()), ALICE, BOB, CAROL)

    run_and_die(work)
    log = Log()
    store = native_store(tmp_path, log=log)
    assert sweep(store) == [ALICE, BOB, CAROL]
    assert log.take() == [("MAILBOX", f"user.{name}") for name in ("alice", "bob", "carol")]
    assert list(store.owners()) == [ALICE, BOB, CAROL]
    assert sweep(store) == []


def test_an_index_from_before_small_pages_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "SMALL_PAGE", schema.LARGE_PAGE)
    store = native_store(tmp_path)
    create(store, ALICE)
    store.close()
    monkeypatch.undo()
    store = native_store(tmp_path)
    with store.write(ALICE) as writer:
        writer.append(INBOX, [(message(number), 1, "") for number in range(50)])
    with store.read(ALICE) as reader:
        assert reader.connection.execute("PRAGMA page_size").fetchone() == (4096,)
        assert reader.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_who_is_about_to_be_shown_is_not_lost_to_others(tmp_path, monkeypatch):
    """The registry knows of him already. Whoever asks for him meanwhile hears that there is nobody."""
    show = local_home._show
    seen: list[bool] = []

    def look_first(path: Path) -> None:
        other = native_store(tmp_path)
        seen.append(other.exists(ALICE))
        with other.read(ALICE) as reader:
            seen.append(bool(reader.mailboxes()))
        other.close()
        show(path)

    monkeypatch.setattr(local_home, "_show", look_first)
    store = native_store(tmp_path)
    create(store, ALICE)
    assert seen == [False, False]
    assert store.exists(ALICE)
    store.close()
