"""``python -m bench.soak --minutes 60``: do the daemons grow old well?

A master and its replica, with metrics; beside the master the web page, LMTP, the lifeboat and the receiving
side of shipping. Round after round there is the same load in the same order, then all comes to rest. The load
is mail to many users, folders that are made, renamed and deleted, a user who comes and goes, users who read
over IMAP, what `mailstore expire` removes beside them at both ends, connections to each daemon that stay
silent or say nonsense, connections to sync_server that ask for everything, and pages and metrics that are
looked at. At rest the log is empty and all these connections are closed. There the memory, the descriptors
and the threads of each daemon are counted: what grows from round to round although nothing is left over grows
for ever.

The first half of the rounds is warming up. Of the other half, no daemon may have more in each of the last
rounds than it had in any of the first ones. The daemons may open few files, so that what they keep open for
the next use is full at once.

Exit status: 0; 1 something grew, or master and replica differed in the end.
"""

from __future__ import annotations

import argparse
import contextlib
import imaplib
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from tests.deadlines import scaled, until
from tests.interop.running import default_ground
from tests.ports import free_port
from tests.sync_client.real import BIN, ENVIRONMENT, Pair, Replica, paired

USERS = 20
BODY = "x" * 2000
MORE_MEMORY = 0.03
"""Part of a daemon's memory by which it may grow in the second half: what an allocator keeps varies."""
LEAST_MEMORY = 1024
"""Kilobytes that are nothing, either."""
KEPT = 15
"""Descriptors that are nothing: what is kept open for the next use varies."""
POOL = 16
"""Threads up to which a pool may fill by chance."""
DESCRIPTORS = 400
"""Of a daemon, at most."""
FEWEST = 8
"""Rounds of which a trend can be told."""
STRANGE = ("sync_server", "cyrus-sync lmtp", "cyrus-sync imap", "shipping_server")
"""Daemons that anybody may connect to."""
METRICS = ("metrics of sync_server", "metrics of sync_client")
READERS = 3
PASSWORD = "secret"


class Use(NamedTuple):
    """What a process has at rest."""

    kilobytes: int
    descriptors: int
    threads: int


def use_of(pid: int) -> Use:
    """Of the process now; memory is what is resident and not of a file."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Use(int(status["RssAnon"].split()[0]), descriptors, int(status["Threads"]))


def grown(rounds: Sequence[Use], memory: float = MORE_MEMORY) -> list[str]:
    """What has grown over the second half of the rounds, in words; that part of the memory is nothing."""
    half = rounds[len(rounds) // 2 :]
    third = max(1, len(half) // 3)
    found = []
    for what, first, last in zip(
        Use._fields, zip(*half[:third], strict=True), zip(*half[-third:], strict=True), strict=True
    ):
        bound = {
            "kilobytes": max(first) + max(LEAST_MEMORY, int(max(first) * memory)),
            "descriptors": max(first) + KEPT,
            "threads": max(POOL, *first),
        }[what]
        if min(last) > bound:
            found.append(f"{what}: at most {max(first)} at first, at least {min(last)} in the end")
    return found


@dataclass
class Soaked:
    """The daemons under load, and what they had after each round."""

    pair: Pair
    processes: dict[str, int]
    ports: dict[str, int]
    rounds: dict[str, list[Use]] = field(default_factory=dict)

    def round(self, number: int) -> None:
        """The same load as ever, then rest; counted."""
        master = self.pair.master
        self._deliver(number)
        for user in range(USERS):
            self._work(f"user{user}", number, folders=number % USERS == user)
        with contextlib.closing(self._strangers()):
            self._look()
            self._read()
            self._expire()
            newcomer = Owner("user", f"guest{number}")
            master.create(newcomer.name)
            master.deliver(newcomer.name, BODY)
            until(lambda: self.pair.replica.has(newcomer.name), "the guest has come", 60)
            with master.store.write(newcomer) as writer:
                writer.delete(inbox_of(newcomer.name), delayed=False)
        until(lambda: master.done() and not self.pair.replica.has(newcomer.name), "all is at rest", 60)
        until(lambda: not any(map(self._connections, STRANGE)), "strangers are gone", 60)
        for name, pid in self.processes.items():
            self.rounds.setdefault(name, []).append(use_of(pid))

    def _deliver(self, number: int) -> None:
        with smtplib.LMTP("127.0.0.1", self.ports["cyrus-sync lmtp"], timeout=scaled(20)) as lmtp:
            for user in range(USERS):
                text = f"From: a@example.org\r\nSubject: {number}\r\n\r\n{BODY}\r\n"
                assert not lmtp.sendmail("a@example.org", [f"user{user}"], text)

    def _read(self) -> None:
        for user in range(READERS):
            with imaplib.IMAP4("127.0.0.1", self.ports["cyrus-sync imap"], timeout=scaled(20)) as imap:
                imap.login(f"user{user}", PASSWORD)
                imap.select("INBOX", readonly=True)
                status, found = imap.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[])")
                assert status == "OK" and found[0] is not None

    def _expire(self) -> None:
        for conf in (self.pair.master.conf, self.pair.replica.conf):
            command = [BIN / "mailstore", "-C", conf, "expire", "-t", "0"]
            subprocess.run(command, env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL)

    def _work(self, user: str, number: int, *, folders: bool) -> None:
        """New mail, flags and what is expunged; in some rounds a folder, too: its names are kept for a year,
        and so are data that grow."""
        inbox, store = inbox_of(user), self.pair.master.store
        with store.write(Owner("user", user)) as writer:
            state = writer.mailbox(inbox)
            uid = (state.last_uid if state else 0) + 1
            text = f"Subject: {number}\r\n\r\n{BODY}\r\n".encode()
            writer.append(inbox, [(text, 1_700_000_000, "")] * 3)
            writer.set_flags(inbox, [uid], add=["\\Seen"])
            writer.expunge(inbox, range(max(1, uid - 6), uid))
            if folders:
                writer.create(f"{inbox}.now")
        if not folders:
            return
        store.rename(f"{inbox}.now", f"{inbox}.then", log=True)
        with store.write(Owner("user", user)) as writer:
            writer.delete(f"{inbox}.then", delayed=False)

    def _strangers(self) -> _Lines:
        """Connections of who waits, who talks nonsense, and to sync_server of who asks for everybody."""
        return _Lines([self.ports[name] for name in STRANGE], self.pair.socket)

    def _connections(self, name: str) -> int:
        """To this daemon by TCP: the rolling client has the UNIX socket of sync_server."""
        wanted = f":{self.ports[name]:04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(words[1].endswith(wanted) and words[3] in ("01", "08") for words in lines)

    def _look(self) -> None:
        for port, path in (
            (self.ports["web"], ""),
            (self.ports["web"], "metrics"),
            *((self.ports[name], "metrics") for name in METRICS),
        ):
            for _ in range(3):
                url = f"http://127.0.0.1:{port}/{path}"
                with urllib.request.urlopen(url, timeout=scaled(20)) as answer:
                    assert answer.read(), url

    def verdict(self, memory: float = MORE_MEMORY) -> list[str]:
        """What has grown, a line each (see `grown`); what differs in the end."""
        found = [f"{name}: {what}" for name, rounds in self.rounds.items() for what in grown(rounds, memory)]
        return found if self.pair.same() else [*found, "master and replica differ"]


class _Lines:
    def __init__(self, ports: Sequence[int], path: Path) -> None:
        self._open = []
        for port in ports:
            for text in (b"", b"NONSENSE\r\n", b"\0" * 5000, b"GET USER (") * 2:
                line = socket.create_connection(("127.0.0.1", port), scaled(20))
                self._open.append(line)
                with contextlib.suppress(ConnectionError):  # who talks nonsense may be cut off
                    line.sendall(text)
        for number in range(USERS):
            with socket.socket(socket.AF_UNIX) as known:
                known.settimeout(scaled(20))
                known.connect(str(path))
                known.sendall(f"GET USER user{number}\r\nEXIT\r\n".encode())
                while known.recv(65536):
                    pass

    def close(self) -> None:
        for line in self._open:
            line.close()


@contextlib.contextmanager
def soaking(root: Path) -> Iterator[Soaked]:
    """All daemons of a pair, ready."""
    ports = {name: free_port() for name in (*METRICS, "web", *STRANGE[1:])}
    replica = Replica(root)
    replica.side.add(f"sync_metrics_listen: {ports['metrics of sync_server']}", "sync_max_connections: 100")
    with contextlib.ExitStack() as stack:
        stack.callback(replica.side.store.close)
        pair = stack.enter_context(paired(root, replica))
        conf = pair.master.conf
        (root / "key").write_text("5a" * 32)
        (root / "key").chmod(0o600)
        pair.master.add(
            f"sync_metrics_listen: {ports['metrics of sync_client']}",
            f"lmtp_listen: 127.0.0.1:{ports['cyrus-sync lmtp']}",
            f"lifeboat_listen: 127.0.0.1:{ports['cyrus-sync imap']}",
            f"multisite_listen: 127.0.0.1:{ports['shipping_server']}",
            f"multisite_key_file: {root}/key",
        )
        names = [f"user{number}" for number in range(USERS)]
        pair.master.create(*names)
        passwords = PasswordFile(pair.master.root / "conf" / "sync_passwd")
        for name in names[:READERS]:
            passwords.set_password(name, PASSWORD)
        commands = {
            "sync_server": ["sync_server", "-C", replica.side.conf, "-e"],
            "cyrus-sync web": ["cyrus-sync", "-C", conf, "web", "--listen", str(ports["web"])],
            "cyrus-sync lmtp": ["cyrus-sync", "-C", conf, "lmtp", "-e"],
            "cyrus-sync imap": ["cyrus-sync", "-C", conf, "imap", "-e"],
            "shipping_server": ["shipping_server", "-C", conf, "-receiver"],
            "sync_client": ["sync_client", "-C", conf, "-R", "-d", "1"],
        }
        processes = {
            name: stack.enter_context(_daemon(root / f"{name}.log", command))
            for name, command in commands.items()
        }
        listening = {**ports, "sync_server": replica.server.port}
        until(lambda: all(map(_accepts, listening.values())), f"all daemons listen: {root}/*.log", 60)
        yield Soaked(pair, processes, listening)


@contextlib.contextmanager
def _daemon(log: Path, command: list[str | Path]) -> Iterator[int]:
    """The process id."""
    program, *arguments = command
    limited = ["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}", BIN / program, *arguments]
    with log.open("wb") as said:
        process = subprocess.Popen(limited, env=ENVIRONMENT, stdout=said, stderr=said)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(scaled(20))


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="soak-", dir=default_ground()) as root,
        soaking(Path(root)) as soaked,
    ):
        rounds = soak(soaked, options.minutes * 60)
        found = soaked.verdict()
    print("\n".join(found) or f"{rounds} rounds: nothing grows")
    return bool(found)


def soak(soaked: Soaked, seconds: float) -> int:
    """Rounds for so long, `FEWEST` at least; how many."""
    began, number = time.monotonic(), 0
    while number < FEWEST or time.monotonic() - began < seconds:
        soaked.round(number)
        number += 1
        uses = {name: rounds[-1] for name, rounds in soaked.rounds.items()}
        said = (f"{name} {use[0]} kB, {use[1]} descriptors, {use[2]} threads" for name, use in uses.items())
        print(f"{time.monotonic() - began:6.0f} s, round {number}:", *said, sep="  ", file=sys.stderr)
    return number


if __name__ == "__main__":
    sys.exit(main())
