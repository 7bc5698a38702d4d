"""mailstore tier: old packs go into an object store, are read there, and come back."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from cyrus_sync.common.errors import EX_CONFIG, EX_FAILURE, EX_TEMPFAIL, EX_USAGE
from tests.deadlines import until
from tests.mailstore.conftest import Site
from tests.objects.seaweed import Seaweed

FOLDER = "users/52/alice"
AFTER = "s3_tier_after: 7d\n"


def deliver(site: Site, user: str = "alice", octets: int = 200_000) -> bytes:
    raw = b"Subject: old\r\n\r\n" + os.urandom(octets // 2).hex().encode() + b"\r\n"
    site.ok("deliver", user, stdin=raw)
    return raw


def age(site: Site, user: str = "52/alice", days: int = 8) -> None:
    """Let its packs be that old."""
    then = time.time() - days * 86400
    for path in (site.path / "spool" / "users" / user).glob("pack-*.zst"):
        os.utime(path, (then, then))


def packs(site: Site) -> list[str]:
    return sorted(path.name for path in (site.path / "spool" / FOLDER).glob("pack-*"))


@pytest.fixture
def alice(tmp_path: Path) -> Site:
    """Has one old message, and a directory to move it to."""
    (tmp_path / "objects").mkdir()
    site = Site(tmp_path, f"{AFTER}s3_tier_objects: file:{tmp_path}/objects\n")
    site.ok("create", "user/alice")
    deliver(site)
    age(site)
    return site


@pytest.mark.covers("mailstore: commands and options", "tier", "tier -A", "tier --back", "tier --dry-run")
@pytest.mark.covers("imapd.conf", "s3_tier_after")
def test_old_mail_goes_to_a_real_s3_server_is_read_there_and_comes_back(
    s3_server: Seaweed, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(os.urandom(32).hex())
    (tmp_path / "key").chmod(0o600)
    site = Site(tmp_path, s3_server.lines("tier") + f"s3_encrypt: {tmp_path}/key\n{AFTER}")
    site.ok("create", "user/alice", "user/bob")
    raw = deliver(site)
    deliver(site, "bob")
    age(site)
    assert "1 packs with" in site.ok("tier", "-A", "--dry-run").out and packs(site) == ["pack-000001.zst"]
    assert "1 packs with" in site.ok("tier", "-A").out
    assert packs(site) == ["pack-000001.far"]
    assert raw == site.ok("show", "user/alice", "1").raw
    assert "nothing wrong" in site.ok("verify").out
    with s3_server.stopped():
        assert raw == site.ok("show", "user/alice", "1").raw, "it is in the cache"
        [path.unlink() for path in (site.path / "conf/store/far").rglob("*") if path.is_file()]
        deliver(site)
        assert "nothing wrong" in site.ok("verify", "--no-far", "bob").out
    assert "0 packs" in site.ok("tier", "-A").out
    assert raw == site.ok("show", "user/alice", "1").raw
    assert "1 packs with" in site.ok("tier", "-A", "--back").out
    assert packs(site) == ["pack-000001.zst", "pack-000002.zst"]
    assert raw == site.ok("show", "user/alice", "1").raw


def test_a_program_that_runs_reads_on_and_a_second_one_waits_for_nobody(alice: Site) -> None:
    """Two processes, of which one has the owner open."""
    code = (
        "import sys\n"
        "from cyrus_sync.common.config import Config\n"
        "from cyrus_sync.common.stores import open_store\n"
        "from cyrus_sync.common.names import Owner\n"
        f"store = open_store(Config.load({str(alice.conf)!r}, 'mailstore'), readonly=True)\n"
        "for line in sys.stdin:\n"
        "    with store.read(Owner('user', 'alice')) as reader:\n"
        "        state = reader.mailbox('user.alice')\n"
        "        guids = [r.guid for b in reader.records(state.uniqueid) for r in b]\n"
        "        print(sum(len(x.data) for b in reader.bodies(guids) for x in b), flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def read() -> int:
            reader.stdin.write("\n")
            reader.stdin.flush()
            return int(reader.stdout.readline())

        before = read()
        alice.ok("tier", "alice")
        assert read() == before
        more = len(deliver(alice))
        assert read() == before + more
        alice.ok("tier", "--back", "alice")
        assert read() == before + more
        reader.stdin.close()


@pytest.mark.covers("mailstore: commands and options", "verify --no-far")
def test_while_the_store_is_away_that_is_said_of_each_and_the_rest_goes_on(alice: Site) -> None:
    alice.ok("create", "user/bob", "user/carol")
    for user in ("bob", "carol"):
        deliver(alice, user)
    alice.ok("tier", "alice")
    (alice.path / "objects").rename(alice.path / "unmounted")
    shown = alice.run("show", "user/alice", "1")
    assert (
        shown.status == EX_TEMPFAIL
        and "unavailable for now" in shown.err
        and "there is no such directory" in shown.err
    )
    checked = alice.run("verify")
    assert checked.status == EX_FAILURE
    assert "alice: unavailable: pack-000001.zst: cannot be read now" in checked.out
    left_out = alice.ok("verify", "--no-far")
    assert "octets in the object store were left out (--no-far)" in left_out.out
    for group in (alice.path / "spool" / "users").iterdir():
        for user in group.iterdir():
            age(alice, f"{group.name}/{user.name}")
    tiered = alice.run("tier", "-A")
    assert tiered.status in (EX_FAILURE, EX_TEMPFAIL)
    assert "1 more were not tried, as the object store does not answer" in tiered.err
    (alice.path / "unmounted").rename(alice.path / "objects")
    assert "2 packs with" in alice.ok("tier", "-A").out


def test_objects_that_are_needless_are_deleted_after_a_while(alice: Site) -> None:
    alice.ok("tier", "-A")
    alice.ok("delete", "user/alice")

    def expired() -> bool:
        alice.ok("expire", "-t", "0")
        return packs(alice) == []

    until(expired, "a second has passed", 20, every=0.3)
    assert "deleted" not in alice.ok("tier", "-A").out
    with closing(sqlite3.connect(alice.path / "conf/store/tier.sqlite", isolation_level=None)) as ledger:
        ledger.execute("UPDATE objects SET needless_since = needless_since - 31 * 86400")
    assert "deleted 1 objects that no pack needs any more" in alice.ok("tier", "-A").out
    assert [path.name for path in (alice.path / "objects").rglob("*.zst")] == []


def test_what_a_run_found_is_told_to_prometheus(alice: Site) -> None:
    from cyrus_sync.common.metrics.shared import add_far
    from cyrus_sync.common.metrics.sheet import Sheet, encoded

    alice.ok("tier", "-A")
    alice.ok("show", "user/alice", "1")
    report = json.loads((alice.path / "conf/store/tier.json").read_bytes())
    assert report["near"] == 0 and report["far"] > 50_000 and report["failed"] == 0
    sheet = Sheet("sync_server")
    add_far(sheet, alice.config())
    told = encoded(sheet, "text/plain")[0].decode()
    assert f'cyrus_sync_tier_bytes{{place="far",program="sync_server"}} {report["far"]:.1f}' in told
    assert 'cyrus_sync_far_blocks_total{found="miss",program="sync_server"}' in told
    assert 'cyrus_sync_far_failures_total{program="sync_server",why="away"}' in told
    alice.ok("tier", "-A", "--back")
    assert not (alice.path / "conf/store/tier.json").exists(), "and nobody waits for the next one"


def test_a_backup_knows_a_pack_again_that_is_far_now(alice: Site) -> None:
    target = f"file:{alice.path}/backup"
    alice.ok("backup", target, "alice")
    before = {path: path.stat().st_mtime_ns for path in (alice.path / "backup").rglob("*.zst")}
    alice.ok("tier", "alice")
    raw = deliver(alice)
    alice.ok("backup", target, "alice")
    assert all(path.stat().st_mtime_ns == before[path] for path in before), "it was not sent again"
    assert "nothing wrong" in alice.ok("verify", target).out
    alice.ok("restore", "--from", target, "--into", str(alice.path / "out"), "alice")
    other = Site.__new__(Site)
    other.path, other.conf = alice.path, alice.path / "out" / "imapd.conf"
    assert other.ok("show", "user/alice", "2").raw == raw and "nothing wrong" in other.ok("verify").out


@pytest.mark.parametrize(
    ("conf", "argv", "status", "said"),
    [
        ("", ["-A"], EX_CONFIG, "s3_tier_after"),
        (AFTER, [], EX_USAGE, "name users, or say -A"),
        (AFTER, ["-A", "alice"], EX_USAGE, "name users, or say -A"),
        (AFTER + "store: fleet\nstore_journal: postgresql://x/y\n", ["-A"], EX_CONFIG, "no tiers"),
        (AFTER, ["alice"], EX_CONFIG, "s3_bucket"),
        (AFTER + "s3_tier_objects: file:/nowhere\n", ["nobody"], 67, "no such user"),
    ],
)
def test_what_makes_no_sense_is_said(
    tmp_path: Path, conf: str, argv: list[str], status: int, said: str
) -> None:
    result = Site(tmp_path, conf).run("tier", *argv)
    assert result.status == status and said in result.err, result.err
