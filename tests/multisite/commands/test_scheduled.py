"""sync_export_list and sync_receive: exchange on a schedule, silent when well, never piled up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cyrus_sync.multisite.commands import scheduled, sync_export_list
from cyrus_sync.multisite.commands.sync_export_list import read_list
from cyrus_sync.multisite.commands.turns import StillAtWork, turn
from cyrus_sync.multisite.membership import change_replica
from cyrus_sync.shipping.order import Order
from tests.deadlines import until
from tests.multisite.commands.kit import Server, family
from tests.ports import free_port

Three = tuple[Server, Server, Server]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[Three]:
    """bangalore, boston_hub and sydney, with mail at the first; nobody receives yet."""
    first, *others = family(tmp_path, "bangalore", "boston_hub", "sydney", port=free_port())
    first.create("user/bob")
    first.deliver("bob", "hello")
    yield first, others[0], others[1]
    for site in (first, *others):
        site.stop()


@pytest.fixture
def alone(tmp_path: Path) -> Server:
    """A server of no family: what is looked at before that is asked for."""
    return Server("alone", tmp_path / "alone")


def logs(site: Server) -> list[Path]:
    return sorted((site.directory / "conf/log").glob("sync_*-*.log"))


def destinations(site: Server) -> list[str]:
    orders = [site.bay / "outgoing" / name for name in site.outgoing() if name.startswith("sh_o_")]
    return sorted(Order.load(order).destinations[0] for order in orders)


def test_all_get_packets_and_what_has_come_is_applied_in_silence(sites: Three, capfd: Capture) -> None:
    first, boston, sydney = sites
    boston.start()
    sydney.start()
    capfd.readouterr()
    assert first.multitool("sync_export_list", "-all", "-poll") == 0
    assert first.outgoing() == [] and len(boston.incoming()) == len(sydney.incoming()) == 1
    for site in (boston, sydney):
        assert site.multitool("sync_receive") == 0
        assert site.subjects("user.bob") == ["hello"] and site.incoming() == []
        assert logs(site) == []
    assert capfd.readouterr() == ("", "")
    assert logs(first) == []


def test_one_that_cannot_be_reached_stops_no_other_and_the_run_leaves_its_log(
    sites: Three, capfd: Capture
) -> None:
    first, boston, sydney = sites
    sydney.start()
    capfd.readouterr()
    assert first.multitool("sync_export_list", "-r", "boston_hub,nobody,sydney,bangalore") == 1
    said = capfd.readouterr()
    assert "boston_hub" not in said.out and "not delivered now" in said.err
    assert "nobody" in said.err and "bangalore is this replica itself" in said.err
    assert len(sydney.incoming()) == 1 and destinations(first) == [boston.address]
    (log,) = logs(first)
    text = log.read_text()
    assert "Generating synchronization packet" in text and "not delivered now" in text
    boston.start()
    assert first.multitool("sync_export_list", "-poll") == 0
    assert first.outgoing() == []
    assert log.stat().st_mode & 0o777 == 0o600


def test_runs_that_begin_in_one_second_have_a_log_each(sites: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _, _ = sites
    monkeypatch.setattr(scheduled, "time", SimpleNamespace(strftime=lambda _: "2026-11-30T120000"))
    for count in (1, 2, 3):
        first.deliver("bob", f"message {count}")
        assert first.multitool("sync_export_list", "-r", "boston_hub") == 1
        assert len(logs(first)) == count
    assert all("not delivered now" in log.read_text() for log in logs(first))


def test_how_much_is_printed_is_asked_for(sites: Three, tmp_path: Path, capfd: Capture) -> None:
    first, _, _ = sites
    kept, working = tmp_path / "kept", tmp_path / "working"
    capfd.readouterr()
    directories = ("-logdir", kept, "-workdir", working)
    assert first.multitool("sync_export_list", "-all", "-q", "0", "-ship", "-trace", *directories) == 0
    said = capfd.readouterr()
    assert "+ syncreplica -export -ship -lockwait 10 boston_hub" in said.out
    assert "- shipping order file is" in said.out and said.err == ""
    (log,) = kept.iterdir()
    assert log.read_text() == said.out and list(working.iterdir()) == []
    first.deliver("bob", "again")
    capfd.readouterr()
    assert first.multitool("sync_export_list", "-r", "boston_hub", "-q", "2") == 1
    assert capfd.readouterr() == ("", "")


def test_a_list_file_says_what_goes_for_whom(sites: Three, tmp_path: Path) -> None:
    first, _, _ = sites
    path = tmp_path / "list"
    path.write_text("\ufeffsydney -sclass weekly\n")
    assert [one.selector for one in read_list(path)] == ["sydney"]
    path.write_text("# far away\nsydney -sclass weekly -ship  # by stick\n\nboston_hub, bangalore\n")
    (first.directory / "weekly").mkdir()
    first.shipping_conf(f"STORAGE-BAY weekly {first.directory}/weekly")
    assert first.multitool("sync_export_list", "-ship", path) == 1  # itself is among them
    assert destinations(first) == ["127.0.0.2"]
    (order,) = (first.directory / "weekly/outgoing").glob("sh_o_*")
    assert Order.load(order).destinations == ("127.0.0.3",)
    one, two, _ = read_list(path)
    assert (one.selector, one.options.text("sclass"), two.selector) == ("sydney", "weekly", "boston_hub")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("boston_hub -out path", "unknown option -out"),
        ("-ship", "replicas come first, then options"),
        ("boston_hub -ship sydney", "replicas come first, then options"),
        ("boston_hub -ship -fship", "-fship and -ship exclude one another"),
        ("boston_hub -maxsize much", "-maxsize much: a number is needed"),
        ('boston_hub "', "No closing quotation"),
    ],
)
def test_a_list_that_makes_no_sense_exports_nothing(
    alone: Server, tmp_path: Path, capfd: Capture, line: str, said: str
) -> None:
    path = tmp_path / "list"
    path.write_text(f"sydney\n{line}\n")
    assert alone.multitool("sync_export_list", path) == 64
    assert f"{path}:2: {said}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "-all, -replicas or a list file is needed"),
        (["-all", "-r", "sydney"], "-all exports to everybody"),
        (["-all", "-i", "2"], "-iterate goes with -poll"),
        (["-poll", "-wait", "2"], "-wait goes with -iterate"),
        (["-all", "-limit", "2"], "-limit needs -maxsize"),
        (["-all", "-q", "3"], "-quiet 3: 0, 1 or 2 is needed"),
        (["-all", "-ship", "-fship"], "-fship and -ship exclude one another"),
    ],
)
def test_command_lines_that_make_no_sense(alone: Server, capfd: Capture, words: list[str], said: str) -> None:
    assert alone.multitool("sync_export_list", *words) == 64
    assert said in capfd.readouterr().err


def test_what_could_not_be_delivered_is_tried_again(
    sites: Three, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    first, boston, sydney = sites
    sydney.start()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        boston.start()

    monkeypatch.setattr(sync_export_list, "sleep", pause)
    assert first.multitool("sync_export_list", "-all", "-ship", "-poll", "-i", "5", "-wa", "7") == 0
    assert pauses == [7] and first.outgoing() == []


def test_with_update_nobody_is_sent_what_he_has(sites: Three, tmp_path: Path) -> None:
    first, boston, _ = sites
    path = tmp_path / "packet"
    assert first.syncreplica("-export", "-out", path, "boston_hub") == 0
    assert boston.syncreplica("-import", path) == 0
    assert first.multitool("chepoch", "-force", "boston_hub", "bangalore=0") == 0
    boston.start()
    assert first.multitool("sync_export_list", "-r", "boston_hub", "-update") == 0
    assert boston.incoming() == []


def test_export_to_all_goes_on_beyond_one_that_has_no_host(sites: Three, capfd: Capture) -> None:
    first, _, _ = sites
    with first.member() as member:
        change_replica(member, replace(member.family.find("boston_hub"), host=""))
    assert first.syncreplica("-export", "-ship", "-all") == 1
    assert "boston_hub has no host to ship to" in capfd.readouterr().err
    assert destinations(first) == ["127.0.0.3"]
    assert first.syncreplica("-export", "-ship", "-all", "sydney") == 64


# -- receiving


def test_as_a_receipt_handler_it_applies_and_sends_on(sites: Three) -> None:
    first, boston, sydney = sites
    first.shipping_conf("ROUTE 127.0.0.2 127.0.0.3")
    boston.start()
    sydney.start()
    assert first.multitool("sync_export_list", "-all") == 0
    (packet,) = boston.incoming()
    assert boston.multitool("sync_receive", "-o", first.address, "-d", boston.bay / "incoming" / packet) == 0
    assert boston.subjects("user.bob") == ["hello"]
    (order,) = (boston.bay / "outgoing").glob("sh_o_*")
    assert boston.multitool("sync_receive", "-o", first.address, "-a", order) == 0
    assert boston.outgoing() == [] and len(sydney.incoming()) == 1
    assert f"has come from {first.address}" in (boston.directory / "conf/log/multisite_log").read_text()


def test_a_packet_elsewhere_is_applied_too_and_other_files_are_left_alone(
    sites: Three, tmp_path: Path
) -> None:
    first, boston, _ = sites
    path, other = tmp_path / "packet", tmp_path / "letter"
    other.write_text("Dear all,\n")
    assert first.syncreplica("-export", "-out", path, "boston_hub") == 0
    assert boston.multitool("sync_receive", "-d", other) == 0
    assert boston.multitool("sync_receive", "-v", "other*", "-d", path) == 0
    assert path.exists() and other.exists()
    assert boston.multitool("sync_receive", "-v", "vob:\\ma*", "-d", path) == 0
    assert boston.subjects("user.bob") == ["hello"] and not path.exists()
    assert boston.multitool("sync_receive", "-d", tmp_path / "none") == 75


def test_a_packet_that_cannot_be_applied_is_said_and_stays(sites: Three, capfd: Capture) -> None:
    boston = sites[1]
    assert boston.multitool("sync_receive") == 0  # makes the bay
    damaged = boston.bay / "incoming/sync_damaged"
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_bytes(b"cyrus-sync packet 1\nnonsense\n")
    capfd.readouterr()
    assert boston.multitool("sync_receive") == 1
    assert f"{damaged} was not applied" in capfd.readouterr().err
    assert damaged.exists() and len(logs(boston)) == 1


# -- turns


def test_one_is_at_work_one_waits_and_the_others_have_nothing_to_do(tmp_path: Path) -> None:
    entered: list[str] = []

    def wait() -> None:
        with turn(tmp_path, "x", 60) as ours:
            assert ours
            entered.append("second")

    with turn(tmp_path, "x", 0) as ours:
        assert ours
        second = threading.Thread(target=wait)
        second.start()
        until(lambda: _is_locked(tmp_path / "x.next"), "the second one waits", 20)
        with turn(tmp_path, "x", 60) as third:
            assert not third
        with pytest.raises(StillAtWork), turn(tmp_path, "x", 0, may_leave_it=False):
            pass
        assert entered == []
    second.join(20)
    assert entered == ["second"]
    with turn(tmp_path, "x", 0) as again:
        assert again


def test_who_has_waited_too_long_says_so(tmp_path: Path) -> None:
    with turn(tmp_path, "x", 0), pytest.raises(StillAtWork), turn(tmp_path, "x", 0.01):
        pass


def _is_locked(path: Path) -> bool:
    return path.exists() and f":{path.stat().st_ino} " in Path("/proc/locks").read_text()
