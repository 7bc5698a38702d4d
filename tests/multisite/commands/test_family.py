"""Making and changing a family: mkfamily, mkreplica, lsreplica, chreplica, rmreplica."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cyrus_sync.multisite.multitool import main
from tests.multisite.commands.kit import Server, exchange, send
from tests.ports import free_port

Pair = tuple[Server, Server]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def alone(tmp_path: Path) -> Server:
    """A server with a family of its own, and mail in it."""
    server = Server("boston", tmp_path / "boston", port=free_port())
    server.create("user/bob")
    server.deliver("bob", "older than the family")
    assert server.multitool("mkfamily", "-name", "mail", "boston") == 0
    return server


def test_a_family_is_made_of_the_mail_that_is_there(alone: Server, tmp_path: Path, capfd: Capture) -> None:
    other = Server("other", tmp_path / "other")
    assert other.multitool("mkfamily", "-name", "test", "-host", "o.example.org", "tokyo") == 0
    assert capfd.readouterr().out.startswith("tokyo@test is the first replica of the family ")
    assert other.multitool("lsreplica") == 0
    assert capfd.readouterr().out == "* tokyo  o.example.org\n"
    assert alone.multitool("lsmaster", "bob") == 0
    assert capfd.readouterr().out == "bob  boston\n"
    assert alone.multitool("lsreplica") == 0
    assert capfd.readouterr().out == "* boston  127.0.0.1\n"


def test_a_server_is_in_one_family_only(alone: Server, capfd: Capture) -> None:
    assert alone.multitool("mkfamily", "-name", "other", "boston") == 1
    assert "this server is a replica of a family already" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["boston"], ["-name", "mail"], ["-name", "mail", "a", "b"]])
def test_mkfamily_needs_two_names(tmp_path: Path, arguments: list[str]) -> None:
    assert Server("boston", tmp_path / "boston").multitool("mkfamily", *arguments) == 64


@pytest.mark.parametrize("name", ["a b", "x/y", "", "-"])
def test_names_of_replicas_are_plain_words(tmp_path: Path, name: str) -> None:
    assert Server("boston", tmp_path / "boston").multitool("mkfamily", "-name", "mail", "--", name) == 1


def test_a_replica_is_made_by_shipping_its_creation_packet(
    alone: Server, tmp_path: Path, capfd: Capture
) -> None:
    hub = Server("hub", tmp_path / "hub", address="127.0.0.2", port=alone.port)
    hub.start()
    try:
        capfd.readouterr()
        assert alone.multitool("mkreplica", "-export", "-workdir", tmp_path, "-fship", "127.0.0.2:hub") == 0
        lines = capfd.readouterr().out.splitlines()
        assert lines[0].startswith("Generating replica creation packet ") and "/repl_boston_" in lines[0]
        assert lines[1].startswith("- shipping order file is ")
        assert lines[3].startswith("-- Forwarded/delivered packet ")
        assert len(hub.incoming()) == 1
        assert hub.multitool("mkreplica", "-import", *alone.pinned(), "-workdir", tmp_path, "-receive") == 0
    finally:
        hub.stop()
    assert len(hub.incoming()) == 1, "it is kept"
    assert hub.subjects("user.bob") == ["older than the family"]
    exchange([alone, hub], tmp_path)
    assert hub.dump() == alone.dump()


def test_a_creation_packet_may_be_cut(alone: Server, tmp_path: Path, capfd: Capture) -> None:
    for number in range(20):
        alone.deliver("bob", str(number), body=os.urandom(30_000).hex())
    hub = Server("hub", tmp_path / "hub")
    out = tmp_path / "out"
    out.mkdir()
    assert alone.multitool("mkreplica", "-exp", "-max", "300k", "-out", out / "repl", "hub:hub") == 0
    assert len(list(out.iterdir())) > 2
    last = max(out.iterdir())
    last.rename(tmp_path / "last")
    assert hub.multitool("mkreplica", "-imp", *alone.pinned(), out) == 1
    assert "not all parts of the creation packet are here" in capfd.readouterr().err
    (tmp_path / "last").rename(last)
    assert hub.multitool("mkreplica", "-imp", *alone.pinned(), out) == 0
    assert hub.subjects("user.bob") == alone.subjects("user.bob")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["-out", "p"], 64, "host:replica"),
        (["-out", "p", "hub"], 64, "hub: host:replica is needed"),
        (["-out", "p", "ho st:hub"], 64, "cannot be the name of a host"),
        (["-out", "p", "hub:h b"], 64, "no name for a replica"),
        (["hub:hub"], 64, "one of -ship, -fship and -out is needed"),
        (["-out", "/tmp", "hub:hub"], 1, "/tmp is there already"),
        (["-out", "p", "hub:boston"], 1, "there is a replica 'boston' in the family already"),
    ],
)
def test_what_mkreplica_refuses(
    alone: Server, capfd: Capture, arguments: list[str], status: int, said: str
) -> None:
    assert alone.multitool("mkreplica", "-export", *arguments) == status
    captured = capfd.readouterr()
    assert said in captured.err
    assert alone.multitool("lsreplica") == 0
    assert capfd.readouterr().out == "* boston  127.0.0.1\n"


def test_a_creation_packet_that_could_not_be_written_can_be_made_again(
    alone: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cyrus_sync.multisite.packet.PacketWriter.close", full)
        assert alone.multitool("mkreplica", "-export", "-out", tmp_path / "p", "hub:hub") == 75
    assert alone.multitool("mkreplica", "-export", "-out", tmp_path / "p", "hub:hub") == 0
    hub = Server("hub", tmp_path / "hub")
    assert hub.multitool("mkreplica", "-import", *alone.pinned(), tmp_path / "p") == 0
    assert hub.subjects("user.bob") == ["older than the family"]


def test_a_server_with_mail_becomes_no_replica(alone: Server, tmp_path: Path, capfd: Capture) -> None:
    hub = Server("hub", tmp_path / "hub")
    hub.create("user/eve")
    assert alone.multitool("mkreplica", "-export", "-out", tmp_path / "p", "hub:hub") == 0
    assert hub.multitool("mkreplica", "-import", *alone.pinned(), tmp_path / "p") == 1
    assert "this server has mail already" in capfd.readouterr().err


def test_what_is_no_creation_packet_makes_no_replica(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, _ = pair
    bangalore.create("user/bob")
    assert bangalore.syncreplica("-export", "-out", tmp_path / "p", "boston_hub") == 0
    hub = Server("hub", tmp_path / "hub")
    assert hub.multitool("mkreplica", "-import", tmp_path / "p") == 1
    assert "it is no creation packet (syncreplica -import)" in capfd.readouterr().err
    (tmp_path / "repl_boston_hub").unlink()
    assert hub.multitool("mkreplica", "-import", tmp_path) == 1
    assert "there is no creation packet" in capfd.readouterr().err
    assert hub.multitool("mkreplica", "-import") == 64


def test_changes_of_a_replica_reach_the_others(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, boston_hub = pair
    assert boston_hub.multitool("chreplica", "-host", "new.example.org", "-scl", "daily", "boston_hub") == 0
    assert send(boston_hub, bangalore, tmp_path)
    capfd.readouterr()
    assert bangalore.multitool("lsreplica", "-long", "boston_hub") == 0
    said = capfd.readouterr().out
    assert "host:          new.example.org\n" in said and "storage class: daily\n" in said


@pytest.mark.parametrize("arguments", [["boston_hub"], ["-host", "x"], ["-host", "a b", "boston_hub"]])
def test_chreplica_needs_something_to_change(pair: Pair, arguments: list[str]) -> None:
    assert pair[0].multitool("chreplica", *arguments) == 64


def test_a_key_is_checked_and_then_used(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, boston_hub = pair
    assert bangalore.multitool("chreplica", "-key", "nonsense", "boston_hub") != 0
    key = boston_hub.family_keys("bangalore")
    assert bangalore.multitool("chreplica", "-key", key, "boston_hub") == 0
    boston_hub.create("user/bob")
    assert boston_hub.syncreplica("-export", "-out", tmp_path / "p", "bangalore") == 0
    capfd.readouterr()
    assert bangalore.syncreplica("-import", tmp_path / "p") == 1
    assert "do not follow from those that are known here" in capfd.readouterr().err
    assert bangalore.multitool("chreplica", "-key", boston_hub.family_keys("boston_hub"), "boston_hub") == 0
    assert bangalore.syncreplica("-import", tmp_path / "p") == 0


def test_a_removed_replica_is_exported_to_no_more(
    three: tuple[Server, ...], tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, _ = three
    assert boston.multitool("rmreplica", "bangalore") == 0
    assert send(boston, sanfran, tmp_path)
    for server in (boston, sanfran):
        assert server.syncreplica("-export", "-out", tmp_path / "p", "bangalore") == 1
        assert "no replica 'bangalore'" in capfd.readouterr().err
        assert server.multitool("lsreplica") == 0
        assert "bangalore" not in capfd.readouterr().out
    sanfran.create("user/bob")
    exchange([boston, sanfran], tmp_path)
    assert boston.dump() == sanfran.dump()
    assert boston.multitool("lsepoch") == 0
    assert 'row "bangalore" (@ 127.0.0.3), removed:' in capfd.readouterr().out, "what it sent is here"


def test_nobody_removes_himself_or_a_master(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, boston_hub = pair
    boston_hub.create("user/bob")
    assert send(boston_hub, bangalore, tmp_path)
    assert bangalore.multitool("rmreplica", "bangalore") == 1
    assert "bangalore is this replica itself" in capfd.readouterr().err
    assert bangalore.multitool("rmreplica", "boston_hub") == 1
    assert "boston_hub is the master of 1 owner(s): bob" in capfd.readouterr().err
    assert bangalore.multitool("rmreplica", "-force", "boston_hub") == 0
    assert bangalore.multitool("rmreplica") == 64


def test_a_name_can_be_used_again(pair: Pair, tmp_path: Path) -> None:
    bangalore, _ = pair
    assert bangalore.multitool("rmreplica", "boston_hub") == 0
    assert bangalore.multitool("mkreplica", "-export", "-out", tmp_path / "p", "b:boston_hub") == 0
    again = Server("again", tmp_path / "again")
    assert again.multitool("mkreplica", "-import", *bangalore.pinned(), tmp_path / "p") == 0


# -- the umbrella


def test_multitool_names_its_commands(capfd: Capture) -> None:
    assert main([]) == 64
    assert "  syncreplica " in capfd.readouterr().err
    for word in ("-help", "-h", "–help"):
        assert main([word]) == 0
        assert "exit status:" in capfd.readouterr().out
    assert main(["lsvob"]) == 64
    assert "there is no command 'lsvob'" in capfd.readouterr().err


def test_multitool_passes_on_to_the_shipping_commands(pair: Pair, tmp_path: Path) -> None:
    bangalore, _ = pair
    (tmp_path / "file").write_bytes(b"x")
    assert bangalore.multitool("mkorder", "-data", tmp_path / "file", "hub") == 0
    assert (tmp_path / "sh_o_file").exists()
    assert bangalore.multitool("shipping_server", "-poll") == 0
