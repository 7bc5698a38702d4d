"""A real Cyrus as the IMAP server that is pulled from: by IMAP alone, without its spool and its csync."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cyrus_sync.common.names import Owner
from cyrus_sync.pull.puller import Puller
from cyrus_sync.pull.settings import ImapSettings
from tests.deadlines import until
from tests.dovecot.pulling import Sidecar, message
from tests.dovecot.test_rolling_pull import flags, rolling
from tests.pull.fake import FakeImap

from .cyrus import ADMIN, PASSWORD, Cyrus
from .imap import parse
from .ours import Ours


def theirs(cyrus: Cyrus, folder: str) -> dict[int, tuple[str, frozenset[str]]]:
    """SHA-1 and flags of a folder's messages by UID, as alice's client sees them."""
    with cyrus.imap("alice") as imap:
        imap.ok("EXAMINE", folder)
        found = {}
        for answer in imap.ok("UID", "FETCH", "1:*", "(UID FLAGS BODY.PEEK[])"):
            if b" FETCH (" in answer:
                items = parse(answer.removeprefix(b"* "))[2]
                told = dict(zip(items[::2], items[1::2], strict=True))
                flags = frozenset(flag.decode().lower() for flag in told[b"FLAGS"]) - {"\\recent"}
                found[int(told[b"UID"])] = (hashlib.sha1(told[b"BODY[]"]).hexdigest(), flags)
        return found


def ours(sidecar: Sidecar, *levels: str) -> dict[int, tuple[str, frozenset[str]]]:
    return {one.uid: (one.guid, frozenset(one.flags)) for one in sidecar.folders("alice")[levels].messages}


def test_a_user_of_a_real_cyrus_is_pulled_by_imap(real_cyrus: None, tmp_path: Path) -> None:
    with Cyrus.running("pulled", {"sieve_maxscripts": "5"}) as cyrus:
        cyrus.create_user("alice")
        with cyrus.imap() as admin:
            admin.ok("CREATE", "bulletin")
            admin.ok("SETACL", "bulletin", "anyone", "lrs")
            admin.ok("SETQUOTA", "user/alice", "(STORAGE 5000)")
        with cyrus.imap("alice") as imap:
            imap.ok("CREATE", "INBOX/Work")
            imap.ok("CREATE", "INBOX/Work/Deep")
            imap.ok("SUBSCRIBE", "INBOX/Work")
            imap.ok("SETMETADATA", "INBOX/Work", '(/shared/comment "ours")')
        for number in range(4):
            cyrus.deliver(message(number), "alice")
        with cyrus.sieve("alice") as sieve:
            sieve.put("x", b"keep;\r\n")
            sieve.activate("x")
        settings = ImapSettings(
            "127.0.0.1",
            cyrus.ports["imap"],
            master=ADMIN,
            password=PASSWORD,
            sieve_port=cyrus.ports["sieve"],
        )
        sidecar = Sidecar(tmp_path, settings)
        sidecar.pull("alice")
        assert ours(sidecar) == theirs(cyrus, "INBOX") and len(ours(sidecar)) == 4
        with sidecar.reader("alice") as reader:
            work = reader.mailbox("user.alice.Work")
            assert work is not None and work.acl == "alice\tlrswipkxtecdan\t"
            assert [(one.entry, one.value) for one in work.annotations] == [("/comment", b"ours")]
            assert reader.quotas()[0].limits == {"STORAGE": 5000}
            assert reader.meta(with_sieve=False).subscriptions == ("user.alice.Work",)
            assert [one.filename for one in reader.sieve_scripts()] == ["x.script", "x.bc"]
        assert set(sidecar.folders(Owner("shared", "bulletin"))) == {("bulletin",)}
        with cyrus.imap("alice") as imap:
            imap.ok("SELECT", "INBOX")
            imap.ok("UID", "STORE", "1", "+FLAGS", "(\\Flagged kw)")
            imap.ok("UID", "MOVE", "2", "INBOX/Work")
            imap.ok("UID", "STORE", "3", "+FLAGS", "\\Deleted")
            imap.ok("EXPUNGE")
            imap.ok("RENAME", "INBOX/Work/Deep", "INBOX/Other")
        done = sidecar.fresh().pull("alice")
        assert (done.messages, done.moved, done.flags, done.expunged) == (0, 1, 1, 2)
        assert ours(sidecar) == theirs(cyrus, "INBOX")
        assert ours(sidecar, "Work") == theirs(cyrus, "INBOX/Work")
        assert set(sidecar.folders("alice")) == {(), ("Work",), ("Other",)}
        with sidecar.reader("alice") as reader:
            assert not any(one.name.startswith("DELETED.") for one in reader.mailboxes())
        assert not sidecar.pull("alice").changed
        _on_one_line(cyrus, sidecar)
        sidecar.close()


def _on_one_line(cyrus: Cyrus, sidecar: Sidecar) -> None:
    """A session that is kept."""
    puller = sidecar.fresh(keep=60)
    for number in range(20, 23):
        cyrus.deliver(message(number), "alice")
        assert sidecar.pull("alice", names=["user.alice"]).messages == 1
    assert (puller.sessions.use.made, puller.sessions.use.again) == (1, 2)
    assert ours(sidecar) == theirs(cyrus, "INBOX")
    puller.sessions.close()


def annotations(sidecar: Sidecar) -> set[tuple[int, str, str, bytes]]:
    """Those of alice's messages: UID, entry, user and value."""
    with sidecar.reader("alice") as reader:
        box = reader.mailbox("user.alice")
        assert box is not None
        records = [record for batch in reader.records(box.uniqueid) for record in batch]
    return {
        (one.uid, note.entry, note.userid, note.value)
        for one in records
        if not one.expunged
        for note in one.annotations
    }


def seen(sidecar: Sidecar, user: str, owner: Owner, name: str) -> str:
    """UIDs that `user` has seen in another's mailbox."""
    with sidecar.store.read(owner) as reader:
        box = reader.mailbox(name)
    assert box is not None
    with sidecar.reader(user) as reader:
        found = reader.seen(box.uniqueid)
    return found.seenuids if found is not None else ""


def test_annotations_of_messages_roots_of_quotas_and_what_others_have_seen_come_too(
    real_cyrus: None, tmp_path: Path
) -> None:
    bulletin, alice = Owner("shared", "bulletin"), Owner("user", "alice")
    with Cyrus.running("finer") as cyrus:
        cyrus.create_user("alice", "bob")
        with cyrus.imap() as admin:
            admin.ok("CREATE", "bulletin")
            admin.ok("SETACL", "bulletin", "anyone", "lrsp")
            for name in ("user/alice/Work", "user/alice/Work/Deep"):
                admin.ok("CREATE", name)
            admin.ok("SETACL", "user/alice/Work", "bob", "lrs")
            for root, limits in {
                "user/alice": "(STORAGE 5000)",
                "user/alice/Work": "(STORAGE 300 MESSAGE 20)",
                "bulletin": "(STORAGE 70)",
            }.items():
                admin.ok("SETQUOTA", root, limits)
        for number in range(3):
            cyrus.deliver(message(number), "alice", "+bulletin")
        with cyrus.imap("alice") as imap:
            imap.ok("APPEND", "INBOX/Work", message(9))
            imap.ok("SELECT", "INBOX")
            imap.ok("UID", "STORE", "1", "ANNOTATION", '(/comment (value.shared "all" value.priv "7"))')
            imap.ok("UID", "STORE", "2", "ANNOTATION", "(/vendor/x/y (value.shared", b'a\r\n"b\xc3\xbc', "))")
        for user, folder, uid in (
            ("alice", "bulletin", "1:2"),
            ("bob", "bulletin", "3"),
            ("bob", "user/alice/Work", "1"),
        ):
            with cyrus.imap(user) as imap:
                imap.ok("SELECT", folder)
                imap.ok("UID", "STORE", uid, "+FLAGS", "(\\Seen)")
        port = cyrus.ports["imap"]
        settings = ImapSettings("127.0.0.1", port, master=ADMIN, password=PASSWORD, sieve_port=0)
        sidecar = Sidecar(tmp_path, settings)
        for user in ("alice", "bob"):
            sidecar.pull(user)
        first = {(2, "/vendor/x/y", "", b'a\r\n"b\xc3\xbc')}
        assert annotations(sidecar) == first | {(1, "/comment", "", b"all"), (1, "/comment", "alice", b"7")}
        with sidecar.reader("alice") as reader:
            roots = {one.root: one.limits for one in reader.quotas()}
        assert roots == {"user.alice": {"STORAGE": 5000}, "user.alice.Work": {"STORAGE": 300, "MESSAGE": 20}}
        with sidecar.store.read(bulletin) as reader:
            assert [(one.root, one.limits) for one in reader.quotas()] == [("bulletin", {"STORAGE": 70})]
        assert seen(sidecar, "alice", bulletin, "bulletin") == "1:2"
        assert seen(sidecar, "bob", bulletin, "bulletin") == "3"
        assert seen(sidecar, "bob", alice, "user.alice.Work") == "1"
        assert {
            flag for one in sidecar.folders(bulletin)[("bulletin",)].messages for flag in one.flags
        } == set()
        assert not sidecar.pull("alice").changed and not sidecar.pull("bob").changed

        with cyrus.imap("alice") as imap:
            imap.ok("SELECT", "INBOX")
            imap.ok("UID", "STORE", "1", "ANNOTATION", "(/comment (value.shared NIL))")
            imap.ok("UID", "STORE", "3", "ANNOTATION", '(/comment (value.priv "new"))')
            imap.ok("SELECT", "bulletin")
            imap.ok("UID", "STORE", "1", "-FLAGS", "(\\Seen)")
        with cyrus.imap() as admin:
            admin.ok("SETQUOTA", "user/alice", "()")
            admin.ok("SETQUOTA", "user/alice/Work/Deep", "(MESSAGE 5)")
        sidecar.pull("alice")
        assert annotations(sidecar) == first | {
            (1, "/comment", "alice", b"7"),
            (3, "/comment", "alice", b"new"),
        }
        assert seen(sidecar, "alice", bulletin, "bulletin") == "2"
        with sidecar.reader("alice") as reader:
            roots = {one.root: one.limits for one in reader.quotas() if one.limits}
        assert roots == {
            "user.alice.Work": {"STORAGE": 300, "MESSAGE": 20},
            "user.alice.Work.Deep": {"MESSAGE": 5},
        }
        assert not sidecar.pull("alice").changed
        sidecar.close()


def test_a_real_cyrus_tells_of_inboxes_by_idle(real_cyrus: None, tmp_path: Path) -> None:
    with Cyrus.running("watched", {"imapidlepoll": "1"}) as cyrus:
        cyrus.create_user("alice")
        conf = tmp_path / "imapd.conf"
        conf.write_text(
            f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\nsync_source: imap\n"
            f"imap_host: 127.0.0.1\nimap_port: {cyrus.ports['imap']}\nimap_tls: no\n"
            f"imap_master_user: {ADMIN}\nimap_password: {PASSWORD}\nimap_sieve_port: 0\n"
            "imap_users: alice\nimap_watch_connections: 5\n"
        )
        with rolling(conf):
            until(lambda: "IDLE" in conf.with_name("log").read_text(), "she is watched")
            cyrus.deliver(message(1), "alice")
            until(lambda: flags(conf, "alice") == [""], "the message is here")
            with cyrus.imap("alice") as imap:
                imap.ok("SELECT", "INBOX")
                imap.ok("UID", "STORE", "1", "+FLAGS", "(\\Flagged)")
            until(lambda: flags(conf, "alice") == ["\\Flagged"], "the flag is here")


def test_what_was_pulled_goes_on_to_a_real_cyrus_also_where_an_inbox_begins_anew(
    real_cyrus: None, tmp_path: Path
) -> None:
    with FakeImap() as server, Cyrus.running("replica") as replica, Ours.installed("pulling") as ours:
        inbox = server.boxes["INBOX"]
        for number in range(5):
            inbox.add(message(number), "\\Seen")
        settings = ImapSettings("127.0.0.1", server.port, master="m", password="p", sieve_port=0)
        puller = Puller(settings, ours.store, directory=ours.root / "pull")

        def replicated() -> set[int]:
            """UIDs at the replica, after a pull and a replication."""
            puller.pull("alice")
            ours.sync_client("-u", "alice", to=replica.csync).check()
            again = ours.sync_client("-v", "-u", "alice", to=replica.csync).check()
            assert again.out == "USER alice\n"
            return set(theirs(replica, "INBOX"))

        assert replicated() == {1, 2, 3, 4, 5}
        inbox.uidvalidity, inbox.modseq = 4242, inbox.modseq + 1
        assert replicated() == {1, 2, 3, 4, 5}
        with replica.imap("alice") as imap:
            assert any(b"[UIDVALIDITY 4242]" in line for line in imap.ok("EXAMINE", "INBOX"))
        server.bad = {7: "NO"}
        for number in range(10, 13):
            inbox.add(message(number))
        assert replicated() == {1, 2, 3, 4, 5, 6, 8}
        server.bad = {}
        assert replicated() == set(range(1, 9)), "the message that came late is there under its UID"
        inbox.add(message(20))
        assert replicated() == set(range(1, 10))
