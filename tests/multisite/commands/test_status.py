"""multitool status: who is behind, and what waits, for people and for Nagios."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.multisite.commands.kit import Server, exchange, send

Three = tuple[Server, Server, Server]
Capture = pytest.CaptureFixture[str]

DAY = 86400


@pytest.fixture
def sites(three: Three, tmp_path: Path) -> Three:
    """Boston is bob's master, and everybody has everything."""
    three[0].create("user/bob")
    exchange(list(three), tmp_path)
    return three


def status(server: Server, capfd: Capture, *arguments: str) -> tuple[int, list[str]]:
    capfd.readouterr()
    return server.multitool("status", *arguments), capfd.readouterr().out.splitlines()


def as_json(server: Server, capfd: Capture, *arguments: str) -> dict[str, Any]:
    code, lines = status(server, capfd, "-json", *arguments)
    found: dict[str, Any] = json.loads("\n".join(lines))
    assert found["exit_status"] == code
    return found


def sibling(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [one for one in found["siblings"] if one["name"] == name]
    assert isinstance(one, dict)
    return one


def grow_old(server: Server, days: int) -> None:
    """As if everything that the log tells had happened so many days earlier."""
    with server.member() as member:
        member.log.db.execute("UPDATE operations SET time = time - ?", (days * DAY,))
        member.log.db.execute("UPDATE exports SET time = time - ?", (days * DAY,))


def test_where_everybody_has_everything_it_is_ok(sites: Three, capfd: Capture) -> None:
    boston = sites[0]
    code, lines = status(boston, capfd)
    assert code == 0
    assert lines[0] == "PACKETS OK - boston_hub@mail: 2 siblings, nobody is behind"
    assert lines[2].split("  ")[0] == "sibling"
    assert [line.split()[0] for line in lines[3:5]] == ["bangalore", "sanfran_hub"]
    columns = re.split(" {2,}", lines[2])
    for line in lines[3:5]:
        cells = dict(zip(columns, re.split(" {2,}", line), strict=True))
        assert (cells["to send"], cells["lacking"]) == ("0", "0")
    assert lines[-1] == "bays: 0 packets to apply, 0 orders, 0 came back"


def test_what_a_sibling_has_not_been_told_is_counted_with_its_age(sites: Three, capfd: Capture) -> None:
    boston, sanfran, _ = sites
    boston.deliver("bob", "one")
    found = as_json(boston, capfd)
    assert found["unrecorded"] > 0, "no export has recorded it"
    assert sibling(found, "sanfran_hub")["to_send"] == 0
    send(boston, sanfran, boston.directory)
    found = as_json(boston, capfd)
    assert (sibling(found, "sanfran_hub")["to_send"], sibling(found, "bangalore")["to_send"]) == (0, 1)
    assert found["result"] == "OK"
    assert as_json(boston, capfd, "-warning", "0")["result"] == "WARNING"
    grow_old(boston, 3)
    found = as_json(boston, capfd)
    assert found["result"] == "WARNING"
    assert found["reasons"] == ["bangalore has not been told 1 operations, the oldest of 3 days ago"]
    grow_old(boston, 7)
    code, lines = status(boston, capfd)
    assert code == 2
    assert lines[0].startswith("PACKETS CRITICAL - boston_hub@mail: bangalore has not been told 1 operations")


def test_what_lies_on_a_stick_for_a_month_is_on_the_way(sites: Three, tmp_path: Path, capfd: Capture) -> None:
    boston, sanfran, _ = sites
    send(sanfran, boston, tmp_path)
    before = sibling(as_json(boston, capfd), "sanfran_hub")["on_the_way"]
    for number in (1, 2):
        boston.deliver("bob", str(number))
        assert boston.syncreplica("-export", "-out", tmp_path / f"stick{number}", "sanfran_hub") == 0
    found = as_json(boston, capfd)
    assert sibling(found, "sanfran_hub")["on_the_way"] == before + 2 and found["result"] == "OK"
    grow_old(boston, 31)
    found = as_json(boston, capfd)
    assert sibling(found, "sanfran_hub")["to_send"] == 0
    said = f"sanfran_hub has not shown to have {before + 2} operations of packets for it"
    assert found["result"] == "CRITICAL" and f"{said}, the first of 31 days ago" in found["reasons"]
    _, lines = status(boston, capfd)
    assert re.search(rf"^sanfran_hub .*  {before + 2} \(31 days\)  0$", "\n".join(lines), re.MULTILINE)
    assert boston.multitool("describe", "sanfran_hub") == 0
    assert f"  on the way:    {before + 2} operations since " in capfd.readouterr().out
    assert sanfran.syncreplica("-import", tmp_path) == 0
    sanfran.deliver("bob", "an answer")
    send(sanfran, boston, tmp_path)
    found = as_json(boston, capfd)
    assert sibling(found, "sanfran_hub")["on_the_way"] == 0
    assert not any("sanfran_hub has not shown" in reason for reason in found["reasons"])


def test_what_has_arrived_and_is_not_applied_is_lacking(sites: Three, capfd: Capture) -> None:
    boston, sanfran, _ = sites
    boston.deliver("bob", "one")
    sanfran_bay = sanfran.bay / "incoming"
    sanfran_bay.mkdir(parents=True)
    assert boston.syncreplica("-export", "-out", sanfran_bay / "packet", "sanfran_hub") == 0
    found = as_json(sanfran, capfd)
    assert (sibling(found, "boston_hub")["lacking"], sibling(found, "boston_hub")["packets"]) == (1, 1)
    assert found["bays"]["packets"] == 1
    assert sanfran.syncreplica("-import", "-receive") == 0
    found = as_json(sanfran, capfd)
    assert (sibling(found, "boston_hub")["lacking"], found["bays"]["packets"]) == (0, 0)
    assert sibling(found, "boston_hub")["received"] >= sibling(found, "boston_hub")["made"] > 0


def test_what_waits_for_a_master_is_said_everywhere_and_at_last_how_to_do_without(
    sites: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, bangalore = sites
    assert sanfran.mailstore("create", "user/bob/made") == 0
    send(sanfran, bangalore, tmp_path)
    for site in (sanfran, bangalore):
        found = as_json(site, capfd)
        (waiting,) = found["waiting"]
        assert (waiting["owner"], waiting["master"], waiting["operations"]) == ("bob", "boston_hub", 1)
        capfd.readouterr()
        assert site.multitool("lsepoch", "boston_hub") == 0
        assert "waiting for the answer of boston_hub: 1 operations" in capfd.readouterr().out
        assert site.multitool("describe", "boston_hub", "user/bob") == 0
        assert capfd.readouterr().out.count("waiting:       1 operation since ") == 2
    grow_old(bangalore, 9)
    code, lines = status(bangalore, capfd)
    assert code > 0
    said = (
        "1 operation on bob waits for boston_hub, the oldest for 9 days; if boston_hub is lost for good:"
        " multitool chmaster -force bangalore bob"
    )
    assert said in lines[0]
    send(sanfran, boston, tmp_path)
    exchange(list(sites), tmp_path)
    assert [as_json(site, capfd)["waiting"] for site in sites] == [[], [], []]


def test_orders_in_the_bays_are_counted_with_the_next_expiry(sites: Three, capfd: Capture) -> None:
    boston = sites[0]
    boston.deliver("bob", "one")
    assert boston.syncreplica("-export", "-ship", "-pexpire", "31-Dec-2099", "bangalore") == 0
    boston.deliver("bob", "two")
    assert boston.syncreplica("-export", "-ship", "bangalore") == 0
    found = as_json(boston, capfd)
    assert found["bays"]["orders"] == 2
    assert found["now"] + 13 * DAY < found["bays"]["next_expiry"] < found["now"] + 15 * DAY
    home = boston.directory / "conf/shipping/ms_rtn/incoming"
    home.mkdir(parents=True, exist_ok=True)
    (home / "sync_boston_1").write_bytes(b"x")
    (boston.bay / "outgoing" / "sh_o_broken").write_bytes(b"x")
    found = as_json(boston, capfd)
    assert found["result"] == "WARNING"
    assert {"1 shipping orders fail, have expired or cannot be read", "1 files came back undelivered"} <= {
        *found["reasons"]
    }


def test_the_three_names_of_it_say_the_same(sites: Three, capfd: Capture) -> None:
    boston = sites[0]
    boston.deliver("bob", "one")
    _, expected = status(boston, capfd)
    assert boston.multitool("lsepoch", "-status") == 0
    assert capfd.readouterr().out.splitlines() == expected
    assert boston.syncreplica("--status") == 0
    assert capfd.readouterr().out.splitlines() == expected
    assert boston.multitool("lsepoch", "-json") == 64


def test_who_is_no_replica_is_unknown_to_nagios(tmp_path: Path, capfd: Capture) -> None:
    lonely = Server("lonely", tmp_path)
    code, lines = status(lonely, capfd)
    assert (code, lines[0].partition(" - ")[0]) == (3, "PACKETS UNKNOWN")
    assert as_json(lonely, capfd)["result"] == "UNKNOWN"
