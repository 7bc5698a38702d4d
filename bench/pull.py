"""``python -m bench.pull``: a rolling pull beside a real Dovecot with very many users, whose mail changes.

Users are made as Maildirs of a few messages, and pulled once. Then so many changes a second go on: half of
them deliveries by LMTP to anybody, half flags that logged-in users set. Dovecot tells of them by HTTP. Our
store's own action log says when each change has been committed here::

    python -m bench.pull --users 10000 --rate 50 --seconds 60

After half of the time everybody is polled (SIGHUP), beside what goes on. Told are, for each half, the time
until a change is here, and processor seconds a change of ours and of Dovecot's; then memory, and events that
Dovecot could not send.
"""

from __future__ import annotations

import argparse
import imaplib
import json
import os
import random
import signal
import smtplib
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.dovecot.pulling import message
from tests.dovecot.running import PASSWORD, RELEASES, Server, running
from tests.dovecot.test_rolling_pull import configured, exporting
from tests.interop.ours import BIN, environment
from tests.ports import free_port

_STATIC = {
    "2.3": "userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={home}/home/%u\n}}\n"
    "passdb {{\n  driver = static\n  args = password=" + PASSWORD + "\n}}\n",
    "2.4": "userdb anybody {{\n  driver = static\n  fields {{\n    uid = {uid}\n    gid = {gid}\n"
    "    home = {home}/home/%{{user}}\n  }}\n}}\npassdb anybody {{\n  driver = static\n"
    "  passdb_static_password = " + PASSWORD + "\n}}\n",
}
_MORE = "service imap-login {\n  process_limit = 1000\n}\nservice imap {\n  process_limit = 2000\n}\n"
_TICK = os.sysconf("SC_CLK_TCK")
_CLIENTS = 25
"""Users who are logged in and set flags."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pull", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--release", choices=RELEASES, default="2.3", help="of Dovecot; default 2.3")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=3, help="that each has at the beginning")
    parser.add_argument("--rate", type=float, default=50.0, help="changes a second; default 50")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=8, help="imap_connections")
    options = parser.parse_args(argv)
    port = free_port()
    with running(options.release, more=exporting(options.release, port) + _MORE) as server:
        names = [f"u{number:05}" for number in range(options.users)]
        _make_users(server, names, options.messages)
        with tempfile.TemporaryDirectory(prefix="bench-pull-") as root:
            conf = configured(
                Path(root),
                server,
                port,
                f"imap_connections: {options.connections}",
                "sync_log: yes",
                "sync_log_channels: bench",
            )
            text = conf.read_text().replace("imap_users: alice", f"imap_users: {root}/users")
            conf.write_text(text)
            (conf.with_name("users")).write_text("".join(f"{name}\n" for name in names))
            with _rolling(conf) as client:
                _first(client, server, conf, len(names))
                _changes(client, server, conf, names, options)
                _machine(client, server)
    return 0


def _make_users(server: Server, names: list[str], messages: int) -> None:
    homes = server.home / "home"
    for name in names:
        place = homes / name / "Maildir"
        for folder in ("cur", "new", "tmp"):
            (place / folder).mkdir(parents=True)
        for number in range(messages):
            (place / "new" / f"1700000000.M{number}P1.bench").write_bytes(message(number, 2000, name))
    server.give()
    ids = {"uid": server.ids[0], "gid": server.ids[1], "home": server.home}
    server.configure(_STATIC[server.release].format(**ids))
    server.restart()


@contextmanager
def _rolling(conf: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(BIN / "sync_client"), "-C", str(conf), "-R", "-d", "1"]
    client = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment())
    try:
        yield client
    finally:
        client.terminate()
        client.wait()


def _to_poll(pull: Path) -> int:
    """Users at whom the poll has not begun to look: they come into the log by portions."""
    told: int = json.loads((pull / "status.json").read_text()).get("users_to_poll", 0)
    return told


def _first(client: subprocess.Popen[bytes], server: Server, conf: Path, users: int) -> None:
    ours, theirs, began = _cpu(client.pid), _of_dovecot(server), time.monotonic()
    pull = conf.parent / "conf" / "sync" / "pull"
    while not (pull / "log-run").exists():
        time.sleep(0.05)
    while (pull / "log").exists() or (pull / "log-run").exists() or _to_poll(pull):
        time.sleep(0.05)
    wall = time.monotonic() - began
    cpu = (_cpu(client.pid) - ours) / users * 1e3, (_of_dovecot(server) - theirs) / users * 1e3
    print(
        f"first pull of {users:,} users: {wall:.0f} s; CPU a user: {cpu[0]:.1f} ms of ours,"
        f" {cpu[1]:.1f} ms of Dovecot's",
        flush=True,
    )


class _Arrivals(threading.Thread):
    """When our store has logged a change of whom."""

    def __init__(self, log: Path) -> None:
        super().__init__(daemon=True)
        self._log = log
        self._stopping = threading.Event()
        self.seen: list[tuple[float, str]] = []

    def run(self) -> None:
        with self._log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            while not self._stopping.is_set():
                now = time.monotonic()
                for line in file.read().splitlines():
                    self.seen.append((now, line.decode().split()[1].split(".")[1]))
                time.sleep(0.005)

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def _changes(
    client: subprocess.Popen[bytes], server: Server, conf: Path, names: list[str], options: argparse.Namespace
) -> None:
    rng = random.Random(7)
    log = conf.parent / "conf" / "sync" / "bench" / "log"
    done: list[tuple[float, str]] = []
    with ExitStack() as stack:
        clients = []
        for name in names[:_CLIENTS]:
            imap = stack.enter_context(server.imap(name))
            imap.select("INBOX")
            clients.append((name, imap))
        lmtp = stack.enter_context(smtplib.LMTP("127.0.0.1", server.lmtp_port, timeout=60))
        arrivals = _Arrivals(log)
        arrivals.start()
        ours, theirs, began = _cpu(client.pid), _of_dovecot(server), time.monotonic()
        number, half = 0, (options.seconds / 2, 0, 0.0, 0.0)
        while (late := time.monotonic() - began) < options.seconds:
            if late > half[0] and not half[1]:
                half = (late, number, _cpu(client.pid), _of_dovecot(server))
                client.send_signal(signal.SIGHUP)
            if number > late * options.rate:
                time.sleep(0.002)
                continue
            number += 1
            if number % 2:
                name = rng.choice(names[_CLIENTS:])
                lmtp.sendmail("a@example.org", [name], message(number, 2000, "lmtp"))
            else:
                name, imap = clients[number // 2 % len(clients)]
                _flag(imap, number // 2 // len(clients))
            done.append((time.monotonic(), name))
        took = time.monotonic() - began
        time.sleep(5)
        arrivals.stop()
    ends = (took, number, _cpu(client.pid), _of_dovecot(server))
    for what, first, last in (("alone", (0.0, 0, ours, theirs), half), ("beside a poll", half, ends)):
        seconds, count, mine, dovecots = (after - before for after, before in zip(last, first, strict=True))
        lags, lost = _lags(done[first[1] : last[1]], arrivals.seen)
        at = [f"{lags[int(len(lags) * part)] * 1e3:.0f}" for part in (0.5, 0.95, 0.99)]
        print(
            f"{what}: {count} changes in {seconds:.0f} s ({count / seconds:.0f}/s), {len(names):,} users:"
            f" here after {at[0]} ms (median), {at[1]} (95 %), {at[2]} (99 %),"
            f" {lags[-1] * 1e3:.0f} (worst), {lost} not within 5 s of the end; CPU a change:"
            f" {mine / count * 1e3:.1f} ms of ours, {dovecots / count * 1e3:.1f} ms of Dovecot's (which takes"
            " the changes, too)",
            flush=True,
        )


def _machine(client: subprocess.Popen[bytes], server: Server) -> None:
    """What else there is to say."""
    lines = Path(f"/proc/{client.pid}/status").read_text().splitlines()
    words = {
        name: rest.split()[0] for name, _, rest in (line.partition(":") for line in lines) if rest.strip()
    }
    said = server.complaints("Failed to export").splitlines()
    print(
        f"memory of sync_client: {int(words['VmRSS']) >> 10} MB now, {int(words['VmHWM']) >> 10} at most;"
        f" {words['Threads']} threads; lines of events that Dovecot could not send: {len(said)};"
        f" load {os.getloadavg()[0]:.0f}"
    )


def _flag(imap: imaplib.IMAP4, turn: int) -> None:
    imap.uid("STORE", "1", "-FLAGS" if turn % 2 else "+FLAGS", "(\\Flagged)")


def _lags(done: list[tuple[float, str]], seen: list[tuple[float, str]]) -> tuple[list[float], int]:
    """From each change until its user's next line, ascending; and how many have none."""
    by_user: dict[str, list[float]] = {}
    for when, name in seen:
        by_user.setdefault(name, []).append(when)
    found = [min((one for one in by_user.get(name, ()) if one >= when), default=None) for when, name in done]
    lags = [after - when for after, (when, _) in zip(found, done, strict=True) if after is not None]
    return sorted(lags), len(done) - len(lags)


def _cpu(pid: int) -> float:
    """Seconds that a process and those that it has waited for have taken."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / _TICK


def _of_dovecot(server: Server) -> float:
    """Of all its processes."""
    assert server.process is not None
    found, todo = 0.0, [server.process]
    while todo:
        pid = todo.pop()
        try:
            found += _cpu(pid)
            todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


if __name__ == "__main__":
    raise SystemExit(main())
