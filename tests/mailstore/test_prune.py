"""``mailstore prune``: what is too old goes, and nothing that anybody needs, or is about to need."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from cyrus_sync.mailstore.backup import sending
from cyrus_sync.mailstore.backup.kept import Kept
from cyrus_sync.mailstore.backup.names import parse_manifest_name
from cyrus_sync.mailstore.backup.pruning import GRACE, needless
from cyrus_sync.mailstore.backup.sending import LONGEST

from .conftest import Site
from .test_backup import Dies, arrive, dump_of_backup, kept, newest, objects, send

DAY = 86400


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"file:{tmp_path}/backup"


def age(site: Site, days: float) -> None:
    """Let everything in the backup have been there for so much longer: its files, and what manifests say."""
    for one in list(objects(site).listed()):
        path = site.path / "backup" / one.key
        about = path.stat()
        os.utime(path, (about.st_atime, about.st_mtime - days * DAY))
    _rewrite(kept(site), days)


def _rewrite(found: Kept, days: float) -> None:
    from dataclasses import replace

    for name in found.manifests:
        manifest = found.read(name)
        older, data = replace(manifest, taken=manifest.taken - int(days * DAY)).written()
        directory = Path(found.objects.place.removeprefix("file:")) / found.folder
        about = (directory / name.key).stat()
        (directory / name.key).unlink()
        (directory / older.key).write_bytes(data)
        os.utime(directory / older.key, (about.st_atime, about.st_mtime))


def days_of(site: Site, target: str, count: int) -> None:
    """A backup with a new message on each of so many days, the last one just now."""
    for day in range(count):
        if day:
            age(site, 1)
        arrive(site, 1)
        site.ok("backup", target, "alice")


@pytest.mark.covers("mailstore: commands and options", "prune", "prune --keep", "prune --dry-run")
@pytest.mark.covers("imapd.conf", "s3_keep")
def test_what_is_kept_can_restore_each_moment_of_its_time(alice: Site, target: str) -> None:
    days_of(alice, target, 7)
    before = {
        name.taken: dump_of_backup(alice, target, "--as-of", _iso(name.taken))
        for name in kept(alice).complete()
    }
    assert len(set(before.values())) == 7
    count = len(kept(alice).there)
    shown = alice.ok("prune", target, "--keep", "2d", "--dry-run").out
    assert "would be removed" in shown
    assert len(kept(alice).there) == count
    assert alice.ok("prune", target).out.startswith("0 backups and 0 objects"), "30 days are kept"
    alice.ok("prune", target, "--keep", "2d")
    left = kept(alice).complete()
    assert len(left) == 3, "of today, of yesterday, and the one that was in force two days ago"
    for name in left:
        assert dump_of_backup(alice, target, "--as-of", _iso(name.taken)) == before[name.taken]
    assert len(kept(alice).there) < count
    assert "nothing wrong" in alice.ok("verify", target).out
    assert alice.ok("prune", target, "--keep", "2d").out.startswith("0 backups and 0 objects")


def _iso(moment: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(moment))


def test_the_last_backup_stays_however_old_it_is(alice: Site, target: str) -> None:
    days_of(alice, target, 2)
    age(alice, 1000)
    alice.ok("prune", target, "--keep", "0")
    assert len(kept(alice).complete()) == 1
    assert dump_of_backup(alice, target) == alice.ok("dump", "--expunged", "alice").out


def test_what_was_needed_within_the_last_day_stays(alice: Site, target: str) -> None:
    """A backup that began before the newest one was there may still build on the one before."""
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    age(alice, 100)
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    assert alice.ok("prune", target, "--keep", "0").out.startswith("0 backups and 0 objects")
    age(alice, 1.01)
    assert alice.ok("prune", target, "--keep", "0").out.startswith("1 backups and ")
    assert GRACE.total_seconds() > LONGEST


def test_what_a_killed_backup_has_left_goes_after_a_day_and_not_what_it_goes_on_from(
    alice: Site, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    arrive(alice, 1)
    Dies.left, Dies.after = 1, True
    with pytest.raises(Dies.Killed):
        send(alice, Dies(alice.path / "backup"))
    orphans = set(kept(alice).there) - {piece.key for piece in newest(alice).pieces()}
    assert len(orphans) == 2, "the manifest, and an object that no manifest names"
    alice.ok("prune", target, "--keep", "0")
    assert orphans <= set(kept(alice).there)
    monkeypatch.setattr(sending, "CHECKPOINT", 1)
    Dies.left, Dies.after = 3, False
    with pytest.raises(Dies.Killed):
        send(alice, Dies(alice.path / "backup"))
    partial = next(name for name in kept(alice).manifests if not name.complete)
    resumable = {piece.key for piece in kept(alice).read(partial).pieces()}
    age(alice, 3)
    alice.ok("prune", target, "--keep", "0")
    there = set(kept(alice).there)
    assert resumable <= there
    assert [name for name in kept(alice).manifests if not name.complete] != []
    assert not {key for key in orphans if parse_manifest_name(key) is None} & there
    assert "nothing wrong" in alice.ok("verify", target).out


def test_an_owner_whose_kept_manifest_cannot_be_read_is_named_and_left_alone(
    alice: Site, target: str
) -> None:
    days_of(alice, target, 3)
    age(alice, 5)
    name = kept(alice).complete()[-1]
    path = alice.path / "backup" / kept(alice).folder / name.key
    path.write_bytes(b"{}")
    before = set(kept(alice).there)
    done = alice.run("prune", target, "--keep", "0")
    assert done.status != 0
    assert "SHA-256" in done.err
    assert set(kept(alice).there) == before


def test_backups_and_prunes_at_the_same_time_leave_every_backup_whole(alice: Site, target: str) -> None:
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    stop, trouble = threading.Event(), []

    def pruning() -> None:
        while not stop.is_set():
            try:
                found = kept(alice)
                for key in needless(found, before=int(time.time()), now=objects(alice).now()).objects:
                    trouble.append(key)
            except Exception as error:
                trouble.append(str(error))

    thread = threading.Thread(target=pruning)
    thread.start()
    try:
        for _ in range(10):
            arrive(alice, 1)
            alice.ok("backup", target, "alice")
    finally:
        stop.set()
        thread.join()
    assert trouble == []
    assert "nothing wrong" in alice.ok("verify", target).out


@pytest.mark.covers("mailstore: commands and options", "prune --forget")
def test_forget_removes_all_of_a_user_who_is_named_and_of_nobody_else(alice: Site, target: str) -> None:
    alice.ok("create", "user/bob")
    alice.ok("backup", target, "--everybody")
    done = alice.run("prune", "--forget", target, "bob")
    assert done.status == 1
    assert "nothing was removed" in done.err
    assert alice.ok("prune", "--forget", "--yes", target, "bob").out.startswith("bob: 1 backups")
    assert [line.split(":")[0] for line in alice.ok("backup", "--list", target).lines[::2]] == ["alice"]
    assert alice.run("prune", "--forget", "--yes", target, "bob").status == 67
    assert alice.run("prune", "--forget", "--yes", target).status == 64
    assert alice.run("prune", "--yes", target).status == 64
    assert alice.run("prune", "--keep", "x", target).status == 64
