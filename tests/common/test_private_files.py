"""What we keep is for its owner alone, whatever the umask of whoever runs a command."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.config.kept import KEPT
from cyrus_sync.common.files import make_directories, private, tighten
from cyrus_sync.mailstore import cli as mailstore
from cyrus_sync.sync_client.engine.left_out import FILE, LeftOut
from tests.deadlines import until
from tests.multisite.commands.kit import Server, family
from tests.ports import free_port
from tests.sync_client.real import paired, serving_replica

NOT_PRIVATE = {
    ".cyrus-sync-partition": "a marker without anything in it that is anybody's",
}


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


def open_to_others(top: Path) -> list[str]:
    return sorted(
        f"{stat.S_IMODE(path.lstat().st_mode):04o} {path.relative_to(top)}"
        for path in top.rglob("*")
        if not path.is_symlink() and path.lstat().st_mode & 0o077 and path.name not in NOT_PRIVATE
    )


@pytest.mark.usefixtures("open_umask")
def test_directories_that_are_made_are_private(tmp_path: Path) -> None:
    make_directories(tmp_path / "a/b/c")
    assert open_to_others(tmp_path) == []


@pytest.mark.usefixtures("open_umask")
def test_a_file_is_private_when_it_is_made_and_becomes_so_when_it_is_opened(tmp_path: Path) -> None:
    for name in ("new", "old"):
        if name == "old":
            (tmp_path / name).touch(0o644)
        with open(tmp_path / name, "a", opener=private):
            pass
    assert open_to_others(tmp_path) == []


@pytest.mark.usefixtures("open_umask")
def test_a_database_of_an_older_release_is_tightened_with_its_logs(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "index.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (a)")
    assert len(open_to_others(tmp_path)) == 3
    tighten(tmp_path / "index.sqlite")
    assert open_to_others(tmp_path) == []
    db.close()


@pytest.mark.usefixtures("open_umask")
def test_a_busy_life_leaves_nothing_that_others_may_read(tmp_path: Path) -> None:
    """Mail, scripts, a family, packets by shipping, an import, a message withdrawn, the tools of care."""
    one, other = family(tmp_path, "one", "other", port=free_port(), called="dev")
    try:
        _live(one, other)
    finally:
        one.stop()
        other.stop()
    for server in (one, other):
        assert open_to_others(server.directory / "conf") == []
        assert open_to_others(server.directory / "spool") == []


@pytest.mark.usefixtures("open_umask")
def test_what_imports_and_set_aside_users_leave_is_private(tmp_path: Path) -> None:
    """The memory of an import, a script that a replica cannot take, a user who is set aside."""
    with serving_replica(tmp_path) as replica, paired(tmp_path, replica) as pair:
        master = pair.master
        pair.replica.create("bad")
        pair.replica.deliver("bad", "born on the wrong side")
        master.create("bad")
        mbox = tmp_path / "mbox"
        mbox.write_bytes(b"From a@example.org Thu Nov 23 10:00:00 2023\nSubject: one\n\nhello\n")
        tool = ["-C", str(master.conf)]
        assert mailstore.main([*tool, "import", "--create", "--no-progress", "bob", str(mbox)]) == 0
        LeftOut(master.directory() / FILE, "replica").learn("uniqueid", {1: "main"})
        pair.rolling("-d", "1")
        until((master.directory() / "quarantine.yaml").exists, "the bad user is set aside")
        kept = master.root / "conf"
        found = {path.name for path in kept.rglob("*")}
        assert {"imports", "quarantine.yaml", "quarantine.log", FILE} <= found
        assert any((kept / "imports").iterdir())
        for top in (kept, master.root / "mail"):
            assert open_to_others(top) == []


@pytest.mark.usefixtures("open_umask")
def test_what_an_older_release_left_open_is_closed_at_the_start_of_a_daemon(tmp_path: Path) -> None:
    with serving_replica(tmp_path) as replica, paired(tmp_path, replica) as pair:
        sides = (pair.master, pair.replica)
        kept = [side.root / "conf" / name for side in sides for name in KEPT]
        for directory in kept:
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
            (directory / "of-old.yaml").write_text("bob\n")
            assert open_to_others(directory) == ["0666 of-old.yaml"]
        replica.server.stop()
        replica.server.start()
        pair.rolling()
        until(lambda: not [one for directory in kept for one in open_to_others(directory)], "all is closed")


@pytest.mark.usefixtures("open_umask")
def test_what_an_older_release_left_open_is_closed_by_repair_with_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    site = Server("boston", tmp_path / "boston")
    site.create("user/bob")
    site.deliver("bob", "one")
    tops = [site.directory / "conf", site.directory / "spool"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch(0o644)
    (site.directory / "conf" / "sync").mkdir(exist_ok=True)
    (site.directory / "conf" / "sync" / "link").symlink_to(elsewhere)
    for top in tops:
        for path in top.rglob("*"):
            if not path.is_symlink() and path.name not in NOT_PRIVATE:
                path.chmod(0o755 if path.is_dir() else 0o644)
    left = len([one for top in tops for one in open_to_others(top)])
    capfd.readouterr()
    assert site.mailstore("repair") == 0
    assert "files and directories were open to others" in capfd.readouterr().out
    assert [one for top in tops for one in open_to_others(top)] == [], left
    assert elsewhere.stat().st_mode & 0o777 == 0o644
    assert site.mailstore("repair") == 0
    assert "open to others" not in capfd.readouterr().out


def _live(one: Server, other: Server) -> None:
    one.create("user/bob", "user/bob/Trips")
    for number in range(3):
        one.deliver("bob", f"mail {number}")
    one.deliver("bob", "large", "Trips", body="x" * 300_000)
    other.start()
    assert one.syncreplica("-export", "-fship", "other") == 0
    assert other.syncreplica("-import", "-receive") == 0
    assert other.subjects("user.bob") == ["mail 0", "mail 1", "mail 2"]
    other.deliver("bob", "from the other side")
    assert other.syncreplica("-export", "-ship", "one") == 0
    for server in (one, other):
        assert server.mailstore("verify") == 0
        assert server.mailstore("reconstruct", "bob") == 0


@pytest.mark.usefixtures("open_umask")
def test_replication_leaves_nothing_that_others_may_read(tmp_path: Path) -> None:
    with serving_replica(tmp_path) as replica, paired(tmp_path, replica) as pair:
        pair.master.create("bob")
        pair.master.deliver("bob", "one")
        rolling = pair.rolling()
        pair.master.deliver("bob", "two")
        until(lambda: pair.replica.messages("bob") == 2, "the second message is there")
        rolling.kill()
        assert pair.run("-A").process.returncode == 0
        for side in (pair.master, pair.replica):
            found = [one for top in ("conf", "mail") for one in open_to_others(side.root / top)]
            assert found == []
