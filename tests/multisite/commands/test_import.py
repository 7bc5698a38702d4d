"""syncreplica -import: what cannot be applied now, what never can, and who is told."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from cyrus_sync.common.directory import Directory
from cyrus_sync.multisite.importing import Import, Result
from cyrus_sync.multisite.oplog.database import SiteLock
from tests.deadlines import until
from tests.multisite.commands.kit import Server, exchange, family, send

Pair = tuple[Server, Server]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def packets(pair: Pair, tmp_path: Path) -> list[Path]:
    """Three update packets from Bangalore to Boston, each of which builds on the one before."""
    bangalore, _ = pair
    bangalore.create("user/bob")
    found = []
    for number in (1, 2, 3):
        bangalore.deliver("bob", f"mail {number}")
        found.append(tmp_path / f"packet{number}")
        assert bangalore.syncreplica("-export", "-out", found[-1], "boston_hub") == 0
    return found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either -receive or the packets to apply are needed"),
        (["-receive", "p"], "either -receive or the packets to apply are needed"),
        (["-sclass", "daily", "p"], "-sclass goes with -receive"),
        (["-nc", "-c", "x", "p"], "exclude one another"),
    ],
)
def test_command_lines_that_make_no_sense(
    pair: Pair, capfd: Capture, arguments: list[str], said: str
) -> None:
    assert pair[1].syncreplica("-import", *arguments) == 64
    assert said in capfd.readouterr().err


def test_a_gap_is_told_by_replica_and_the_packet_is_kept(
    pair: Pair, packets: list[Path], capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    with boston_hub.member() as member:
        origin = member.family.find("bangalore").id
        held = member.log.epochs.row(member.family.self_id)[origin]
    with bangalore.member() as member:
        required = member.log.operations.last(origin) - 1  # the last one is in the packet
    capfd.readouterr()
    assert boston_hub.syncreplica("-import", packets[2]) == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"syncreplica: {packets[2]} was not applied: depends on changes not yet received",
        f"syncreplica:   operations of bangalore: required {required}, held {held}",
        "syncreplica:   bangalore believes that boston_hub has them",
        "syncreplica:   if they are not under way, at bangalore: multitool recoverpacket boston_hub",
    ]
    assert packets[2].exists()


def test_in_a_one_way_ring_it_is_said_why_the_sender_cannot_know(
    three: tuple[Server, Server, Server], tmp_path: Path, capfd: Capture
) -> None:
    boston_hub, _, bangalore = three
    boston_hub.create("user/bob")
    send(boston_hub, bangalore, tmp_path)
    with bangalore.member() as member:
        member.log.db.execute("DELETE FROM exports")  # as if packets had only ever come
    for number in (1, 2):
        boston_hub.deliver("bob", f"message {number}")
        assert boston_hub.syncreplica("-export", "-out", tmp_path / f"p{number}", "bangalore") == 0
    capfd.readouterr()
    assert bangalore.syncreplica("-import", tmp_path / "p2") == 1
    assert (
        "boston_hub believes that bangalore has them; it cannot know better, for no packets go from bangalore"
        " to boston_hub\n" in capfd.readouterr().err
    )


def test_what_waited_is_applied_with_a_later_import(pair: Pair, packets: list[Path]) -> None:
    bangalore, boston_hub = pair
    incoming = boston_hub.bay / "incoming"
    incoming.mkdir(parents=True)
    packets[2].rename(incoming / "packet3")
    assert boston_hub.syncreplica("-import", "-receive") == 1
    for number in (0, 1):
        packets[number].rename(incoming / packets[number].name)
    assert boston_hub.syncreplica("-import", "-receive") == 0
    assert boston_hub.incoming() == []
    assert boston_hub.dump() == bangalore.dump()


def test_a_site_that_only_replication_may_change_takes_packets_and_no_other_change(
    pair: Pair, packets: list[Path], capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    with (boston_hub.directory / "imapd.conf").open("a") as file:
        file.write("replicaonly: yes\n")
    bangalore.create("user/bob/Work")
    assert bangalore.mailstore("flag", "user/bob", "1", "-a", "\\Flagged") == 0
    assert bangalore.mailstore("setacl", "user/bob/Work", "zoe", "lr") == 0
    last = packets[0].with_name("last")
    assert bangalore.syncreplica("-export", "-out", last, "boston_hub") == 0
    assert boston_hub.syncreplica("-import", *packets, last) == 0
    assert boston_hub.subjects("user.bob") == ["mail 1", "mail 2", "mail 3"]
    assert "user.bob.Work" in boston_hub.folders("bob")
    capfd.readouterr()
    assert boston_hub.mailstore("deliver", "bob", stdin=b"Subject: x\r\n\r\nx\r\n") == 75
    assert boston_hub.multitool("rename", "user/bob/Work", "user/bob/Play") == 75
    assert "replicaonly: yes" in capfd.readouterr().err
    assert "user.bob.Work" in boston_hub.folders("bob")


def test_the_order_of_packets_does_not_matter(pair: Pair, packets: list[Path]) -> None:
    bangalore, boston_hub = pair
    assert boston_hub.syncreplica("-import", *reversed(packets)) == 0
    assert not any(path.exists() for path in packets)
    assert boston_hub.dump() == bangalore.dump()


def test_a_packet_that_comes_twice_does_no_harm(pair: Pair, packets: list[Path], capfd: Capture) -> None:
    bangalore, boston_hub = pair
    copy = packets[0].with_name("copy")
    copy.write_bytes(packets[0].read_bytes())
    assert boston_hub.syncreplica("-import", *packets) == 0
    capfd.readouterr()
    assert boston_hub.syncreplica("-import", copy) == 0
    assert capfd.readouterr().out == f"Applied sync. packet {copy} to VOB {boston_hub.directory}/spool\n"
    assert not copy.exists()
    assert boston_hub.dump() == bangalore.dump()


def test_diagnose_says_what_is_missing_and_changes_nothing(
    pair: Pair, packets: list[Path], capfd: Capture
) -> None:
    _, boston_hub = pair
    before = boston_hub.dump()
    capfd.readouterr()
    assert boston_hub.syncreplica("-import", "-diagnose", packets[2], packets[0]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"{packets[0]} can be applied"
    assert lines[1] == f"{packets[2]} cannot be applied: depends on changes not yet received"
    assert lines[2].startswith("  operations of bangalore: required ")
    assert boston_hub.syncreplica("-import", "-diag", *packets) == 0, "together they can be applied"
    assert all(path.exists() for path in packets)
    assert boston_hub.dump() == before


@pytest.mark.parametrize("fault", ["truncated", "one bit", "no packet", "missing"])
def test_what_cannot_be_read_is_kept_and_the_others_are_applied(
    pair: Pair, packets: list[Path], capfd: Capture, fault: str
) -> None:
    _, boston_hub = pair
    data = bytearray(packets[1].read_bytes())
    if fault == "truncated":
        packets[1].write_bytes(data[:-20])
    elif fault == "one bit":
        data[len(data) * 2 // 3] ^= 8
        packets[1].write_bytes(data)
    elif fault == "no packet":
        packets[1].write_bytes(b"Dear all,\n")
    else:
        packets[1].unlink()
    assert boston_hub.syncreplica("-import", *packets) == 1
    said = capfd.readouterr().err
    assert f"{packets[1]} was not applied: " in said
    assert f"{packets[2]} was not applied: depends on changes" in said
    assert [path.exists() for path in packets] == [False, fault != "missing", True]
    assert boston_hub.subjects("user.bob") == ["mail 1"]


def test_packets_for_others_are_refused(
    pair: Pair, packets: list[Path], tmp_path: Path, capfd: Capture
) -> None:
    bangalore, _ = pair
    assert bangalore.syncreplica("-import", packets[0]) == 1
    assert "it is for boston_hub, not for bangalore" in capfd.readouterr().err
    (stranger,) = family(tmp_path / "elsewhere", "boston_hub", called="other")
    assert stranger.syncreplica("-import", packets[0]) == 1
    assert "it belongs to the family 'dev' (" in capfd.readouterr().err
    assert packets[0].exists()


@pytest.mark.parametrize("selector", ["dev", r"\dev", "vob:/dev"])
def test_invob_names_the_family(pair: Pair, packets: list[Path], selector: str) -> None:
    assert pair[1].syncreplica("-import", "-invob", selector, packets[0]) == 0


def test_invob_of_another_family_applies_nothing(pair: Pair, packets: list[Path], capfd: Capture) -> None:
    assert pair[1].syncreplica("-import", "-inv", r"\test", packets[0]) == 1
    assert r"\test: this is the family 'dev'" in capfd.readouterr().err
    assert packets[0].exists()


def test_a_file_that_is_still_being_received_is_left_alone(pair: Pair, packets: list[Path]) -> None:
    _, boston_hub = pair
    incoming = boston_hub.bay / "incoming"
    incoming.mkdir(parents=True)
    half = incoming / ".ms_tmp_0123"
    half.write_bytes(packets[0].read_bytes()[:3000])
    assert boston_hub.syncreplica("-import", "-receive") == 0
    assert half.exists()


def test_what_arrives_during_an_import_is_taken_along(
    pair: Pair, packets: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, boston_hub = pair
    incoming = boston_hub.bay / "incoming"
    incoming.mkdir(parents=True)
    packets[1].rename(incoming / "packet2")
    late = [packets[0]]
    run = Import.run

    def run_and_arrive(self: Import, paths: Iterable[Path]) -> Result:
        done = run(self, paths)
        if late:
            path = late.pop()
            path.rename(incoming / path.name)
        return done

    monkeypatch.setattr(Import, "run", run_and_arrive)
    assert boston_hub.syncreplica("-import", "-receive") == 0
    assert boston_hub.incoming() == []
    assert boston_hub.subjects("user.bob") == ["mail 1", "mail 2"]


def test_one_import_at_a_time(
    pair: Pair, packets: list[Path], capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, boston_hub = pair
    directory = boston_hub.directory / "conf/multisite"
    monkeypatch.setattr("cyrus_sync.multisite.commands.context.LOCK_SECONDS", 0.2)
    with SiteLock(directory):
        assert boston_hub.syncreplica("-import", packets[0]) == 75
        assert "another multisite command is at work here" in capfd.readouterr().err
        assert boston_hub.syncreplica("-import", "-lockwait", "0", packets[0]) == 75
    assert boston_hub.syncreplica("-import", packets[0]) == 0


def test_an_import_waits_for_the_one_before(pair: Pair, packets: list[Path]) -> None:
    _, boston_hub = pair
    lock = SiteLock(boston_hub.directory / "conf/multisite")
    threading.Timer(0.5, lock.__exit__).start()
    start = time.monotonic()
    assert boston_hub.syncreplica("-import", "-lockwait", "1", packets[0]) == 0
    assert time.monotonic() - start >= 0.4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove everything")
def test_a_medium_that_cannot_be_written_does_not_matter(pair: Pair, packets: list[Path]) -> None:
    packets[0].parent.chmod(0o500)
    try:
        assert pair[1].syncreplica("-import", packets[0]) == 0
    finally:
        packets[0].parent.chmod(0o700)


def test_a_packet_that_cannot_be_removed_is_applied_all_the_same(
    pair: Pair, packets: list[Path], capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, boston_hub = pair

    def refuse(_: Directory, name: str) -> None:
        raise OSError(30, "Read-only file system", name)

    monkeypatch.setattr(Directory, "unlink", refuse)
    assert boston_hub.syncreplica("-import", packets[0]) == 0
    assert f"{packets[0]} has been applied and could not be removed: " in capfd.readouterr().err
    assert boston_hub.subjects("user.bob") == ["mail 1"]


def test_creation_packets_are_kept_and_the_administrator_is_told_once(
    pair: Pair, packets: list[Path], capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    incoming = boston_hub.bay / "incoming"
    incoming.mkdir(parents=True)
    creation = incoming / "repl_1"
    assert bangalore.multitool("mkreplica", "-export", "-out", creation, "tokyo:tokyo") == 0
    packets[0].rename(incoming / "packet1")
    for _ in range(2):
        capfd.readouterr()
        assert boston_hub.syncreplica("-import", "-receive") == 0
        assert f"{creation} is a creation packet and is left alone" in capfd.readouterr().err
    assert creation.exists() and boston_hub.subjects("user.bob") == ["mail 1"]
    assert boston_hub.mails.count("To: admin@example.org\nSubject: creation packet at") == 1
    assert str(creation) in boston_hub.mails
    assert boston_hub.syncreplica("-import", creation) == 1, "named itself, it is an error"


def test_a_directory_without_packets_is_said_to_have_none(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / "empty").mkdir()
    capfd.readouterr()
    assert pair[1].syncreplica("-import", tmp_path / "empty") == 0
    assert capfd.readouterr().out == "No packets found.\n"


def test_a_server_without_a_family_says_what_to_do(tmp_path: Path, capfd: Capture) -> None:
    server = Server("lonely", tmp_path / "lonely")
    assert server.syncreplica("-import", "-receive") == 78
    assert "multitool mkfamily, or mkreplica -import" in capfd.readouterr().err


def test_applied_packets_comments_and_refusals_are_logged(pair: Pair, packets: list[Path]) -> None:
    _, boston_hub = pair
    assert boston_hub.syncreplica("-import", "-c", "by courier", packets[0], packets[2]) == 1
    log = (boston_hub.directory / "conf/log/multisite_log").read_text()
    assert f"applied {packets[0]}" in log and "comment: by courier" in log
    assert f"{packets[2]} was not applied: depends on changes not yet received" in log


def test_the_receipt_handler_imports_what_arrives(pair: Pair) -> None:
    """``RECEIPT-HANDLER`` may be a line of shell around syncreplica."""
    bangalore, boston_hub = pair
    handler = boston_hub.directory / "handler"
    root = Path(__file__).parents[3]
    handler.write_text(
        f"#!/bin/sh\ncd {root}\nexec {sys.executable} -m cyrus_sync.multisite.multitool syncreplica"
        f" -C {boston_hub.directory}/imapd.conf -import -receive\n"
    )
    handler.chmod(0o755)
    boston_hub.shipping_conf(f"RECEIPT-HANDLER -default {handler}")
    boston_hub.start()
    bangalore.create("user/bob")
    assert bangalore.syncreplica("-export", "-fship", "boston_hub") == 0
    until(lambda: not boston_hub.incoming() and boston_hub.folders("bob"), "it is imported", 30)


def test_dumps_match_with_scripts_and_quota_where_host_names_differ_in_length(
    pair: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    for server in pair:
        config = server.directory / "imapd.conf"
        config.write_text(config.read_text().replace("servername: mail.", f"servername: {server.name}."))
    bangalore.create("user/bob")
    bangalore.deliver("bob", "mail")
    assert bangalore.mailstore("setquota", "user/bob", "STORAGE=1000") == 0
    assert bangalore.mailstore("sieve", "put", "bob", "main", stdin=b"keep;\r\n") == 0
    exchange([bangalore, boston_hub], tmp_path)
    dumps = []
    for server in pair:
        capfd.readouterr()
        assert server.mailstore("dump", "--no-sieve-mailbox") == 0
        dumps.append(capfd.readouterr().out)
    assert dumps[0] == dumps[1]
    assert 'filename: "main.script"' in dumps[0] or '"main.script"' in dumps[0]
