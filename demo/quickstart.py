"""The main job on one machine: a master store, a replica, and the line between them.

Fills a master with mail, starts ``sync_server`` and ``sync_client -r`` on loopback, changes mail while they
run and measures when the replica has each change, stops both cleanly, and compares the two stores
completely. Ends with status 0 only if they are identical. Everything happens in ``quickstart-data/``
with the commands that an administrator would type; only the changes that are timed are made through
the store's own interface, because starting a command takes longer than replicating.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailReader, MailStore

DATA = Path("quickstart-data").resolve()
BIN = Path(sys.executable).parent
QUIET = 1.2
"""Seconds between two changes: a little more than the pause that rolling keeps between two runs."""
PATIENCE = 60.0
"""Seconds that the replica may take for anything before we call it failed."""

console = Console(highlight=False, soft_wrap=True)


class Failed(Exception):
    """The demonstration cannot go on; the message says why."""


def command(name: str, *arguments: str | Path, data: bytes | None = None) -> bytes:
    """Run one of our commands to its end and return what it printed."""
    done = subprocess.run(
        [str(BIN / name), *map(str, arguments)], input=data, stdout=subprocess.PIPE, check=False
    )
    if done.returncode:
        raise Failed(f"{name} {' '.join(map(str, arguments))} ended with status {done.returncode}")
    return done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configure() -> tuple[Path, Path]:
    """Write both imapd.conf files and the replica's password file; returns (master, replica)."""
    if DATA.exists():
        if not (DATA / "master.conf").exists():
            raise Failed(f"{DATA} exists and is not ours: move it away first")
        shutil.rmtree(DATA)
    port, password = free_port(), secrets.token_urlsafe(16)
    for side in ("master", "replica"):
        (DATA / side / "conf").mkdir(parents=True)
        (DATA / side / "spool").mkdir()
    common = "defaultpartition: default\nunixhierarchysep: yes\n"
    replica = DATA / "replica.conf"
    replica.write_text(
        f"configdirectory: {DATA}/replica/conf\npartition-default: {DATA}/replica/spool\n{common}"
        f"servername: replica.example\nadmins: repl\nsync_listen: 127.0.0.1:{port}\n"
        "sasl_mech_list: SCRAM-SHA-256\n"
    )
    master = DATA / "master.conf"
    master.touch(mode=0o600)
    master.write_text(
        f"configdirectory: {DATA}/master/conf\npartition-default: {DATA}/master/spool\n{common}"
        f"servername: master.example\nadmins: repl\nsync_log: yes\nsync_host: 127.0.0.1\nsync_port: {port}\n"
        f"sync_authname: repl\nsync_password: {password}\nsync_repeat_interval: 1s\n"
        f"sync_shutdown_file: {DATA}/master/shutdown\n"
    )
    command("mailstore", "-C", replica, "passwd", "repl", data=password.encode() + b"\n")
    return master, replica


def fill(master: Path, mail: Path | None) -> None:
    """Put the caller's mail, or the sample, into the master store."""
    if mail is None:
        console.print("Filling the master with sample mail …")
        command("mailstore", "-C", master, "sample")
    else:
        console.print(f"Importing {mail} …")
        command("mailstore", "-C", master, "create", "user/you")
        command("mailstore", "-C", master, "import", "you", mail)


def start_server(replica: Path) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        [str(BIN / "sync_server"), "-C", str(replica)], stderr=(DATA / "server.log").open("wb")
    )
    host, _, port = Config.load(replica, "sync_server").words("sync_listen")[0].rpartition(":")
    deadline = time.monotonic() + PATIENCE
    while True:
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return server
        if server.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"sync_server did not start: see {DATA}/server.log")
        time.sleep(0.02)


def start_client(master: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(BIN / "sync_client"), "-C", str(master), "-r"],
        stderr=(DATA / "client.log").open("wb"),
        env={**os.environ, "CYRUS_ISDAEMON": "1"},
    )


def wait_until(condition: Callable[[], bool], what: str, *processes: subprocess.Popen[bytes]) -> float:
    """Seconds until `condition` held."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > PATIENCE:
            raise Failed(f"{what}: not at the replica after {PATIENCE:.0f} s (logs: {DATA}/*.log)")
        for process in processes:
            if process.poll() is not None:
                program = process.args[0]  # type: ignore[index] # always started with a list
                raise Failed(f"{program} ended with status {process.returncode}: see {DATA}/*.log")
        time.sleep(0.003)
    return time.monotonic() - begun


def fingerprint(reader: MailReader) -> list[tuple[object, ...]]:
    """What tells two states of an owner's mailboxes apart without reading every record."""
    return [
        (m.uniqueid, m.name, m.highestmodseq, m.last_uid, m.sync_crc, m.sync_crc_annot, m.acl)
        for m in reader.mailboxes()
    ]


class Pair:
    """Both stores, opened by this process beside the running servers."""

    def __init__(self, master: Path, replica: Path) -> None:
        self.master: MailStore = open_store(Config.load(master, "mailstore"))
        self.replica: MailStore = open_store(Config.load(replica, "mailstore"), readonly=True)

    def in_step(self, owner: Owner) -> bool:
        with self.master.read(owner) as here, self.replica.read(owner) as there:
            return fingerprint(here) == fingerprint(there)

    def all_in_step(self) -> bool:
        return all(self.in_step(owner) for owner in self.master.owners())

    def close(self) -> None:
        self.master.close()
        self.replica.close()


NEW_MAIL = b"""From: Grace <grace@example.org>\r
To: you@example.org\r
Subject: Delivered while replication runs\r
Date: Sat, 21 Nov 2026 10:00:00 +0000\r
Message-ID: <%s@example.org>\r
\r
This message was not there when the replica was filled.\r
"""


def changes(pair: Pair, owner: Owner) -> list[tuple[str, Callable[[], None]]]:
    """What happens to one user's mail while both ends run: (what to call it, how to do it)."""
    inbox = inbox_of(owner.name)
    store = pair.master

    def deliver() -> None:
        with store.write(owner) as mail:
            message = NEW_MAIL % hashlib.sha1(secrets.token_bytes(8)).hexdigest().encode()
            mail.append(inbox, [(message, int(time.time()), "")])

    def flag() -> None:
        with store.write(owner) as mail:
            mail.set_flags(inbox, range(1, 6), add=["\\Seen", "\\Flagged", "$Important"])

    def expunge() -> None:
        with store.write(owner) as mail:
            mail.expunge(inbox, [1])

    def create() -> None:
        with store.write(owner) as mail:
            mail.create(f"{inbox}.Quickstart")

    def rename() -> None:
        store.rename(f"{inbox}.Quickstart", f"{inbox}.Renamed", log=True)

    def delete() -> None:
        with store.write(owner) as mail:
            mail.delete(f"{inbox}.Renamed")

    return [
        ("one message delivered", deliver),
        ("flags set on five messages", flag),
        ("one message expunged", expunge),
        ("a mailbox created", create),
        ("that mailbox renamed", rename),
        ("that mailbox deleted", delete),
    ]


def replicate(pair: Pair, client: subprocess.Popen[bytes], server: subprocess.Popen[bytes]) -> None:
    """Wait for the first copy, then make changes one by one and time them."""
    seconds = wait_until(pair.all_in_step, "first synchronisation", client, server)
    owners = list(pair.master.owners())
    messages = 0
    for owner in owners:
        with pair.master.read(owner) as reader:
            messages += sum(len(batch) for m in reader.mailboxes() for batch in reader.records(m.uniqueid))
    console.print(f"First copy: {len(owners)} owners, {messages} messages in {seconds:.2f} s.\n")

    user = next(owner for owner in owners if owner.kind == "user")
    table = Table(title=f"Changes to user {user.name} while both run")
    table.add_column("change")
    table.add_column("at the replica after", justify="right")
    for what, act in changes(pair, user):
        time.sleep(QUIET)
        act()
        seconds = wait_until(lambda: pair.in_step(user), what, client, server)
        table.add_row(what, f"{seconds * 1000:.0f} ms")
    console.print(table)


def stop(process: subprocess.Popen[bytes], what: str) -> None:
    try:
        status = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failed(f"{what} did not stop") from None
    if status:
        raise Failed(f"{what} ended with status {status}: see {DATA}/*.log")
    console.print(f"{what} stopped cleanly.")


def compare(master: Path, replica: Path) -> bool:
    """True if the complete logical states are the same, byte for byte."""
    here, there = (command("mailstore", "-C", side, "dump", "--format", "yaml") for side in (master, replica))
    (DATA / "master.yaml").write_bytes(here)
    (DATA / "replica.yaml").write_bytes(there)
    if here != there:
        console.print(f"[red]The stores differ:[/] diff {DATA}/master.yaml {DATA}/replica.yaml")
        return False
    digest = hashlib.sha256(here).hexdigest()
    console.print(
        f"[green]Both stores are identical:[/] {len(here):,} bytes of state each, SHA-256 {digest[:16]}…"
    )
    return True


def epilogue(master: Path, replica: Path) -> None:
    relative = os.path.relpath
    console.print(
        f"""
The stores are in {relative(DATA)}/master and {relative(DATA)}/replica. What to type next:

  source .venv/bin/activate
  mailstore -C {relative(replica)} ls                # what the replica holds
  mailstore -C {relative(replica)} verify            # every message against its SHA-1
  sync_server -C {relative(replica)} &               # start both again …
  sync_client -C {relative(master)} -R -v            # … and watch what goes over
  echo 'Subject: hello' | mailstore -C {relative(master)} deliver USER
"""
    )


def main() -> int:
    mail = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    running: list[subprocess.Popen[bytes]] = []
    try:
        master, replica = configure()
        fill(master, mail)
        running.append(server := start_server(replica))
        running.append(client := start_client(master))
        console.print("sync_server and sync_client -r are running.")
        pair = Pair(master, replica)
        replicate(pair, client, server)
        pair.close()
        Path(f"{DATA}/master/shutdown").touch()
        stop(client, "sync_client (shutdown file)")
        server.send_signal(signal.SIGTERM)
        stop(server, "sync_server (SIGTERM)")
        same = compare(master, replica)
        epilogue(master, replica)
        return 0 if same else 1
    except Failed as failure:
        console.print(f"[red]quickstart:[/] {failure}")
        return 1
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
