"""A Dovecot serves the trees that ``mailstore export --follow`` keeps, running or stopped meanwhile."""

from __future__ import annotations

import contextlib
import imaplib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.stores import open_store
from cyrus_sync.mailstore.standby.ledger import Ledger
from tests.dovecot.conftest import running_or_skipped
from tests.dovecot.dovecot import names, ok, view
from tests.dovecot.running import PASSWORD, RELEASES, Server
from tests.dovecot.standby import Changes, assert_standby, update, writing
from tests.forking import fork
from tests.mailstore.conftest import MESSAGE, Site


@pytest.fixture(scope="module", params=RELEASES)
def standby(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running_or_skipped(request.param, escape=True) as server:
        yield server


@pytest.fixture
def alice(standby: Server, site: Site) -> Iterator[str]:
    """A user with two folders and some mail, and a tree of it."""
    standby.add_user("alice")
    site.ok("create", "user/alice", "user/alice/Work", "user/alice/a.b")
    site.deliver("alice", 3)
    site.deliver("alice", 2, "-m", "Work", "-f", "Later")
    update(site, standby, "alice")
    yield "alice"
    standby.drop_mail("alice")


def changes_of(site: Site, user: str, seed: int, steps: int) -> None:
    store = open_store(site.config())
    try:
        Changes(store, user, seed).some(steps)
    finally:
        store.close()


@pytest.mark.covers("mailstore: commands and options", "export --follow")
def test_a_running_standby_shows_each_change_of_the_store(standby: Server, site: Site, alice: str) -> None:
    assert_standby(standby, site, alice)
    for seed in range(4):
        changes_of(site, alice, seed, 14)
        update(site, standby, alice)
        assert_standby(standby, site, alice)
    assert not standby.complaints()


def test_indexes_of_a_standby_that_was_stopped_hide_nothing(standby: Server, site: Site, alice: str) -> None:
    assert_standby(standby, site, alice)
    standby.stop()
    changes_of(site, alice, 100, 20)
    update(site, standby, alice)
    standby.start()
    assert_standby(standby, site, alice)


def test_an_open_session_hears_of_changes_and_of_what_comes_late(
    standby: Server, site: Site, alice: str
) -> None:
    tree = standby.maildir(alice)
    ledger = Ledger(tree)
    folder = next(one for one in ledger.folders().values() if not one.directory)
    with ledger.change():  # as if message 2 could not have been read
        entry = ledger.entry(folder, 2)
        assert entry is not None
        ledger.settle(folder, [entry._replace(letters=None)])
        ledger.lack(folder, [2])
    ledger.close()
    (tree / "cur" / entry.name).unlink()
    with standby.imap(alice) as imap:
        assert ok(imap.select("INBOX")) == [b"2"]
        with writing(site, alice) as writer:
            writer.set_flags("user.alice", [1], add=["\\Flagged"])
            writer.append("user.alice", [(MESSAGE + b"new", 10**9, "")])
        update(site, standby, alice)
        with contextlib.suppress(imaplib.IMAP4.abort):  # a message that comes late ends it
            imap.noop()
            imap.noop()
    assert_standby(standby, site, alice)


def test_what_users_wrote_at_a_standby_is_noticed_and_kept(standby: Server, site: Site, alice: str) -> None:
    with standby.imap(alice) as imap:
        ok(imap.append("INBOX", "(\\Seen)", None, b"Subject: after the fire\r\n\r\nx\r\n"))
        ok(imap.select("Work"))
        ok(imap.store("1", "+FLAGS", "(\\Deleted)"))
        ok(imap.expunge())
        ok(imap.store("1", "+FLAGS", "(\\Flagged Mine)"))
        ok(imap.create("New"))
        ok(imap.append("New", None, None, MESSAGE))
        before = {name: view(imap, name) for name in names(imap)}
    site.deliver("alice", 1)
    result = site.run("export", "--update", alice, f"{standby.home}/home/%u/Maildir")
    assert result.status == 1
    assert "INBOX: messages: 1 new" in result.err
    assert ".Work: messages: 1 with other flags, 1 expunged" in result.err
    assert ".New: a folder that the store has not, messages: 1" in result.err
    with standby.imap(alice) as imap:
        assert {name: view(imap, name) for name in names(imap)} == before
    update(site, standby, alice, "--anew")
    theirs = before["INBOX"].messages[-1].uid
    with standby.imap(alice) as imap:
        inbox = view(imap, "INBOX")
        assert "New" not in names(imap)
    # The store's next message has the UID that the standby gave to another: both are had, apart.
    assert [message.uid for message in inbox.messages][-1] == theirs
    aside = list(standby.user_home(alice).glob("Maildir.written-*/**/*M*"))
    assert len([path for path in aside if path.is_file() and path.parent.name in ("cur", "new")]) == 2


@pytest.mark.skipif(shutil.which("mbsync") is None, reason="isync is not installed")
def test_mbsync_goes_on_with_what_it_had(standby: Server, site: Site, alice: str, tmp_path: Path) -> None:
    (tmp_path / "mbsyncrc").write_text(
        f"IMAPAccount a\nHost 127.0.0.1\nPort {standby.imap_port}\nUser {alice}\nPass {PASSWORD}\n"
        "SSLType None\nAuthMechs LOGIN\n\nIMAPStore far\nAccount a\n\nMaildirStore near\n"
        "SubFolders Verbatim\n"
        f"Path {tmp_path}/mail/\nInbox {tmp_path}/mail/INBOX\n\n"
        "Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Near\nExpunge Near\nSync Pull\nSyncState *\n"
    )
    (tmp_path / "mail").mkdir()

    def mail() -> dict[str, str]:
        command = ["mbsync", "-c", str(tmp_path / "mbsyncrc"), "-a"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "UIDVALIDITY" not in done.stderr
        return {path.name.partition(":")[0]: path.name for path in (tmp_path / "mail").rglob("*,U=*")}

    first = mail()
    assert len(first) == 5
    with writing(site, alice) as writer:
        writer.set_flags("user.alice", [2], add=["\\Flagged"])
        writer.append("user.alice", [(MESSAGE + b"new", 10**9, "")])
    update(site, standby, alice)
    second = mail()
    assert len(second) == 6
    assert first.keys() < second.keys()
    assert sum(name != first.get(key) for key, name in second.items()) == 2


def test_a_step_that_was_killed_harms_no_session_and_is_done_again(
    standby: Server, site: Site, alice: str
) -> None:
    def dying(number: int) -> int:
        count = 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            count += event in ("os.rename", "os.remove", "open", "os.link") and "/Maildir" in str(
                arguments[0]
            )
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        update(site, standby, alice)
        return 0

    killed = 0
    for number in (6, 13, 21, 30):
        changes_of(site, alice, number, 8)
        pid = fork(lambda number=number: dying(number))  # type: ignore[misc]
        killed += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0
        with standby.imap(alice) as imap:
            for name in names(imap):
                imap.select(f'"{name}"')
        update(site, standby, alice)
        assert_standby(standby, site, alice)
    assert killed > 1


def test_folders_are_served_below_a_prefix_too(site: Site) -> None:
    with running_or_skipped(RELEASES[0], prefix="INBOX.", separator=".") as server:
        server.add_user("alice")
        site.ok("create", "user/alice", "user/alice/Work")
        site.deliver("alice", 1, "-m", "Work")
        update(site, server, "alice")
        with server.imap("alice") as imap:
            assert set(names(imap)) == {"INBOX", "INBOX.Work"}
            assert len(view(imap, "INBOX.Work").messages) == 1


def test_who_is_gone_from_the_store_is_gone_from_the_standby(standby: Server, site: Site) -> None:
    standby.add_user("bruno")
    site.ok("create", "user/bruno")
    site.deliver("bruno", 1)
    update(site, standby, "bruno")
    site.ok("delete", "user/bruno")
    update(site, standby, "bruno")
    with standby.imap("bruno") as imap:
        assert not view(imap, "INBOX").messages
    assert list(standby.user_home("bruno").glob("Maildir.deleted-*"))
