"""Mailboxes of every release's own spool, read beside its daemons while these go on writing."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyrus_sync.spool.db import items_of
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.messages import read_message
from cyrus_sync.spool.snapshot import Snapshot, take
from cyrus_sync.spool.trouble import Gone
from tests.spool.golden import told_records
from tests.spool.indexes import Index
from tests.walking import files_below

from .beside import BesideCyrus
from .csync import Csync
from .cyrus import Cyrus
from .fill import fill_everything, message
from .imap import quote
from .ours import Ours
from .proxy import Proxy
from .releases import Release
from .snapshots import TOGETHER, running
from .spools import SETTINGS, change_mailbox, files_of, fill_mailbox, told

pytestmark = [pytest.mark.interop, pytest.mark.every_release]


@pytest.fixture(scope="module")
def cyrus(real_cyrus: None) -> Iterator[Cyrus]:
    with Cyrus.running("spool", {**SETTINGS, "maxliteral": "0"}) as server:
        yield server


def external(name: str) -> str:
    """A mailbox as Cyrus's tools want it."""
    return name.replace(".", "/").replace("^", ".")


def compare(cyrus: Cyrus, name: str, user: str, files: MailboxFiles | None = None) -> Snapshot:
    """See that what we read of a mailbox is what its server says of it; the snapshot, closed."""
    files = files or files_of(cyrus, external(name))
    said = told(cyrus, name if " " not in name and "(" not in name else quote(name))
    with take(files, user, items_of) as mailbox:
        records = [record for batch in mailbox.records() for record in batch]
        places = [place for batch in mailbox.places() for place in batch]
    assert records == told_records(said)
    assert not mailbox.complaint
    assert str(mailbox.crcs[0]) == said["SYNC_CRC"]
    if mailbox.index.has_annotation_crc:
        assert str(mailbox.crcs[1]) == said["SYNC_CRC_ANNOT"]
    assert mailbox.header.uniqueid == said["UNIQUEID"]
    assert mailbox.index.exists == sum("\\Expunged" not in record["FLAGS"] for record in said["RECORD"])
    assert {place.uid for place in places} >= {record.uid for record in records if not record.expunged}
    for place in places:
        assert read_message(files, place.uid, place.guid).size == place.size
        content = files.message(place.uid, archived=place.archived).read_bytes()
        assert hashlib.sha1(content).digest() == place.guid
    return mailbox


def test_a_mailbox_with_everything_is_what_its_server_says(cyrus: Cyrus, user: str, release: Release) -> None:
    fill_mailbox(cyrus, user, removing_keywords=release.number >= (3, 6))
    before = compare(cyrus, f"user.{user}", user)
    change_mailbox(cyrus, user)
    after = compare(cyrus, f"user.{user}", user)
    assert after.index.highestmodseq > before.index.highestmodseq
    assert len(after.header.userflags) > 32
    assert after.annotations
    expected = {(3, 2): 16, (3, 6): 17}.get(release.number, 19)
    assert after.index.minor_version == expected


def test_all_mailboxes_of_a_user_are_what_their_server_says(cyrus: Cyrus, user: str) -> None:
    fill_everything(cyrus, user, f"{user}b")
    with cyrus.imap(user) as imap:
        imap.ok("CREATE", quote("INBOX/going"))
        imap.append("INBOX/going", message("going"))
        imap.ok("DELETE", quote("INBOX/going"))
        imap.ok("RENAME", quote("INBOX/lists/cyrus"), quote("INBOX/lists/imap"))
        imap.ok("CREATE", quote("INBOX/" + "long" * 60))
        imap.append("INBOX/" + "long" * 60, message("in a mailbox with a long name"))
    with Csync(cyrus.csync) as csync:
        listed = [header for kind, header in csync.get(f"USER {user}") if kind == "MAILBOX"]
    names = [header["MBOXNAME"].decode() for header in listed if b"i" not in header.get("MBOXTYPE", b"")]
    assert len(names) > 10
    for name in names:
        compare(cyrus, name, user)


@pytest.mark.parametrize("version", [12, 13, 14, 15, 16, 17, 18, 19])
def test_versions_that_reconstruct_makes_are_what_their_server_says(
    cyrus: Cyrus, user: str, release: Release, version: int
) -> None:
    newest = {(3, 2): 16, (3, 6): 17}.get(release.number, 19)
    if version > newest:
        pytest.skip(f"Cyrus {release} knows index versions up to {newest}")
    fill_mailbox(cyrus, user, removing_keywords=False)
    cyrus.tool("reconstruct", "-V", str(version), f"user/{user}").check()
    change_mailbox(cyrus, user)
    assert compare(cyrus, f"user.{user}", user).index.minor_version == version


class Writers:
    """Threads that change a mailbox until they are told to stop. What goes wrong in one is raised then."""

    def __init__(self, *work: Callable[[], None]) -> None:
        self._stop = threading.Event()
        self._trouble: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(one,)) for one in work]

    def _run(self, work: Callable[[], None]) -> None:
        try:
            while not self._stop.is_set():
                work()
        except BaseException as trouble:
            self._trouble.append(trouble)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._trouble:
            raise self._trouble[0]


@pytest.mark.every_release(without=("3.10",))  # 3.12 writes the same files in the same way
def test_no_view_is_torn_while_imapd_and_lmtpd_write(cyrus: Cyrus, user: str) -> None:
    """A flag, and an annotation, of all messages is set and removed by single commands, mail comes and is
    expunged: whoever looks sees before or after."""
    cyrus.create_user(user)
    with cyrus.imap(user) as first, cyrus.imap(user) as second:
        first.append("INBOX", *[message(f"message {number}") for number in range(60)])
        for imap in (first, second):
            imap.select("INBOX")

        def mark() -> None:
            first.store("1:*", "+FLAGS", TOGETHER)
            first.store("1:*", "-FLAGS", TOGETHER)

        def coming_and_going() -> None:
            cyrus.deliver(message(f"delivered at {time.time()}"), user)
            second.ok("NOOP")
            (uids,) = second.answers("SEARCH", "UID", "SEARCH", "61:*")
            for uid in uids:
                if int(uid) > 60:
                    second.store(uid.decode(), "+FLAGS", "\\Deleted")
                    second.ok("UID", "EXPUNGE", uid.decode())

        files = files_of(cyrus, f"user/{user}")
        end = time.monotonic() + 6
        with running(files) as seen, Writers(coming_and_going):
            while time.monotonic() < end:
                # a delivery between both commands has no mark: so they are given without one in between
                first.ok("NOOP")
                cyrus.tool("cyr_expire", "-E", "1", "-X", "0", "-p", f"user.{user}")
        assert not seen["wrong"]
        assert seen["states"] > 20
        with running(files) as seen:
            end = time.monotonic() + 6
            while time.monotonic() < end:
                mark()
                first.annotate("1:*", "/comment", "value.shared", b"together")
                first.ok("UID", "STORE", "1:*", "ANNOTATION", "(/comment (value.shared NIL))")
        assert not seen["wrong"]
        assert seen["states"] > 10, seen


@pytest.mark.every_release(without=("3.10",))  # 3.12 writes the same files in the same way
def test_repack_archiving_and_unexpunge_under_our_hands_are_no_errors(cyrus: Cyrus, user: str) -> None:
    fill_mailbox(cyrus, user, removing_keywords=False)
    files = files_of(cyrus, f"user/{user}")
    end = time.monotonic() + 8
    with running(files) as seen:
        while time.monotonic() < end:
            with cyrus.imap(user) as imap:
                now = time.monotonic()  # Cyrus takes no more than some copies of one message
                imap.append("INBOX", message(f"short-lived {now}"), message(f"long-lived {now}"))
                imap.select("INBOX")
                imap.ok("UID", "STORE", "*", "+FLAGS", "(\\Deleted)")
                imap.ok("EXPUNGE")
            cyrus.tool("unexpunge", "-a", f"user/{user}")
            cyrus.tool("cyr_expire", "-E", "1", "-A", "0", "-X", "0")
            cyrus.tool("reconstruct", f"user/{user}")
    # a flag that is on all or none is not what happens here
    assert not [wrong for wrong in seen["wrong"] if "together" not in wrong]
    assert seen["states"] > 5


@pytest.mark.every_release(without=("3.10",))  # 3.12 writes the same files in the same way
def test_delete_and_rename_under_our_hands_are_no_errors(cyrus: Cyrus, user: str) -> None:
    cyrus.create_user(user)
    seen: set[str] = set()
    with cyrus.imap(user) as imap:
        imap.ok("CREATE", quote("INBOX/come"))
        files = files_of(cyrus, f"user/{user}/come")

        def come_and_go() -> None:
            now = time.monotonic()
            imap.append("INBOX/come", *[message(f"message {now} {number}") for number in range(20)])
            imap.ok("RENAME", quote("INBOX/come"), quote("INBOX/go"))
            imap.ok("DELETE", quote("INBOX/go"))
            cyrus.tool("cyr_expire", "-E", "1", "-D", "0").check()
            imap.ok("CREATE", quote("INBOX/come"))

        with Writers(come_and_go):
            end = time.monotonic() + 5
            while time.monotonic() < end:
                try:
                    with take(files, user, items_of) as mailbox:
                        list(mailbox.records())
                        seen.add("there")
                except Gone:
                    seen.add("gone")
                    files = MailboxFiles.below(_newest(cyrus.root / "spool"))
    assert seen == {"there", "gone"}


def _newest(spool: Path) -> Path:
    indexes = {
        status.st_mtime_ns: path.parent
        for path, status in files_below(spool).items()
        if path.name == "cyrus.index"
    }
    return indexes[max(indexes)]


def test_annotations_may_be_in_a_database_of_an_older_kind(real_cyrus: None) -> None:
    with Cyrus.running("spool", {**SETTINGS, "annotation_db": "skiplist"}) as cyrus:
        fill_mailbox(cyrus, "alice", removing_keywords=False)
        change_mailbox(cyrus, "alice")
        assert compare(cyrus, "user.alice", "alice").annotations
        files = files_of(cyrus, "user/alice")
        assert b"skiplist file" in files.annotations.read_bytes()[:20]


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_done_is_read_as_the_server_has_it(cyrus: Cyrus, user: str, seed: int) -> None:
    dice = random.Random(seed)
    cyrus.create_user(user)
    name = f"user/{user}"
    with cyrus.imap(user) as imap:
        imap.ok("CREATE", quote("INBOX/other"))
        imap.append("INBOX", *[message(f"message {number}") for number in range(8)], flags="Word0")
        imap.select("INBOX")
        files = {box: files_of(cyrus, external(box)) for box in (f"user.{user}", f"user.{user}.other")}
        for step in range(30):
            uids = f"{dice.randint(1, 12)}:{dice.randint(1, 30)}"
            match dice.choice(
                ("append", "flag", "flag", "note", "expunge", "copy", "move", "tool", "deliver")
            ):
                case "append":
                    flags = dice.choice(("", "\\Seen", f"Word{step} \\Flagged", "\\Draft $Forwarded"))
                    imap.append(
                        "INBOX",
                        *[message(f"step {step} {n}") for n in range(dice.randint(1, 4))],
                        flags=flags,
                    )
                case "flag":
                    flag = dice.choice(
                        ("\\Seen", "\\Flagged", "\\Answered", "$Junk", f"Word{dice.randint(0, 50)}")
                    )
                    imap.store(uids, dice.choice(("+FLAGS", "-FLAGS", "FLAGS")), flag)
                case "note":
                    value = dice.choice((b"short", b"long " * 200, "größer".encode()))
                    attribute = dice.choice(("value.priv", "value.shared"))
                    imap.annotate(uids, dice.choice(("/comment", "/altsubject")), attribute, value)
                case "expunge":
                    imap.store(uids, "+FLAGS", "\\Deleted")
                    imap.ok("EXPUNGE")
                case "copy":
                    imap.command("UID", "COPY", uids, quote("INBOX/other"))
                case "move":
                    imap.command("UID", "MOVE", uids, quote("INBOX/other"))
                case "deliver":
                    cyrus.deliver(message(f"delivered in step {step}"), user)
                case "tool":
                    dice.choice(
                        (
                            lambda: cyrus.tool("cyr_expire", "-E", "1", "-X", "0"),
                            lambda: cyrus.tool("cyr_expire", "-E", "1", "-A", "0"),
                            lambda: cyrus.tool("unexpunge", "-a", name),
                            lambda: cyrus.tool("reconstruct", name),
                        )
                    )()
            for mailbox, paths in files.items():
                compare(cyrus, mailbox, user, paths)


def test_a_mailbox_that_its_server_has_lost_count_of_is_replicated(real_cyrus: None) -> None:
    """Its stored sync CRC fits nothing: the replica is told the one of its records."""
    with BesideCyrus.running("spool", SETTINGS) as cyrus, Ours.installed("replica") as ours:
        assert isinstance(cyrus, BesideCyrus)
        fill_mailbox(cyrus, "alice", removing_keywords=False)
        index = Index(files_of(cyrus, "user/alice").index)
        index.put(100, index.header.sync_crc ^ 0xFFFF).save()
        cyrus.sync_client("-u", "alice", to=ours.csync).check()
        with Proxy(ours.csync, hide=("COMPRESS",)) as proxy:
            cyrus.sync_client("-u", "alice", to=proxy.address).check()
            assert not [line for line in proxy.commands("APPLY ") if "CAPABILITIES" not in line]
        with cyrus.imap("alice") as imap:
            imap.append("INBOX", message("one more"), flags="\\Seen")
        cyrus.sync_client("-u", "alice", to=ours.csync).check()
        ours.verify("alice")
        with cyrus.imap("alice") as imap:
            messages = imap.status("INBOX")["MESSAGES"]
        assert f"{messages} messages" in ours.mailstore("ls", "alice").check().out
