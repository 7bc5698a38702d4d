import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.common.synclog.cli import FLAGS, main


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}/conf\nsync_log: yes\n")
    return path


@pytest.mark.covers("cyr_synclog: options", "-C", "-u", "-n")
@pytest.mark.covers("Exit statuses", "cyr_synclog 0")
@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_every_flag_appends_its_type(conf: Path, flag: str) -> None:
    second = ["id"] if flag in "sb" else []
    assert main(["-C", str(conf), f"-{flag}", "al", *second]) == 0
    log = conf.parent / "conf" / "sync" / "log"
    assert log.read_text() == " ".join([FLAGS[flag][0], "al", *second]) + "\n"


@pytest.mark.covers("cyr_synclog: options", "-n")
def test_without_a_flag_the_argument_is_the_whole_line(conf: Path) -> None:
    assert main(["-C", str(conf), 'mailbox "user.al.My Folder"']) == 0
    assert main(["-C", str(conf), "-n", ""]) == 0
    assert (conf.parent / "conf/sync/log").read_text() == 'MAILBOX "user.al.My Folder"\nANNOTATION ""\n'


@pytest.mark.covers("cyr_synclog: options", "-a")
def test_flags_of_old_are_accepted_and_ignored(conf: Path) -> None:
    assert main(["-a", "-c", "-C", str(conf), "-u", "al"]) == 0
    assert (conf.parent / "conf/sync/log").read_text() == "USER al\n"


@pytest.mark.covers("Exit statuses", "cyr_synclog 64")
@pytest.mark.parametrize(
    "argv",
    [
        ["-u"],
        [],
        ["-u", "-m", "al"],
        ["-s", "al"],
        ["-u", "al", "bo"],
        ["nonsense"],
        ["USER al", "bo"],
        ["-x", "al"],
        ["-u", ""],
        ["-U", ""],
        ["-v", ""],
        ["-m", ""],
        ["-M", ""],
        ["-q", ""],
        ["-s", "", "id"],
        ["-s", "al", ""],
        ["-s", "al", "two words"],
        ["-b", "", "user.al"],
        ["-b", "al", ""],
        ["-u", "../al"],
        ["-u", "a\nb"],
        ["-u", "a" * 600],
        ["-m", "user/al"],
        ["-m", "user..al"],
        ["-m", "user.\u00e9"],
        ["-n", "user.al\tx"],
        ["-m", "x" * 5000],
        ['USER ""'],
        ["RENAME user.al user..bo"],
    ],
)
def test_a_senseless_command_line_is_exit_64(
    conf: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-C", str(conf), *argv]) == 64
    assert "cyr_synclog" in capsys.readouterr().err
    assert not (conf.parent / "conf/sync/log").exists()


@pytest.mark.covers("Exit statuses", "cyr_synclog 0")
def test_with_sync_log_off_it_says_that_nothing_was_logged(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text(conf.read_text().replace("sync_log: yes", "sync_log: no"))
    assert main(["-C", str(conf), "-u", "al"]) == 0
    assert "sync_log is off" in capsys.readouterr().err


@pytest.mark.covers("Exit statuses", "cyr_synclog 78")
def test_a_bad_configuration_is_exit_78(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text(conf.read_text() + "sync_timeout: never\n")
    assert main(["-C", str(conf), "-u", "al"]) == 78
    assert f"{conf}:3: sync_timeout:" in capsys.readouterr().err


@pytest.mark.covers("Exit statuses", "cyr_synclog 75")
def test_an_unwritable_log_is_exit_75(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (conf.parent / "conf").write_text("a file, not a directory")
    assert main(["-C", str(conf), "-u", "al"]) == 75
    assert "cannot append to the action log" in capsys.readouterr().err


@pytest.mark.covers("cyr_synclog: options", "-h")
def test_help_ends_in_the_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "EXIT STATUS" in capsys.readouterr().out


def test_the_module_runs_as_a_program(conf: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "cyrus_sync.common.synclog.cli", "-C", str(conf), "-b", "al", "user.al.x"],
        check=True,
    )
    assert (conf.parent / "conf/sync/log").read_text() == "SUB al user.al.x\n"
