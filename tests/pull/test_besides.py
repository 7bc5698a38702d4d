"""What a server tells of messages and folders besides flags: annotations, and where quota roots are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from cyrus_sync.common.model import Record, Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.pull.connection import Line
from cyrus_sync.pull.folders import Folder
from cyrus_sync.pull.limits import Limits, Roots, wanted_roots
from cyrus_sync.pull.memory import note_of
from cyrus_sync.pull.notes import MessageNotes, annotated
from cyrus_sync.pull.pulled import Pulled
from tests.dovecot.pulling import Sidecar, message
from tests.pull.fake import FULL, Box, FakeImap

NIL = b"/vendor/cmu/cyrus-imapd/thrid (value.priv NIL value.shared NIL) /altsubject (value.priv NIL)"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([b"1 (UID 7 ANNOTATION (" + NIL + b"))"], {7: {}}),
        ([b"1 (ANNOTATION () UID 7)"], {7: {}}),
        (
            [b'1 (UID 7 ANNOTATION (/comment (value.shared "x") ' + NIL + b" /comment (value.priv NIL)))"],
            {7: {("/comment", ""): b"x"}},
        ),
        (
            [(b"1 (UID 7 ANNOTATION (/comment (value.priv {4}", b'a"\r\n'), b' value.shared "2")))'],
            {7: {("/comment", "alice"): b'a"\r\n', ("/comment", ""): b"2"}},
        ),
        ([b'1 (UID 7 ANNOTATION (/vendor/cmu/cyrus-imapd/savedate (value.shared "9")))'], {7: {}}),
        ([b"1 (UID 7 FLAGS (\\Seen))"], {}),
    ],
)
def test_annotations_are_read_however_they_are_written(lines: list[Line], found: object) -> None:
    assert dict(annotated(lines, "alice")) == found


def test_of_a_large_folder_each_part_is_read_once(
    server: FakeImap, beside: Callable[[FakeImap], Sidecar]
) -> None:
    for number in range(1, 7):
        server.boxes["INBOX"].add(message(number))
    sidecar = beside(server)
    sidecar.pull("alice")
    read: list[int] = []
    folder = Folder("INBOX", b'"INBOX"', "user.alice", Owner("user", "alice"))

    class Reader:
        """Says which records are read."""

        def __init__(self, reader: MailReader) -> None:
            self.mailbox = reader.mailbox
            self._reader = reader

        def records(self, uniqueid: str, **how: int) -> Iterator[list[Record]]:
            for batch in self._reader.records(uniqueid, **how, batch=1):
                read.append(batch[0].uid)
                yield batch

    @contextmanager
    def reading(owner: Owner) -> Iterator[Reader]:
        with sidecar.store.read(owner) as reader:
            yield Reader(reader)

    store: Any = SimpleNamespace(read=reading, write=sidecar.store.write)
    session: Any = None
    notes = MessageNotes(session, store, folder, Pulled("alice"), lambda: None)
    notes._keep({})
    notes._keep({3: {}, 4: {("/comment", ""): b"x"}})
    assert read == [3, 4]
    with sidecar.reader("alice") as reader:
        mailbox = reader.mailbox("user.alice")
        assert mailbox is not None
        found = [one.uid for batch in reader.records(mailbox.uniqueid) for one in batch if one.annotations]
    assert found == [4]


def test_what_is_private_is_nobodys_in_a_shared_folder() -> None:
    assert dict(annotated([b'1 (UID 7 ANNOTATION (/comment (value.priv "x")))'], "")) == {7: {}}


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"user.a": {b"": {"STORAGE": 9}}, "user.a.b": {b"": {"STORAGE": 9}}}, {"user.a": {"STORAGE": 9}}),
        (
            {"user.a": {b"u": {"STORAGE": 9}}, "user.a.b": {b"c": {"MESSAGE": 1}}, "user.a.b.c": {b"c": {}}},
            {"user.a": {"STORAGE": 9}, "user.a.b": {"MESSAGE": 1}},
        ),
        ({"user.a": {}, "user.a.b": {b"b": {"STORAGE": 1}}}, {"user.a.b": {"STORAGE": 1}}),
        ({"user.a": {b"u": {"STORAGE": 9}}, "user.a.b": {}}, {"user.a": {"STORAGE": 9}, "user.a.b": {}}),
        ({"user.a": {b"u": {"STORAGE": 9}, b"v": {"STORAGE": 5, "MESSAGE": 7}}},
         {"user.a": {"STORAGE": 5, "MESSAGE": 7}}),
    ],
)  # fmt: skip
def test_a_quota_root_is_where_others_hold_than_above(told: dict[str, Roots], wanted: object) -> None:
    assert wanted_roots(told) == wanted


def test_a_dovecots_limits_of_shared_folders_stay_where_their_owner_is_whatever_folders_come(
    server: FakeImap, beside: Callable[[FakeImap], Sidecar]
) -> None:
    server.namespace = '(("" "/")) NIL (("Public/" "/"))'
    server.boxes |= {"Public/News/New": Box(), "Public/News/Old": Box()}
    sidecar = beside(server)
    sidecar.pull("alice")
    news = Owner("shared", "News")
    told = {b"INBOX": (b"hers", 9), b"new": (b"ours", 5), b"old": (b"ours", 5)}
    folders = [Folder("", wire, f"News.{wire.decode().title()}", news) for wire in (b"new", b"old")]

    def command(name: str, wire: bytes) -> dict[str, list[Line]]:
        root, limit = told[wire]
        return {"QUOTAROOT": [b"x %s" % root], "QUOTA": [b"%s (STORAGE 1 %d)" % (root, limit)]}

    session: Any = SimpleNamespace(is_dovecot=True, offers=lambda what: True, command=command)

    def roots(*seen: Folder) -> dict[str, dict[str, int]]:
        Limits(session, sidecar.store, Pulled("alice")).bring(news, seen, his=False)
        with sidecar.reader(news) as reader:
            return {one.root: one.limits for one in reader.quotas()}

    with sidecar.store.write(news) as writer:
        writer.set_quota("News.Old", {"STORAGE": 5})  # as an earlier version has put it
    assert roots(folders[1]) == roots(*folders) == {"News": {"STORAGE": 5}}
    with sidecar.reader(news) as reader:
        assert {one.quotaroot for one in reader.mailboxes() if not one.intermediate} == {"News"}
    told[b"new"] = (b"hers", 9)
    assert roots(*folders) == {}


def test_what_is_seen_of_others_is_asked_for_after_a_change_alone(
    server: FakeImap, beside: Callable[[FakeImap], Sidecar]
) -> None:
    server.namespace = '(("" "/")) (("Other/" "/")) (("Public/" "/"))'
    server.boxes |= {"Public/News": Box(), "Public/Old": Box(), "Other/bob": Box()}
    for box in server.boxes.values():
        box.add(message(1))
    sidecar = beside(server)
    sidecar.pull("bob")

    def asked() -> int:
        server.said.clear()
        sidecar.pull("alice")
        return server.count("SEARCH RETURN (ALL) SEEN")

    assert asked() == 3
    assert asked() == 3, "a server may count a change before it tells of it"
    assert asked() == 0 and not server.count("EXAMINE")
    server.boxes["Public/News"].add(message(2))
    assert [asked() for _ in range(3)] == [1, 1, 0]
    sidecar.fresh()
    with sidecar.reader(Owner("shared", "News")) as reader:
        mailbox = reader.mailbox("News")
    assert mailbox is not None and asked() == 0
    with sidecar.store.write(Owner("user", "alice")) as writer:
        writer.set_seen(Seen(mailbox.uniqueid, 1, 1, 1, ""))
    assert asked() == 1, "ours is not as it was left"
    server.boxes["Public/News"].add(message(3))
    server.boxes["Public/Old"].add(message(3))
    sidecar.pull("bob")
    server.said.clear()
    server.refuses = lambda command: command.endswith("SEEN") and server.said[-2].endswith('News"')
    assert sidecar.puller.pull("alice").troubles == [
        "Public/News: what is seen in it is left out: [SERVERBUG] Internal error occurred"
    ]
    assert server.count("SEARCH RETURN (ALL) SEEN") == 2


def as_an_earlier_version_had_it(sidecar: Sidecar, owner: Owner, flags: str) -> None:
    """The INBOX, or the folder News: what it pulled, and what it remembered."""
    with sidecar.store.read(owner) as reader:
        mailbox = next(iter(reader.mailboxes()))
        records = [record for batch in reader.records(mailbox.uniqueid) for record in batch]
    with sidecar.store.write(owner) as writer:
        writer.rewrite_records(mailbox.uniqueid, [record._replace(flags=flags) for record in records])
        mailbox = writer.mailbox(mailbox.name) or mailbox
    with closing(sidecar.puller.memory_of(owner)) as memory:
        (was,) = memory.folders().values()
        memory.put(was._replace(note=note_of(mailbox)))
        (path,) = (sidecar.path / "conf" / "pull").rglob(memory._path.name)
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 0")


@pytest.mark.parametrize("names", [(), ("user.alice",)], ids=["a poll", "an event of the folder"])
def test_what_an_earlier_version_pulled_is_looked_at_once_more(
    names: tuple[str, ...], beside: Callable[[FakeImap], Sidecar]
) -> None:
    alice = Owner("user", "alice")
    with FakeImap(f"{FULL} ANNOTATE-EXPERIMENT-1") as server:
        inbox = server.boxes["INBOX"]
        for number in range(3):
            inbox.add(message(number))
        sidecar = beside(server)
        sidecar.pull("alice")
        inbox.mails[2].notes = '/comment (value.shared "x" value.priv NIL)'
        assert not sidecar.pull("alice", names=names).changed, "nothing of it has changed"
        as_an_earlier_version_had_it(sidecar, alice, "")
        sidecar.fresh()
        sidecar.pull("alice", names=names)
        with sidecar.reader(alice) as reader:
            mailbox = reader.mailbox("user.alice")
            assert mailbox is not None
            records = [record for batch in reader.records(mailbox.uniqueid) for record in batch]
        assert [[(note.entry, note.value) for note in one.annotations] for one in records] == [
            *([], [("/comment", b"x")], [])
        ]
        server.said.clear()
        assert not sidecar.pull("alice", names=names).changed
        assert not server.count("EXAMINE"), "that was once"


def test_what_somebody_had_seen_is_no_flag_of_a_shared_folder_after_that(
    beside: Callable[[FakeImap], Sidecar],
) -> None:
    news = Owner("shared", "News")
    with FakeImap() as server:
        server.namespace = '(("" "/")) NIL (("Public/" "/"))'
        server.boxes |= {"Public/News": Box()}
        server.boxes["Public/News"].add(message(1), "\\Seen \\Flagged")
        sidecar = beside(server)
        sidecar.pull("alice")
        as_an_earlier_version_had_it(sidecar, news, "\\Flagged \\Seen")
        sidecar.fresh().begin_round()
        sidecar.pull("alice")
        (box,) = sidecar.folders(news).values()
        assert [one.flags for one in box.messages] == [("\\flagged",)]
