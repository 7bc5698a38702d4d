"""A real Dovecot serves what we export, and what it wrote is imported: clients notice nothing."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.maildir import names as directories
from cyrus_sync.mailstore.sources.content import to_crlf
from tests.dovecot.dovecot import Dovecot, Mailbox, Message, ok, quoted, view
from tests.dovecot.dovecot import names as listed
from tests.mailstore.conftest import MESSAGE, Site

ODD = [
    "INBOX",
    "a_b",
    "a.b",
    "R&-D",
    ".x",
    "Work",
    "work",
    "Entw&APw-rfe",
    "INBOX/x",
    "cur",
    "x" * 200,
    "y/" * 20 + "z",
]


def in_store(site: Site, user: str) -> dict[tuple[str, ...], Mailbox]:
    """What a client would see of our store, by folder."""
    top = f"user.{user}"
    store = open_store(site.config(), readonly=True)
    found = {}
    with store.read(Owner("user", user)) as reader:
        for mailbox in reader.mailboxes():
            if mailbox.intermediate or mailbox.name.startswith("DELETED") or mailbox.name.endswith("#sieve"):
                continue
            below = mailbox.name[len(top) + 1 :]
            messages = tuple(
                Message(
                    record.uid,
                    tuple(sorted(record.flags.lower().split())),
                    record.internaldate,
                    _served(reader, record.guid),
                )
                for batch in reader.records(mailbox.uniqueid)
                for record in batch
                if not record.expunged
            )
            folder = tuple(below.split(".")) if below else ()
            found[folder] = Mailbox(mailbox.uidvalidity, mailbox.last_uid + 1, messages)
    store.close()
    return found


def _served(reader: MailReader, guid: bytes) -> str:
    """The SHA-1 of a message as Dovecot serves it: it knows no lone LF."""
    body = reader.body(guid)
    assert body is not None
    raw = body.data if isinstance(body.data, bytes) else b"".join(body.data)
    return hashlib.sha1(to_crlf(raw)).hexdigest()


def subscribed(site: Site, user: str) -> set[tuple[str, ...]]:
    store = open_store(site.config(), readonly=True)
    with store.read(Owner("user", user)) as reader:
        names = reader.meta(with_sieve=False).subscriptions
    store.close()
    top = f"user.{user}"
    return {
        tuple(n[len(top) + 1 :].split(".")) if n != top else ()
        for n in names
        if (n + ".").startswith(top + ".")
    }


def shown(server: Dovecot, folder: tuple[str, ...]) -> str:
    """How Dovecot calls a folder."""
    name = directories.directory_name(folder)[1:] or "INBOX"
    if server.separator == "/":
        parts = name.split(".")
        name = "/".join(directories._ESCAPE.sub(lambda found: chr(int(found[1], 16)), part) for part in parts)
    return name


def assert_same(server: Dovecot, site: Site, user: str) -> None:
    mine = {shown(server, folder): mailbox for folder, mailbox in in_store(site, user).items()}
    theirs = server.mailboxes()
    assert sorted(mine) == sorted(theirs)
    for name, mailbox in mine.items():
        assert theirs[name] == mailbox, name
    assert server.subscriptions() == {shown(server, folder) for folder in subscribed(site, user)}


@pytest.mark.parametrize("user", ["alice", "bruno"])
def test_a_dovecot_serves_the_sample_mail_as_we_would(site: Site, server: Dovecot, user: str) -> None:
    site.ok("sample")
    site.ok("export", user, str(server.maildir))
    before = (server.maildir / "dovecot-uidlist").read_text()
    assert_same(server, site, user)
    assert_same(server, site, user)  # it has written its own indexes now
    assert (server.maildir / "dovecot-uidlist").read_text() == before


def test_a_dovecot_serves_folders_with_odd_names(alice: Site, server: Dovecot) -> None:
    wanted = [name for name in ODD if name != "Work"]
    alice.ok("create", *(f"user/alice/{name}" for name in wanted))
    for name in wanted:
        alice.ok("deliver", "alice", "-m", name, "-f", "Later", stdin=MESSAGE)
    alice.ok("subscribe", "alice", "user/alice/a.b", "user/alice/INBOX/x")
    alice.ok("export", "alice", str(server.maildir))
    assert_same(server, alice, "alice")
    alice.ok("import", "--create", "copy", str(server.maildir))
    assert in_store(alice, "copy") == in_store(alice, "alice")
    assert subscribed(alice, "copy") == subscribed(alice, "alice")


def test_keywords_that_have_no_letter_are_not_shown_and_come_back(alice: Site, server: Dovecot) -> None:
    words = [f"word{number}" for number in range(30)]
    for word in words:
        alice.ok("deliver", "alice", "-f", word, "-f", "\\Seen", stdin=MESSAGE + word.encode())
    result = alice.ok("export", "alice", str(server.maildir))
    assert "4 messages have more" in result.err
    flags = [message.flags for message in server.mailboxes()["INBOX"].messages]
    assert flags == [("\\seen", word) for word in words[:26]] + [("\\seen",)] * 4
    alice.ok("import", "--create", "copy", str(server.maildir))
    assert in_store(alice, "copy") == in_store(alice, "alice")


def test_dates_far_away_are_served_as_they_are(alice: Site, server: Dovecot) -> None:
    store = open_store(alice.config())
    with store.write(Owner("user", "alice")) as writer:
        writer.append(
            "user.alice", [(MESSAGE + b"%d" % when, when, "") for when in (1, 951782400, 2**31 + 5)]
        )
    store.close()
    alice.ok("export", "alice", str(server.maildir))
    assert_same(server, alice, "alice")


# -- the other way


def folder_of(server: Dovecot, name: str) -> tuple[str, ...]:
    """The folder here of a mailbox there, named by a client."""
    if name == "INBOX":
        return ()
    return tuple(directories.part_of(part.replace("^", "\\5e")) for part in name.split(server.separator))


def assert_imported(server: Dovecot, site: Site, user: str) -> None:
    theirs = {folder_of(server, name): mailbox for name, mailbox in server.mailboxes().items()}
    mine = in_store(site, user)
    for folder, mailbox in theirs.items():
        assert mine[folder] == mailbox, folder
    # What exists only because something is below it cannot be selected there.
    assert all(not mine[folder].messages for folder in set(mine) - set(theirs))
    wanted = {folder_of(server, name) for name in server.subscriptions()}
    assert subscribed(site, user) == wanted & set(mine)


def write(server: Dovecot, seed: int, steps: int) -> None:
    """Mail by IMAP as users make it: nothing that the seed does not say."""
    chance = random.Random(seed)
    sep = server.separator
    fresh = iter(range(10_000))
    with server.client() as imap:
        for name in (
            "Work",
            f"Work{sep}2026",
            "R&-D",
            "Entw&APw-rfe",
            "a_b",
            "Trash~x",
            "w=z",
            f"INBOX{sep}below",
        ):
            imap.create(quoted(name))
        if sep == "/":
            imap.create(quoted("v1.2/a.b"))
            imap.create(quoted(".x"))
        for _ in range(steps):
            boxes = listed(imap)
            name = chance.choice(boxes)
            step = chance.choice(
                ["append"] * 4 + ["store"] * 3 + ["copy", "move", "expunge", "rename", "subscribe", "new"]
            )
            count = int(ok(imap.select(quoted(name)))[0])
            some = f"{chance.randint(1, count)}:{chance.randint(1, count)}" if count else ""
            words = chance.sample(
                ["\\Seen", "\\Flagged", "\\Answered", "\\Draft", "\\Deleted", "$Forwarded", "k1", "k2"], 3
            )
            flags = f"({' '.join(words)})"
            if step == "append":
                date = f'"{chance.randint(1, 28):2d}-Mar-20{chance.randint(10, 30)} 10:00:00 +0000"'
                raw = b"Subject: %d\r\n\r\n%d\r\n" % (next(fresh), seed)
                ok(imap.append(quoted(name), flags, date, raw))
            elif step == "store" and some:
                ok(imap.store(some, chance.choice(["FLAGS", "+FLAGS", "-FLAGS"]), flags))
            elif step == "copy" and some:
                ok(imap.copy(some, quoted(chance.choice(boxes))))
            elif step == "move" and some:
                imap._simple_command(
                    "MOVE", some, quoted(chance.choice([b for b in boxes if b != name] or boxes))
                )
            elif step == "expunge":
                ok(imap.expunge())
            elif step == "rename" and name != "INBOX" and "below" not in name:
                imap.close()
                ok(imap.rename(quoted(name), quoted(f"renamed{seed}n{next(fresh)}")))
            elif step == "subscribe":
                ok(imap.subscribe(quoted(name)))
            elif step == "new":
                ok(imap.create(quoted(f"new{seed}n{next(fresh)}")))


@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_dovecot_wrote_is_imported_as_clients_know_it(site: Site, server: Dovecot, seed: int) -> None:
    write(server, seed, 60)
    site.ok("import", "--create", "alice", str(server.maildir))
    assert_imported(server, site, "alice")
    again = site.ok("import", "alice", str(server.maildir))
    assert again.out.startswith("0 messages imported")


@pytest.mark.parametrize("seed", [3, 4])
def test_an_update_follows_a_dovecot(site: Site, server: Dovecot, seed: int) -> None:
    write(server, seed, 40)
    site.ok("import", "--create", "alice", str(server.maildir))
    for more in range(3):
        write(server, seed + 100 * (more + 1), 25)
        site.ok("import", "--update", "alice", str(server.maildir))
        assert_imported(server, site, "alice")


def test_a_dovecot_goes_on_with_what_we_exported_and_we_take_it_back(site: Site, server: Dovecot) -> None:
    site.ok("sample")
    site.ok("export", "alice", str(server.maildir))
    site.ok("import", "--create", "copy", str(server.maildir))
    with server.client() as imap:
        ok(imap.append("INBOX", "(\\Seen New)", None, b"Subject: after\r\n\r\nx\r\n"))
        ok(imap.select("INBOX"))
        ok(imap.store("2", "+FLAGS", "(\\Deleted)"))
        ok(imap.expunge())
        ok(imap.store("1", "FLAGS", "($Forwarded)"))
        after = view(imap, "INBOX")
    last = in_store(site, "alice")[()].uidnext
    assert after.messages[-1].uid == last
    site.ok("import", "--update", "copy", str(server.maildir))
    assert in_store(site, "copy")[()] == after


def test_mail_that_was_delivered_but_not_seen_by_dovecot_comes_last(site: Site, server: Dovecot) -> None:
    with server.client() as imap:
        ok(imap.append("INBOX", "", None, b"Subject: 1\r\n\r\n"))
    for name in ("1700000000.M10P1.h", "1700000000.M9P1.h"):
        (server.maildir / "new" / name).write_bytes(b"Subject: " + name.encode() + b"\n\n")
    site.ok("import", "--create", "alice", str(server.maildir))
    before = in_store(site, "alice")[()]
    assert [message.uid for message in before.messages] == [1, 2, 3]
    assert server.mailboxes()["INBOX"].messages[0] == before.messages[0]


def test_a_uidlist_of_dovecot_1_0_is_taken_over_by_both(site: Site, server: Dovecot, tmp_path: Path) -> None:
    for part in ("cur", "new", "tmp"):
        (server.maildir / part).mkdir(parents=True)
    for name in ("9.a.h:2,S", "10.b.h:2,F"):
        (server.maildir / "cur" / name).write_bytes(b"Subject: " + name.encode() + b"\r\n\r\n")
    (server.maildir / "dovecot-uidlist").write_text("1 1200000000 40\n7 10.b.h\n20 9.a.h\n")
    shutil.copytree(server.maildir, tmp_path / "before")
    site.ok("import", "--create", "alice", str(tmp_path / "before"))
    mailbox = server.mailboxes()["INBOX"]
    assert [message.uid for message in mailbox.messages] == [7, 20]
    mine = in_store(site, "alice")[()]
    assert (mine.uidvalidity, mine.uidnext) == (mailbox.uidvalidity, mailbox.uidnext) == (1200000000, 40)
    assert [(m.uid, m.flags, m.guid) for m in mine.messages] == [
        (m.uid, m.flags, m.guid) for m in mailbox.messages
    ]
