"""What is wrong is found, said and answered with the right exit status before anything starts."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.config.options import OPTIONS
from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.wire.bandwidth import Bandwidth
from cyrus_sync.sync_client import names
from cyrus_sync.sync_client.arguments import parse
from cyrus_sync.sync_client.channel import channel_warnings
from cyrus_sync.sync_client.cli import _client_settings, _names, main
from cyrus_sync.sync_client.parts import Job, engine_options
from cyrus_sync.sync_client.report import Reporter
from cyrus_sync.sync_client.start import run_one_shot
from cyrus_sync.sync_client.start_rolling import rolling_settings
from cyrus_sync.sync_client.turn import part_bytes


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/spool\n")
    return path


def add(conf: Path, *lines: str) -> None:
    with conf.open("a") as file:
        file.write("".join(line + "\n" for line in lines))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.mark.covers("Exit statuses", "sync_client 64")
def test_no_mode_is_usage_and_64(capsys):
    assert main([]) == 64
    assert "usage:" in said(capsys)


@pytest.mark.covers("imapd.conf", "sync_host")
@pytest.mark.covers("Exit statuses", "sync_client 70")
def test_without_a_server_it_is_fatal_70(conf, capsys):
    assert main(["-C", str(conf), "-u", "alice"]) == 70
    assert "sync_host" in said(capsys)
    assert main(["-C", str(conf), "-R"]) == 70


@pytest.mark.covers("sync_client: options", "-C")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "60")
def test_a_missing_configuration_is_78(tmp_path, capsys):
    assert main(["-C", str(tmp_path / "none"), "-u", "alice"]) == 78
    assert str(tmp_path / "none") in said(capsys)


@pytest.mark.covers("Exit statuses", "sync_client 78")
def test_a_bad_value_is_one_line_with_file_and_line_number_and_78(conf, capsys):
    add(conf, "sync_host: replica", "sync_repeat_interval: often")
    assert main(["-C", str(conf), "-u", "alice"]) == 78
    message = said(capsys)
    assert f"{conf}:4:" in message and message.count("\n") == 1


@pytest.mark.covers("Exit statuses", "sync_client 78")
def test_a_server_string_that_cannot_be_is_78(conf, capsys):
    assert main(["-C", str(conf), "-S", "replica:none-such-port", "-u", "a"]) == 78
    assert "-S" in said(capsys)


@pytest.mark.covers("Exit statuses", "sync_client 64")
def test_an_input_file_that_is_not_there_is_64(conf, tmp_path):
    assert main(["-C", str(conf), "-S", "replica", "-u", "-f", str(tmp_path / "none")]) == 64
    assert main(["-C", str(conf), "-S", "replica", "-R", "-f", str(tmp_path / "none")]) == 64


@pytest.mark.covers("Exit statuses", "sync_client 75")
def test_a_second_rolling_client_on_a_channel_is_refused_with_the_first_ones_pid(conf, tmp_path, capsys):
    from cyrus_sync.sync_client.channel import ChannelLock, channel_directory

    directory = channel_directory(Config.load(conf), "north")
    lock = ChannelLock(directory).acquire()
    try:
        assert main(["-C", str(conf), "-S", "replica", "-R", "-n", "north"]) == 75
        assert f"process {lock_pid(directory)}" in said(capsys)
    finally:
        lock.release()


def lock_pid(directory: Path) -> int:
    return int((directory / "sync_client.lock").read_text())


@pytest.mark.covers("sync_client: options", "-w")
def test_waiting_for_a_debugger_says_which_process_to_attach_to(conf, capsys, monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("cyrus_sync.sync_client.cli.time.sleep", slept.append)
    assert main(["-C", str(conf), "-S", "replica", "-w", "9", "-R", "-f", str(conf) + ".none"]) == 64
    assert slept == [9] and "process" in said(capsys)


def test_the_program_can_be_run_by_module_path_of_its_script():
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; from {main.__module__} import main; sys.exit(main())", "-1"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 64 and b"no mode" in done.stderr


def test_the_reactor_is_not_made_before_the_fork():
    code = "import sys, cyrus_sync.sync_client.cli; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- names


def found(conf: Path, *argv: str) -> tuple[list[str], int]:
    return _names(parse(["-C", str(conf), *argv]), Config.load(conf))


@pytest.mark.covers("sync_client: options", "-m")
def test_mailboxes_are_typed_in_the_administrators_form(conf):
    assert found(conf, "-m", "user/alice/Work", "user/zoe.b/x", "news") == (
        ["user.alice.Work", "user.zoe^b.x", "news"],
        0,
    )


@pytest.mark.covers("imapd.conf", "unixhierarchysep")
def test_mailboxes_are_typed_with_dots_where_unixhierarchysep_is_off(conf):
    add(conf, "unixhierarchysep: no")
    assert found(conf, "-m", "user.alice.Work") == (["user.alice.Work"], 0)


def test_what_mailstore_prints_is_what_u_s_m_and_f_take(conf, tmp_path):
    mailboxes = ["user.a.bob@example^org", "example.org!user.a.bob", "user.joe@example^org", "-x", "#x"]
    users = ["alice@example.org", "joe@example.org^", "user.x", "shared:x", ".foo", "-x"]
    for extra in ("", "virtdomains: off", "unixhierarchysep: no"):
        add(conf, extra)
        names = Namespace.from_config(Config.load(conf))
        printed = [names.external(name) for name in mailboxes]
        assert found(conf, "-m", *printed) == (mailboxes, 0)
        (tmp_path / "names").write_text("\n".join(printed))
        assert found(conf, "-m", "-f", str(tmp_path / "names")) == (mailboxes, 0)
        for mode in ("-u", "-s"):
            assert found(conf, mode, *map(names.user, users)) == (users, 0)


@pytest.mark.covers("sync_client: options", "-f")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "61")
def test_a_file_of_names_has_comments_and_blank_lines(conf, tmp_path):
    path = tmp_path / "names"
    path.write_text("# the team\nalice\n\n  bob  \n#carol\n")
    assert found(conf, "-u", "-f", str(path)) == (["alice", "bob"], 0)
    path.write_text("# boxes\nuser/alice/My Folder\n")
    assert found(conf, "-m", "-f", str(path)) == (["user.alice.My Folder"], 0)


def test_a_dash_is_standard_input(conf, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"alice\n# no\nbob\n")))
    assert found(conf, "-u", "-f", "-") == (["alice", "bob"], 0)


def test_arguments_and_file_add_up(conf, tmp_path):
    path = tmp_path / "names"
    path.write_text("\ufeffbob\n")
    assert found(conf, "-s", "alice", "-f", str(path)) == (["alice", "bob"], 0)


def test_a_name_that_cannot_be_one_is_reported_and_the_others_are_done(conf, capsys):
    assert found(conf, "-u", "alice", "../etc", "bob") == (["alice", "bob"], 1)
    assert "../etc" in said(capsys)


@pytest.mark.parametrize(("typed", "internal"), [("user/a", "user.a"), ("user.a", "user.a"), ("al", "al")])
def test_the_prefix_of_all_users_may_be_typed_either_way(conf, typed, internal):
    assert found(conf, "-A", typed) == ([internal], 0)


def test_reading_a_directory_as_names_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError):
        names.read_names(str(tmp_path))


# -- options against the configuration


def job(conf: Path, *argv: str) -> Job:
    arguments = parse(["-C", str(conf), "-S", "replica", "-R", *argv])
    cfg = Config.load(conf)
    return Job(arguments, cfg, _client_settings(arguments, cfg))


@pytest.mark.covers("sync_client: options", "-d")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "65")
def test_runs_are_3_seconds_apart_by_default(conf):
    assert rolling_settings(job(conf)).delay == 3


@pytest.mark.covers("sync_client: options", "-d")
@pytest.mark.covers("imapd.conf", "sync_repeat_interval")
def test_the_repeat_interval_of_the_configuration_holds_unless_d_is_given(conf):
    add(conf, "sync_repeat_interval: 20s", "north_sync_repeat_interval: 1m")
    assert rolling_settings(job(conf)).delay == 20
    assert rolling_settings(job(conf, "-n", "north")).delay == 60
    assert rolling_settings(job(conf, "-d", "7")).delay == 7
    assert rolling_settings(job(conf, "-d", "0")).delay == 20


@pytest.mark.covers("sync_client: options", "-t")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "64")
def test_a_connection_is_renewed_after_600_seconds_by_default(conf):
    assert rolling_settings(job(conf)).timeout == 600
    assert rolling_settings(job(conf, "-t", "0")).timeout == 0


@pytest.mark.covers("sync_client: options", "-F")
@pytest.mark.covers("imapd.conf", "sync_shutdown_file")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "62")
def test_the_shutdown_file_of_the_command_line_wins(conf):
    assert rolling_settings(job(conf)).shutdown_file is None
    add(conf, "sync_shutdown_file: /a")
    assert rolling_settings(job(conf)).shutdown_file == Path("/a")
    assert rolling_settings(job(conf, "-F", "/b")).shutdown_file == Path("/b")


@pytest.mark.covers("imapd.conf", "sync_reconnect_maxwait")
def test_the_longest_wait_comes_from_the_configuration(conf):
    assert rolling_settings(job(conf)).maxwait == 1200
    add(conf, "sync_reconnect_maxwait: 90")
    assert rolling_settings(job(conf)).maxwait == 90


def test_the_connection_is_kept_alive_well_within_sync_timeout(conf):
    assert rolling_settings(job(conf)).keepalive == 300
    add(conf, "sync_timeout: 60s")
    assert rolling_settings(job(conf)).keepalive == 30


def test_a_file_or_once_means_one_batch(conf):
    assert not rolling_settings(job(conf)).once
    assert rolling_settings(job(conf, "-1")).once
    assert rolling_settings(job(conf, "-f", "x")).once


@pytest.mark.covers("sync_client: options", "-z")
def test_the_line_stays_plain_unless_compression_is_asked_for(conf):
    assert not job(conf).settings.compress
    asked = job(conf, "-z").settings
    assert asked.compress and not asked.require_compression
    demanded = job(conf, "--require-compression").settings
    assert demanded.compress and demanded.require_compression
    add(conf, "sync_compress: yes")
    assert job(conf).settings.compress and not job(conf).settings.require_compression


@pytest.mark.covers("sync_client: options", "-S")
def test_s_overrides_sync_host(conf):
    add(conf, "sync_host: elsewhere", "north_sync_host: north.example")
    assert job(conf).settings.server == "replica"
    cfg = Config.load(conf)
    assert _client_settings(parse(["-u", "a"]), cfg).server == "elsewhere"
    assert _client_settings(parse(["-u", "a", "-n", "north"]), cfg).server == "north.example"


# -- channels


@pytest.mark.covers(
    "imapd.conf",
    "sync_host",
    "sync_port",
    "sync_authname",
    "sync_try_imap",
    "sync_compress",
    "sync_repeat_interval",
    "sync_reconnect_maxwait",
    "sync_shutdown_file",
    "sync_cache_db_path",
    "sync_batchsize",
    "sync_bandwidth",
    "sync_jobs",
    "sync_timeout",
    "sync_allowplaintext",
    "sync_tls_verify",
)
def test_every_option_that_has_channels_reaches_the_client_of_its_channel(conf, monkeypatch):
    north = {
        "sync_host": "north.example",
        "sync_port": "2106",
        "sync_authname": "penguin",
        "sync_password": "fish",
        "sync_compress": "yes",
        "sync_try_imap": "yes",
        "sync_timeout": "40s",
        "sync_allowplaintext": "yes",
        "sync_tls_verify": "no",
        "sync_repeat_interval": "9s",
        "sync_reconnect_maxwait": "8m",
        "sync_shutdown_file": "/north/stop",
        "sync_cache_db_path": f"{conf.parent}/north-cache",
        "sync_batchsize": "77",
        "sync_bandwidth": "3m 08:00-18:00=500k",
        "sync_jobs": "5",
    }
    elsewhere = {"sync_log_file", "sync_realm", "sync_metrics_listen", "sync_metrics_file"}
    assert set(north) == {option.name for option in OPTIONS.values() if option.channel} - elsewhere
    add(conf, "sync_host: south.example", *(f"north_{name}: {value}" for name, value in north.items()))
    monkeypatch.setattr("cyrus_sync.sync_client.start.in_processes", lambda count, work: count)
    monkeypatch.setattr("cyrus_sync.sync_client.start._metered", lambda job, part: part.of)

    def processes(*argv: str) -> int:
        """Those of a run over everybody, none of which is begun."""
        arguments, cfg = parse(["-C", str(conf), "-A", *argv]), Config.load(conf)
        return run_one_shot(Job(arguments, cfg, _client_settings(arguments, cfg)))

    def found(*argv: str) -> tuple[object, ...]:
        arguments, cfg = parse(["-C", str(conf), "-R", *argv]), Config.load(conf)
        job = Job(arguments, cfg, _client_settings(arguments, cfg))
        settings, rolling = job.settings, rolling_settings(job)
        options = engine_options(job, Reporter(), None)
        return (
            settings.host,
            settings.port,
            settings.credentials.authname,
            settings.credentials.password,
            settings.compress,
            settings.imap_port,
            settings.idle_timeout,
            settings.policy.allow_plaintext,
            settings.tls.verify,
            rolling.delay,
            rolling.maxwait,
            rolling.shutdown_file,
            options.cache is not None,
            options.batchsize,
            options.batch_bytes,
            settings.bandwidth,
            processes(*argv),
        )

    assert found("-n", "north") == (
        *("north.example", 2106, "penguin", "fish", True, 2106, 40, True, False),
        *(9, 480, Path("/north/stop"), True, 77),
        *(part_bytes(500 << 10), Bandwidth.parse(["3m", "08:00-18:00=500k"]), 5),
    )
    assert found() == (
        *("south.example", 2005, None, None, False, None, 1800, False, True),
        *(3, 1200, None, False, 8192),
        *(part_bytes(0), Bandwidth(), 1),
    )


@pytest.mark.covers("imapd.conf", "sync_log")
def test_a_log_that_nobody_writes_is_pointed_out(conf):
    assert "sync_log is off" in channel_warnings(Config.load(conf), "")[0]
    add(conf, "sync_log: yes")
    assert channel_warnings(Config.load(conf), "") == []
    assert "channel north is not among them" in channel_warnings(Config.load(conf), "north")[0]


@pytest.mark.covers("imapd.conf", "sync_log_channels")
def test_the_default_channel_is_gone_once_another_one_is_named(conf):
    add(conf, "sync_log: yes", "sync_log_channels: north")
    assert channel_warnings(Config.load(conf), "north") == []
    (warning,) = channel_warnings(Config.load(conf), "")
    assert f"{conf}:4: sync_log_channels" in warning and "the default channel" in warning


# -- status


@pytest.mark.covers("sync_client: options", "--warning")
@pytest.mark.covers("Exit statuses", "sync_client --status 0")
def test_the_limits_of_status_may_be_given(conf, capsys):
    from cyrus_sync.sync_client.channel import ChannelLock, channel_directory

    directory = channel_directory(Config.load(conf), "")
    lock = ChannelLock(directory).acquire()
    try:
        (directory / "status.json").write_text(
            json.dumps({"oldest_change": time.time() - 100, "updated": time.time()})
        )
        status = ["-C", str(conf), "--status"]
        assert main(status) == 1
        assert main([*status, "--warning", "3m"]) == 0
        assert main([*status, "--critical", "90"]) == 2
        said(capsys)
    finally:
        lock.release()


@pytest.mark.covers("sync_client: options", "--format")
def test_the_form_of_status_may_be_chosen(conf, capsys):
    for form, start in (("text", "SYNC UNKNOWN"), ("json", "{"), ("yaml", "channel:")):
        assert main(["-C", str(conf), "--status", "--format", form]) == 3
        assert capsys.readouterr().out.startswith(start)


@pytest.mark.covers("sync_client: options", "--status")
@pytest.mark.covers("Exit statuses", "sync_client --status 0")
def test_status_of_a_channel_nobody_has_worked_on_is_unknown(conf, capsys):
    assert main(["-C", str(conf), "--status", "--format", "json"]) == 3
    assert json.loads(capsys.readouterr().out)["result"] == "UNKNOWN"
