"""Spools of all index versions that Debian's releases can write are read as their servers read them."""

from __future__ import annotations

import hashlib

import pytest

from cyrus_sync.common.protocol.crc import ANNOT_SEED, mailbox_crcs

from .golden import DATA, MOVED, NAMES, SOUND, files, records, snapshot, told, told_records


@pytest.mark.parametrize("name", NAMES)
def test_every_record_is_what_the_server_said(name: str) -> None:
    with snapshot(DATA / name) as mailbox:
        assert mailbox.index.minor_version == int(name[1:3])
        assert records(mailbox) == told_records(told(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_counters_are_what_the_server_said(name: str) -> None:
    said = told(name)
    with snapshot(DATA / name) as mailbox:
        index, header = mailbox.index, mailbox.header
    for ours, theirs in (
        (index.last_uid, "LAST_UID"),
        (index.highestmodseq, "HIGHESTMODSEQ"),
        (index.uidvalidity, "UIDVALIDITY"),
        (index.recentuid, "RECENTUID"),
        (index.recenttime, "RECENTTIME"),
        (index.last_appenddate, "LAST_APPENDDATE"),
        (index.pop3_last_login, "POP3_LAST_LOGIN"),
        (index.pop3_show_after, "POP3_SHOW_AFTER"),
        (index.sync_crc, "SYNC_CRC"),
        (index.sync_crc_annot, "SYNC_CRC_ANNOT"),
        (index.createdmodseq, "CREATEDMODSEQ"),
    ):
        assert ours == int(said.get(theirs, 0)), theirs
    assert index.option_letters == said["OPTIONS"]
    assert (header.uniqueid, header.quotaroot, header.acl) == (
        said["UNIQUEID"],
        said["QUOTAROOT"],
        said["ACL"],
    )
    assert index.exists == sum("\\Expunged" not in record["FLAGS"] for record in said["RECORD"])


@pytest.mark.parametrize("name", SOUND)
def test_both_sync_crcs_are_those_that_cyrus_stored(name: str) -> None:
    with snapshot(DATA / name) as mailbox:
        basic, annot = mailbox.crcs
        assert mailbox_crcs(records(mailbox)) == (basic, annot)
        assert not mailbox.complaint
        assert basic == mailbox.index.sync_crc
        if mailbox.index.has_annotation_crc:
            assert annot == mailbox.index.sync_crc_annot
        else:
            assert annot != ANNOT_SEED


def test_where_cyrus_lost_count_itself_the_records_count_and_it_is_said() -> None:
    """3.2 forgot a keyword: those behind it moved in the file, and the sum that it keeps is of before."""
    with snapshot(DATA / MOVED) as mailbox:
        assert mailbox.crcs == mailbox_crcs(records(mailbox))
        assert mailbox.crcs[0] != mailbox.index.sync_crc
        assert mailbox.crcs[1] == mailbox.index.sync_crc_annot
        assert "reconstruct" in mailbox.complaint


@pytest.mark.parametrize("name", NAMES)
def test_every_message_with_a_file_is_what_its_guid_says(name: str) -> None:
    with snapshot(DATA / name) as mailbox:
        places = [place for batch in mailbox.places() for place in batch]
    assert {place.archived for place in places} == {True, False}
    for place in places:
        content = files(DATA / name).message(place.uid, archived=place.archived).read_bytes()
        assert (hashlib.sha1(content).digest(), len(content)) == (place.guid, place.size)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_is_what_the_whole_has_of_it(name: str) -> None:
    with snapshot(DATA / name) as mailbox:
        whole = records(mailbox)
        for since in range(mailbox.index.highestmodseq + 1):
            part = [record for batch in mailbox.records(since_modseq=since) for record in batch]
            assert part == [record for record in whole if record.modseq > since]
        for above in range(mailbox.index.last_uid + 1):
            batches = list(mailbox.records(above_uid=above, batch=2))
            assert all(len(batch) <= 2 for batch in batches)
            assert [record for batch in batches for record in batch] == [r for r in whole if r.uid > above]


def test_a_keyword_that_was_forgotten_leaves_its_slot_to_another() -> None:
    """The next new keyword got slot 0, before older ones."""
    with snapshot(DATA / "v19") as mailbox:
        assert mailbox.header.keywords[:3] == ("Late", "Keyword0", "Keyword1")
        assert len(mailbox.header.keywords) > 32


@pytest.mark.parametrize("name", NAMES)
def test_a_removed_annotation_is_not_there(name: str) -> None:
    with snapshot(DATA / name) as mailbox:
        assert 8 not in {uid for uid in mailbox.annotations if mailbox.index.minor_version > 15}
        assert "soon removed" not in str(records(mailbox))
