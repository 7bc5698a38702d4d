"""Databases as real programs wrote them, read back: all formats alike, and damage says where it is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.spool.db import items_of, open_database
from cyrus_sync.spool.trouble import SpoolDamaged

DATA = Path(__file__).parents[2] / "data" / "spool" / "databases"
CONTENTS = {
    key.encode("latin-1"): value.encode("latin-1")
    for key, value in json.loads((DATA / "contents.json").read_text())
}
FILES = sorted(DATA.glob("*.db"), key=str)
CHECKED = [file for file in FILES if file.stem in ("twoskip", "twom", "twoskip-killed", "twom-killed")]
MARK = 20
"""Octets that tell the kind of a file: with others it is of another kind."""


def _names(file: Path) -> str:
    return file.stem


@pytest.mark.parametrize("file", FILES, ids=_names)
def test_every_entry_is_read_once(file: Path) -> None:
    found = list(open_database(file).items())
    assert dict(found) == CONTENTS
    assert len(found) == len(CONTENTS)


@pytest.mark.parametrize("file", [file for file in FILES if file.stem != "flat"], ids=_names)
def test_entries_come_in_the_order_of_their_octets(file: Path) -> None:
    keys = [key for key, _ in open_database(file).items()]
    assert keys == sorted(keys)


@pytest.mark.parametrize("file", FILES, ids=_names)
def test_a_copy_in_memory_reads_as_the_file(file: Path) -> None:
    assert dict(items_of(file.read_bytes(), file)) == CONTENTS


@pytest.mark.parametrize("file", FILES, ids=_names)
def test_an_entry_is_found_by_its_key(file: Path) -> None:
    database = open_database(file)
    assert {key: database.get(key) for key in CONTENTS} == CONTENTS
    for absent in (b"", b"A", b"Nuser", b"gone", b"never", b"zzz", b"lon", b"longer"):
        assert database.get(absent) is None


@pytest.mark.parametrize("file", FILES, ids=_names)
@pytest.mark.parametrize("prefix", [b"N", b"Nuser\x1fann", b"Nuser\x1fann\x1f", b"I", b"z", b"odd \t"])
def test_a_prefix_chooses_entries(file: Path, prefix: bytes) -> None:
    wanted = {key: value for key, value in CONTENTS.items() if key.startswith(prefix)}
    assert dict(open_database(file).items(prefix)) == wanted


def test_the_kind_is_told_by_the_file() -> None:
    kinds = {file.stem: open_database(file).kind for file in FILES}
    assert kinds == {name: name.partition("-")[0] for name in kinds}


def test_a_file_of_no_octets_is_an_empty_database(tmp_path: Path) -> None:
    (tmp_path / "new.db").touch()
    database = open_database(tmp_path / "new.db")
    assert list(database.items()) == []
    assert database.get(b"a") is None


def test_a_database_that_is_not_there_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_database(tmp_path / "none.db")


def test_a_kind_that_nobody_knows_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "strange.db"
    path.write_bytes(b"\xa1\x02\x8b\x0dzeroskip\0\0\0\0" + bytes(100))
    with pytest.raises(StoreError, match="zeroskip"):
        open_database(path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be read"):
        open_database(tmp_path)


@pytest.mark.parametrize("file", CHECKED, ids=_names)
def test_a_flipped_bit_is_an_error_or_changes_nothing(file: Path, tmp_path: Path) -> None:
    """Every octet that is read is covered by a checksum."""
    whole = file.read_bytes()
    path = tmp_path / "flipped.db"
    chance = random.Random(7)
    errors = 0
    for at in chance.sample(range(len(whole)), min(250, len(whole))):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << chance.randrange(8)
        try:
            assert dict(items_of(bytes(flipped), path)) == CONTENTS
        except SpoolDamaged as error:
            errors += 1
            assert str(path) in str(error)
            kind = str(error.version).partition(" ")[0]
            assert kind == file.stem.partition("-")[0] or (at < MARK and kind == "flat")
            assert 0 <= error.offset <= len(whole)
        except StoreError as error:
            assert at < MARK, error
    assert errors > 20


@pytest.mark.parametrize("file", FILES, ids=_names)
def test_no_damage_makes_a_reader_hang_or_fail_otherwise(file: Path) -> None:
    """Also of the formats without checksums: what is read may be wrong then, never endless."""
    whole = file.read_bytes()
    chance = random.Random(8)
    for _ in range(400):
        spoilt = bytearray(whole)
        for _ in range(chance.choice((1, 1, 4, 40))):
            spoilt[chance.randrange(len(spoilt))] = chance.choice((0, 1, 255, chance.randrange(256)))
        if chance.random() < 0.2:
            del spoilt[chance.randrange(len(spoilt)) :]
        try:
            found = list(items_of(bytes(spoilt), file))
        except StoreError:
            continue
        assert sum(len(key) + len(value) for key, value in found) <= len(spoilt)


def test_a_damaged_file_is_found_damaged_where_it_is_mapped_too(tmp_path: Path) -> None:
    whole = bytearray((DATA / "twoskip.db").read_bytes())
    at = whole.index(b"Nuser\x1fzoe")
    whole[at + 20] ^= 1
    path = tmp_path / "mailboxes.db"
    path.write_bytes(whole)
    with pytest.raises(SpoolDamaged, match=r"mailboxes\.db, offset \d+ \(version twoskip 1\)"):
        list(open_database(path).items())
    assert open_database(path).get(b"empty") == b""


def test_a_version_that_is_not_known_is_named(tmp_path: Path) -> None:
    whole = bytearray((DATA / "twoskip.db").read_bytes())
    whole[23] = 2
    with pytest.raises(SpoolDamaged, match="version 2 is not known"):
        list(items_of(bytes(whole), tmp_path / "new.db"))


def test_a_file_that_took_the_name_is_read_next(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    path.write_bytes((DATA / "twoskip.db").read_bytes())
    database = open_database(path)
    assert database.get(b"empty") == b""
    (tmp_path / "some.db.NEW").write_bytes((DATA / "twoskip-killed.db").read_bytes())
    (tmp_path / "some.db.NEW").rename(path)
    assert dict(database.items()) == CONTENTS
