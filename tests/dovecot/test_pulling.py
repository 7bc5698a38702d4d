"""A user of a real Dovecot is pulled into our store: a client sees the same at both ends."""

from __future__ import annotations

import imaplib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.errors import AuthenticationFailed, CannotConnect
from cyrus_sync.common.names import Owner
from cyrus_sync.pull import folder
from cyrus_sync.pull.errors import HungUp, ServerTrouble
from tests.deadlines import until
from tests.dovecot.conftest import running_or_skipped
from tests.dovecot.dovecot import ok
from tests.dovecot.pulling import Sidecar, message, same, settings_of
from tests.dovecot.running import PASSWORD, Server
from tests.interop.managesieve import ManageSieve

DATE = '"17-Jul-2020 02:44:25 -0700"'


@pytest.fixture
def sidecar(serving: Server, tmp_path: Path) -> Iterator[Sidecar]:
    made = Sidecar(tmp_path, settings_of(serving))
    yield made
    made.close()


@pytest.fixture(scope="module")
def unused(serving: Server) -> list[str]:
    """Users of whom nothing is known yet. They are made at once: Dovecot looks for new ones once a second."""
    names = [f"pulled{number}" for number in range(30)]
    for name in names:
        serving.add_user(name, wait=False)
    until(lambda: can_log_in(serving, names[-1]), "the users are known")
    return names


def can_log_in(server: Server, user: str) -> bool:
    try:
        with server.imap(user):
            return True
    except imaplib.IMAP4.error:
        return False


@pytest.fixture
def user(unused: list[str]) -> str:
    return unused.pop()


def fill(server: Server, user: str) -> None:
    with server.imap(user) as imap:
        for number in range(5):
            flags = ("", "(\\Seen $Forwarded)", "(\\Flagged Spter)", "")[number % 4]
            ok(imap.append("INBOX", flags, DATE, message(number)))
        for name in ("Work", "Work/Deep", "Sent", "Entw&APw-rfe", '"a b"'):
            ok(imap.create(name))
        ok(imap.append("Work/Deep", "(\\Draft)", None, message(100)))
        ok(imap.append("Entw&APw-rfe", "", None, message(101)))
        ok(imap.subscribe("Work"))


def number_anew(server: Server, user: str, uidvalidity: int, folder: str) -> None:
    server.doveadm("mailbox", "update", "-u", user, "--uid-validity", str(uidvalidity), folder)


def test_a_user_is_the_same_at_both_ends(serving: Server, sidecar: Sidecar, user: str) -> None:
    fill(serving, user)
    done = sidecar.pull(user)
    assert (done.messages, done.folders) == (7, 6)
    same(sidecar, serving, user)
    with sidecar.reader(user) as reader:
        assert reader.meta(with_sieve=False).subscriptions == (f"user.{user}.Work",)
        sent = reader.mailbox(f"user.{user}.Sent")
        assert sent is not None
        assert [(one.entry, one.value) for one in sent.annotations] == [("/specialuse", b"\\Sent")]
        assert reader.quotas()[0].limits == {"STORAGE": 1048576, "MESSAGE": 100000}
        inbox = reader.mailbox(f"user.{user}")
        assert inbox is not None and inbox.acl.startswith(f"{user}\tl")
    assert not sidecar.puller.pull(user).changed


def test_what_has_changed_is_all_that_is_fetched(serving: Server, sidecar: Sidecar, user: str) -> None:
    fill(serving, user)
    sidecar.pull(user)
    with serving.imap(user) as imap:
        imap.select("INBOX")
        imap.store("1", "+FLAGS", "(\\Flagged new)")
        imap.uid("MOVE", "2", "Work")
        imap.uid("COPY", "4", "Sent")
        imap.store("3", "+FLAGS", "\\Deleted")
        imap.expunge()
        imap.append("INBOX", "", None, message(200))
        imap.rename("Work/Deep", "Work/Other")
        imap.delete("Entw&APw-rfe")
        imap.unsubscribe("Work")
    done = sidecar.pull(user)
    assert (done.messages, done.moved, done.flags) == (1, 2, 1)
    same(sidecar, serving, user)
    with sidecar.reader(user) as reader:
        assert reader.meta(with_sieve=False).subscriptions == ()
        other = reader.mailbox(f"user.{user}.Work.Other")
        assert other is not None
        assert reader.former_names(other.uniqueid) == [f"user.{user}.Work.Deep"]
        assert any("DELETED" in one.name and "Entw" in one.name for one in reader.mailboxes())


def test_another_uidvalidity_begins_the_mailbox_anew_out_of_what_is_here(
    serving: Server, sidecar: Sidecar, user: str
) -> None:
    fill(serving, user)
    sidecar.pull(user)
    number_anew(serving, user, 4242, "INBOX")
    number_anew(serving, user, 4243, "Work/Deep")
    done = sidecar.pull(user)
    assert (done.messages, done.moved) == (0, 6)
    same(sidecar, serving, user)
    with sidecar.reader(user) as reader:
        assert sum(one.name.startswith("DELETED.") for one in reader.mailboxes()) == 2


def test_what_force_resync_finds_is_what_the_folder_has(serving: Server, sidecar: Sidecar, user: str) -> None:
    """A file that was removed, and one that was put there, behind Dovecot's back."""
    with serving.imap(user) as imap:
        for number in range(4):
            ok(imap.append("INBOX", "", None, message(number)))
    sidecar.pull(user)
    files = sorted(serving.maildir(user).glob("[nc]*/*M*P*"))
    files[1].unlink()
    new = serving.maildir(user) / "cur" / "1500000000.M1P1.elsewhere:2,S"
    new.write_bytes(message(9))
    serving.give(new)
    serving.doveadm("force-resync", "-u", user, "INBOX")
    done = sidecar.pull(user)
    assert (done.messages, done.expunged) == (1, 1)
    same(sidecar, serving, user)


def test_what_is_remembered_may_be_lost_damaged_or_too_old(
    serving: Server, sidecar: Sidecar, user: str
) -> None:
    fill(serving, user)
    sidecar.pull(user)
    (kept,) = (sidecar.path / "conf" / "pull").rglob("*.db")
    old = kept.read_bytes()
    with serving.imap(user) as imap:
        imap.select("INBOX")
        imap.store("1:3", "+FLAGS", "\\Answered")
        imap.expunge()
    for content in (None, b"no database at all" * 100, old, old[:5000]):
        kept.unlink(missing_ok=True)
        if content is not None:
            kept.write_bytes(content)
        sidecar.pull(user)
        same(sidecar, serving, user)
    # Whatever else has changed our mailbox, the server's state comes back.
    with sidecar.store.write(Owner("user", user)) as writer:
        writer.set_flags(f"user.{user}", [1, 2], add=["\\Deleted"])
        writer.expunge(f"user.{user}", [4])
    sidecar.pull(user)
    same(sidecar, serving, user)


def test_a_folder_that_was_deleted_and_made_again_is_another_one(
    serving: Server, sidecar: Sidecar, user: str
) -> None:
    fill(serving, user)
    sidecar.pull(user)
    with serving.imap(user) as imap:
        imap.delete("Work/Deep")
        imap.create("Work/Deep")
        imap.append("Work/Deep", "", None, message(300))
        imap.rename("INBOX", "Old")
        imap.append("INBOX", "", None, message(301))
    done = sidecar.pull(user)
    assert done.messages == 2
    same(sidecar, serving, user)


@pytest.mark.covers("imapd.conf", "imap_sieve_port")
def test_scripts_rights_and_annotations_come_along(serving: Server, sidecar: Sidecar, user: str) -> None:
    fill(serving, user)
    with serving.imap(user) as imap:
        ok(imap.setacl("Work", "bob", "lrs"))
        ok(imap.xatom("SETMETADATA", "Work", '(/shared/comment "ours" /private/comment "mine")'))
    with ManageSieve("127.0.0.1", serving.sieve_port, "", user, PASSWORD) as sieve:
        sieve.put("first", b'require "fileinto";\r\nif true { fileinto "Work"; }\r\n')
        sieve.put("zweites Skript", b"keep;\r\n")
        sieve.activate("first")
    sidecar.pull(user)
    work = f"user.{user}.Work"
    with sidecar.reader(user) as reader:
        mailbox = reader.mailbox(work)
        assert mailbox is not None
        words = mailbox.acl.split("\t")
        rights = {name: frozenset(letters) for name, letters in zip(words[::2], words[1::2], strict=False)}
        assert rights["bob"] == frozenset("lrs")
        assert {(one.entry, one.userid, one.value) for one in mailbox.annotations} == {
            ("/comment", "", b"ours"),
            ("/comment", user, b"mine"),
        }
        assert (
            reader.sieve_content("first.script") == b'require "fileinto";\r\nif true { fileinto "Work"; }\r\n'
        )
        assert {one.filename for one in reader.sieve_scripts()} == {
            "first.script",
            "first.bc",
            "zweites Skript.script",
        }
    assert not sidecar.pull(user).changed
    with serving.imap(user) as imap:
        ok(imap.deleteacl("Work", "bob"))
        ok(imap.xatom("SETMETADATA", "Work", "(/shared/comment NIL)"))
    with ManageSieve("127.0.0.1", serving.sieve_port, "", user, PASSWORD) as sieve:
        sieve.activate("")
        sieve.ok(b'DELETESCRIPT "first"')
    assert sidecar.pull(user).besides == 2
    with sidecar.reader(user) as reader:
        mailbox = reader.mailbox(work)
        assert mailbox is not None and "bob" not in mailbox.acl
        assert [one.value for one in mailbox.annotations] == [b"mine"]
        assert [one.filename for one in reader.sieve_scripts()] == ["zweites Skript.script"]


def test_names_change_places(serving: Server, sidecar: Sidecar, user: str) -> None:
    with serving.imap(user) as imap:
        for name in ("a", "b", "c"):
            imap.create(name)
            imap.append(name, "", None, message(ord(name)))
    sidecar.pull(user)
    with serving.imap(user) as imap:
        for old, new in (("a", "aside"), ("b", "a"), ("c", "b"), ("aside", "c")):
            ok(imap.rename(old, new))
    done = sidecar.pull(user)
    assert (done.messages, done.moved) == (0, 0)
    same(sidecar, serving, user)


def test_a_server_that_is_restarted_and_a_user_who_is_locked(tmp_path: Path) -> None:
    with running_or_skipped("2.4") as server:
        for name in ("alice", "bob"):
            server.add_user(name)
        with server.imap("alice") as imap:
            for number in range(30):
                ok(imap.append("INBOX", "", None, message(number, 30_000)))
        sidecar = Sidecar(tmp_path, settings_of(server, sieve_port=0, timeout=20))
        server.remove_user("bob")
        until(lambda: not can_log_in(server, "bob"), "bob is locked out")
        with pytest.raises((AuthenticationFailed, ServerTrouble, HungUp), match="login"):
            sidecar.puller.pull("bob")
        restarts = []
        fetch = folder.FolderPull._arrive

        def arrive(self: folder.FolderPull, uids: list[int]) -> None:
            if not restarts:
                restarts.append(True)
                server.restart()
            fetch(self, uids)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(folder.FolderPull, "_arrive", arrive)
            sidecar.pull("alice")
        assert restarts
        same(sidecar, server, "alice")
        server.stop()
        with pytest.raises((CannotConnect, HungUp)):  # its login process may listen for a moment
            sidecar.puller.pull("alice")
        sidecar.close()


@pytest.mark.parametrize("layout", ["maildir", "mdbox"])
@pytest.mark.parametrize("release", ["2.3", "2.4"])
def test_random_operations(release: str, layout: str, tmp_path: Path) -> None:
    rng = random.Random(f"{release}{layout}")
    with running_or_skipped(release, layout=layout) as server:
        server.add_user("alice")
        sidecar = Sidecar(tmp_path, settings_of(server, sieve_port=0))
        number = 0
        for _ in range(6):
            with server.imap("alice") as imap:
                for _ in range(rng.randrange(4, 25)):
                    number += 1
                    operate(imap, rng, number)
            if rng.random() < 0.4:
                server.deliver("alice", message(number, sender="lmtp"))
            if rng.random() < 0.3:
                server.doveadm(
                    "mailbox", "update", "-u", "alice", "--uid-validity", str(5000 + number), "INBOX"
                )
            if rng.random() < 0.3:
                server.doveadm("force-resync", "-u", "alice", "*", check=False)
            if rng.random() < 0.2:
                sidecar.fresh()
            sidecar.pull("alice")
            same(sidecar, server, "alice")
            told = server.doveadm(
                "-f", "tab", "fetch", "-u", "alice", "mailbox uid flags date.received.unixtime", "all"
            )
            assert _by_doveadm(told.out) == _ours_as_doveadm(sidecar)
        assert not sidecar.pull("alice").changed
        sidecar.close()


def operate(imap: imaplib.IMAP4, rng: random.Random, number: int) -> None:
    """Something that a user does."""
    names = ["INBOX", "a", "b", "a/x", "b/y", "c"]
    one, other = rng.choice(names), rng.choice(names)
    match rng.randrange(12):
        case 0 | 1 | 2:
            flags = rng.choice(["", "\\Seen", "\\Flagged k1", "$Junk"])
            imap.append(one, f"({flags})", rng.choice([DATE, None]), message(number, rng.randrange(2000)))
            return
        case 3:
            imap.create(one)
            return
        case 4 if one != "INBOX" and other != "INBOX":
            imap.rename(one, other)
            return
        case 5 if one != "INBOX" and rng.random() < 0.4:
            imap.delete(one)
            return
    if imap.select(one)[0] != "OK":
        return
    (found,) = ok(imap.uid("SEARCH", "ALL"))
    uids = (found or b"").split()
    if uids:
        uid = rng.choice(uids).decode()
        match rng.randrange(4):
            case 0:
                imap.uid("STORE", uid, rng.choice(["+FLAGS", "-FLAGS", "FLAGS"]), "(\\Seen \\Answered k2)")
            case 1:
                imap.uid("MOVE", uid, other)
            case 2:
                imap.uid("COPY", uid, other)
            case _:
                imap.uid("STORE", uid, "+FLAGS", "\\Deleted")
                imap.expunge()
    imap.close()


def _by_doveadm(text: str) -> set[tuple[str, int, frozenset[str], int]]:
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return {
        (name, int(uid), frozenset(flags.lower().split()) - {"\\recent"}, int(date))
        for name, uid, flags, date in rows
    }


def _ours_as_doveadm(sidecar: Sidecar) -> set[tuple[str, int, frozenset[str], int]]:
    return {
        ("/".join(levels) or "INBOX", one.uid, frozenset(one.flags), one.internaldate)
        for levels, mailbox in sidecar.folders("alice").items()
        for one in mailbox.messages
    }
