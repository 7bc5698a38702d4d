"""What a rolling client tells Prometheus."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConnectionLost, SyncChecksum
from cyrus_sync.common.metrics.sheet import Sheet, plain_text
from cyrus_sync.sync_client.engine.errors import FoldersFailed
from cyrus_sync.sync_client.engine.withheld import Withheld
from cyrus_sync.sync_client.facts import Settings
from cyrus_sync.sync_client.figures import ClientFigures, GrowingFile
from cyrus_sync.sync_client.machine import RollingState
from cyrus_sync.sync_client.rolling import Rolling
from tests.sync_client.fakes import FakeConnector, FakeSource, FakeWatch, advance, blocking, refused

NOW = 1_800_000_000


class Rig:
    def __init__(self, tmp_path: Path, *attempts: object) -> None:
        (tmp_path / "imapd.conf").write_text(f"configdirectory: {tmp_path}\npartition-a: {tmp_path}\n")
        self.clock = Clock()
        self.clock.advance(NOW)
        self.answers: dict[str, Any] = {}
        self.source = FakeSource([])
        self.rolling = Rolling(
            clock=self.clock,
            connector=FakeConnector([], self.answers, *attempts),
            source=self.source,
            settings=Settings(delay=1),
            blocking=blocking,
            watch=FakeWatch(),
            say=lambda _text: None,
            random=lambda: 0.0,
        )
        self.figures = ClientFigures(
            Config.load(tmp_path / "imapd.conf"),
            self.rolling,
            Withheld(None),
            tmp_path,
            tmp_path / "log",
            lambda: (10, 20),
            list,
            lambda sheet: sheet.gauge("of_the_master", "What it tells.", 7),
        )
        self.rolling.run()

    def told(self) -> dict[str, float]:
        """Value by name and labels, without those of every figure."""
        sheet = Sheet("sync_client", channel="north")
        self.figures.look()(sheet)
        lines = plain_text(sheet).decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {_short(name): float(value) for name, value in pairs}


def _short(name: str) -> str:
    return name.replace('channel="north",', "").replace('{channel="north"}', "").removeprefix("cyrus_sync_")


def test_the_age_of_the_oldest_change_grows_until_it_is_over(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    wait: Deferred[None] = Deferred()
    rig.answers["USER alice"] = wait
    rig.source.lines.append("USER alice")
    advance(rig.clock, 40)
    told = rig.told()
    assert 38 <= told["client_oldest_change_age_seconds"] <= 41
    assert told["client_items_under_way"] == 1 and told['client_state{state="running"}'] == 1
    wait.callback(None)
    advance(rig.clock, 2)
    told = rig.told()
    assert told["client_oldest_change_age_seconds"] == 0
    assert told["client_run_duration_seconds_count"] == told["client_cycle_latency_seconds_count"] == 1
    assert told["client_cycle_latency_seconds_sum"] >= told["client_run_duration_seconds_sum"] > 37
    assert told["client_last_success_timestamp_seconds"] > NOW and told["client_items_total"] == 1


def test_exactly_one_state_is_that_of_the_client(tmp_path: Path) -> None:
    rig = Rig(tmp_path, refused(), refused())
    advance(rig.clock, 5)
    states = {name: value for name, value in rig.told().items() if name.startswith("client_state{")}
    assert len(states) == len(RollingState) and sum(states.values()) == 1
    assert states['client_state{state="backing_off"}'] == 1
    assert rig.told()["client_connected"] == 0 and rig.told()["client_connection_failures_total"] == 1


def test_failures_are_counted_by_code_and_name_nobody(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    parts = [("user.alice.Work", SyncChecksum()), ("user.alice.Play", SyncChecksum())]
    rig.answers["USER alice"] = FoldersFailed(parts)
    rig.source.lines.append("USER alice")
    advance(rig.clock, 1.5)
    told = rig.told()
    assert told['client_failures_total{code="IMAP_SYNC_CHECKSUM"}'] >= 2
    assert told['client_failures_total{code="ConnectionLost"}'] == 0, "it is there before it happens"
    assert "alice" not in " ".join(told)


def test_a_broken_connection_counts_as_a_failure_of_its_kind(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.answers["USER alice"] = ConnectionLost()
    rig.source.lines.append("USER alice")
    advance(rig.clock, 1.5)
    assert rig.told()['client_failures_total{code="ConnectionLost"}'] >= 1


def test_a_log_is_counted_as_it_grows_and_read_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    growing = GrowingFile(log)
    assert growing.look() == (0, 0)
    log.write_text("USER alice\nUSER bob\n")
    assert growing.look() == (2, 20)
    with log.open("a") as file:
        file.write("USER carol\n")
    assert growing.look() == (3, 31)
    log.unlink()
    assert growing.look() == (0, 0)
    log.write_text("USER d\n")
    assert growing.look() == (1, 7)


def test_what_waits_in_the_log_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    (tmp_path / "log").write_text("USER alice\n")
    (tmp_path / "log-run").write_text("USER bob\nUSER carol\n")
    (tmp_path / "quarantine.log").write_text("USER dave\n")
    told = rig.told()
    assert (told["client_log_lines"], told["client_log_bytes"]) == (3, 31)
    assert told["client_set_aside_lines"] == 1
    assert told['client_wire_bytes_total{direction="sent"}'] == 20
    assert told['partition_free_bytes{partition="a",program="sync_client"}'] > 0


def test_the_connector_adds_up_what_went_over_all_its_connections() -> None:
    from cyrus_sync.sync_client.connecting import WireConnector

    unused: Any = None
    options: Any = SimpleNamespace(here="", channel="")
    connector = WireConnector(unused, unused, unused, unused, options)
    assert connector.traffic == (0, 0)
    connector._new_line(SimpleNamespace(bytes_read=3, bytes_written=5))  # type: ignore[arg-type]
    connector._new_line(SimpleNamespace(bytes_read=10, bytes_written=20))  # type: ignore[arg-type]
    assert connector.traffic == (13, 25)
