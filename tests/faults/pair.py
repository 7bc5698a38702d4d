"""A replicating pair in the line of fire: sync_client and sync_server as processes, and a line that breaks.

The client goes through a proxy which cuts connections at random octets. Both ends can be killed and are
started again; what happened is counted.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from tests.deadlines import scaled
from tests.interop.proxy import Cut, Proxy
from tests.ports import free_port
from tests.sync_client.real import BIN, ENVIRONMENT, Server, Side

UNLIMITED = resource.RLIM_INFINITY


class BurningPair:
    """`client` and `server` run from `start` on. `calm` ends the fire; `drained` when nothing is left."""

    def __init__(self, root: Path, seed: int, **options: str) -> None:
        self.chance = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self._burning = False
        sock = root / "csync.sock"
        port = free_port()
        self.replica = Side(root, "replica", sync_listen=f"{sock} 127.0.0.1:{port}")
        passwords = PasswordFile(self.replica.root / "conf" / "sync_passwd")
        passwords.set_password("cyrus", "secret")
        self.server = Server(self.replica, sock, port)
        self.proxy = Proxy(("127.0.0.1", port), cut_after=self._where_to_cut, remember=False)
        settings = {
            "sync_log": "1",
            "sync_host": "127.0.0.1",
            "sync_port": str(self.proxy.address[1]),
            "sync_authname": "cyrus",
            "sync_password": "secret",
            "sync_allowplaintext": "yes",
            "sync_reconnect_maxwait": "1",
            "sync_repeat_interval": "0",
            **options,
        }
        self.master = Side(root, "master", **settings)
        self.client: subprocess.Popen[bytes] | None = None
        self.said = self.master.root / "client.log"
        self.server_said = self.replica.root / "server.log"

    # -- the line

    def _where_to_cut(self) -> Cut:
        self.counts["connections"] += 1
        if not self._burning or self.chance.random() < 0.25:
            return None
        return self.chance.choice(["c2s", "s2c"]), int(self.chance.lognormvariate(7.5, 1.5)) + 1

    @property
    def cuts(self) -> int:
        return self.proxy.cuts

    # -- the ends

    def start(self) -> None:
        self.server.start()
        self.start_client()

    def start_client(self) -> None:
        with self.said.open("ab") as log:
            self.client = subprocess.Popen(
                [BIN / "sync_client", "-C", self.master.conf, "-R"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
            )

    def client_state(self) -> str:
        """What the running client says of itself; "" if it has not begun."""
        assert self.client is not None
        with contextlib.suppress(OSError, ValueError):
            found = json.loads((self.master.directory() / "status.json").read_text())
            if found["pid"] == self.client.pid:
                return str(found["state"])
        return ""

    @property
    def at_work(self) -> bool:
        """A run has begun and is not finished."""
        return (self.master.directory() / "log-run").exists()

    def hurry(self) -> None:
        """Have the client try to connect now, if it waits for that."""
        if self.client_state() == "waiting to reconnect":
            assert self.client is not None
            self.client.send_signal(signal.SIGHUP)

    def kill_client(self) -> None:
        """kill -9, and the next one."""
        assert self.client is not None
        assert self.client.poll() is None, f"sync_client ended by itself:\n{self.tail(self.said)}"
        self.counts["client killed"] += 1
        self.counts["client killed at work"] += self.at_work
        self.client.kill()
        self.client.wait()
        self.start_client()

    def kill_server(self) -> None:
        process = self.server.process
        assert process is not None
        assert process.poll() is None, f"sync_server ended by itself:\n{self.tail(self.server_said)}"
        self.counts["server killed"] += 1
        self.counts["server killed at work"] += self.at_work
        self.server.stop(signal.SIGKILL)
        self.server.start()

    def limit(self, pid: int, size: int = UNLIMITED) -> None:
        """No file of the process grows beyond `size` octets: a full disk, as it sees it."""
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, UNLIMITED))

    # -- the end of the fire

    def burn(self) -> None:
        self._burning = True

    def calm(self) -> None:
        """No more cuts; the connections that were to be cut are dropped."""
        self._burning = False
        self.proxy.drop()

    def drained(self, seconds: float = 60) -> None:
        """Wait until nothing is left to do. Who was set aside is released, as an administrator would."""
        began = time.monotonic()
        directory = self.master.directory()
        waits = [directory / name for name in ("quarantine.yaml", "quarantine.log", "log", "log-run")]
        quiet = 0
        while quiet < 3:
            assert time.monotonic() - began < scaled(seconds), f"not drained:\n{self.tail(self.said)}"
            assert self.client is not None and self.client.poll() is None, self.tail(self.said)
            if waits[0].exists():
                self.counts["set aside"] += 1
                waits[0].unlink(missing_ok=True)
            self.hurry()
            time.sleep(0.05)
            quiet = 0 if any(path.exists() for path in waits) else quiet + 1

    def differences(self, forgotten: Collection[str] = ()) -> list[str]:
        """Lines that only one of the two dumps has; [] if they are equal to the octet.

        The protocol cannot remove a record of \\Seen but with its user: of a user who went and came
        back the replica may keep those for the mailboxes with the uniqueids `forgotten`.
        """
        texts = (side.dump().replace("  seen: []\n", "  seen:\n") for side in (self.master, self.replica))
        one, two = (text.splitlines() for text in texts)
        here = set(one)
        two = [line for line in two if line in here or not _is_seen_of(line, forgotten)]
        if one == two:
            return []
        there = set(two)
        found = [f"- {line}" for line in one if line not in there]
        found += [f"+ {line}" for line in two if line not in here]
        return found[:60] or ["the same lines in another order"]

    def verify(self) -> None:
        """`mailstore verify` finds nothing, on either end."""
        for side in (self.master, self.replica):
            command = [str(BIN / "mailstore"), "-C", str(side.conf), "verify", "--no-progress"]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    def tail(self, path: Path, size: int = 6000) -> str:
        return path.read_bytes()[-size:].decode(errors="replace") if path.exists() else ""

    def close(self) -> None:
        if self.client is not None and self.client.poll() is None:
            self.client.kill()
            self.client.wait()
        self.server.stop(signal.SIGKILL)
        self.proxy.close()
        for side in (self.master, self.replica):
            side.store.close()


def _is_seen_of(line: str, uniqueids: Collection[str]) -> bool:
    if '"lastread": ' not in line:
        return False
    return json.loads(line.strip().removeprefix("- "))["uniqueid"] in uniqueids


@contextlib.contextmanager
def burning_pair(root: Path, seed: int, **options: str) -> Iterator[BurningPair]:
    """A pair whose processes run; they are ended by their process ids, whatever happens."""
    pair = BurningPair(root, seed, **options)
    try:
        pair.start()
        yield pair
    finally:
        pair.close()
