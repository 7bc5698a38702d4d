"""Our client brings replicas from 2.4 to 3.13 up to date, and says nothing that they would misunderstand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.model import Seen
from cyrus_sync.common.wire.dialect import Dialect
from cyrus_sync.sync_client.engine import Engine
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import INBOX, World, content, deliver, live, names, records, write

from .replicas import RELEASES, OldReplica, Release


class Pair(World):
    """Our master, and a replica of some release."""

    def __init__(self, tmp_path: Path, release: Release) -> None:
        super().__init__(tmp_path)
        self.old = OldReplica(tmp_path, self.replica, release)
        self.release = release

    def sync_user(self, **options: Any) -> bytes:
        """``-u alice``; what was sent."""
        replica = self.old.connect()
        engine: Engine = self.engine(replica, **options)
        assert isinstance(engine.context.threads, InlineThreads)
        self.old.run(engine.user("alice"))
        return self.old.sent


@pytest.fixture(params=RELEASES, ids=str)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    found = Pair(tmp_path, request.param)
    with write(found.master) as box:
        box.create(INBOX)
        box.create("user.alice.Work")
    deliver(found.master, INBOX, "one", "two", flags="\\Seen Work")
    with write(found.master) as box:
        box.annotate(INBOX, "/comment", "alice", b"a note", uid=1)
        box.annotate(INBOX, "/comment", "", b"on the mailbox")
        box.set_quota(INBOX, {"STORAGE": 5000, "MESSAGE": 100, "X-NUM-FOLDERS": 9})
        box.subscribe("user.alice.Work")
        box.set_seen(Seen("abcdefabcdefabcdefabcdef", 1_600_000_000, 3, 1_600_000_000, "1:3"))
        box.put_script("main", b"keep;\r\n")
        box.activate_script("main")
    yield found
    found.close()


def applied(sent: bytes) -> list[bytes]:
    """The heads of the changing commands."""
    found = re.findall(rb"^(APPLY \w+|RESTORE \w+)", sent, re.M)
    return [head for head in found if head not in (b"APPLY CAPABILITIES", b"APPLY RESERVE")]


def test_a_user_arrives_and_a_second_run_has_nothing_to_do(pair: Pair) -> None:
    pair.sync_user()
    ours, theirs = content(pair.master), content(pair.replica)
    for key in ("quotas", "subscriptions", "seen", "scripts"):
        assert ours[key] == theirs[key], key
    assert live(pair.replica, INBOX) == live(pair.master, INBOX)
    assert applied(pair.sync_user()) == []


def test_flags_annotations_expunges_and_new_mail_follow(pair: Pair) -> None:
    pair.sync_user()
    with write(pair.master) as box:
        box.set_flags(INBOX, [1], add=["\\Flagged"])
        box.annotate(INBOX, "/comment", "alice", b"another", uid=1)
        box.expunge(INBOX, [2])
    deliver(pair.master, INBOX, "three")
    pair.sync_user()
    mine, theirs = records(pair.master, INBOX), records(pair.replica, INBOX)
    if not pair.release.since(3, 2):
        mine = [record._replace(savedate=0, createdmodseq=0) for record in mine]
    assert mine == theirs
    assert applied(pair.sync_user()) == []


def test_mailboxes_are_renamed_and_deleted(pair: Pair) -> None:
    pair.sync_user()
    with write(pair.master) as box:
        box.create("user.alice.Gone")
    pair.master.rename("user.alice.Work", "user.alice.Play", log=True)
    pair.sync_user()
    with write(pair.master) as box:
        box.delete("user.alice.Gone", delayed=False)
    sent = pair.sync_user()
    assert b"APPLY UNMAILBOX user.alice.Gone\r\n" in sent, "in the one form that all know"
    found = set(names(pair.replica))
    assert {INBOX, "user.alice.Play"} <= found
    assert not {"user.alice.Work", "user.alice.Gone"} & found


def test_a_conflict_is_settled(pair: Pair) -> None:
    pair.sync_user()
    deliver(pair.replica, INBOX, "only there")
    deliver(pair.master, INBOX, "only here")
    pair.sync_user()
    assert set(live(pair.replica, INBOX).values()) == set(live(pair.master, INBOX).values())
    assert len(live(pair.master, INBOX)) == 4
    assert applied(pair.sync_user()) == []


def test_force_and_local_forms_do_not_stop_an_old_replica(pair: Pair) -> None:
    sent = pair.sync_user(no_copyback=True, local_only=True)
    assert (b"LOCAL_MAILBOX" in sent) == pair.release.since(3, 0)
    assert live(pair.replica, INBOX) == live(pair.master, INBOX)


def test_nothing_is_sent_that_would_be_misunderstood(pair: Pair) -> None:
    with write(pair.master) as box:
        box.create("user.alice.a.b")
    sent = pair.sync_user()
    since = pair.release.since
    for words in (b"SYNC_CRC_ANNOT ", b"savedate", b"createdmodseq", b"MBOXTYPE ei"):
        assert words not in sent or since(3, 2), words
    assert b"_CRC_ANNOT " not in re.sub(b"_CRC_ANNOT 0 ", b"", sent) or not since(3, 13), "counted otherwise"
    assert b"savedate" in sent or not since(3, 2)
    assert (b"APPLY SIEVE " in sent) == (not since(3, 6))
    assert (b"user.alice.#sieve" in sent) == since(3, 6)
    assert (b"APPLY CAPABILITIES" in sent) == since(3, 6)
    assert not re.search(rb"\{\d+\}\r\n", re.sub(rb"%\{[^}]*\}", b"", sent)), "literals have a plus"
    if not since(3, 6):
        assert not re.search(rb"MBOXTYPE \w*e", sent) or since(3, 2)


def test_a_mailbox_that_was_another_users_is_found_without_a_question_that_kills(pair: Pair) -> None:
    pair.sync_user()
    with write(pair.master, "bob") as box:
        box.create("user.bob")
    pair.master.rename("user.alice.Work", "user.bob.Work", log=True)
    replica = pair.old.connect()
    pair.old.run(pair.engine(replica).user("bob"))
    assert names(pair.replica, "bob") == ["user.bob", "user.bob.Work"]
    assert "user.alice.Work" not in names(pair.replica)
    assert (b"GET UNIQUEIDS" in pair.old.sent) == pair.release.since(3, 6)


@pytest.mark.parametrize(
    ("banner", "release"),
    [
        ("r.example Cyrus sync server 3.6.1-Debian-3.6.1-4+deb12u5", (3, 6)),
        ("r.example Cyrus sync server v2.4.17-Fedora-RPM", (2, 4)),
        ("r.example Cyrus sync server 3.12.0", (3, 12)),
        ("r.example Cyrus sync server 3.13.5-alpha0-12-g1f3a12931", (3, 13)),
        ("r.example Cyrus sync server", Dialect().release),
        ("r.example Cyrus sync server cyrus-sync 0.1.0", Dialect().release),
        ("", Dialect().release),
    ],
)
def test_the_release_is_read_from_the_greeting(banner: str, release: tuple[int, int]) -> None:
    assert Dialect.of_banner(banner).release == release
