"""scrubber, mkreplica -replace and giveup, as they are typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.multisite.commands.kit import Server, exchange, send

Three = tuple[Server, Server, Server]
Capture = pytest.CaptureFixture[str]


def test_what_is_old_is_trimmed_and_who_lacks_it_is_made_anew(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, bangalore = three
    boston.create("user/bob")
    boston.deliver("bob", "of old")
    exchange(list(three), tmp_path)
    for text in ("not told to Bangalore", "neither is this"):
        boston.deliver("bob", text)
        assert send(boston, sanfran, tmp_path)
    capfd.readouterr()
    assert boston.multitool("scrubber", "-nop", "-keep", "0", "-unheard", "0") == 0
    assert "would be trimmed" in capfd.readouterr().out
    with boston.member() as member:
        member.log.db.execute("UPDATE operations SET time = time - 86400 * 400")
    assert boston.multitool("scrubber") == 0
    out = capfd.readouterr().out
    assert "operations of boston_hub trimmed: " in out
    assert "multitool mkreplica -export -replace -out PATH bangalore" in out
    boston.deliver("bob", "too late")
    packet, snapshot = tmp_path / "packet", tmp_path / "snapshot"
    assert boston.syncreplica("-export", "-out", packet, "bangalore") == 1
    assert "mkreplica -export -replace" in capfd.readouterr().err and not packet.exists()
    assert boston.multitool("mkreplica", "-export", "-replace", "-out", snapshot, "bangalore") == 0
    assert capfd.readouterr().out == f"Generating replica snapshot packet {snapshot}\n"
    assert bangalore.multitool("mkreplica", "-import", "-replace", snapshot) == 0
    assert "bangalore@mail is made anew" in capfd.readouterr().out
    for server in (boston, sanfran):
        assert send(bangalore, server, tmp_path), "it says what it has"
    exchange(list(three), tmp_path)
    assert boston.dump() == sanfran.dump() == bangalore.dump()
    assert bangalore.subjects("user.bob") == [
        "neither is this",
        "not told to Bangalore",
        "of old",
        "too late",
    ]


def test_nothing_is_given_up_where_nothing_is_lacking(three: Three, capfd: Capture) -> None:
    capfd.readouterr()
    assert three[0].multitool("giveup", "-n") == 0
    assert capfd.readouterr().out == "no message is lacking\n"
