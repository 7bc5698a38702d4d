from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.config.options import OPTIONS, Kind
from cyrus_sync.common.errors import ConfigError


def config(tmp_path: Path, text: str = "", program: str = "sync_client") -> Config:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}/conf\n{text}")
    return Config.load(path, program)


def test_defaults_come_from_the_table(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    assert cfg.string("sync_host") is None
    assert cfg.switch("sync_log") is False
    assert cfg.integer("sync_batchsize") == 8192
    assert cfg.duration("sync_timeout") == 1800
    assert cfg.duration("sync_repeat_interval") == 3
    assert cfg.size("maxliteral") == 128 * 1024
    assert cfg.words("sync_log_channels") == [""]
    assert cfg.words("admins") == []


@pytest.mark.covers("imapd.conf", "<channel>_<key>")
def test_channel_beats_program_beats_plain(tmp_path: Path) -> None:
    text = "sync_host: plain\nsync_client_sync_host: mine\nnorth_sync_host: north\n"
    cfg = config(tmp_path, text)
    assert cfg.string("sync_host", channel="north") == "north"
    assert cfg.string("sync_host", channel="NORTH") == "north"
    assert cfg.string("sync_host", channel="south") == "mine"
    assert cfg.string("sync_host") == "mine"
    assert config(tmp_path, text, "sync_server").string("sync_host") == "plain"


@pytest.mark.covers("imapd.conf", "<channel>_<key>")
def test_only_options_that_say_so_have_channels(tmp_path: Path) -> None:
    cfg = config(tmp_path, "north_sync_log: yes\nnorth_sync_port: 99\n")
    assert cfg.switch("sync_log", channel="north") is False
    assert cfg.string("sync_port", channel="north") == "99"


def test_an_undeclared_option_is_a_mistake_of_the_programmer(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        config(tmp_path, "imapidlepoll: 60\n").string("imapidlepoll")
    with pytest.raises(KeyError, match="declared as switch"):
        config(tmp_path).string("sync_log")


@pytest.mark.covers("imapd.conf", "configdirectory")
def test_a_value_beginning_with_configdirectory_is_completed(tmp_path: Path) -> None:
    cfg = config(
        tmp_path, "sync_shutdown_file: {configdirectory}/stop\nsync_cache_db_path: /x{configdirectory}\n"
    )
    assert cfg.string("sync_shutdown_file") == f"{tmp_path}/conf/stop"
    assert cfg.string("sync_cache_db_path") == "/x{configdirectory}"
    assert cfg.string("sync_passwd_file") == f"{tmp_path}/conf/sync_passwd"


@pytest.mark.covers("Other errors", "ConfigError")
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("sync_log: maybe", "sync_log: 'maybe' is neither yes nor no"),
        ("sync_timeout: 3x", "sync_timeout: '3x' is not a duration"),
        ("sync_timeout: 2", "sync_timeout: '2' is too small, the least is 3"),
        ("maxword: lots", "maxword: 'lots' is not a size"),
        ("sync_batchsize: x", "sync_batchsize: 'x' is not a number"),
        ("tls_client_certs: never", "tls_client_certs: 'never' is not one of: off, optional, require"),
        ("sasl_pwcheck_method: ldap", "sasl_pwcheck_method: 'ldap' is not one of"),
        ("north_sync_repeat_interval: soon", "north_sync_repeat_interval: 'soon' is not a duration"),
        ("sync_client_sync_log: 2", "sync_client_sync_log: '2' is neither"),
        ("partition-a: relative", "partition-a: is not an absolute path"),
        ("partition-a_b: /x", "partition-a_b: a partition's name is letters and digits"),
        ("defaultpartition: b\npartition-a: /x", "defaultpartition: there is no partition-b"),
    ],
)
def test_a_bad_value_is_one_line_with_its_place(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, line + "\n")
    assert str(caught.value).startswith(f"{tmp_path}/imapd.conf:2: {problem}")
    assert "\n" not in str(caught.value)


def test_what_other_programs_read_is_left_alone(tmp_path: Path) -> None:
    cfg = config(
        tmp_path, "imapidlepoll: never\nimapd_sync_log: maybe\nsync_server_sync_log: maybe\nx-y: z\n"
    )
    assert cfg.switch("sync_log") is False


@pytest.mark.covers("imapd.conf", "configdirectory")
def test_configdirectory_is_obligatory_and_absolute(tmp_path: Path) -> None:
    path = tmp_path / "imapd.conf"
    path.write_text("servername: x\n")
    with pytest.raises(ConfigError, match=r"imapd\.conf: configdirectory: not set"):
        Config.load(path)
    path.write_text("configdirectory: conf\n")
    with pytest.raises(ConfigError, match=r"imapd\.conf:1: configdirectory: is not an absolute path"):
        Config.load(path)


@pytest.mark.covers("imapd.conf", "partition-<name>")
def test_partitions_and_the_default_one(tmp_path: Path) -> None:
    cfg = config(tmp_path, "partition-b: /b\npartition-a: {configdirectory}/a\n")
    assert cfg.partitions == {"b": Path("/b"), "a": tmp_path / "conf" / "a"}
    assert cfg.defaultpartition == "b"
    assert config(tmp_path, "partition-b: /b\npartition-default: /d\n").defaultpartition == "default"
    assert config(tmp_path, "defaultpartition: A\npartition-b: /b\npartition-a: /a\n").defaultpartition == "a"


@pytest.mark.covers("imapd.conf", "partition-<name>")
def test_without_any_partition_the_default_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no partition is configured"):
        _ = config(tmp_path).defaultpartition


def test_old_names_of_tls_options_still_count(tmp_path: Path) -> None:
    assert config(tmp_path, "tls_cert_file: /c.pem\n").string("tls_server_cert") == "/c.pem"
    with pytest.raises(
        ConfigError, match="tls_cert_file: is the old name of tls_server_cert, which is given too"
    ):
        config(tmp_path, "tls_cert_file: /c.pem\ntls_server_cert: /d.pem\n")


def test_settings_for_one_host_go_by_its_short_name(tmp_path: Path) -> None:
    cfg = config(tmp_path, "replica_client_cert: {configdirectory}/c.pem\n")
    assert cfg.host_string("Replica.example.org", "client_cert") == f"{tmp_path}/conf/c.pem"
    assert cfg.host_string("other.example.org", "client_cert") is None
    with pytest.raises(KeyError):
        cfg.host_string("replica", "password")


def test_where_names_the_line_of_a_setting(tmp_path: Path) -> None:
    cfg = config(tmp_path, "sync_listen: nonsense\n")
    assert cfg.where("sync_listen") == f"{tmp_path}/imapd.conf:2: sync_listen: "
    assert cfg.where("sync_host") == f"{tmp_path}/imapd.conf: sync_host: "
    assert cfg.is_set("sync_listen") and not cfg.is_set("sync_host")


def test_every_default_is_a_good_value(tmp_path: Path) -> None:
    cfg = config(tmp_path)
    readers = {
        Kind.STRING: cfg.string,
        Kind.ENUM: cfg.string,
        Kind.SWITCH: cfg.switch,
        Kind.INTEGER: cfg.integer,
        Kind.DURATION: cfg.duration,
        Kind.SIZE: cfg.size,
        Kind.WORDS: cfg.words,
    }
    for option in OPTIONS.values():
        if option.default is not None:
            assert readers[option.kind](option.name) is not None
