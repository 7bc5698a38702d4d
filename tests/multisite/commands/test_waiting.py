"""What waits for a message that has not come is said, counted and in the exit status, by whoever meets it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.packet import Operation
from tests.multisite.commands.kit import Server, send
from tests.multisite.mail import Item, rewritten

Three = tuple[Server, Server, Server]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def damaged(three: Three) -> Path:
    """Carol's only message, at Boston; nobody can read it before `repair`."""
    boston = three[0]
    boston.create("user/carol")
    boston.deliver("carol", "unlucky")
    with boston.store() as store:
        directory = store.directory_of(Owner("user", "carol"))  # type: ignore[attr-defined]
    (pack,) = Path(directory).glob("pack-*")
    break_or_repair(pack)
    return pack


def break_or_repair(pack: Path) -> None:
    octets = bytearray(pack.read_bytes())
    octets[30] ^= 0xFF
    pack.write_bytes(octets)


def garbled(items: Iterable[Item]) -> Iterator[Item]:
    """With mailboxes of which nobody can make anything."""
    for item in items:
        if isinstance(item, Operation) and b"MAILBOX" in item.line:
            item = replace(item, line=b"APPLY MAILBOX %(UNIQUEID)\r\n")
        yield item


def export(source: Server, target: Server, capfd: Capture) -> tuple[int, Path, str]:
    """The exit status, the packet, and what was said on stderr."""
    path = source.directory / f"to_{target.name}"
    capfd.readouterr()
    status = source.syncreplica("-export", "-out", path, target.name)
    return status, path, capfd.readouterr().err


def waits(server: Server, capfd: Capture) -> tuple[list[dict[str, object]], str]:
    """What status says of it, as JSON and for people."""
    capfd.readouterr()
    server.multitool("status", "-json")
    found = json.loads(capfd.readouterr().out)
    server.multitool("status")
    server.multitool("lsepoch")
    server.multitool("describe", server.name)
    return found["waiting_here"], capfd.readouterr().out


def test_an_import_says_for_what_an_operation_waits_and_ends_with_one(
    three: Three, damaged: Path, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, bangalore = three
    status, path, said = export(boston, sanfran, capfd)
    assert status == 1 and "cannot be read and is left out" in said
    assert sanfran.syncreplica("-import", path) == 1
    (line,) = capfd.readouterr().out.splitlines()
    assert line.endswith("; 1 change of carol waits for a message that has not come")
    (waiting,), lines = waits(sanfran, capfd)
    assert (waiting["owner"], waiting["operations"]) == ("carol", 1)
    assert waiting["why"] == "for a message that has not come"
    for said in (
        "1 operation on carol waits for a message that has not come, the oldest for ",
        "waiting for messages that have not come: 1 operations\n",
        " on carol, for a message that has not come\n",
    ):
        assert said in lines

    status, path, said = export(sanfran, bangalore, capfd)
    assert status == 0, "it never had the message"
    assert said.splitlines() == [
        "syncreplica: 1 message of carol has not come here yet: bangalore is told of it, and asks for it, too"
    ]
    assert bangalore.syncreplica("-import", path) == 1
    assert "waits for a message that has not come" in capfd.readouterr().out

    break_or_repair(damaged)
    send(sanfran, boston, tmp_path)
    send(boston, sanfran, tmp_path)
    assert waits(sanfran, capfd)[0] == [] and sanfran.subjects("user.carol") == ["unlucky"]


def test_what_comes_behind_what_is_set_aside_says_so(three: Three, capfd: Capture) -> None:
    boston, sanfran, _ = three
    boston.create("user/carol")
    _, path, _ = export(boston, sanfran, capfd)
    assert sanfran.syncreplica("-import", rewritten(path, boston, items=garbled)) == 1
    assert "is set aside" in capfd.readouterr().err
    boston.deliver("carol", "behind it")
    _, path, _ = export(boston, sanfran, capfd)
    assert sanfran.syncreplica("-import", path) == 1
    said = "; 1 change of carol waits behind what is set aside (multitool setaside)"
    assert said in capfd.readouterr().out
    (waiting,), lines = waits(sanfran, capfd)
    assert waiting["why"] == "behind what is set aside (multitool setaside)"
    assert "waiting behind what is set aside: 1 operations\nset aside: 1 operations\n" in lines
