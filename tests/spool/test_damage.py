"""What is wrong in a mailbox's files is an error that says where, and never data that Cyrus did not write."""

from __future__ import annotations

import random
import resource
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.spool import copying
from cyrus_sync.spool.db import items_of
from cyrus_sync.spool.snapshot import take
from cyrus_sync.spool.trouble import SpoolDamaged

from .golden import NAMES, copied, files, records, snapshot
from .indexes import Index


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_PAUSE", 0)


def flipped(path: Path, sample: int, seed: int) -> list[tuple[int, bytes]]:
    """(offset, content) with one bit of one octet flipped; up to `sample` of all offsets."""
    good = path.read_bytes()
    dice = random.Random(f"{path.parent.name} {path.name} {seed}")
    offsets = list(range(len(good)))
    if len(offsets) > sample:
        offsets = dice.sample(offsets, sample)
    spoilt = []
    for at in offsets:
        bad = bytearray(good)
        bad[at] ^= 1 << dice.randrange(8)
        spoilt.append((at, bytes(bad)))
    return spoilt


@pytest.mark.parametrize("file", ["cyrus.index", "cyrus.header"])
@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_is_noticed(name: str, file: str, tmp_path: Path) -> None:
    directory = copied(name, tmp_path)
    path = directory / file
    for at, bad in flipped(path, 250, 1):
        path.write_bytes(bad)
        with pytest.raises(SpoolDamaged) as caught, snapshot(directory):
            pytest.fail(f"{file}: a flipped bit at {at} is not noticed")
        assert str(directory) in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_in_the_annotations_is_noticed_or_harmless(name: str, tmp_path: Path) -> None:
    """A database has places that nobody reads."""
    directory = copied(name, tmp_path)
    with snapshot(directory) as good:
        wanted = records(good)
    path = directory / "cyrus.annotations"
    noticed = 0
    for at, bad in flipped(path, 400, 2):
        path.write_bytes(bad)
        try:
            with snapshot(directory) as found:
                assert records(found) == wanted, f"a flipped bit at {at} changed what is read"
        except StoreError:
            noticed += 1
    assert noticed > 50


@pytest.mark.parametrize("file", ["cyrus.index", "cyrus.header"])
@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_cut_off_is_noticed(name: str, file: str, tmp_path: Path) -> None:
    directory = copied(name, tmp_path)
    path = directory / file
    good = path.read_bytes()
    for length in range(0, len(good), 7):
        path.write_bytes(good[:length])
        with pytest.raises(SpoolDamaged), snapshot(directory):
            pytest.fail(f"{file}: that it ends after {length} octets is not noticed")


def test_random_octets_are_no_mailbox(tmp_path: Path) -> None:
    directory = copied("v19", tmp_path)
    dice = random.Random(3)
    for file in ("cyrus.index", "cyrus.header", "cyrus.annotations"):
        good = (directory / file).read_bytes()
        for _ in range(50):
            begin = good[: dice.choice((0, 12, 24, 100))]
            (directory / file).write_bytes(begin + dice.randbytes(dice.randrange(3000)))
            with pytest.raises(StoreError), snapshot(directory):
                pytest.fail(f"{file}: random octets were taken")
        (directory / file).write_bytes(good)


def test_an_index_that_says_it_has_four_billion_records_costs_nothing(tmp_path: Path) -> None:
    directory = copied("v19", tmp_path)
    Index(directory / "cyrus.index").put(20, 2**32 - 1).save()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SpoolDamaged, match="ends before record 4294967295"):
        snapshot(directory)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024


def complaint(directory: Path) -> SpoolDamaged:
    with pytest.raises(SpoolDamaged) as caught:
        snapshot(directory).close()
    return caught.value


@pytest.mark.parametrize("version", [0, 9, 11, 21, 2**31])
def test_a_version_that_nobody_knows_is_named(version: int, tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    Index(directory / "cyrus.index").put(8, version).save()
    trouble = complaint(directory)
    assert (trouble.file, trouble.offset) == (directory / "cyrus.index", 8)
    assert trouble.version == version
    assert f"version {version}" in str(trouble)


def test_a_flag_that_nobody_knows_is_named_with_its_place(tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    index = Index(directory / "cyrus.index")
    index.put_in(2, 32, 1 << 20).save()
    assert "flag that is not known: 0x00100000" in complaint(directory).what


def test_a_live_message_without_guid_is_refused(tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    Index(directory / "cyrus.index").put_in(0, 60, 0, 20).save()
    assert "message 1 has no GUID" in complaint(directory).what


def test_uids_have_to_rise(tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    Index(directory / "cyrus.index").put_in(1, 0, 1).save()
    assert complaint(directory).what == "its UIDs do not rise"


def test_a_record_beyond_the_counters_is_damage(tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    index = Index(directory / "cyrus.index")
    index.put(28, 5).save()
    assert "a UID above its last one, 5" in complaint(directory).what
    directory = copied("v18", tmp_path)
    index = Index(directory / "cyrus.index")
    index.put(68, 7, 8).save()
    assert "a modseq above its highest, 7" in complaint(directory).what


def test_a_header_of_another_time_does_not_belong_to_the_index(tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    other = copied("v18", tmp_path)
    (directory / "cyrus.header").write_bytes((other / "cyrus.header").read_bytes())
    trouble = complaint(directory)
    assert trouble.file == directory / "cyrus.header"
    assert "in the index" in trouble.what


def test_records_that_were_wiped_are_passed_over(tmp_path: Path) -> None:
    """Cyrus gives a record that it has found useless UID 0 and leaves it to the next repack."""
    directory = copied("v17", tmp_path)
    with snapshot(directory) as good:
        expunged = [number for number, record in enumerate(records(good)) if record.expunged]
        wanted = [record for number, record in enumerate(records(good)) if number != expunged[0]]
    Index(directory / "cyrus.index").put_in(expunged[0], 0, 0).put_in(expunged[0], 32, 0xC0000000).save()
    with snapshot(directory) as found:
        assert records(found) == wanted


def test_a_number_of_messages_that_cyrus_lost_count_of_is_said_and_no_more(tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    index = Index(directory / "cyrus.index")
    index.put(84, index.header.exists + 2).save()
    with snapshot(directory) as found:
        assert "it says it has 9 messages, and has 7" in found.complaint
        assert len([record for record in records(found) if not record.expunged]) == 7


def test_what_looks_like_a_virtual_annotation_and_is_none_stays_one(tmp_path: Path) -> None:
    """Version 14 keeps no savedate itself."""
    directory = copied("v14", tmp_path)
    with snapshot(directory) as found:
        uid = next(record.uid for record in records(found) if record.savedate)

    def spoilt(data: bytes, path: Path) -> list[tuple[bytes, bytes]]:
        key = b"%d\0%s\0\0" % (uid, b"/vendor/cmu/cyrus-imapd/savedate")
        return [
            (key, b"\0\0\0\3\0\0\0\0" + b"x1z\0text/plain\0" + bytes(17)) if k == key else (k, v)
            for k, v in items_of(data, path)
        ]

    with take(files(directory), "alice", spoilt) as found:
        record = next(record for record in records(found) if record.uid == uid)
        assert record.savedate == 0
        assert any(one.value == b"x1z" for one in record.annotations)
