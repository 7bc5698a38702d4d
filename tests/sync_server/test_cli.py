"""The command line of sync_server: what each option leads to, and the exit statuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, StoreError
from cyrus_sync.sync_server import cli
from cyrus_sync.sync_server.settings import ServerSettings


class Run:
    """What `main` called, instead of serving."""

    def __init__(self) -> None:
        self.logging: dict[str, Any] = {}
        self.settings = ServerSettings()
        self.failure: Exception | None = None

    def start_logging(self, ident: str, **how: Any) -> None:
        self.logging = {"ident": ident, **how}

    def run(self, config: Config, settings: ServerSettings) -> int:
        self.settings = settings
        if self.failure is not None:
            raise self.failure
        return 0


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    made = Run()
    monkeypatch.setattr(cli, "start_logging", made.start_logging)
    monkeypatch.setattr(cli, "run", made.run)
    return made


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}\npartition-default: {tmp_path}/spool\n")
    return path


@pytest.mark.covers("sync_server: options", "-C")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "54", "68")
def test_c_names_the_configuration_which_is_etc_imapd_conf_without_it(run: Run, conf: Path) -> None:
    assert cli.main(["-C", str(conf)]) == 0
    assert cli.parser().parse_args([]).config == "/etc/imapd.conf"


@pytest.mark.covers("sync_server: options", "-p")
def test_p_states_the_strength_of_an_external_layer(run: Run, conf: Path) -> None:
    assert cli.main(["-C", str(conf), "-p", "128"]) == 0
    assert run.settings.external_ssf == 128
    assert cli.main(["-C", str(conf)]) == 0
    assert run.settings.external_ssf == 0


@pytest.mark.covers("sync_server: options", "-v", "-e")
def test_e_logs_to_stderr_and_v_every_command(run: Run, conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    for options, expected in (([], (False, False)), (["-e"], (True, False)), (["-v"], (False, True))):
        assert cli.main(["-C", str(conf), *options]) == 0
        assert (run.logging["to_stderr"], run.logging["verbose"]) == expected


def test_on_a_terminal_it_logs_to_stderr(run: Run, conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert cli.main(["-C", str(conf)]) == 0
    assert run.logging["to_stderr"]


@pytest.mark.covers("sync_server: options", "-f")
def test_f_changes_nothing(run: Run, conf: Path) -> None:
    assert cli.main(["-C", str(conf)]) == 0
    plain = (run.logging, run.settings)
    assert cli.main(["-C", str(conf), "-f"]) == 0
    assert (run.logging, run.settings) == plain


@pytest.mark.covers("imapd.conf", "syslog_facility")
def test_facility_and_prefix_of_syslog_come_from_imapd_conf(run: Run, conf: Path) -> None:
    assert cli.main(["-C", str(conf)]) == 0
    assert run.logging["ident"] == "sync_server"
    assert (run.logging["facility"], run.logging["prefix"]) == ("mail", "")
    with conf.open("a") as file:
        file.write("syslog_facility: local3\nsyslog_prefix: replica\n")
    assert cli.main(["-C", str(conf)]) == 0
    assert (run.logging["facility"], run.logging["prefix"]) == ("local3", "replica")


@pytest.mark.covers("Exit statuses", "sync_server 70")
@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (StoreError("no space left"), 75),
        (ConfigError("sync_listen: cannot listen"), 78),
        (ZeroDivisionError("a mistake of ours"), 70),
    ],
)
def test_what_ends_it_is_told_by_the_exit_status(
    run: Run, conf: Path, failure: Exception, status: int
) -> None:
    run.failure = failure
    assert cli.main(["-C", str(conf)]) == status


@pytest.mark.covers("Exit statuses", "sync_server 70")
def test_a_spool_that_cannot_be_made_is_75_and_one_line(
    conf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "start_logging", lambda ident, **how: None)
    conf.with_name("spool").write_text("a file, not a directory")
    assert cli.main(["-C", str(conf)]) == 75
    assert capsys.readouterr().err == f"sync_server: cannot make {conf.parent}/spool/sync.: Not a directory\n"
