"""``mailstore backup``: what is sent, what a kill leaves, whose failure is whose."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from cyrus_sync.common.errors import ObjectsUnavailable
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_kept
from cyrus_sync.mailstore.backup import sending
from cyrus_sync.mailstore.backup.kept import Kept, kept_of
from cyrus_sync.mailstore.backup.manifest import Manifest
from cyrus_sync.mailstore.backup.sending import Sender
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.objects.store import PIECE, Content, Put
from tests.objects.seaweed import Seaweed

from .conftest import Site

ALICE = Owner("user", "alice")
FOLDER = "users/52/alice"


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"file:{tmp_path}/backup"


def objects(site: Site) -> DirectoryObjects:
    return DirectoryObjects(site.path / "backup")


def arrive(site: Site, count: int) -> None:
    """Messages that nobody has had yet, of about 200 octets that do not compress."""
    for _ in range(count):
        site.ok("deliver", "alice", stdin=b"Subject: new\r\n\r\n%s\r\n" % os.urandom(100).hex().encode())


def kept(site: Site) -> Kept:
    return kept_of(objects(site), ALICE)


def newest(site: Site) -> Manifest:
    found = kept(site)
    return found.read(found.complete()[-1])


def pack(site: Site, number: int = 1) -> Path:
    return site.path / "spool" / FOLDER / f"pack-{number:06}.zst"


def dump_of_backup(site: Site, target: str, *argv: str, user: str = "alice", expunged: bool = True) -> str:
    """What the backup holds, as `mailstore dump` tells it."""
    name = f"out{len(list(site.path.glob('out*')))}"
    site.ok("restore", "--from", target, *argv, "--into", str(site.path / name), user)
    other = Site.__new__(Site)
    other.path, other.conf = site.path, site.path / name / "imapd.conf"
    assert "nothing wrong" in other.ok("verify").out
    return other.ok("dump", *(["--expunged"] if expunged else []), user).out


# -- what is sent


@pytest.mark.covers("mailstore: commands and options", "backup", "backup --everybody", "restore --from")
def test_everybody_goes_to_a_real_s3_server_and_comes_back_as_he_was(
    s3_server: Seaweed, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(os.urandom(32).hex())
    (tmp_path / "key").chmod(0o600)
    site = Site(tmp_path, s3_server.lines("backup/everybody") + f"s3_encrypt: {tmp_path}/key\n")
    site.ok("sample")
    done = site.ok("backup", "s3:", "--everybody")
    assert "7 owners backed up to s3://mail/backup/everybody at http://127.0.0.1" in done.out
    assert "0 owners backed up" in site.ok("backup", "s3:", "--everybody").out
    assert "nothing wrong" in site.ok("verify", "s3:").out
    users = [line.split()[0] for line in site.ok("ls").lines]
    before = site.ok("dump", "--expunged", *users).out
    site.ok("restore", "--from", "s3:", "--everybody", "--into", str(tmp_path / "out"))
    site.conf = tmp_path / "out" / "imapd.conf"
    assert "nothing wrong" in site.ok("verify").out
    assert site.ok("dump", "--expunged", *users).out == before


def test_of_a_user_who_grows_only_what_is_new_is_sent(alice: Site, target: str) -> None:
    arrive(alice, 50)
    alice.ok("backup", target, "alice")
    first = newest(alice)
    assert [part.end for part in first.packs[0].parts] == [pack(alice).stat().st_size]
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    second = newest(alice)
    assert second.number == first.number + 1
    assert second.packs[0].parts[0] == first.packs[0].parts[0]
    new = second.packs[0].parts[1]
    assert (new.offset, new.end) == (first.packs[0].covered, pack(alice).stat().st_size)
    assert dump_of_backup(alice, target) == alice.ok("dump", "--expunged", "alice").out


def test_a_flag_sends_no_message_again(alice: Site, target: str) -> None:
    arrive(alice, 3)
    alice.ok("backup", target, "alice")
    first = newest(alice)
    alice.ok("flag", "user/alice", "1", "--add", r"\Seen")
    alice.ok("backup", target, "alice")
    assert newest(alice).packs == first.packs
    assert newest(alice).index != first.index


def test_a_hundred_small_days_become_a_few_parts(alice: Site, target: str) -> None:
    objects(alice).now()
    opened = open_kept(alice.config(), readonly=True)
    sender = Sender(opened.care, objects(alice), alice.path, "test")
    for day in range(40):
        arrive(alice, 1)
        assert sender.send(ALICE).changed, day
    opened.close()
    parts = newest(alice).packs[0].parts
    assert len(parts) <= 7
    assert sum(part.size for part in parts) == pack(alice).stat().st_size
    octets = sum(there.size for key, there in kept(alice).there.items() if key.startswith("packs/"))
    assert octets < 7 * pack(alice).stat().st_size


def test_a_large_user_takes_no_more_memory_than_a_few_pieces(alice: Site, target: str) -> None:
    with closing(open_kept(alice.config())) as opened, opened.mail.write(ALICE) as writer:
        for _ in range(14):
            writer.append("user.alice", [(os.urandom(PIECE // 2), 1, "")])
    objects(alice).now()
    with closing(open_kept(alice.config(), readonly=True)) as opened:
        sender = Sender(opened.care, objects(alice), alice.path, "test")
        tracemalloc.start()
        try:
            sent = sender.send(ALICE)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert sent.octets > 6 * PIECE and most < 4 * PIECE


def test_who_has_not_changed_costs_no_object(alice: Site, target: str) -> None:
    arrive(alice, 1)
    alice.ok("backup", target, "--everybody")
    before = set(kept(alice).there)
    assert "0 owners backed up" in alice.ok("backup", target, "--everybody").out
    assert set(kept(alice).there) == before


def test_a_backup_is_of_one_moment_while_mail_arrives(alice: Site, target: str) -> None:
    stop = threading.Event()

    def arriving() -> None:
        while not stop.is_set():
            arrive(alice, 1)

    thread = threading.Thread(target=arriving)
    thread.start()
    try:
        for _ in range(8):
            alice.ok("backup", target, "alice")
    finally:
        stop.set()
        thread.join()
    for name in kept(alice).complete():
        manifest = kept(alice).read(name)
        assert manifest.packs == () or manifest.packs[0].covered == manifest.packs[0].length
    assert "nothing wrong" in alice.ok("verify", target).out


# -- another pack in the place of one


def test_a_user_who_was_reset_and_filled_anew_is_not_taken_for_the_old_one(alice: Site, target: str) -> None:
    arrive(alice, 3)
    alice.ok("backup", target, "alice")
    old = newest(alice)
    data = bytearray(pack(alice).read_bytes())
    # The same inode, length, beginning and end, as an unlucky file system might give a new pack.
    pack(alice).write_bytes(bytes(data))
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    assert newest(alice).packs[0].parts[0] == old.packs[0].parts[0]
    other = pack(alice).with_name("other")
    data = bytearray(pack(alice).read_bytes())
    data[10:14] = b"XXXX"
    other.write_bytes(bytes(data))
    other.replace(pack(alice))
    alice.ok("flag", "user/alice", "1", "--add", r"\Seen")
    alice.ok("backup", target, "alice")
    parts = newest(alice).packs[0].parts
    assert parts[0].key != old.packs[0].parts[0].key
    assert b"".join(b"".join(kept(alice).pieces(part)) for part in parts) == bytes(data)


# -- what a kill leaves


class Dies(DirectoryObjects):
    """Kills whoever puts the n-th object: before anything of it is there, or when it is whole."""

    class Killed(BaseException):
        pass

    left: ClassVar[int] = 0
    after: ClassVar[bool] = False

    def put(self, key: str, content: Content, *, check: bool = False) -> Put:
        Dies.left -= 1
        if Dies.left == 0 and not self.after:
            raise self.Killed
        put = super().put(key, content, check=check)
        if Dies.left == 0:
            raise self.Killed
        return put


def send(site: Site, store: DirectoryObjects) -> None:
    opened = open_kept(site.config(), readonly=True)
    try:
        Sender(opened.care, store, site.path, "test").send(ALICE)
    finally:
        opened.close()


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_object_the_older_backup_is_whole_and_the_next_run_ends_it(
    alice: Site, target: str, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    monkeypatch.setattr(sending, "CHECKPOINT", 1)
    monkeypatch.setattr("cyrus_sync.common.stores.native.packs.PACK_TARGET", 1)
    arrive(alice, 4)
    alice.ok("backup", target, "alice")
    before = alice.ok("dump", "--expunged", "alice").out
    moment = newest(alice).number
    Dies.after = after
    for number in range(1, 20):
        arrive(alice, 1)
        Dies.left = number
        store = Dies(alice.path / "backup")
        try:
            send(alice, store)
        except Dies.Killed:
            assert "nothing wrong" in alice.ok("verify", target).out
            if kept(alice).complete()[-1].number == moment:
                assert dump_of_backup(alice, target) == before
            send(alice, objects(alice))
        else:
            break
        before, moment = alice.ok("dump", "--expunged", "alice").out, newest(alice).number
        assert dump_of_backup(alice, target) == before
    assert number > 3


def test_the_next_run_goes_on_from_a_checkpoint(
    alice: Site, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "CHECKPOINT", 1)
    monkeypatch.setattr("cyrus_sync.common.stores.native.packs.PACK_TARGET", 1)
    arrive(alice, 6)
    assert pack(alice, 6).exists()
    objects(alice).now()
    Dies.left, Dies.after = 8, False
    with pytest.raises(Dies.Killed):
        send(alice, Dies(alice.path / "backup"))
    found = kept(alice)
    assert found.complete() == []
    assert "no complete backup" in alice.run("verify", target).out
    done = {key for key in found.there if key.startswith("packs/")}
    send(alice, objects(alice))
    used = {part.key for one in newest(alice).packs for part in one.parts}
    assert len(done & used) >= 3
    assert "nothing wrong" in alice.ok("verify", target).out


# -- trouble


def test_one_who_cannot_be_read_is_named_and_all_others_are_backed_up(alice: Site, target: str) -> None:
    for user in ("bob", "carol"):
        alice.ok("create", f"user/{user}")
    index = next((alice.path / "spool" / "users").glob("*/bob")) / "index.sqlite"
    index.write_bytes(b"not an index at all" * 100)
    done = alice.run("backup", target, "--everybody")
    assert done.status == 1
    assert "bob" in done.err
    assert "2 owners backed up" in done.out
    assert "2 owners, 2 backups" in alice.ok("verify", target).out


def test_one_who_is_lost_is_named(alice: Site, target: str) -> None:
    alice.ok("create", "user/bob")
    place = next((alice.path / "spool" / "users").glob("*/bob"))
    place.rename(alice.path / "gone")
    done = alice.run("backup", target, "--everybody")
    assert done.status == 1
    assert "lost: 1 mailboxes are registered" in done.err
    assert "user=bob" in done.err
    alice.ok("backup", target, "alice")
    assert alice.run("backup", target, "nobody").status == 67


def test_a_pack_that_cannot_be_read_is_named_and_what_was_sent_of_it_is_kept(
    alice: Site, target: str
) -> None:
    arrive(alice, 3)
    alice.ok("backup", target, "alice")
    good = alice.ok("dump", "--expunged", "alice").out
    pack(alice).rename(alice.path / "away")
    alice.ok("flag", "user/alice", "1", "--add", r"\Seen")
    alice.ok("backup", target, "alice")
    assert "nothing wrong" in alice.ok("verify", target).out, "the backup has what the store has lost"
    arrive(alice, 1)  # into a pack of its own
    pack(alice, 2).rename(alice.path / "away2")
    done = alice.run("backup", target, "alice")
    assert done.status == 1
    assert "alice: not in the backup: pack 2" in done.err
    assert "pack 2" in alice.run("verify", target).out
    assert good.count("\n") > 3


def test_a_store_that_cannot_be_had_is_said_once(alice: Site) -> None:
    alice.conf.write_text(
        alice.conf.read_text()
        + "s3_endpoint: http://127.0.0.1:1\ns3_bucket: mail\ns3_access_key: a\ns3_secret_key: b\n"
    )
    from cyrus_sync.mailstore.commands import backup

    patience, backup.PATIENCE = backup.PATIENCE, 0.2
    try:
        done = alice.run("backup", "s3:", "--everybody")
    finally:
        backup.PATIENCE = patience
    assert done.status == 75
    assert done.err.count("s3://mail at http://127.0.0.1:1") == 1
    assert "Connection refused" in done.err


def test_a_disk_that_is_not_mounted_any_more_gets_no_first_backup(alice: Site, target: str) -> None:
    alice.ok("backup", target, "--everybody")
    mounted = alice.path / "backup"
    mounted.rename(alice.path / "elsewhere")
    for directory_is_there in (False, True):
        if directory_is_there:
            mounted.mkdir()
        done = alice.run("backup", target, "--everybody")
        assert done.status == 75
        assert ("is it mounted?" if directory_is_there else "no such directory") in done.err
        assert not mounted.exists() or not list(mounted.iterdir())
    (note,) = (alice.path / "conf" / "backup").iterdir()
    assert str(note) in done.err
    note.unlink()
    assert "1 owner backed up" in alice.ok("backup", target, "--everybody").out


def test_when_everybody_was_backed_up_last_is_noted(alice: Site, target: str) -> None:
    def last() -> float | None:
        (note,) = (alice.path / "conf" / "backup").iterdir()
        found = json.loads(note.read_bytes())["everybody"]
        return None if found is None else float(found)

    alice.ok("create", "user/bruno")
    alice.ok("backup", target, "alice")
    assert last() is None
    alice.ok("backup", target, "--everybody")
    first = last()
    assert first is not None
    (alice.path / "spool" / FOLDER / "index.sqlite").write_bytes(b"damaged")
    assert alice.run("backup", target, "--everybody").status == 1
    assert last() == first, "not everybody"


def test_a_store_that_goes_away_is_not_tried_for_a_hundred_thousand_users(
    alice: Site, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.ok("create", *(f"user/u{number}" for number in range(20)))
    tried = []

    def away(self: DirectoryObjects, key: str, content: Content, *, check: bool = False) -> Put:
        tried.append(key)
        raise ObjectsUnavailable("gone away")

    with monkeypatch.context() as patch:
        patch.setattr(DirectoryObjects, "put", away)
        done = alice.run("backup", "--jobs", "2", target, "--everybody")
    assert done.status == 75
    assert "so nobody else was tried" in done.err
    assert 6 < len(tried) <= 11
    assert "21 owners backed up" in alice.ok("backup", target, "--everybody").out


# -- what is wrong with a backup is found


@pytest.mark.covers("mailstore: commands and options", "verify --quick")
@pytest.mark.parametrize("lost", [False, True])
def test_an_object_that_is_lost_or_changed_is_named_and_put_anew_for_all_backups(
    alice: Site, target: str, lost: bool
) -> None:
    arrive(alice, 9)
    alice.ok("backup", target, "alice")
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    part = newest(alice).packs[0].parts[0]
    path = alice.path / "backup" / FOLDER / part.key
    data = path.read_bytes()
    if lost:
        path.unlink()
        assert f"alice: {part.key}: is missing" in alice.run("verify", "--quick", target, "alice").out
    else:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert "nothing wrong" in alice.ok("verify", "--quick", target).out, "the size is right"
    found = alice.run("verify", target)
    assert found.status == 1
    assert f"alice: file:{alice.path}/backup: {FOLDER}/{part.key}: " in found.out
    assert f"mailstore backup {target} puts anew what the store here still has" in found.err
    assert alice.run("verify", "--quick", target).status == 1
    assert "1 owner backed up" in alice.ok("backup", target, "--everybody").out
    assert path.read_bytes() == data
    assert "nothing wrong" in alice.ok("verify", target).out
    assert not (alice.path / "backup" / FOLDER / "damaged.json").exists()
    assert "0 owners backed up" in alice.ok("backup", target, "--everybody").out
    assert dump_of_backup(alice, target) == alice.ok("dump", "--expunged", "alice").out


def test_an_index_that_is_damaged_is_sent_again_and_the_old_one_stays_named(alice: Site, target: str) -> None:
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    index = newest(alice).index
    assert index is not None
    (alice.path / "backup" / FOLDER / index.key).write_bytes(b"x" * index.size)
    assert alice.run("verify", target).status == 1
    alice.ok("backup", target, "alice")
    assert newest(alice).index != index
    found = alice.run("verify", target)
    assert found.out.count(index.key) == 1
    assert "1 problem" in found.out
    assert "0 owners backed up" in alice.ok("backup", target, "alice").out


def test_a_manifest_that_is_not_what_its_name_says_is_passed_over_and_named(alice: Site, target: str) -> None:
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    name = kept(alice).complete()[-1]
    path = alice.path / "backup" / FOLDER / name.key
    path.write_bytes(path.read_bytes().replace(b"alice", b"alicf"))
    found = alice.run("verify", target)
    assert found.status == 1
    assert "does not have the SHA-256 that is in its name" in found.out
    assert alice.run("restore", "--from", target, "--into", str(alice.path / "x"), "alice").status != 0
    alice.ok("backup", target, "alice")
    assert newest(alice).number == name.number + 1


def test_a_message_that_was_damaged_when_it_was_sent_is_found_by_its_guid(alice: Site, target: str) -> None:
    arrive(alice, 2)
    connection = sqlite3.connect(alice.path / "spool" / FOLDER / "index.sqlite")
    guid, length = connection.execute("SELECT guid, length FROM messages WHERE offset = 0").fetchone()
    connection.close()
    data = bytearray(pack(alice).read_bytes())
    data[length - 2] ^= 1
    pack(alice).write_bytes(bytes(data))
    alice.ok("backup", target, "alice")
    found = alice.run("verify", target)
    assert found.status == 1
    assert f"message {guid.hex()} cannot be read" in found.out


@pytest.mark.covers("mailstore: commands and options", "backup --list", "backup -v", "backup --jobs")
def test_the_backups_there_are_can_be_listed(alice: Site, target: str) -> None:
    arrive(alice, 1)
    assert alice.ok("backup", "-v", "--jobs", "1", target, "alice").lines[0].startswith("alice: ")
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    lines = alice.ok("backup", "--list", target, "alice").lines
    assert lines[0].startswith("alice: 2 backups, 6 objects, ")
    assert len(lines) == 3
    assert alice.ok("backup", "--list", target).lines[1:] == lines[2:]
    assert alice.run("backup", "--list", target, "bob").status == 67
    assert alice.run("backup", target).status == 64
    assert alice.run("backup", target, "--jobs", "0", "alice").status == 64
