import re
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.mailstore.cli import main, parser
from cyrus_sync.mailstore.commands import COMMANDS
from cyrus_sync.mailstore.context import parse_uids
from tests.mailstore.conftest import MESSAGE, Site


@pytest.mark.covers("mailstore: commands and options", "-h")
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_help_says_what_the_command_does_and_ends_in_the_exit_status(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: mailstore {command} ")
    assert "EXIT STATUS" in text.splitlines()[-9]


@pytest.mark.covers("mailstore: commands and options", "-h")
def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    text = capsys.readouterr().out
    for command, entry in COMMANDS.items():
        assert re.search(rf"^ +{command}\b", text, re.MULTILINE)
        first = (entry.load().__doc__ or "").splitlines()[0]
        assert first.rstrip(".") == f"{command}: {entry.summary}"


@pytest.mark.covers("Exit statuses", "mailstore 64")
@pytest.mark.parametrize("argv", [[], ["nonsense"], ["ls", "--nonsense"], ["show", "user/alice", "x"]])
def test_a_senseless_command_line_is_exit_64(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 64
    assert "usage: mailstore" in capsys.readouterr().err


@pytest.mark.covers("Exit statuses", "mailstore 78")
def test_a_bad_configuration_is_exit_78_with_its_line(site: Site) -> None:
    site.conf.write_text(site.conf.read_text() + "sync_timeout: never\n")
    result = site.run("ls")
    assert result.status == 78
    assert result.err == f"mailstore: {site.conf}:6: sync_timeout: 'never' is not a duration " + (
        "(numbers with d, h, m, s, such as 1h30m)\n"
    )


@pytest.mark.covers("mailstore: commands and options", "-C")
def test_a_missing_configuration_is_exit_78(tmp_path: Path) -> None:
    assert main(["-C", str(tmp_path / "none"), "ls"]) == 78


def test_a_bad_name_is_refused_before_anything_happens(site: Site) -> None:
    for name in ("user/../x", "user/a b/\x01", "", "user//x"):
        assert site.run("create", name).status != 0
    assert not (site.path / "spool").exists()


@pytest.mark.covers("imapd.conf", "unixhierarchysep")
def test_with_unixhierarchysep_off_names_are_typed_and_printed_with_dots(tmp_path: Path) -> None:
    site = Site(tmp_path, "unixhierarchysep: no\n")
    site.ok("create", "user.alice", "user.alice.Work")
    assert [line.split()[0] for line in site.ok("ls", "alice").lines] == ["user.alice", "user.alice.Work"]
    assert site.ok("deliver", "alice", "-m", "Work", stdin=MESSAGE).lines == ["user.alice.Work 1"]


def test_letters_beyond_ascii_may_be_typed_as_they_are(alice: Site) -> None:
    alice.ok("create", "user/alice/Entw\u00fcrfe")
    assert alice.mailboxes("user.alice")[1] == "user.alice.Entw&APw-rfe"
    assert alice.ok("ls", "-1", "alice").lines[1] == "user/alice/Entw&APw-rfe"


def test_a_reader_that_has_seen_enough_does_no_harm(alice: Site) -> None:
    alice.ok("create", *(f"user/alice/folder{number}" for number in range(300)))
    command = f"{sys.executable} -m cyrus_sync.mailstore.cli -C {alice.conf} dump | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "format: 1\n"
    assert "Traceback" not in done.stderr


@pytest.mark.covers("mailstore: commands and options", "-C")
@pytest.mark.covers("Exit statuses", "mailstore 0")
def test_the_installed_program_does_it_all(alice: Site) -> None:
    program = [str(Path(sys.executable).parent / "mailstore"), "-C", str(alice.conf)]
    subprocess.run([*program, "deliver", "alice"], input=MESSAGE, check=True, stdout=subprocess.DEVNULL)
    shown = subprocess.run([*program, "show", "user/alice", "1"], check=True, capture_output=True)
    assert shown.stdout == MESSAGE
    assert (
        subprocess.run([*program, "show", "user/alice", "2"], capture_output=True, check=False).returncode
        == 65
    )


@pytest.mark.parametrize(
    ("typed", "uids"),
    [("3", [3]), ("1:3,7", [1, 2, 3, 7]), ("9:*", [9, 10]), ("*", [10]), ("3:1", [1, 2, 3])],
)
def test_lists_of_uids(typed: str, uids: list[int]) -> None:
    assert sorted(uid for one in parse_uids(typed, 10) for uid in one) == uids


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["restore", "alice", "bob", "--to", "replica"], "alice: one user at a time"),
        (["copy", "user/alice", "1", "user/bob"], "user/alice and user/bob"),
        (["rename", "user/none", "user/other"], "user/none"),
        (["rename", "user/alice", "user/alice"], "user/alice"),
    ],
)
def test_what_is_refused_is_named(site: Site, argv: list[str], named: str) -> None:
    site.ok("create", "user/alice")
    site.ok("create", "user/bob")
    result = site.run(*argv)
    assert result.status != 0
    assert named in result.err
