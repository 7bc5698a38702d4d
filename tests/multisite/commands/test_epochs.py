"""What replicas have and are believed to have, and mending it: lsepoch, chepoch, recoverpacket."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.standing import FILE, parse_standing
from tests.multisite.commands.kit import Server, exchange, send

Pair = tuple[Server, Server]
Capture = pytest.CaptureFixture[str]


def row(server: Server, replica: str) -> dict[str, int]:
    """What `replica` has as `server` believes, by names."""
    with server.member() as member:
        found = member.log.epochs.row(member.family.find(replica).id)
        return {member.family.name_of(origin): number for origin, number in found.items()}


@pytest.fixture
def in_step(pair: Pair, tmp_path: Path) -> Pair:
    bangalore, boston_hub = pair
    bangalore.create("user/bob")
    bangalore.deliver("bob", "first")
    exchange([bangalore, boston_hub], tmp_path)
    return pair


def answer(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What the person at the terminal types."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def lose_a_packet(pair: Pair, tmp_path: Path) -> None:
    bangalore, _ = pair
    bangalore.deliver("bob", "second")
    assert bangalore.syncreplica("-export", "-out", tmp_path / "lost", "boston_hub") == 0
    (tmp_path / "lost").unlink()


def test_lsepoch_shows_the_matrix(in_step: Pair, capfd: Capture) -> None:
    bangalore, _ = in_step
    numbers = row(bangalore, "boston_hub")
    capfd.readouterr()
    assert bangalore.multitool("lsepoch") == 0
    blocks = re.findall(r'Oplog IDs for row "(\S+)" \(@ (\S+)\):\n((?:oid:.*\n)+)', capfd.readouterr().out)
    assert [(name, host) for name, host, _ in blocks] == [
        ("bangalore", "127.0.0.1"),
        ("boston_hub", "127.0.0.2"),
    ]
    assert dict(re.findall(r"oid:[0-9a-f]{32}=(\d+) \((\S+)\)", blocks[1][2])) == {
        str(number): name for name, number in numbers.items()
    }
    assert bangalore.multitool("lsepoch", "boston_hub@dev") == 0
    assert capfd.readouterr().out.count("Oplog IDs for row") == 1
    assert bangalore.multitool("lsepoch", "tokyo") == 1


def test_an_export_raises_the_row_and_recoverpacket_sets_it_back(
    in_step: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, boston_hub = in_step
    before = row(bangalore, "boston_hub")
    lose_a_packet(in_step, tmp_path)
    assert row(bangalore, "boston_hub")["bangalore"] > before["bangalore"]
    bangalore.deliver("bob", "third")
    assert bangalore.syncreplica("-export", "-out", tmp_path / "later", "boston_hub") == 0
    assert boston_hub.syncreplica("-import", tmp_path / "later") == 1, "it builds on the lost one"
    capfd.readouterr()
    assert bangalore.multitool("recoverpacket", "-since", "yesterday", "boston_hub") == 1
    assert "no export to boston_hub is old enough" in capfd.readouterr().err
    with bangalore.member() as member:
        exports = member.log.epochs.exports(member.family.find("boston_hub").id)
        member.log.db.execute("UPDATE exports SET time = time - 3600 WHERE number = ?", (exports[-2].number,))
    assert bangalore.multitool("recoverpacket", "-since", _half_an_hour_ago(), "boston_hub") == 0
    assert "The next export to boston_hub repeats that of " in capfd.readouterr().out
    assert row(bangalore, "boston_hub") == before
    assert send(bangalore, boston_hub, tmp_path)
    assert boston_hub.syncreplica("-import", tmp_path / "later") == 0, "which is out of date now"
    assert boston_hub.subjects("user.bob") == ["first", "second", "third"]


def _half_an_hour_ago() -> str:
    import time

    from cyrus_sync.common.dates import format_datetime

    return format_datetime(int(time.time()) - 1800)


def test_recoverpacket_without_a_time_undoes_the_last_export(in_step: Pair, tmp_path: Path) -> None:
    bangalore, boston_hub = in_step
    before = row(bangalore, "boston_hub")
    lose_a_packet(in_step, tmp_path)
    assert bangalore.multitool("recoverpacket", "boston_hub") == 0
    assert row(bangalore, "boston_hub") == before
    assert send(bangalore, boston_hub, tmp_path)
    assert boston_hub.dump() == bangalore.dump()


@pytest.mark.parametrize(
    ("arguments", "status"),
    [([], 64), (["-since", "soon", "boston_hub"], 64), (["bangalore"], 64), (["tokyo"], 1)],
)
def test_what_recoverpacket_refuses(pair: Pair, arguments: list[str], status: int) -> None:
    assert pair[0].multitool("recoverpacket", *arguments) == status


def test_chepoch_asks_before_it_changes(
    in_step: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    bangalore, boston_hub = in_step
    before = row(bangalore, "boston_hub")["bangalore"]
    lose_a_packet(in_step, tmp_path)
    now = row(bangalore, "boston_hub")["bangalore"]
    for said in ("", "no\n", "\n"):
        answer(monkeypatch, said)
        assert bangalore.multitool("chepoch", "boston_hub", f"bangalore={before}") == 0
        assert row(bangalore, "boston_hub")["bangalore"] == now
    capfd.readouterr()
    answer(monkeypatch, "yes\n")
    assert bangalore.multitool("chepoch", "boston_hub", f"bangalore={before}") == 0
    assert capfd.readouterr().err == (
        f'Change operations of bangalore in the row "boston_hub": {now} -> {before}? [no] '
    )
    assert row(bangalore, "boston_hub")["bangalore"] == before
    assert send(bangalore, boston_hub, tmp_path)
    assert boston_hub.subjects("user.bob") == ["first", "second"]


def test_chepoch_with_force_does_not_ask_and_takes_ids(
    in_step: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    bangalore, _ = in_step
    monkeypatch.setattr("sys.stdin", None)
    with bangalore.member() as member:
        me = member.family.self_id
    assert bangalore.multitool("chepoch", "-force", "boston_hub", f"oid:{me}=1", "boston_hub=1") == 0
    assert row(bangalore, "boston_hub") == {"bangalore": 1, "boston_hub": 1}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 64, "a replica is needed"),
        (["bangalore", "bangalore=1"], 64, "bangalore is this replica itself"),
        (["boston_hub", "bangalore"], 64, "bangalore: replica=number is needed"),
        (["boston_hub", "bangalore=-1"], 64, "replica=number is needed"),
        (["boston_hub", "tokyo=1"], 1, "no replica 'tokyo'"),
        (["-raise_only", "boston_hub"], 64, "-raise_only goes with -actual"),
    ],
)
def test_what_chepoch_refuses(
    pair: Pair, capfd: Capture, arguments: list[str], status: int, said: str
) -> None:
    assert pair[0].multitool("chepoch", *arguments) == status
    assert said in capfd.readouterr().err


def test_actual_asks_the_sibling_over_the_line(in_step: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, boston_hub = in_step
    boston_hub.start()
    there = row(boston_hub, "boston_hub")
    lose_a_packet(in_step, tmp_path)
    capfd.readouterr()
    assert bangalore.multitool("lsepoch", "-actual", "boston_hub") == 0
    assert f"={there['bangalore']} (bangalore)" in capfd.readouterr().out
    assert row(bangalore, "boston_hub") != there, "showing changes nothing"
    assert bangalore.multitool("chepoch", "-actual", "-raise_only", "-force", "boston_hub") == 0
    assert row(bangalore, "boston_hub") != there, "nothing is lowered"
    assert bangalore.multitool("chepoch", "-force", "-actual", "boston_hub") == 0
    assert row(bangalore, "boston_hub") == there
    assert send(bangalore, boston_hub, tmp_path)
    assert boston_hub.dump() == bangalore.dump()


def test_actual_leaves_open_which_of_its_own_somebody_has_who_is_being_restored(
    in_step: Pair, capfd: Capture
) -> None:
    """They may be others than those of the same numbers here."""
    bangalore, boston_hub = in_step
    boston_hub.start()
    assert boston_hub.multitool("restorereplica", "-force") == 0
    assert bangalore.multitool("chepoch", "-force", "boston_hub", "boston_hub=0", "bangalore=0") == 0
    capfd.readouterr()
    assert bangalore.multitool("chepoch", "-force", "-actual", "boston_hub") == 0
    assert "boston_hub is being restored" in capfd.readouterr().err
    assert set(row(bangalore, "boston_hub")) == {"bangalore"}


def test_actual_of_one_who_does_not_answer_is_said(in_step: Pair, capfd: Capture) -> None:
    bangalore, _ = in_step
    assert bangalore.multitool("lsepoch", "-actual") == 1
    said = capfd.readouterr()
    assert 'row "bangalore"' in said.out and "127.0.0.2" in said.err
    assert bangalore.multitool("chepoch", "-force", "-actual", "boston_hub") == 1


def test_actual_of_somebody_else_at_that_host_is_refused(in_step: Pair, capfd: Capture) -> None:
    bangalore, _ = in_step
    bangalore.start()
    assert bangalore.multitool("chreplica", "-host", bangalore.address, "boston_hub") == 0
    assert bangalore.multitool("lsepoch", "-actual", "boston_hub") == 1
    assert "127.0.0.1 is 'bangalore', and not 'boston_hub' of this family" in capfd.readouterr().err


def test_chepoch_notices_that_this_replica_was_restored_from_a_backup(
    in_step: Pair, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    bangalore, _ = in_step
    answer(monkeypatch, "no\n")
    assert bangalore.multitool("chepoch", "boston_hub", "bangalore=1000") == 0
    said = capfd.readouterr().err
    assert "boston_hub has 1000 operations of this replica, which has only " in said
    assert "multitool restorereplica is needed" in said


def test_whatever_a_replica_is_believed_to_have_exports_to_it_go_on(in_step: Pair, tmp_path: Path) -> None:
    bangalore, _ = in_step
    most = 2**63 - 2
    assert bangalore.multitool("chepoch", "-force", "boston_hub", f"boston_hub={most}") == 0
    assert bangalore.multitool("chepoch", "-force", "boston_hub", f"boston_hub={most + 1}") == 64
    bangalore.deliver("bob", "later")
    assert bangalore.syncreplica("-export", "-out", tmp_path / "packet", "boston_hub") == 0
    assert (tmp_path / "packet").exists()


@pytest.mark.parametrize("number", ["-1", str(2**63 - 1), "9" * 40, "yes", "1.5"])
def test_a_sibling_that_says_what_nobody_can_have_is_not_believed(in_step: Pair, number: str) -> None:
    bangalore, _ = in_step
    text = (bangalore.directory / "conf/multisite" / FILE).read_text()
    head, _, rows = text.partition("row:\n")
    origin = rows.split(":")[0]
    with pytest.raises(MultisiteError, match="the answer is not about epochs"):
        parse_standing(f"{head}row:\n{origin}: {number}\n".encode())


def test_every_command_leaves_the_own_row_where_siblings_can_ask_for_it(in_step: Pair) -> None:
    for server in in_step:
        standing = parse_standing((server.directory / "conf/multisite" / FILE).read_bytes())
        with server.member() as member:
            assert standing.row == member.log.epochs.row(member.family.self_id)
            assert (standing.family, standing.replica) == (member.family.id, member.family.self_id)
            assert standing.name == server.name and standing.incarnation == 0
