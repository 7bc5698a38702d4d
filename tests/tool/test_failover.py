"""docs/failover.md, played with two stores of ours: once as it was planned, and once as nobody planned it."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from tests.deadlines import until
from tests.ports import free_port
from tests.sync_client.real import BIN, ENVIRONMENT, Client, Server, Side

ALICE = Owner("user", "alice")


class Host(Side):
    """One of two servers: a store, a sync_server, a sync_client that speaks to the other."""

    def __init__(self, root: Path, name: str, port: int, other: int) -> None:
        self.port = port
        socket_path = root / f"{name}.sock"
        super().__init__(
            root,
            name,
            sync_log="1",
            sync_listen=f"{socket_path} 127.0.0.1:{port}",
            sync_host=f"127.0.0.1:{other}",
            sync_authname="cyrus",
            sync_password="secret",
        )
        self.conf.chmod(0o600)
        PasswordFile(self.root / "conf" / "sync_passwd").set_password("cyrus", "secret")
        self.server = Server(self, socket_path, port)
        self.clients: list[Client] = []

    def type(self, command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """What an administrator types on this host, whose configuration is where it belongs."""
        program, *words = command.split()
        done = subprocess.run(
            [BIN / program, "-C", self.conf, *words],
            input=stdin.decode(),
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
            check=False,
        )
        return done

    def ok(self, command: str) -> str:
        done = self.type(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def roll(self) -> Client:
        client = Client(self, "-R", "-d", "1")
        self.clients.append(client)
        return client

    def subjects(self, user: str) -> set[str]:
        """Of all live messages."""
        found = set()
        with self.store.read(Owner("user", user)) as reader:
            for state in reader.mailboxes():
                for batch in reader.records(state.uniqueid):
                    for record in batch:
                        body = None if record.expunged else reader.body(record.guid)
                        if body is not None:
                            assert isinstance(body.data, bytes)
                            found.add(re.findall(rb"Subject: (.*)\r\n", body.data)[0].decode())
        return found

    def folders(self, user: str) -> set[str]:
        with self.store.read(Owner("user", user)) as reader:
            return {state.name for state in reader.mailboxes()}

    def close(self) -> None:
        for client in self.clients:
            client.kill()
        self.server.stop(signal.SIGKILL)
        self.store.close()


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    """A master, boston, and its replica, sanfran, on which only replication may write."""
    ports = free_port(), free_port()
    with contextlib.ExitStack() as stack:
        boston = Host(tmp_path, "boston", ports[0], ports[1])
        stack.callback(boston.close)
        sanfran = Host(tmp_path, "sanfran", ports[1], ports[0])
        stack.callback(sanfran.close)
        sanfran.add("replicaonly: yes")
        sanfran.server.start()
        boston.create("alice", "bob")
        with boston.store.write(ALICE) as writer:
            writer.create("user.alice.Work")
        boston.deliver("alice", "first")
        boston.ok("sync_client -A")
        yield boston, sanfran


@pytest.mark.covers("sync_client: options", "--drain")
@pytest.mark.covers("cyrus-sync: commands and options", "promote", "demote")
def test_a_planned_change_of_masters_and_back(hosts: tuple[Host, Host]) -> None:
    boston, sanfran = hosts
    boston.roll()
    boston.deliver("alice", "before the change")
    refused = sanfran.type("mailstore deliver alice", b"Subject: x\r\n\r\n")
    assert refused.returncode == 75 and "replicaonly" in refused.stderr

    said = boston.ok("sync_client --drain")
    assert "drained: nothing waits, and both ends are the same" in said
    refused = boston.type("mailstore deliver alice", b"Subject: too late\r\n\r\n")
    assert refused.returncode == 75 and "is being drained" in refused.stderr
    assert "sanfran.example is the master now" in sanfran.ok("cyrus-sync promote")
    assert sanfran.subjects("alice") == {"first", "before the change"}
    assert sanfran.type("mailstore deliver alice", b"Subject: at sanfran\r\n\r\n").returncode == 0
    boston.clients[0].kill()
    late = boston.type("sync_client -u alice")
    assert late.returncode == 1 and "takes nothing until cyrus-sync demote" in late.stderr
    boston.ok("cyrus-sync demote")
    boston.server.start()
    sanfran.ok("sync_client -A")
    sanfran.ok("sync_client --compare --messages")
    assert boston.subjects("alice") == {"first", "before the change", "at sanfran"}
    # And back again, in the same way.
    sanfran.ok("sync_client --drain")
    assert "boston.example is the master now" in boston.ok("cyrus-sync promote")
    sanfran.ok("cyrus-sync demote")
    assert boston.type("mailstore deliver alice", b"Subject: home\r\n\r\n").returncode == 0
    boston.ok("sync_client -A")
    boston.ok("sync_client --compare --records")
    for host in hosts:
        host.ok("mailstore verify")


class Deliveries:
    """Mail that comes all the time. `acknowledged` is what was answered."""

    def __init__(self, host: Host) -> None:
        self.acknowledged: list[str] = []
        self._host = host
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._deliver, daemon=True)
        self._thread.start()

    def _deliver(self) -> None:
        while not self._stop.is_set():
            subject = f"mail {len(self.acknowledged)}"
            self._host.deliver("alice" if len(self.acknowledged) % 2 else "bob", subject)
            self.acknowledged.append(subject)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.covers("cyrus-sync: commands and options", "promote --force", "demote --force", "rescue")
@pytest.mark.covers(
    "cyrus-sync: commands and options", "promote --old-master", "rescue --dry-run", "rescue --server"
)
def test_a_master_dies_in_the_middle_of_deliveries_and_comes_back(hosts: tuple[Host, Host]) -> None:
    boston, sanfran = hosts
    rolling = boston.roll()
    mail = Deliveries(boston)
    until(lambda: len(sanfran.subjects("alice")) > 5, "mail arrives and is replicated")
    rolling.process.send_signal(signal.SIGKILL)
    rolling.ended()
    at_death = len(mail.acknowledged)
    until(lambda: len(mail.acknowledged) > at_death + 10, "mail comes that nobody replicates any more")
    mail.stop()
    # It is not quite dead: it answers, and is found to.
    boston.server.start()
    refused = sanfran.type(f"cyrus-sync promote --old-master 127.0.0.1:{boston.port}")
    assert refused.returncode == 1 and f"127.0.0.1 answers at port {boston.port}" in refused.stdout
    boston.server.stop(signal.SIGKILL)
    words = json.loads((sanfran.root / "conf" / "sync" / "masters.json").read_text())
    assert words[0]["master"] == "boston.example" and not words[0]["drained"]
    forced = sanfran.ok(f"cyrus-sync promote --force --old-master 127.0.0.1:{boston.port}")
    assert "sanfran.example is the master now" in forced
    if words[0]["waiting"]:
        assert all(name in forced for name in words[0]["owners"])
    # Both live on for a while.
    sanfran.deliver("alice", "at sanfran")
    with sanfran.store.write(ALICE) as writer:
        writer.expunge("user.alice", [1])
    boston.deliver("alice", "at boston", "user.alice.Work")
    boston.store.rename("user.alice.Work", "user.alice.Play", log=True)
    with boston.store.write(ALICE) as writer:
        writer.set_flags("user.alice", [2], add=["\\Flagged"])
        writer.create("user.alice.only_boston")
    boston.deliver("alice", "in a new folder", "user.alice.only_boston")
    # boston is back. What it has is brought over, what was done there is told, and then it is a replica.
    refused = boston.type("cyrus-sync demote")
    assert refused.returncode == 1 and "owners have not gone anywhere: " in refused.stdout
    assert "alice" in refused.stdout
    dry = boston.ok("cyrus-sync rescue --dry-run")
    assert "would be added" in dry and "at boston" not in sanfran.subjects("alice")
    told = boston.ok(f"cyrus-sync rescue --server 127.0.0.1:{sanfran.port}")
    assert "alice: renamed here to user/alice/Play; it stays user/alice/Work" in told
    assert "user/alice/only_boston: made with 1 message" in told
    assert re.search(r"user/alice/Work: uid 1 [0-9a-f]{40} added as uid 1", told)
    everything = {*mail.acknowledged, "at sanfran", "at boston", "in a new folder"}
    there = sanfran.subjects("alice") | sanfran.subjects("bob")
    assert there == everything, "nothing that was acknowledged is lost, and what was deleted stays deleted"
    again = boston.ok("cyrus-sync rescue")
    assert "0 messages and 0 mailboxes added" in again
    boston.ok("cyrus-sync demote --force")
    boston.server.start()
    sanfran.ok("sync_client -A")
    sanfran.ok("sync_client --compare --messages")
    assert boston.subjects("alice") | boston.subjects("bob") == everything
    assert "user.alice.Work" in boston.folders("alice") and "user.alice.Play" not in boston.folders("alice")
    for host in hosts:
        host.ok("mailstore verify")
