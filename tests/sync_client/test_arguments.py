"""The command line: every option, under every name."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from cyrus_sync.common.errors import UsageError
from cyrus_sync.sync_client.arguments import Arguments, Mode, parse

PLAIN = parse(["-u", "alice"])


@pytest.mark.covers("sync_client: options", "-u", "-m", "-A", "-s", "-r", "--status")
@pytest.mark.parametrize(
    ("argv", "mode"),
    [
        (["-u", "alice"], Mode.USERS),
        (["--userids", "alice"], Mode.USERS),
        (["-m", "user/alice"], Mode.MAILBOXES),
        (["--mailboxes", "user/alice"], Mode.MAILBOXES),
        (["-A"], Mode.ALL),
        (["-A", "user.a"], Mode.ALL),
        (["--all-users"], Mode.ALL),
        (["-s", "alice"], Mode.META),
        (["--sieve-mode", "alice"], Mode.META),
        (["-r"], Mode.ROLLING),
        (["--rolling"], Mode.ROLLING),
        (["-R"], Mode.ROLLING),
        (["--foreground-rolling"], Mode.ROLLING),
        (["--status"], Mode.STATUS),
    ],
)
def test_modes(argv, mode):
    assert parse(argv).mode is mode


@pytest.mark.covers(
    "sync_client: options",
    "-C",
    "-S",
    "-n",
    "-o",
    "-z",
    "--require-compression",
    "-a",
    "-f",
    "-O",
    "-N",
    "-p",
    "-L",
    "-d",
    "-t",
    "-F",
    "-v",
    "-l",
    "-w",
)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-C", "/x.conf"], {"config": "/x.conf"}),
        (["-S", "replica"], {"server": "replica"}),
        (["--server", "replica"], {"server": "replica"}),
        (["-n", "north"], {"channel": "north", "channel_given": True}),
        (["--channel", "north"], {"channel": "north", "channel_given": True}),
        (["-n", ""], {"channel_given": True}),
        (["-f", "names"], {"input_file": "names"}),
        (["-f", "-"], {"input_file": "-"}),
        (["--input-file", "names"], {"input_file": "names"}),
        (["-w", "5"], {"startup_wait": 5}),
        (["--delayed-startup", "5"], {"startup_wait": 5}),
        (["-o"], {"connect_once": True}),
        (["--connect-once"], {"connect_once": True}),
        (["-O"], {"no_copyback": True}),
        (["--no-copyback"], {"no_copyback": True}),
        (["-N"], {"skip_locked": True}),
        (["--skip-locked"], {"skip_locked": True}),
        (["-p", "fast"], {"partition": "fast"}),
        (["--dest-partition", "fast"], {"partition": "fast"}),
        (["-L"], {"local_only": True}),
        (["--local-only"], {"local_only": True}),
        (["-z"], {"compress": True}),
        (["--require-compression"], {"compress": True, "require_compression": True}),
        (["-a"], {"stage_to_archive": True}),
        (["--stage-to-archive"], {"stage_to_archive": True}),
        (["-v"], {"verbose": 1}),
        (["-v", "-v"], {"verbose": 2}),
        (["-vv"], {"verbose": 2}),
        (["--verbose"], {"verbose": 1}),
        (["-l"], {"verbose_logging": True}),
        (["--verbose-logging"], {"verbose_logging": True}),
    ],
    ids=" ".join,
)
def test_an_option_changes_what_it_says_and_nothing_else(options, expected):
    assert parse(["-u", "alice", *options]) == replace(PLAIN, **expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-F", "/stop"], {"shutdown_file": "/stop"}),
        (["--shutdown-file", "/stop"], {"shutdown_file": "/stop"}),
        (["-d", "7"], {"delay": 7}),
        (["--delay", "2m"], {"delay": 120}),
        (["-t", "30"], {"timeout": 30}),
        (["--timeout", "0"], {"timeout": 0}),
    ],
    ids=" ".join,
)
def test_an_option_of_rolling_changes_what_it_says_and_nothing_else(options, expected):
    assert parse(["-R", *options]) == replace(parse(["-R"]), **expected)
    with pytest.raises(UsageError, match="means nothing with -u: it goes with -R or -r"):
        parse(["-u", "alice", *options])


OF_STATUS = (["--format", "json"], ["--warning", "9"], ["--critical", "0"])
OF_WORK = (
    *(["-o"], ["-z"], ["--require-compression"], ["-a"], ["-O"], ["-N"], ["-L"], ["-v"], ["-l"], ["-1"]),
    *(["-f", "x"], ["-p", "x"], ["-d", "1"], ["-t", "1"], ["-F", "x"], ["-w", "1"]),
)


@pytest.mark.parametrize("mode", ["-u a", "-m a", "-A", "-s a", "-r", "-R"])
@pytest.mark.parametrize("options", OF_STATUS, ids=" ".join)
def test_options_of_status_mean_nothing_elsewhere(mode, options):
    parse(["--status", *options])
    with pytest.raises(
        UsageError, match=f"^{options[0]} means nothing with .*: it goes with --status( and --compare)?$"
    ):
        parse([*mode.split(), *options])


@pytest.mark.parametrize("options", OF_WORK, ids=" ".join)
def test_status_takes_no_option_of_replication(options):
    with pytest.raises(UsageError, match=f"^{options[0]} means nothing with --status: "):
        parse(["--status", *options])


@pytest.mark.parametrize("option", ["-S", "-f", "-p", "-F"])
def test_an_empty_value_is_not_taken_for_none(option):
    with pytest.raises(UsageError, match=f"^{option} needs a value"):
        parse(["-R", option, ""])


@pytest.mark.covers("sync_client: options", "-1")
@pytest.mark.parametrize("once", ["-1", "--rolling-once"])
def test_once_goes_with_rolling(once):
    assert parse(["-R", once]).once and parse(["-r", once]).once


@pytest.mark.covers("sync_client: options", "-R")
def test_the_capital_r_stays_in_the_foreground():
    assert parse(["-R"]).foreground and not parse(["-r"]).foreground


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "68")
def test_defaults_are_those_of_the_manual_page():
    given = {field.name: getattr(PLAIN, field.name) for field in fields(Arguments)}
    del given["mode"], given["names"]
    assert given == {
        "config": "/etc/imapd.conf",
        "server": None,
        "channel": "",
        "channel_given": False,
        "input_file": None,
        "shutdown_file": None,
        "delay": None,
        "timeout": 600,
        "startup_wait": 0,
        "foreground": False,
        "once": False,
        "connect_once": False,
        "no_copyback": False,
        "skip_locked": False,
        "partition": "",
        "local_only": False,
        "compress": False,
        "require_compression": False,
        "stage_to_archive": False,
        "verbose": 0,
        "verbose_logging": False,
        "format": "text",
        "warning": 60,
        "critical": 600,
        "everybody": False,
        "records": False,
        "messages": False,
        "owners_a_second": 0,
        "octets_a_second": 0,
        "anew": False,
        "report": None,
        "key": None,
    }


def test_names_may_stand_anywhere_between_options():
    assert parse(["-v", "-u", "alice", "-o", "bob", "-S", "replica"]).names == ("alice", "bob")


@pytest.mark.covers("Other errors", "UsageError")
@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["-v"],
        ["-1"],
        ["-u", "a", "-m"],
        ["-u", "a", "-A"],
        ["-r", "-R"],
        ["-R", "-s", "a"],
        ["-u"],
        ["-m"],
        ["-s"],
        ["-u", "a", "-1"],
        ["-s", "a", "-p", "fast"],
        ["-A", "x", "y"],
        ["-A", "-f", "names"],
        ["-R", "alice"],
        ["-r", "alice"],
        ["-R", "-d", "soon"],
        ["-R", "-t", "-5"],
        ["-R", "-d"],
        ["-u", "a", "-n", "../x"],
        ["-u", "a", "-n", "a/b"],
        ["-u", "a", "--nonsense"],
        ["-u", "a", "-Q"],
        ["--status", "--format", "xml"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_a_usage_error(argv):
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert caught.value.exit_status == 64


@pytest.mark.covers("sync_client: options", "-h")
def test_help_names_every_exit_status(capsys):
    with pytest.raises(SystemExit) as caught:
        parse(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    for status in ("  0 ", "  1 ", "  64 ", " 70 ", " 78 ", "  75 "):
        assert status in said


# -- comparing


@pytest.mark.parametrize(
    ("words", "everybody", "names"),
    [
        ("", True, ()),
        ("-A", True, ()),
        ("-A user/a", True, ("user/a",)),
        ("alice bob", False, ("alice", "bob")),
        ("-u alice", False, ("alice",)),
        ("-f names", False, ()),
    ],
)
def test_who_is_compared(words, everybody, names):
    found = parse(["--compare", *words.split()])
    assert (found.mode, found.everybody, found.names) == (Mode.COMPARE, everybody, names)


@pytest.mark.parametrize(
    ("rate", "owners", "octets"),
    [("50", 50, 0), ("0.5", 0.5, 0), ("20M", 0, 20 << 20), ("1.5k", 0, 1536), ("1G", 0, 1 << 30)],
)
def test_a_rate_is_of_users_or_with_a_unit_of_octets(rate, owners, octets):
    found = parse(["--compare", "--rate", rate])
    assert (found.owners_a_second, found.octets_a_second) == (owners, octets)


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "", "20T", "0M", "1e3"])
def test_what_is_no_rate_is_refused(rate):
    with pytest.raises(UsageError, match="--rate"):
        parse(["--compare", "--rate", rate])


@pytest.mark.parametrize(
    "words",
    [
        *(
            "-A -u alice",
            "-A a b",
            "-A -f names",
            "-u",
            "--format yaml",
            "-m user/a",
            "-s a",
            "-R",
            "-O",
            "-L",
        ),
        *("-a", "-N", "--status", "--verify-report x", "--key x", "-d 1"),
    ],
)
def test_what_makes_no_sense_with_a_comparison_is_refused(words):
    with pytest.raises(UsageError):
        parse(["--compare", *words.split()])


@pytest.mark.parametrize("option", ["--records", "--messages", "--anew", "--rate 5"])
def test_options_of_a_comparison_mean_nothing_elsewhere(option):
    with pytest.raises(UsageError, match="it goes with --compare"):
        parse(["-u", "alice", *option.split()])


def test_a_report_is_checked_alone():
    found = parse(["--verify-report", "r.json", "--key", "k"])
    assert (found.mode, found.report, found.key) == (Mode.VERIFY_REPORT, "r.json", "k")
    with pytest.raises(UsageError):
        parse(["--verify-report", "r.json", "alice"])
