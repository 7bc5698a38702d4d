"""``sync_client --compare`` as it is typed: what it prints, what it ends with, and that its advice helps."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
from typing import Any

import pytest

from cyrus_sync.common.names import SERVER, Owner
from tests.common.stores.test_healing import spoil
from tests.deadlines import until
from tests.sync_client.real import BIN, ENVIRONMENT, Client, Pair, Side


@pytest.fixture(autouse=True)
def _by_tcp(pair: Pair) -> None:
    """On a UNIX socket no server says what it knows."""
    conf = pair.master.conf
    address = f"sync_host: 127.0.0.1:{pair.server.port}"
    conf.write_text(re.sub("^sync_host: .*$", address, conf.read_text(), flags=re.MULTILINE))
    pair.master.add("sync_authname: cyrus", "sync_password: secret")


ALICE, NEWS = Owner("user", "alice"), Owner("shared", "news")


def compared(pair: Pair, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status and the report."""
    client = pair.run("--compare", "--format", "json", *options)
    assert client.process.returncode in (0, 1), client.err
    return client.process.returncode, json.loads(client.out)


def follow(pair: Pair, report: dict[str, Any]) -> list[str]:
    """Type what the report says is to be typed; the lines. Of two ways the last one is taken."""
    typed = []
    for found in report["differing"]:
        chosen: list[dict[str, Any]] = []
        for line in found["type"]:
            if line["otherwise"] and chosen and not chosen[-1]["otherwise"]:
                chosen.pop()
            chosen.append(line)
        typed += chosen
    for line in typed:
        side = pair.master if line["where"] == "here" else pair.replica
        type_at(side, line["command"])
    return [line["command"] for line in typed]


def type_at(side: Side, command: str) -> None:
    """On that host ``/etc/imapd.conf`` is its own, and our commands are in the PATH."""
    first, pipe, last = command.rpartition(" | ")
    words = shlex.split(last)
    if "-C" not in words:  # on that host it is /etc/imapd.conf
        words[1:1] = ["-C", str(side.conf)]
    environment = {**ENVIRONMENT, "PATH": f"{BIN}:{ENVIRONMENT['PATH']}"}
    done = subprocess.run(
        ["sh", "-c", f"{first}{pipe}{shlex.join(words)}"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def make_everything_differ(pair: Pair) -> None:
    """A difference of each kind between two ends that were the same."""
    master, replica = pair.master.store, pair.replica.store
    with master.write(ALICE) as writer:
        writer.set_flags("user.alice", [1], add=["\\Seen", "$Important"])
        writer.create("user.alice.new")
        writer.set_quota("user.alice", {"STORAGE": 1000})
        writer.subscribe("user.alice.new")
        writer.annotate("user.alice", "/comment", "", b"mine")
        writer.set_acl("user.alice.Work", "bob", "lrs")
        writer.delete("user.alice.gone", delayed=False)
    pair.master.deliver("alice", "only here")
    with replica.write(ALICE) as writer:
        writer.create("user.alice.stray")
        writer.expunge("user.alice.Work", [1])
        writer.subscribe("user.alice.stray")
    with master.write(NEWS) as writer:
        writer.create("news.new")
    with master.write(SERVER) as writer:
        writer.annotate("", "/comment", "", b"of the server")
    pair.replica.create("zoe")


@pytest.mark.covers("sync_client: options", "--compare", "--records", "--format")
def test_what_it_says_is_to_be_typed_makes_both_ends_the_same(pair: Pair) -> None:
    pair.master.create("alice", "bob")
    pair.master.deliver("alice", "one")
    with pair.master.store.write(ALICE) as writer:
        writer.create("user.alice.Work")
        writer.create("user.alice.gone")
    for text in ("bad here", "bad there", "w"):
        pair.master.deliver("alice", text, "user.alice.Work")
    with pair.master.store.write(NEWS) as writer:
        writer.create("news")
    assert pair.run("-A").process.returncode == 0
    status, report = compared(pair, "--messages")
    assert (status, report["equal"], report["differing"], report["not_looked_at"]) == (0, True, [], [])
    assert report["counts"] == {
        "owners": 3,
        "mailboxes": 5,
        "records": 4,
        "messages": 4,
        "octets": report["counts"]["octets"],
        "differing": 0,
        "failed": 0,
    }
    make_everything_differ(pair)
    before = pair.master.dump(), pair.replica.dump()
    status, report = compared(pair, "-A", "--records")
    assert status == 1 and {one["owner"] for one in report["differing"]} == {
        "alice",
        "shared:news",
        "zoe",
        "server:",
    }
    assert (pair.master.dump(), pair.replica.dump()) == before, "nothing is changed"
    typed = follow(pair, report)
    conf = str(pair.master.conf)
    assert f"sync_client -C {conf} -u alice" in typed and f"sync_client -C {conf} -m news/new" in typed
    assert {
        "mailstore --even-replica delete user/alice/stray",
        "mailstore --even-replica delete -r user/zoe",
    } <= set(typed)
    assert compared(pair, "--messages")[0] == 0
    with pair.replica.store.write(SERVER) as writer:  # the next master has none
        writer.annotate("", "/comment", "", None)


def test_damage_on_the_disks_is_found_and_mended_by_what_it_says(pair: Pair) -> None:
    pair.master.create("alice")
    for text in ("one", "two", "three"):
        pair.master.deliver("alice", text)
    pair.run("-u", "alice")
    spoil(pair.master.store, "one", ALICE)  # type: ignore[arg-type]
    spoil(pair.replica.store, "two", ALICE)  # type: ignore[arg-type]
    assert compared(pair, "alice")[0] == 0, "no CRC knows of it"
    status, report = compared(pair, "--messages", "alice")
    (box,) = report["differing"][0]["mailboxes"]
    assert status == 1
    assert [one["uid"] for one in box["damaged_here"]["messages"]] == [1]
    assert [one["uid"] for one in box["damaged_there"]["messages"]] == [2]
    assert follow(pair, report) == [f"sync_client -C {pair.master.conf} -u alice"]
    assert compared(pair, "--messages", "alice")[0] == 0


def test_a_person_reads_what_differs_and_what_to_type(pair: Pair) -> None:
    pair.master.create("alice")
    pair.run("-u", "alice")
    pair.master.deliver("alice", "only here")
    client = pair.run("--compare", "alice", "nobody", "shared:user/x")
    assert client.process.returncode == 1
    out = client.out.decode()
    assert "alice differs:\n  user/alice (" in out
    assert re.search(r"    only here: 1 message, uid 1\n      uid 1 [0-9a-f]{40}\n", out)
    assert f"  type here: sync_client -C {pair.master.conf} -u alice   (mends it)\n" in out
    assert "nobody could not be compared: no such user on either side" in out
    assert "different: 1 owner; could not be compared: 1\n" in out
    assert b"shared:user/x" in client.err
    assert not list(pair.master.directory().glob("compare-*"))


@pytest.mark.covers("sync_client: options", "--verify-report", "--key")
def test_a_report_is_checked_by_its_own_server_and_by_who_has_the_key(pair: Pair) -> None:
    pair.master.create("alice")
    pair.run("-u", "alice")
    report = pair.master.root / "report.json"
    report.write_bytes(pair.run("--compare", "--format", "json").out)
    good = pair.run("--verify-report", str(report))
    assert good.process.returncode == 0 and good.out.startswith(b"GOOD: ")
    key = (pair.master.directory() / "report.pub").read_text().strip()
    elsewhere = Client(pair.replica, "--verify-report", str(report), "--key", key)
    assert elsewhere.ended() == 0
    assert Client(pair.replica, "--verify-report", str(report)).ended() == 1
    report.write_bytes(report.read_bytes().replace(b'"owners": 1', b'"owners": 9'))
    bad = pair.run("--verify-report", str(report))
    assert bad.process.returncode == 1 and b"changed since it was signed" in bad.out


@pytest.mark.covers("sync_client: options", "--rate", "--anew")
def test_a_comparison_that_was_killed_goes_on_where_it_was(pair: Pair) -> None:
    users = [f"u{number:02}" for number in range(30)]
    pair.master.create(*users)
    pair.run("-A")
    pair.master.deliver("u00", "only here")
    slow = pair.client("--compare", "--rate", "1", "--format", "json")
    (progress,) = until(lambda: list(pair.master.directory().glob("compare-*.progress")), "it has begun")
    until(lambda: progress.read_bytes().count(b"\n") > 4, "some are done")
    slow.process.send_signal(signal.SIGKILL)
    slow.ended()
    done = {json.loads(line)["owner"] for line in progress.read_bytes().splitlines()[1:]}
    assert 3 <= len(done) < 25, "the rate holds"
    second = pair.run("--compare", "--format", "json")
    report = json.loads(second.out)
    assert b"going on with the comparison that was interrupted" in second.err
    assert report["interrupted"] and report["counts"]["owners"] == 30
    assert [one["owner"] for one in report["differing"]] == ["u00"]
    assert second.process.returncode == 1
    stopped = pair.client("--compare", "--rate", "1")
    until(lambda: progress.exists() and progress.read_bytes().count(b"\n") > 1, "it has begun again")
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.ended() == 75 and b"not finished" in stopped.err
    anew = pair.run("--compare", "--anew", "--format", "json")
    assert not json.loads(anew.out)["interrupted"]


def test_who_cannot_be_read_is_named_and_the_others_are_compared(pair: Pair) -> None:
    pair.master.create("alice", "bob", "carol")
    pair.run("-A")
    directory = pair.master.store.directory_of(Owner("user", "bob"))  # type: ignore[attr-defined]
    pair.master.store.close()
    (directory / "index.sqlite").write_bytes(b"garbage" * 1000)
    for name in ("-wal", "-shm"):
        (directory / f"index.sqlite{name}").unlink(missing_ok=True)
    status, report = compared(pair)
    assert status == 1 and report["differing"] == []
    assert [one["owner"] for one in report["failed"]] == ["bob"]
    assert report["counts"]["owners"] == 3


def test_a_server_that_is_not_there_leaves_no_report(pair: Pair) -> None:
    pair.master.create("alice")
    client = pair.run("--compare", "-o", "-S", str(pair.master.root / "nowhere"))
    assert client.process.returncode == 1 and client.out == b""
    assert b"not finished, so there is no report" in client.err
