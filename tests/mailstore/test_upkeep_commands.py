import json
import os
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from tests.mailstore.conftest import MESSAGE, Site, later


def pack_of(site: Site, user: str) -> Path:
    (pack,) = (site.path / "spool").rglob(f"{user}/pack-*.zst")
    return pack


def change(site: Site, statement: str) -> None:
    """Spoil alice's index."""
    store = open_store(site.config())
    with store.transaction(Owner("user", "alice")) as transaction:
        transaction.change()
        transaction.db.execute(statement)
    store.close()


# -- verify, repair


def test_a_sound_store_verifies(alice: Site) -> None:
    alice.deliver("alice", 3)
    result = alice.ok("verify")
    assert result.lines == ["1 owner checked: nothing wrong"]
    assert alice.run("verify", "bob").status == 67


@pytest.mark.covers("mailstore: commands and options", "verify")
@pytest.mark.covers("Exit statuses", "mailstore 1")
def test_a_damaged_message_is_named_with_its_mailbox_and_uid(alice: Site) -> None:
    alice.deliver("alice", 2, "-m", "Work")
    pack = pack_of(alice, "alice")
    data = bytearray(pack.read_bytes())
    data[-5] ^= 0xFF
    pack.write_bytes(data)
    result = alice.run("verify", "alice")
    assert result.status == 1
    assert "(user/alice/Work uid 2)" in result.out
    assert result.lines[-1] == "1 owner checked: 1 problem"


@pytest.mark.covers("mailstore: commands and options", "verify", "repair")
def test_wrong_sums_are_named_and_repaired(alice: Site) -> None:
    alice.deliver("alice", 2)
    change(alice, "UPDATE mailboxes SET sync_crc = 1, messages = 9 WHERE name = 'user.alice'")
    result = alice.run("verify")
    assert result.status == 1
    assert len(result.lines) == 3
    assert all("user.alice" in line for line in result.lines[:2])
    assert "1 mailbox corrected" in alice.ok("repair").lines
    assert alice.ok("verify").status == 0


# -- expire, stats


@pytest.mark.covers("mailstore: commands and options", "expire")
def test_expire_removes_for_good_what_is_old_enough_only(alice: Site) -> None:
    alice.deliver("alice", 5)
    alice.deliver("alice", 1, "-m", "Work")
    alice.ok("expunge", "user/alice", "1")
    later(alice, 100_000, dated=True)
    alice.ok("expunge", "user/alice", "2")
    alice.ok("delete", "user/alice/Work")
    kept = alice.ok("expire")
    assert kept.lines == [
        "0 expunged messages and 0 deleted mailboxes forgotten, 0 messages removed, "
        "0 packs rewritten, 0 octets freed"
    ]
    assert len(alice.records("user.alice", expunged=True)) == 2
    assert (
        alice.ok("expire", "alice", "-t", "1", "-v")
        .lines[0]
        .startswith("alice: 1 expunged message and 0 deleted")
    )
    assert [record.uid for record in alice.records("user.alice", expunged=True)] == [2]
    assert [record.uid for record in alice.records("user.alice")] == [3, 4, 5]
    assert alice.ok("verify").status == 0


@pytest.mark.covers("mailstore: commands and options", "expire --no-compact")
def test_expire_gives_the_space_of_what_was_removed_back(alice: Site) -> None:
    alice.ok("deliver", "alice", stdin=b"Subject: big\r\n\r\n" + os.urandom(200_000).hex().encode())
    alice.deliver("alice", 1)
    before = pack_of(alice, "alice").stat().st_size
    alice.ok("expunge", "user/alice", "1")
    later(alice, 100_000, dated=True)
    alice.ok("expire", "-t", "1h", "--no-compact")
    assert pack_of(alice, "alice").stat().st_size == before
    assert (
        alice.ok("expire", "-t", "1h")
        .lines[0]
        .endswith("1 pack rewritten, " + f"{before - pack_of(alice, 'alice').stat().st_size} octets freed")
    )
    assert pack_of(alice, "alice").stat().st_size < 2000
    assert alice.ok("show", "user/alice", "2").raw == MESSAGE + b"number 0\r\n"


def test_a_deleted_user_waits_for_expire_and_then_his_files_go(alice: Site) -> None:
    alice.deliver("alice", 2)
    alice.ok("delete", "--immediate", "user/alice")
    directory = pack_of(alice, "alice").parent
    assert alice.ok("ls").lines == []
    alice.ok("expire")
    assert directory.exists() and len(alice.ok("undelete", "alice").lines) == 2
    later(alice, 1_000_000, dated=True)
    alice.ok("expire")
    assert alice.ok("undelete", "alice").lines == []
    assert not list(directory.glob("pack-*"))
    assert alice.run("expire", "bob").status == 67


@pytest.mark.covers("mailstore: commands and options", "expire")
@pytest.mark.parametrize("retention", ["x", "-1d", "1y"])
def test_retention_is_a_duration(alice: Site, retention: str) -> None:
    assert alice.run("expire", f"--retention={retention}").status == 64


@pytest.mark.covers("mailstore: commands and options", "stats")
def test_stats_counts_what_there_is(alice: Site) -> None:
    alice.ok("create", "board")
    alice.deliver("alice", 3)
    alice.ok("copy", "user/alice", "1", "user/alice/Work")
    alice.ok("expunge", "user/alice", "2")
    found = json.loads(alice.ok("stats", "--format", "json").raw)
    size = len(MESSAGE) + 10
    assert found["users"] == 1 and found["shared"] == 1
    assert (found["mailboxes"], found["messages"], found["expunged_messages"]) == (3, 3, 1)
    assert (found["stored_messages"], found["octets"]) == (3, 3 * size)
    assert found["octets_of_packs"] == pack_of(alice, "alice").stat().st_size
    assert "messages: 3" in alice.ok("stats", "alice").lines
    assert alice.run("stats", "bob").status == 67


@pytest.mark.covers("mailstore: commands and options", "repair --from-peer")
def test_the_peer_to_heal_from_may_be_named(alice, capsys):
    alice.deliver("alice", 2)
    assert "every message can be read" in alice.ok("repair", "--from-peer", "--server", "replica").out
    done = alice.run("repair", "--server", "replica")
    assert done.status == 64 and "belong to --from-peer" in done.err
    done = alice.run("repair", "--from-peer")
    assert done.status != 0, "nobody is configured as the other end"
    with alice.conf.open("a") as conf:
        conf.write("north_sync_host: north.example\n")
    assert "every message can be read" in alice.ok("repair", "--from-peer", "-n", "north").out
