"""Real programs on the fleet: sync_server on three machines behind HAProxy, sync_client from and to them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from tests.absent import skip_without
from tests.deadlines import scaled, until
from tests.ports import free_port
from tests.sync_client.real import Client, Server, Side

USERS = ("ann", "ben", "cleo", "dan")


class Node:
    """A machine of the fleet with its sync_server."""

    def __init__(self, root: Path, name: str, database: str, **more: str) -> None:
        self.socket, self.port = root / f"{name}.sock", free_port()
        self.side = Side(
            root, name, sync_listen=f"{self.socket} 127.0.0.1:{self.port}", store="fleet",
            store_journal=database, store_objects=f"file:{root}/objects", **more,
        )  # fmt: skip
        PasswordFile(self.side.root / "conf" / "sync_passwd").set_password("cyrus", "secret")
        self.server = Server(self.side, self.socket, self.port)

    def close(self) -> None:
        self.server.stop(signal.SIGKILL)
        self.side.store.close()


@pytest.fixture
def nodes(tmp_path: Path, database: str) -> Iterator[list[Node]]:
    found = [Node(tmp_path, f"node{number}", database) for number in (1, 2, 3)]
    try:
        with ThreadPoolExecutor() as together:
            list(together.map(lambda node: node.server.start(), found))
        yield found
    finally:
        for node in found:
            node.close()


@pytest.fixture
def balancer(tmp_path: Path, nodes: list[Node]) -> Iterator[int]:
    """HAProxy's port, as docs/fleet.md sets it up."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    skip_without("real HAProxy", "" if program else "it is not installed")
    port = free_port()
    servers = "".join(
        f"    server node{number} 127.0.0.1:{node.port} check inter 200ms fall 1 rise 1\n"
        for number, node in enumerate(nodes, 1)
    )
    conf = tmp_path / "haproxy.cfg"
    conf.write_text(
        "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 5m\n    timeout server 5m\n"
        f"    retries 3\n    option redispatch\nlisten csync\n    bind 127.0.0.1:{port}\n"
        f"    balance roundrobin\n{servers}"
    )
    process = subprocess.Popen([program, "-q", "-db", "-f", conf])
    try:
        yield port
    finally:
        process.terminate()
        process.wait(scaled(10))


def mail(side: Side) -> list[tuple[str, int, bytes, str]]:
    """Every message of everybody."""
    found = []
    for user in USERS:
        with side.store.read(Owner("user", user)) as reader:
            state = reader.mailbox(inbox_of(user))
            assert state is not None
            for batch in reader.records(state.uniqueid):
                found += [(user, one.uid, one.guid, one.flags) for one in batch]
    return found


def replicate(master: Side) -> str:
    """One run for everybody; what it said if it did not succeed."""
    client = Client(master, "-A")
    try:
        status = client.ended(60)
        return "" if status == 0 else client.err.decode()
    finally:
        client.kill()


@pytest.mark.covers("A fleet: losing a part of it", "1")
def test_three_machines_behind_a_balancer_are_one_replica(tmp_path, nodes, balancer):
    master = Side(
        tmp_path, "master", sync_host="127.0.0.1", sync_port=str(balancer), sync_authname="cyrus",
        sync_password="secret", sync_allowplaintext="yes",
    )  # fmt: skip
    master.create(*USERS)
    for number, user in enumerate(USERS * 3):
        master.deliver(user, f"message {number}")
    assert replicate(master) == ""
    assert all(mail(node.side) == mail(master) for node in nodes)
    nodes[0].server.stop(signal.SIGKILL)
    for number, user in enumerate(USERS * 2):
        master.deliver(user, f"more {number}")
    until(lambda: replicate(master) == "", "all is replicated to the machines that are left", 60, every=0.5)
    assert mail(nodes[1].side) == mail(nodes[2].side) == mail(master)
    nodes[0].server.start()
    nodes[1].server.stop(signal.SIGKILL)
    master.deliver("ann", "last")
    until(lambda: replicate(master) == "", "the machine that came back takes part", 60, every=0.5)
    assert nodes[0].side.dump() == master.dump()
    master.store.close()


def test_a_fleet_is_a_master_as_a_directory_is(tmp_path, database):
    replica = tmp_path / "replica.sock"
    side = Side(tmp_path, "replica", sync_listen=str(replica))
    server = Server(side, replica, 0)
    node = Node(tmp_path, "node", database, sync_host=str(replica), sync_log="1")
    try:
        server.start()
        node.side.create(*USERS)
        for user in USERS:
            node.side.deliver(user, "message")
        assert replicate(node.side) == ""
        assert side.dump() == node.side.dump()
        rolling = Client(node.side, "-R")
        node.side.deliver("ben", "another")
        until(lambda: side.messages("ben") == 2, "the rolling client brings what is new", 30)
        rolling.kill()
    finally:
        server.stop(signal.SIGKILL)
        side.store.close()
        node.close()
