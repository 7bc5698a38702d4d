"""A master's store, a replica's sync_server as a process, and sync_client as a process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from tests.deadlines import scaled, until
from tests.ports import free_port

BIN = Path(sys.executable).parent
ENVIRONMENT = {
    key: value
    for key, value in os.environ.items()
    if key not in ("INVOCATION_ID", "NOTIFY_SOCKET", "CYRUS_ISDAEMON")
}


class Side:
    """A configuration and the store behind it."""

    def __init__(self, root: Path, name: str, **settings: str) -> None:
        self.root = root / name
        self.conf = root / f"{name}.conf"
        for directory in ("conf", "mail", "fast"):
            (self.root / directory).mkdir(parents=True)
        options = {
            "configdirectory": f"{self.root}/conf",
            "defaultpartition": "default",
            "partition-default": f"{self.root}/mail",
            "partition-fast": f"{self.root}/fast",
            "servername": f"{name}.example",
            "admins": "cyrus",
            "allowplaintext": "yes",
            "failedloginpause": "0",
            **settings,
        }
        self.conf.write_text("".join(f"{key}: {value}\n" for key, value in options.items()))
        self.cfg = Config.load(self.conf)
        self.store = open_store(self.cfg)

    def add(self, *lines: str) -> None:
        with self.conf.open("a") as file:
            file.write("".join(line + "\n" for line in lines))

    def create(self, *users: str) -> None:
        for user in users:
            with self.store.write(Owner("user", user)) as writer:
                writer.create(inbox_of(user))

    def deliver(self, user: str, text: str, mailbox: str = "") -> None:
        message = f"From: a@example.org\r\nSubject: {text}\r\n\r\n{text}\r\n".encode()
        with self.store.write(Owner("user", user)) as writer:
            writer.append(mailbox or inbox_of(user), [(message, 1_700_000_000, "")])

    def messages(self, user: str, mailbox: str = "") -> int:
        with self.store.read(Owner("user", user)) as reader:
            state = reader.mailbox(mailbox or inbox_of(user))
            return state.last_uid if state else 0

    def has(self, user: str, mailbox: str = "") -> bool:
        with self.store.read(Owner("user", user)) as reader:
            return reader.mailbox(mailbox or inbox_of(user)) is not None

    def dump(self) -> str:
        """The logical state, without the name of the server."""
        done = subprocess.run(
            [BIN / "mailstore", "-C", self.conf, "dump"], capture_output=True, check=True, text=True
        )
        return done.stdout

    def directory(self, channel: str = "") -> Path:
        return self.root / "conf" / "sync" / channel

    def log(self, channel: str = "") -> Path:
        return self.directory(channel) / "log"

    def done(self, channel: str = "") -> bool:
        """True if nothing is left in the log or the run file."""
        return not self.log(channel).exists() and not (self.directory(channel) / "log-run").exists()


class Server:
    """sync_server on a UNIX socket (no login) and on a TCP port."""

    def __init__(self, side: Side, socket_path: Path, port: int) -> None:
        self.side = side
        self.socket = socket_path
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.side.root / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [BIN / "sync_server", "-C", self.side.conf, "-e"], stderr=log, stdout=log, env=ENVIRONMENT
            )
        until(self._listens, "sync_server listens")

    def _listens(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log()
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def log(self) -> str:
        return (self.side.root / "server.log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(scaled(20))
            self.process = None


class Client:
    """A running sync_client; what it says is collected."""

    def __init__(self, master: Side, *options: str, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [BIN / "sync_client", "-C", master.conf, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**ENVIRONMENT, **(environment or {})},
        )
        self.out = b""
        self.err = b""
        self._readers = [
            threading.Thread(target=self._read, args=(name,), daemon=True) for name in ("out", "err")
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        pipe = self.process.stdout if name == "out" else self.process.stderr
        assert pipe is not None
        while piece := os.read(pipe.fileno(), 65536):
            setattr(self, name, getattr(self, name) + piece)

    def ended(self, seconds: float = 20) -> int:
        """Its exit status."""
        status = self.process.wait(scaled(seconds))
        for reader in self._readers:
            reader.join(scaled(5))
        return status

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.ended()


class Replica:
    """A replica's store with its server. Many masters may use it in turn: `clear` between them."""

    def __init__(self, root: Path) -> None:
        self.socket = root / "csync.sock"
        port = free_port()
        self.side = Side(root, "replica", sync_listen=f"{self.socket} 127.0.0.1:{port}")
        PasswordFile(self.side.root / "conf" / "sync_passwd").set_password("cyrus", "secret")
        self.server = Server(self.side, self.socket, port)

    def clear(self) -> None:
        for owner in list(self.side.store.owners()):
            with self.side.store.write(owner) as writer:
                if owner.kind == "user":
                    writer.apply_unuser()
                for left in writer.mailboxes():
                    writer.apply_unmailbox(left.name)


@contextlib.contextmanager
def serving_replica(root: Path) -> Iterator[Replica]:
    """A replica whose server listens."""
    replica = Replica(root)
    try:
        replica.server.start()
        yield replica
    finally:
        replica.server.stop(signal.SIGKILL)
        replica.side.store.close()


class Pair:
    """A new master beside a replica."""

    def __init__(self, root: Path, replica: Replica) -> None:
        self.server = replica.server
        self.socket = replica.socket
        self.replica = replica.side
        self.master = Side(root, "master", sync_log="1", sync_host=str(self.socket))
        self.clients: list[Client] = []

    def client(self, *options: str, environment: dict[str, str] | None = None) -> Client:
        client = Client(self.master, *options, environment=environment)
        self.clients.append(client)
        return client

    def run(self, *options: str) -> Client:
        """A sync_client that has ended; `process.returncode` is its status."""
        client = self.client(*options)
        client.ended()
        return client

    def rolling(self, *options: str) -> Client:
        """A rolling client that is connected."""
        client = self.client("-R", *options)
        until(lambda: self._state(client) not in ("", "starting", "connecting"), "the client is connected")
        return client

    def _state(self, client: Client) -> str:
        assert client.process.poll() is None, client.err.decode()
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self.master.directory() / "status.json").read_text())
            return str(found["state"]) if found["pid"] == client.process.pid else ""
        return ""

    def same(self) -> bool:
        return self.master.dump() == self.replica.dump()

    def close(self) -> None:
        for client in self.clients:
            client.kill()
        self.master.store.close()


@contextlib.contextmanager
def paired(root: Path, replica: Replica) -> Iterator[Pair]:
    """A pair with a new master; its clients are ended and the replica is empty again afterwards."""
    pair = Pair(root, replica)
    try:
        yield pair
    finally:
        pair.close()
        replica.clear()
