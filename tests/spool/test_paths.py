"""Where files are, as a real Cyrus lays them out (the same as `tests/interop/test_spools.py` finds them)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, StoreError
from cyrus_sync.spool.config import SpoolConfig
from cyrus_sync.spool.names import database_name, directory_letter, internal_name
from cyrus_sync.spool.paths import Paths


def _paths(tmp_path: Path, *lines: str) -> Paths:
    return Paths(_config(tmp_path, *lines))


def _config(tmp_path: Path, *lines: str) -> SpoolConfig:
    path = tmp_path / "imapd.conf"
    usual = ("configdirectory: /conf", "partition-default: /mail", "sievedir: /sieve")
    path.write_text("".join(f"{line}\n" for line in (*usual, *lines)))
    return SpoolConfig.from_config(Config.load(path))


@pytest.mark.parametrize(
    ("name", "database"),
    [
        ("user.al^b.Work", b"user\x1fal.b\x1fWork"),
        ("ex.org!user.joe", b"ex.org\x1duser\x1fjoe"),
        ("DELETED.user.al^b.Old.6B01328E", b"DELETED\x1fuser\x1fal.b\x1fOld\x1f6B01328E"),
        ("News", b"News"),
    ],
)
def test_names_of_the_database_are_internal_names(name: str, database: bytes) -> None:
    assert database_name(name) == database
    assert internal_name(database) == name


@pytest.mark.covers("imapd.conf", "fulldirhash")
@pytest.mark.parametrize(
    ("text", "plain", "full"),
    [
        ("alice", "a", "L"),
        ("Zoe", "z", None),
        ("al.b", "a", "U"),
        ("9x", "q", None),
        ("", "q", "A"),
        ("ex.org", "e", "A"),
    ],
)
def test_letters_of_directories(text: str, plain: str, full: str | None) -> None:
    assert directory_letter(text, full=False) == plain
    assert full in (None, directory_letter(text, full=True))


def test_mailboxes_by_unique_id(tmp_path: Path) -> None:
    files = _paths(tmp_path).mailbox("user.al", "k7xyz", "default", by_name=False)
    assert files.index == Path("/mail/uuid/k/7/k7xyz/cyrus.index")
    assert files.message(12) == Path("/mail/uuid/k/7/k7xyz/12.")
    assert files.archive is None


@pytest.mark.covers("imapd.conf", "hashimapspool")
def test_mailboxes_by_name_spread_over_letters(tmp_path: Path) -> None:
    paths = _paths(tmp_path, "hashimapspool: yes", "fulldirhash: yes", "virtdomains: userid")
    expected = {
        "user.al^x.#sieve": "/mail/U/user/al^x/#sieve",
        "ex.org!user.joe": "/mail/domain/A/ex.org/B/user/joe",
        "ex.org!DELETED.user.joe.Gone.6B0D5EA4": "/mail/domain/A/ex.org/C/DELETED/user/joe/Gone/6B0D5EA4",
        "News.Sub": "/mail/N/News/Sub",
        "News": "/mail/B/News",
    }
    for name, directory in expected.items():
        assert paths.mailbox(name, "id", "default", by_name=True).messages == Path(directory)


@pytest.mark.covers("imapd.conf", "metapartition_files")
def test_meta_and_archive_partitions(tmp_path: Path) -> None:
    paths = _paths(
        tmp_path,
        "metapartition-default: /meta",
        "metapartition_files: header annotations cache",
        "archivepartition-default: /old",
        "metadir-header-default: /heads",
    )
    files = paths.mailbox("user.al", "id", "default", by_name=True)
    assert files.header == Path("/heads/user/al/cyrus.header")
    assert files.annotations == Path("/meta/user/al/cyrus.annotations")
    assert files.index == Path("/mail/user/al/cyrus.index")
    assert files.archive == Path("/old/user/al")


def test_a_partition_that_is_not_configured_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no partition-fast") as caught:
        _paths(tmp_path).mailbox("user.al", "id", "fast", by_name=True)
    assert caught.value.address["mailbox"] == "user.al"


def test_a_unique_id_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    for uniqueid in ("../../etc", "x", "", ".."):
        with pytest.raises(StoreError, match="no unique id"):
            _paths(tmp_path).mailbox("user.al", uniqueid, "default", by_name=False)


def test_files_of_users(tmp_path: Path) -> None:
    paths = _paths(tmp_path)
    assert paths.of_user("al.x", "sub", "") == Path("/conf/user/a/al.x.sub")
    assert paths.of_user("al.x@ex.org", "seen", "") == Path("/conf/domain/e/ex.org/user/a/al.x.seen")
    assert paths.of_user("al", "sub", "k7xyz") == Path("/conf/user/uuid/k/7/k7xyz/sub.db")


@pytest.mark.covers("imapd.conf", "sievedir", "sieveusehomedir")
def test_sieve_directories(tmp_path: Path) -> None:
    plain, domains = _paths(tmp_path), _paths(tmp_path, "virtdomains: userid")
    assert plain.sieve("al.x", "") == Path("/sieve/a/al.x")
    assert plain.sieve("al@ex.org", "") == Path("/sieve/a/al@ex.org")
    assert domains.sieve("al@ex.org", "") == Path("/sieve/domain/e/ex.org/a/al")
    assert domains.sieve("al@ex.org", "k7xyz") == Path("/sieve/uuid/k/7/k7xyz")
    assert _paths(tmp_path, "sieveusehomedir: yes").sieve("al", "k7xyz") is None


def test_quota_roots_in_files(tmp_path: Path) -> None:
    paths = _paths(tmp_path, "virtdomains: userid")
    assert paths.quota("user.al^b") == Path("/conf/quota/a/user.al^b")
    assert paths.quota("News") == Path("/conf/quota/n/News")
    assert paths.quota("ex.org!user.joe.x") == Path("/conf/domain/e/ex.org/quota/j/user.joe.x")
    assert paths.quota("ex.org!") == Path("/conf/domain/e/ex.org/quota/root")


@pytest.mark.covers("imapd.conf", "deletedprefix")
def test_a_spool_with_another_deleted_prefix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"deletedprefix.*TRASH"):
        _config(tmp_path, "deletedprefix: TRASH")


@pytest.mark.covers("imapd.conf", "sql_engine", "sql_database")
def test_databases_in_another_sql_than_sqlite_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sql_engine.*mysql"):
        _config(tmp_path, "mboxlist_db: sql", "sql_engine: mysql")


@pytest.mark.covers("imapd.conf", "annotation_db_path")
def test_databases_may_be_elsewhere(tmp_path: Path) -> None:
    config = _config(tmp_path, "annotation_db_path: /fast/notes.db", "quota_db: twoskip")
    assert config.annotations == Path("/fast/notes.db")
    assert config.quotas == Path("/conf/quotas.db")
    assert config.mailboxes == Path("/conf/mailboxes.db")
