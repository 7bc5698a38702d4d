"""What belongs to a user beside his mail: \\Seen of others' mailboxes, subscriptions, quotas, scripts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.model import Quota, Seen
from cyrus_sync.spool.conversations import ConversationCounts
from cyrus_sync.spool.counters import read_raclmodseq
from cyrus_sync.spool.db import open_database
from cyrus_sync.spool.entries import Entry
from cyrus_sync.spool.quotas import parse_quota
from cyrus_sync.spool.scripts import read_script, read_scripts
from cyrus_sync.spool.seen import read_seen, read_seen_of
from cyrus_sync.spool.subscriptions import read_subscriptions
from cyrus_sync.spool.trouble import SpoolDamaged


def _flat(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


# -- seen


def test_seen_state_is_read(tmp_path: Path) -> None:
    path = _flat(tmp_path / "seen.db", b"idb\t1 100 5 101 1:3,5", b"ida\t1 0 0 0 ")
    assert read_seen(open_database(path)) == [Seen("ida", 0, 0, 0, ""), Seen("idb", 100, 5, 101, "1:3,5")]
    assert read_seen_of(open_database(path), "idb") == Seen("idb", 100, 5, 101, "1:3,5")
    assert read_seen_of(open_database(path), "idc") is None


def test_seen_state_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpoolDamaged, match="ida"):
        read_seen(open_database(_flat(tmp_path / "seen.db", b"ida\t2 0 0 0 1")))


# -- subscriptions


def test_subscriptions_of_3_6_stand_for_ones_own_inbox(tmp_path: Path) -> None:
    path = _flat(
        tmp_path / "sub.db",
        b"\x1fVER\x1f\t2",
        b"NINBOX\t",
        b"NINBOX\x1fA.b\x1fc\t",
        b"Nuser\x1fbob\x1fx\t",
        b"NINBOXhew\x1flists\t",
        b"Nex.org\x1duser\x1fjoe\t",
    )
    assert read_subscriptions(open_database(path), "al.matt") == [
        "ex.org!user.joe",
        "user.al^matt",
        "user.al^matt.A^b.c",
        "user.al^matthew.lists",
        "user.bob.x",
    ]


def test_subscriptions_before_3_6_are_internal_names(tmp_path: Path) -> None:
    path = _flat(tmp_path / "al.sub", b"user.al^b\t", b"user.al^b.with space\t", b"News\t")
    assert read_subscriptions(open_database(path), "al.b") == ["News", "user.al^b", "user.al^b.with space"]


def test_subscriptions_of_a_version_to_come_are_refused(tmp_path: Path) -> None:
    path = _flat(tmp_path / "sub.db", b"\x1fVER\x1f\t9", b"NINBOX\t")
    with pytest.raises(SpoolDamaged, match=r"version 9.*not known"):
        read_subscriptions(open_database(path), "al")


# -- quota roots


@pytest.mark.parametrize(
    ("value", "limits", "modseq"),
    [
        (b"%(S (1096 5000) M (3) AS (0) NF (2) MODSEQ 8)", {"STORAGE": 5000}, 8),
        (b"%(S (1) M (0 3) AS (0 7))\n", {"MESSAGE": 3, "X-ANNOTATION-STORAGE": 7}, 0),
        (b"%(NF (1 9))", {"X-NUM-FOLDERS": 9}, 0),
        (b"%(S (1 0) SCAN %(MBOX user.al S (4)) MODSEQ 2)", {"STORAGE": 0}, 2),
        (b"%(S (1 18446744073709551615))", {}, 0),
        (b"1096\n5000\n", {"STORAGE": 5000}, 0),
        (b"1096 -1", {}, 0),
        (b"1096 5000 M 3 20 AS 0 -1", {"STORAGE": 5000, "MESSAGE": 20}, 0),
        (b"1096 5000 17 M 3 20", {"STORAGE": 5000, "MESSAGE": 20}, 0),
    ],
)
def test_limits_of_a_quota_root_are_read(value: bytes, limits: dict[str, int], modseq: int) -> None:
    assert parse_quota(value, "user.al", Path("q")) == Quota("user.al", limits, modseq)


@pytest.mark.parametrize(
    "value", [b"%(S (1 x))", b"%(", b"1", b"1 2 XX 3 4", b"a b", b"1 2 M 3", b"\xff\xfe"]
)
def test_a_quota_that_cannot_be_read_names_its_file(value: bytes) -> None:
    with pytest.raises(SpoolDamaged, match=r"quota/u/user\.al.*the quota of user\.al"):
        parse_quota(value, "user.al", Path("quota/u/user.al"))


# -- scripts in files


@pytest.fixture
def sieve(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "main.script").write_bytes(b"keep;\r\n")
    (tmp_path / "main.bc").write_bytes(b"compiled")
    (tmp_path / "two words.script").write_bytes(b"stop;\r\n")
    (tmp_path / "defaultbc").symlink_to("main.bc")
    yield tmp_path


def test_scripts_in_files_are_listed_with_the_active_one(sieve: Path) -> None:
    found = read_scripts(sieve)
    assert [(s.filename, s.active) for s in found] == [
        ("main.script", False),
        ("main.bc", True),
        ("two words.script", False),
    ]
    assert found[0].guid == hashlib.sha1(b"keep;\r\n").digest()
    assert read_script(sieve, "two words.script") == b"stop;\r\n"
    assert read_script(sieve, "../main.script") is None
    assert read_script(sieve, "none.script") is None


def test_without_a_directory_there_are_no_scripts(tmp_path: Path) -> None:
    assert read_scripts(tmp_path / "none") == []
    assert read_scripts(None) == []
    (tmp_path / "defaultbc").symlink_to("gone.bc")
    assert read_scripts(tmp_path) == []


# -- counters


def test_counters_that_are_torn_or_old_count_nothing(tmp_path: Path) -> None:
    path = tmp_path / "counters"
    assert read_raclmodseq(path) == 0
    path.write_bytes(bytes(300))
    assert read_raclmodseq(path) == 0
    path.write_bytes(b"\0\0\0\1\0\0\0\1" + bytes(48))
    assert read_raclmodseq(path) == 0


def test_the_conversations_of_a_mailbox_are_found_by_its_id_and_in_old_databases_by_its_name(
    tmp_path: Path,
) -> None:
    path = tmp_path / "conversations"
    path.write_bytes(
        b"$FOLDER_IDS\t(abc)\nFabc\t0 (17 3 1 4 1)\nFuser.alice.Old\t0 (5 1 0 1 0)\nFxyz\twhat\n"
    )
    counts = ConversationCounts(path, open_database)
    found = {
        name: counts.modseq(Entry(name, uniqueid))
        for name, uniqueid in (
            ("user.alice", "abc"),
            ("user.alice.Old", "old"),
            ("user.alice.Odd", "xyz"),
            ("user.alice.New", "new"),
            ("DELETED.user.alice.6B012EC2", "abc"),
        )
    }
    assert list(found.values()) == [17, 5, 0, 0, 0]
    assert counts.modseq(Entry("user.alice.#jmapsubmission", "abc", mbtype="s")) == 0
    counts.close()


def test_conversations_that_cannot_be_read_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "conversations"
    for damage in (b"\xa1\x02\x8b\x0dtwoskip file\0\0\0\0 cut", b"\xa1\x02\x8b\x0dnobody knows"):
        path.write_bytes(damage)
        counts = ConversationCounts(path, open_database)
        assert [counts.modseq(Entry("user.alice", "abc")) for _ in range(2)] == [0, 0]
        counts.close()
    assert len([line for line in caplog.messages if "conversations" in line]) == 2
