"""Damage on either end, with real programs: it is named, it stays where it is, and it heals."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.partitions import MARKER
from cyrus_sync.mailstore.cli import main as mailstore
from tests.deadlines import until
from tests.mailstore.damage import KINDS
from tests.sync_client.real import BIN, ENVIRONMENT, Pair, Side, serving_replica

USERS = ("alice", "bob", "carol")


@pytest.fixture
def pair(pair: Pair) -> Pair:
    """A pair whose master has the users, with a message each."""
    pair.master.create(*USERS)
    for user in USERS:
        pair.master.deliver(user, "one")
    return pair


def damage(side: Side, user: str, kind: str) -> Path:
    directory = side.store.directory_of(Owner("user", user))
    assert directory is not None
    side.store.close()
    for log in ("index.sqlite-wal", "index.sqlite-shm"):
        (directory / log).unlink(missing_ok=True)
    KINDS[kind].do(directory)
    return directory


@pytest.mark.parametrize("kind", ["an index of garbage", "no index", "no directory", "an empty index"])
def test_everybody_is_replicated_but_who_is_damaged(pair: Pair, kind: str) -> None:
    damage(pair.master, "bob", kind)
    client = pair.run("-A")
    assert client.process.returncode == 1
    assert b"user=bob" in client.err and b"Traceback" not in client.err
    assert [pair.replica.has(user) for user in USERS] == [True, False, True]


def test_a_rolling_client_goes_on_with_the_others(pair: Pair) -> None:
    client = pair.rolling()
    until(pair.master.done, "the first mail is told")
    damage(pair.master, "bob", "an index of garbage")
    with pair.master.log().open("a") as log:
        log.write("USER bob\n")
    pair.master.deliver("alice", "two")
    until(lambda: pair.replica.messages("alice") == 2, "alice goes on")
    assert client.process.poll() is None


def test_a_user_who_is_lost_at_the_replica_is_not_filled_anew_unasked(pair: Pair, tmp_path: Path) -> None:
    assert pair.run("-A").process.returncode == 0
    damage(pair.replica, "bob", "no directory")
    pair.master.deliver("bob", "two")
    client = pair.run("-u", "alice", "bob", "carol")
    assert client.process.returncode == 1
    assert b"bob" in client.err and b"lost" in client.err
    subprocess.run([BIN / "sync_reset", "-C", pair.replica.conf, "-f", "bob"], check=True)
    assert pair.run("-u", "bob").process.returncode == 0
    assert pair.replica.messages("bob") == 2
    assert pair.same()


# -- partitions


def test_a_client_does_not_start_over_a_spool_that_has_vanished(pair: Pair) -> None:
    pair.master.store.close()
    shutil.rmtree(pair.master.root / "mail")
    (pair.master.root / "mail").mkdir()
    for options in (["-A"], ["-u", "alice"], ["-R", "-1"]):
        client = pair.run(*options)
        assert client.process.returncode == 75
        assert MARKER.encode() in client.err and b"is it mounted" in client.err


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_server_whose_disk_goes_away_refuses_and_makes_nobody(tmp_path: Path) -> None:
    for name in ("r", "m"):
        (tmp_path / name).mkdir()
    with serving_replica(tmp_path / "r") as replica, closing(Pair(tmp_path / "m", replica)) as pair:
        disk = replica.side.root / "mail"
        replica.server.stop()
        (disk / "sync.").rmdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
        mounted = True
        try:
            replica.server.start()
            pair.master.create("alice", "bob")
            assert pair.run("-u", "alice").process.returncode == 0
            replica.side.store.close()
            subprocess.run(["umount", "-l", disk], check=True)
            mounted = False
            pair.master.deliver("alice", "two")
            client = pair.run("-u", "alice", "bob")
            assert client.process.returncode == 1
            assert client.err.count(b"is it mounted") >= 2, client.err
            assert list(disk.iterdir()) == []
            replica.server.stop()
            done = subprocess.run(
                [BIN / "sync_server", "-C", replica.side.conf, "-e"],
                capture_output=True,
                env=ENVIRONMENT,
                check=False,
                timeout=60,
            )
            assert done.returncode == 75 and MARKER.encode() in done.stderr
            assert list(disk.iterdir()) == []
        finally:
            if mounted:
                subprocess.run(["umount", "-l", disk], check=True)


# -- reconstruct, and the other end


def reconstruct(side: Side, user: str) -> None:
    side.store.close()
    assert mailstore(["-C", str(side.conf), "reconstruct", user]) in (0, 1)
    assert mailstore(["-C", str(side.conf), "verify", "--no-progress", user]) == 0


def fill(pair: Pair, user: str) -> None:
    pair.master.create(user)
    with pair.master.store.write(Owner("user", user)) as writer:
        writer.create(f"user.{user}.Work")
        for name in (f"user.{user}", f"user.{user}.Work"):
            texts = [
                (b"Subject: %d\r\n\r\n%s %d\r\n" % (n, name.encode(), n), n + 1, "\\Seen") for n in range(150)
            ]
            writer.append(name, texts)
        writer.expunge(f"user.{user}", range(20, 30))
    assert pair.run("-u", user).process.returncode == 0
    assert pair.same() or pair.run("-A").process.returncode == 0


def messages_of(side: Side, user: str) -> set[bytes]:
    with side.store.read(Owner("user", user)) as reader:
        return {
            record.guid
            for mailbox in reader.mailboxes()
            for batch in reader.records(mailbox.uniqueid)
            for record in batch
            if not record.expunged
        }


@pytest.mark.covers("mailstore: commands and options", "reconstruct")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("where", ["master", "replica"])
def test_both_ends_come_to_one_state_after_a_reconstruction(pair: Pair, where: str, seed: int) -> None:
    user = f"{where}{seed}"  # whom the replica has never had: it keeps what it had of others for a while
    fill(pair, user)
    had = messages_of(pair.master, user)
    side = pair.master if where == "master" else pair.replica
    directory = side.store.directory_of(Owner("user", user))
    assert directory is not None
    side.store.close()
    index = directory / "index.sqlite"
    data = bytearray(index.read_bytes())
    chance = random.Random(seed)
    for _ in range(3):
        page = chance.randrange(2, len(data) // 4096)
        data[page * 4096 : (page + 1) * 4096] = bytes(4096)
    index.write_bytes(data)
    for log in ("index.sqlite-wal", "index.sqlite-shm"):
        (directory / log).unlink(missing_ok=True)
    reconstruct(side, user)
    client = pair.run("-A")
    if where == "replica" and pair.replica.has(user, f"user.{user}.Recovered"):
        assert f"only the replica has user/{user}/Recovered".encode() in client.err
        assert (
            mailstore(["-C", str(pair.replica.conf), "delete", "--immediate", f"user/{user}/Recovered"]) == 0
        )
        client = pair.run("-A")
    assert client.process.returncode == 0, client.err
    assert pair.same()
    assert had <= messages_of(pair.master, user)
