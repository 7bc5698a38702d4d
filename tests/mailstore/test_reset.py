import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.mailstore import reset
from cyrus_sync.mailstore.reset import main
from tests.mailstore.conftest import Site


@pytest.mark.covers("sync_reset: options", "-C", "-v", "-f", "-L")
@pytest.mark.covers("Exit statuses", "sync_reset 1")
def test_a_user_is_wiped_with_deleted_mailboxes_and_nothing_is_logged(
    alice: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    alice.conf.write_text(alice.conf.read_text() + "sync_log_chain: yes\n")
    alice.ok("create", "user/bob")
    alice.deliver("alice", 2, "-m", "Work")
    alice.ok("delete", "user/alice/Work")
    alice.ok("subscribe", "alice", "user/alice")
    alice.log()
    assert main(["-C", str(alice.conf), "-v", "-f", "-L", "nobody", "alice"]) == 1
    assert capsys.readouterr() == ("alice: removed\n", "sync_reset: no such user: nobody\n")
    assert alice.ok("ls", "-1").lines == ["bob"]
    assert alice.mailboxes("user.alice") == []
    assert alice.log() == []
    alice.ok("create", "user/alice")
    assert alice.ok("subscribe", "alice").lines == []


@pytest.mark.covers("sync_reset: options", "-f")
@pytest.mark.covers("Exit statuses", "sync_reset 64")
def test_without_f_nothing_happens(alice: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-C", str(alice.conf), "alice"]) == 64
    assert "-f is obligatory" in capsys.readouterr().err
    assert alice.ok("ls", "-1").lines == ["alice"]


@pytest.mark.covers("sync_reset: options", "-h")
@pytest.mark.covers("Exit statuses", "sync_reset 64")
@pytest.mark.parametrize("argv", [["-f"], ["-f", "-x", "alice"]])
def test_a_senseless_command_line_is_exit_64(argv: list[str]) -> None:
    assert main(argv) == 64


def test_a_bad_userid_stops_it_before_anything_is_removed(alice: Site) -> None:
    assert main(["-C", str(alice.conf), "-f", "alice", "../x"]) != 0
    assert alice.ok("ls", "-1").lines == ["alice"]


@pytest.mark.covers("Exit statuses", "sync_reset 75")
def test_a_locked_user_is_exit_75_and_all_others_are_reset(
    alice: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice.ok("create", "user/bob")
    monkeypatch.setattr(reset, "LOCK_SECONDS", 0.1)
    store = open_store(alice.config())
    with store.write(Owner("user", "alice")):
        assert main(["-C", str(alice.conf), "-f", "alice", "bob"]) == 75
    store.close()
    assert alice.ok("ls", "-1").lines == ["alice"]


@pytest.mark.covers("sync_reset: options", "-C")
@pytest.mark.covers("Exit statuses", "sync_reset 78")
def test_a_bad_configuration_is_exit_78(tmp_path: Path) -> None:
    assert main(["-C", str(tmp_path / "none"), "-f", "alice"]) == 78


@pytest.mark.covers("Exit statuses", "sync_reset 0")
def test_the_installed_program_runs(alice: Site) -> None:
    program = str(Path(sys.executable).parent / "sync_reset")
    done = subprocess.run([program, "-C", str(alice.conf), "-f", "alice"], check=True, capture_output=True)
    assert done.stdout == b""
    assert alice.ok("ls").lines == []
