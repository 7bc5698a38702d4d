"""With ``replicaonly: yes`` nobody but replication changes the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import ReplicaOnly
from cyrus_sync.common.model import MailboxAnnotation, Quota, Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_kept
from cyrus_sync.mailstore.commands import COMMANDS
from tests.mailstore.conftest import MESSAGE, Site

ALICE = Owner("user", "alice")
CHANGING = {
    "import": ["alice", "."],
    "deliver": ["alice"],
    "sample": [],
    "flag": ["user/alice", "1", "-a", "\\Seen"],
    "expunge": ["user/alice", "1"],
    "unexpunge": ["user/alice", "1"],
    "copy": ["user/alice", "1", "user/alice/Work"],
    "create": ["user/bob"],
    "rename": ["user/alice/Work", "user/alice/Play"],
    "move": ["alice", "other"],
    "delete": ["user/alice/Work"],
    "undelete": ["alice"],
    "setacl": ["user/alice", "bob", "lr"],
    "setquota": ["user/alice", "STORAGE=5"],
    "subscribe": ["alice", "user/alice/Work"],
    "unsubscribe": ["alice", "user/alice/Work"],
}
SOMETIMES = {
    "annotate": ["user/alice", "/comment", "x"],
    "sieve": ["activate", "alice", "main"],
}
ONLY_LOOKING = {
    *("passwd", "ls", "show", "dump", "verify", "export", "stats", "backup", "prune"),
    "restore",  # into another server; into this store it asks by itself
    *("fleet", "tier"),  # say where what is stored is
    *("repair", "reconstruct", "expire"),  # what is stored is mended, or cleaned up, as at every end
}


@pytest.fixture
def replica(alice: Site) -> Site:
    """A store with a message and a script that was made a replica."""
    alice.deliver("alice", 2)
    alice.ok("sieve", "put", "alice", "main", stdin=b"keep;\r\n")
    with alice.conf.open("a") as file:
        file.write("replicaonly: yes\n")
    alice.log()
    return alice


def test_of_every_command_it_is_known_whether_it_changes_mail() -> None:
    assert set(COMMANDS) == {*CHANGING, *SOMETIMES, *ONLY_LOOKING}
    told = {name for name, command in COMMANDS.items() if command.changes}
    assert told | {"deliver"} == set(CHANGING), "deliver asks by itself: its status is for an MTA"


@pytest.mark.covers("imapd.conf", "replicaonly")
@pytest.mark.covers("Other errors", "ReplicaOnly")
@pytest.mark.parametrize("command", [*CHANGING, *SOMETIMES])
def test_a_command_that_changes_mail_refuses_with_the_reason(replica: Site, command: str) -> None:
    before = replica.ok("dump").out
    result = replica.run(command, *(CHANGING | SOMETIMES)[command], stdin=MESSAGE)
    assert result.status == 75, "an MTA keeps the message and tries again"
    assert f"{replica.conf} says replicaonly: yes: only replication may change it" in result.err
    assert replica.ok("dump").out == before and replica.log() == []


def test_a_backup_is_made_of_a_replica_and_not_brought_back_into_it(replica: Site) -> None:
    before = replica.ok("dump").out
    target = f"file:{replica.path}/backup"
    replica.ok("backup", target, "--everybody")
    for words in (["alice"], ["--everybody"]):
        result = replica.run("restore", "--from", target, *words)
        assert result.status == 75
        assert "says replicaonly: yes" in result.err
    replica.ok("restore", "--from", target, "--into", f"{replica.path}/out", "alice")
    assert replica.ok("dump").out == before and replica.log() == []


def test_who_only_looks_or_mends_is_let(replica: Site, tmp_path: Path) -> None:
    for words in (["ls"], ["show", "user/alice", "1"], ["verify"], ["stats"], ["repair"], ["expire"]):
        replica.ok(*words)
    replica.ok("annotate", "user/alice")
    replica.ok("sieve", "list", "alice")
    replica.ok("export", "alice", str(tmp_path / "out"))


@pytest.mark.covers("mailstore: commands and options", "--even-replica")
def test_who_says_so_may_be_rid_of_what_a_split_brain_has_left(replica: Site) -> None:
    replica.ok("--even-replica", "delete", "user/alice/Work")
    assert "user/alice/Work" not in replica.ok("ls", "alice").lines


def test_no_change_gets_past_the_store_itself(replica: Site) -> None:
    kept = open_kept(replica.config())
    changes: list[Any] = [
        lambda w: w.append("user.alice", [(MESSAGE, 1, "")]),
        lambda w: w.set_flags("user.alice", [1], add=["$x"]),
        lambda w: w.expunge("user.alice", [1]),
        lambda w: w.create("user.alice.new"),
        lambda w: w.delete("user.alice.Work"),
        lambda w: w.copy("user.alice", [1], "user.alice.Work"),
        lambda w: w.set_acl("user.alice", "bob", "l"),
        lambda w: w.set_quota("user.alice", {"STORAGE": 1}),
        lambda w: w.annotate("user.alice", "/comment", "", b"x"),
        lambda w: w.subscribe("user.alice.Work"),
        lambda w: w.set_seen(Seen("id", 1, 1, 1, "1")),
        lambda w: w.put_script("other", b"keep;\r\n"),
        lambda w: w.raise_counters(w.mailbox("user.alice").uniqueid, uidvalidity=2**31),
    ]
    for change in changes:
        with pytest.raises(ReplicaOnly), kept.mail.write(ALICE) as writer:
            change(writer)
    with pytest.raises(ReplicaOnly):
        kept.mail.rename("user.alice.Work", "user.alice.Play", log=True)
    with pytest.raises(ReplicaOnly):
        kept.care.rename_user("alice", "zoe")
    kept.close()


def test_what_replication_brings_is_taken(replica: Site) -> None:
    kept = open_kept(replica.config())
    with kept.mail.write(ALICE) as writer:
        writer.apply_quota(Quota("user.alice", {"STORAGE": 5}))
        writer.apply_sub("user.alice.Work", True)
        writer.apply_seen(Seen("id", 1, 1, 1, "1"))
        writer.apply_annotation(MailboxAnnotation("user.alice", "/comment", "", b"x"))
        writer.apply_expunge("user.alice", writer.mailbox("user.alice").uniqueid, [1])  # type: ignore[union-attr]
        writer.apply_unmailbox("user.alice.Work")
    kept.mail.rename("user.alice", "user.alice", partition="other", log=False)
    kept.close()
    assert replica.ok("verify").status == 0
