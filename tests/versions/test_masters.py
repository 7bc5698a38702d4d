"""Masters from 2.4 to the development branch replicate to our server, each in the words of its release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.model import Annotation
from cyrus_sync.common.stores.native.care.verify import verify
from tests.sync_client.engine.world import ALICE, records, state

from .masters import NOTE, RELEASES, TIME, Master, Release

OK = b"OK success"
NEWEST = [b"00000000000000ff", b"123456789"]
"""What the development branch keeps in a record and we as annotations: first conversation, nanoseconds."""


@pytest.fixture(params=RELEASES, ids=str)
def master(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Master]:
    found = Master(tmp_path, request.param)
    yield found
    assert list(verify(found.store, ALICE)) == []
    found.store.close()


def replicate(master: Master) -> None:
    assert master.ask(master.message()) == OK
    assert master.ask(master.mailbox()) == OK


def test_a_mailbox_arrives_with_all_that_the_release_says_of_it(master: Master) -> None:
    replicate(master)
    (record,) = records(master.store, "user.alice")
    box = state(master.store, "user.alice")
    since = master.release.since
    assert (record.uid, record.modseq, record.flags) == (1, 5, "\\Seen Work")
    assert record.annotations[:1] == ((Annotation("/comment", "alice", 0, NOTE),) if since(2, 5) else ())
    assert [note.value for note in record.annotations[1:]] == (NEWEST if since(3, 13) else [])
    assert record.thrid == (0xAB12CD34EF5678 if since(2, 5) else 0)
    assert (record.savedate, record.createdmodseq) == ((TIME, 5) if since(3, 2) else (0, 0))
    assert box.sync_crc == master.crcs()[0]
    assert (box.xconvmodseq, box.raclmodseq) == (5 if since(3, 0) else 0, 4 if since(3, 2) else 0)
    assert box.usergroups == ("staff\tfriends" if since(3, 12) else "")
    assert box.acl == "alice\tlrswipkxtecda\t"


def test_a_change_follows_and_a_wrong_crc_is_noticed(master: Master) -> None:
    replicate(master)
    assert master.ask(master.mailbox(records=False, modseq=6)) == OK
    assert state(master.store, "user.alice").highestmodseq == 6
    basic, annot = master.crcs()
    wrong = master.mailbox(records=False, modseq=7).replace(b"SINCE_MODSEQ 5", b"SINCE_MODSEQ 6")
    broken = wrong.replace(b"SYNC_CRC %d" % basic, b"SYNC_CRC %d" % (basic ^ 1), 1)
    assert master.ask(broken).startswith(b"NO IMAP_SYNC_CHECKSUM ")
    if master.release.since(2, 5) and not master.release.since(3, 13):
        broken = wrong.replace(b"SYNC_CRC_ANNOT %d" % annot, b"SYNC_CRC_ANNOT %d" % (annot ^ 1), 1)
        broken = broken.replace(b"SINCE_MODSEQ 6", b"SINCE_MODSEQ 7")
        assert master.ask(broken).startswith(b"NO IMAP_SYNC_CHECKSUM ")


def test_an_annotation_crc_from_0_is_taken_from_old_masters_only_if_it_is_right(master: Master) -> None:
    """Before 3.2 the annotation CRC began at 0; it is still compared."""
    replicate(master)
    box = state(master.store, "user.alice")
    _, annot = master.crcs()
    expected = annot if master.release.since(3, 2) else annot ^ 12345678
    assert box.sync_crc_annot == (0 if master.release.since(3, 13) else expected)


def test_quota_limits_arrive_under_every_name_that_they_had(master: Master) -> None:
    replicate(master)
    assert master.ask(master.quota()) == OK
    with master.store.read(ALICE) as reader:
        (quota,) = reader.quotas()
    all_ = {"STORAGE": 1000, "MESSAGE": 50, "X-ANNOTATION-STORAGE": 9, "X-NUM-FOLDERS": 8}
    assert quota.limits == (all_ if master.release.since(2, 5) else {"STORAGE": 1000})


def test_the_rest_of_a_users_state_arrives(master: Master) -> None:
    replicate(master)
    script = master.octets(b"keep;\r\n")
    for line in (
        b"APPLY SUB %(USERID alice MBOXNAME user.alice)",
        b'APPLY SEEN %(USERID alice UNIQUEID other LASTREAD 1 LASTUID 2 LASTCHANGE 3 SEENUIDS "1:2")',
        b"APPLY SIEVE %(USERID alice FILENAME main.script LAST_UPDATE 1700000000 CONTENT " + script + b")",
        b"APPLY ACTIVATE_SIEVE %(USERID alice FILENAME main.bc)",
        b"APPLY ANNOTATION %(MBOXNAME user.alice ENTRY /comment USERID NIL VALUE " + script + b")",
        b"APPLY RENAME %(OLDMBOXNAME user.alice NEWMBOXNAME user.alice PARTITION ssd)",
        b"RESTART",
    ):
        assert master.ask(line).startswith(b"OK"), line
    if master.release.since(3, 0):
        assert master.ask(b"APPLY LOCAL_UNMAILBOX user.alice") == OK
    else:
        assert master.ask(b"APPLY UNMAILBOX user.alice") == OK


# -- single releases


def release(name: str) -> Release:
    return next(one for one in RELEASES if one.name == name)


@pytest.fixture
def development(tmp_path: Path) -> Master:
    return Master(tmp_path, release("3.13"))


def test_what_the_development_branch_counts_otherwise_is_not_compared_from_then_on(
    development: Master,
) -> None:
    """It counts ids of conversations with all zeros. Our sum would make it send the mailbox for ever."""
    replicate(development)
    assert b" SYNC_CRC_ANNOT 0 " in development.ask(b"GET USER alice")
    assert development.ask(development.mailbox(records=False, modseq=6)) == OK
    with development.store.write(ALICE) as box:
        box.set_flags("user.alice", [1], add=["\\Flagged"])
    assert state(development.store, "user.alice").sync_crc_annot == 0
    assert list(verify(development.store, ALICE)) == []


def test_a_sum_that_is_right_in_neither_way_is_refused(development: Master) -> None:
    _, annot = development.crcs()
    assert development.ask(development.message()) == OK
    broken = development.mailbox().replace(b"SYNC_CRC_ANNOT %d" % annot, b"SYNC_CRC_ANNOT %d" % (annot ^ 1))
    assert development.ask(broken).startswith(b"NO IMAP_SYNC_CHECKSUM ")


def test_ids_without_leading_zeros_are_counted_alike(development: Master, monkeypatch) -> None:
    usual = development.annotations()
    full = b"a0ab12cd34ef5678"
    changed = [(e, u, full, full) if e.endswith("/thrid") else (e, u, w, c) for e, u, w, c in usual]
    monkeypatch.setattr(development, "annotations", lambda: changed)
    replicate(development)
    assert state(development.store, "user.alice").sync_crc_annot == development.crcs()[1]


@pytest.fixture
def newest(tmp_path: Path) -> Master:
    found = Master(tmp_path, release("3.12"))
    replicate(found)
    return found


def test_3_12_sends_tombstones_and_intermediates_in_few_words(newest: Master) -> None:
    for kind in (b"ed", b"ei"):
        line = b"APPLY MAILBOX %%(UNIQUEID x%s MBOXNAME user.alice.%s MBOXTYPE %s HIGHESTMODSEQ 6)"
        assert newest.ask(line % (kind, kind, kind)) == OK
    said = newest.ask(b"GET USER alice")
    assert b"MBOXNAME user.alice.ei MBOXTYPE ei" in said
    assert b"user.alice.ed" not in said


@pytest.mark.covers("Capabilities", "UNMAILBOX-ID")
def test_the_next_release_names_the_mailbox_that_it_wants_deleted(newest: Master) -> None:
    assert newest.ask(b"APPLY CAPABILITIES (SIEVE-MAILBOX UNMAILBOX-ID)").startswith(
        b"* ENABLED (SIEVE-MAILBOX UNMAILBOX-ID)"
    )
    for other in (b"UNIQUEID id2 UIDVALIDITY 7", b"UNIQUEID id1 UIDVALIDITY 8"):
        said = newest.ask(b"APPLY UNMAILBOX %%(MBOXNAME user.alice %s)" % other)
        assert said.startswith(b"NO IMAP_MAILBOX_MOVED ")
    assert state(newest.store, "user.alice").uniqueid == "id1"
    said = newest.ask(b"APPLY UNMAILBOX %(MBOXNAME user.alice UNIQUEID id1 UIDVALIDITY 7)")
    assert said == OK
    said = newest.ask(b"APPLY UNMAILBOX %(MBOXNAME user.alice UNIQUEID id1 UIDVALIDITY 7)")
    assert said.startswith(b"NO IMAP_MAILBOX_NONEXISTENT ")


def test_literals_to_every_client_are_without_plus(newest: Master) -> None:
    assert newest.ask(b"APPLY ANNOTATION %(MBOXNAME user.alice ENTRY /comment USERID NIL VALUE h%i)") == OK
    assert b"VALUE {3}\r\nh%i" in newest.ask(b"GET ANNOTATION user.alice")
