"""What an administrator types on two hosts, from the first user to the day on which they change places.

One story, played through the installed commands with the addresses of two network namespaces. What each
command does in all cases is tested elsewhere; here all of them work together as the README and docs say.
"""

from __future__ import annotations

import base64
import contextlib
import imaplib
import json
import os
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from tests.common.wire.kit import issue
from tests.deadlines import scaled, until
from tests.hosts.namespaces import Namespace, two_hosts
from tests.interop.ours import BIN, environment
from tests.interop.running import Rolling, dying_with_us

SECRET = "a long secret"


class Host:
    """One of the two, with an imapd.conf as the README has it."""

    def __init__(self, root: Path, name: str, net: Namespace, other: Namespace) -> None:
        self.net = net
        self.root = root / name
        self.conf = self.root / "imapd.conf"
        self._daemons: dict[str, Rolling] = {}
        for directory in ("conf", "mail", "fast"):
            (self.root / directory).mkdir(parents=True)
        issued = issue(self.root, name, hosts=(net.address, f"{name}.example.org"))
        both = root / "authorities.pem"
        with both.open("ab") as file:
            file.write(issued.cert.read_bytes())
        self.conf.write_text(
            f"""\
configdirectory: {self.root}/conf
partition-default: {self.root}/mail
partition-fast: {self.root}/fast
defaultpartition: default
servername: {name}.example.org
unixhierarchysep: yes
admins: repl
sasl_mech_list: SCRAM-SHA-256 PLAIN
tls_server_cert: {issued.cert}
tls_server_key: {issued.key}
tls_server_ca_file: {both}
tls_required: yes
sync_log: yes
sync_listen: {net.address}:2005
sync_host: {other.address}
sync_port: 2005
sync_authname: repl
sync_password: {SECRET}
sync_repeat_interval: 1s
sync_bandwidth: 1m
failedloginpause: 0
sync_server_sync_metrics_listen: 9788
sync_client_sync_metrics_listen: 9789
sync_web_listen: {net.address}:9780
lifeboat_listen: {net.address}:143
"""
        )
        self.conf.chmod(0o600)

    def type(self, line: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """A command as it is typed here."""
        program, *words = shlex.split(line)
        return subprocess.run(
            self.net.command(BIN / program, "-C", self.conf, *words),
            input=stdin.decode(),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=scaled(60),
            check=False,
        )

    def ok(self, line: str, stdin: bytes = b"") -> str:
        """The same, of what has to succeed; what it says."""
        done = self.type(line, stdin)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def deliver(self, user: str, subject: str, size: int = 0) -> None:
        body = base64.encodebytes(os.urandom(size * 3 // 4)).replace(b"\n", b"\r\n")
        self.ok(f"mailstore deliver {user}", b"Subject: %s\r\n\r\n%s\r\n" % (subject.encode(), body))

    def accepts(self, other: Host, port: int) -> bool:
        """Whether somebody on the other host listens there."""

        def connect() -> None:
            socket.create_connection((other.net.address, port), timeout=scaled(2)).close()

        with contextlib.suppress(OSError):
            self.net.do(connect)
            return True
        return False

    def caught_up(self) -> None:
        """Wait until all that was logged here is at the other end."""
        until(
            lambda: self.type("sync_client --status --warning 1").returncode == 0 and self.is_idle(), "idle"
        )

    def is_idle(self) -> bool:
        return not any(path.stat().st_size for path in (self.root / "conf" / "sync").glob("log*"))

    def start(self, line: str) -> None:
        """A daemon in the foreground, until `stop`."""
        program, *words = line.split()
        output = self.root / f"{program}-{len(self._daemons)}.log"
        command = [*dying_with_us(), *self.net.command(BIN / program, "-C", self.conf, *words)]
        self._daemons[line] = Rolling(command, output, env=environment())

    def stop(self, line: str) -> None:
        status = self._daemons.pop(line).stop()
        expected = 75 if line.startswith("sync_client") else 0  # as the manual page has it
        assert status == expected, f"{line}: {status}\n{self.said()}"

    def said(self) -> str:
        """What the daemons have said, for who looks why a test failed."""
        return "".join(f"{path}:\n{path.read_text()}" for path in sorted(self.root.glob("*.log")))

    def close(self) -> None:
        for daemon in self._daemons.values():
            daemon.stop()

    def get(self, other: Host, port: int, path: str = "/metrics", user: str = "") -> tuple[int, str]:
        """What the other host (or this one, on its loopback interface) answers: over TLS with a login, if
        `user` is given, "-" for none."""
        where = "127.0.0.1" if other is self else other.net.address
        context = ssl.create_default_context(cafile=str(self.root.parent / "authorities.pem"))
        login = base64.b64encode(user.encode()).decode()

        def fetch() -> tuple[int, str]:
            line = (
                HTTPSConnection(where, port, timeout=scaled(10), context=context)
                if user
                else HTTPConnection(where, port, timeout=scaled(10))
            )
            with contextlib.closing(line):
                line.request("GET", path, headers={"Authorization": f"Basic {login}"} if user != "-" else {})
                answer = line.getresponse()
                return answer.status, answer.read().decode()

        return self.net.do(fetch)

    def subjects(self, user: str, where: Host) -> list[str]:
        """What a user of `where` reads from here, over IMAP."""

        def read() -> list[str]:
            context = ssl.create_default_context(cafile=str(self.root.parent / "authorities.pem"))
            with imaplib.IMAP4(where.net.address, 143, timeout=scaled(10)) as imap:
                imap.starttls(context)
                imap.authenticate("PLAIN", lambda _: f"{user}\0repl\0{SECRET}".encode())
                imap.select("INBOX", readonly=True)
                _, found = imap.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
                fields = [part[1].decode().strip() for part in found if isinstance(part, tuple)]
                return [field.removeprefix("Subject: ") for field in fields]

        return self.net.do(read)


@contextmanager
def hosts(root: Path) -> Iterator[tuple[Host, Host]]:
    with two_hosts() as (first, second):
        boston, lyon = Host(root, "boston", first, second), Host(root, "lyon", second, first)
        try:
            yield boston, lyon
        except BaseException:
            print(boston.said(), lyon.said())
            raise
        finally:
            boston.close()
            lyon.close()


def value(figures: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in figures.splitlines() if line.startswith(name))


@pytest.mark.covers("Two hosts, as an administrator types it", "two hosts", "another host")
def test_two_hosts_from_the_first_user_to_the_day_they_change_places(tmp_path: Path) -> None:
    with hosts(tmp_path) as (boston, lyon):
        for host in (boston, lyon):
            host.ok("mailstore passwd repl", SECRET.encode())

        # Two servers. The last user of lyon goes to boston for good, as docs/backup.md has it
        boston.start("sync_server -e")
        lyon.ok("mailstore create user/dora")
        lyon.deliver("dora", "first")
        until(lambda: lyon.accepts(boston, 2005), "boston listens")
        lyon.ok("sync_client -u dora")
        lyon.deliver("dora", "meanwhile")
        compared = lyon.type("sync_client --compare -u dora")
        assert compared.returncode == 1 and "user/dora" in compared.stdout
        lyon.ok("sync_client -u dora")
        lyon.ok("sync_client --compare -u dora")
        lyon.ok("mailstore delete -r user/dora")
        assert lyon.type("mailstore deliver dora", b"Subject: late\r\n\r\n").returncode == 67
        assert "meanwhile" in boston.ok("mailstore show user/dora 2")
        boston.stop("sync_server -e")

        # A master and its replica, as the README has them
        with lyon.conf.open("a") as file:
            file.write("replicaonly: yes\n")
        lyon.start("sync_server -e")
        boston.ok("mailstore create user/alice user/alice/Work user/bob user/carol")
        boston.deliver("alice", "before")
        boston.deliver("bob", "large", 2_500_000)
        until(lambda: boston.accepts(lyon, 2005), "lyon listens")
        begun = time.monotonic()
        boston.ok("sync_client -A")
        assert time.monotonic() - begun > 1.4, "sync_bandwidth lets a second's worth go at once, and no more"
        boston.start("sync_client -R")
        refused = lyon.type("mailstore deliver alice", b"Subject: x\r\n\r\n")
        assert refused.returncode == 75 and "replica" in refused.stderr

        # Rolling, and seen from all sides
        boston.deliver("alice", "rolling")
        boston.caught_up()
        assert json.loads(boston.ok("sync_client --status --format json"))
        _, sent = boston.get(boston, 9789)
        _, taken = lyon.get(lyon, 9788)
        assert value(sent, "cyrus_sync_client_last_success_timestamp_seconds") > 0, sent
        assert value(taken, "cyrus_sync_server_connections_total") >= 1, taken
        with pytest.raises(OSError):
            boston.get(lyon, 9788)  # its own affair, as the manual page says
        boston.start("cyrus-sync web -e")
        until(lambda: lyon.accepts(boston, 9780), "the page is there")
        assert lyon.get(boston, 9780, "/", "-")[0] == 401
        status, page = lyon.get(boston, 9780, "/", f"repl:{SECRET}")
        assert status == 200 and "boston.example.org" in page
        boston.stop("cyrus-sync web -e")

        # Proved: a signed report, and a scrub that heals from the other end
        report = tmp_path / "report.json"
        report.write_text(boston.ok("sync_client --compare -A --messages --format json"))
        boston.ok(f"sync_client --verify-report {report}")
        lyon.ok("mailstore verify --background")

        # A user goes to another disk, and so does the copy
        for host in (boston, lyon):
            (host.root / "fast" / ".cyrus-sync-partition").touch()
        assert "on fast now" in boston.ok("mailstore move alice fast")
        boston.caught_up()
        for host in (boston, lyon):
            assert [path.parts[-4] for path in host.root.glob("*/users/*/alice")] == ["fast"]
        boston.ok("sync_client --compare -A")

        # A moment to go back to, and mail that is lost after it
        then = int(time.time())
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(then))
        until(lambda: time.time() >= then + 1, "another second")
        boston.ok("mailstore expunge user/alice 1")
        boston.caught_up()

        # The lifeboat: lyon's copy is read from boston
        lyon.start("cyrus-sync imap -e")
        until(lambda: boston.accepts(lyon, 143), "the lifeboat floats")
        assert boston.subjects("alice", lyon) == ["rolling"]
        lyon.stop("cyrus-sync imap -e")

        # They change places
        boston.ok("sync_client --drain")
        assert boston.type("mailstore deliver alice", b"Subject: x\r\n\r\n").returncode == 75
        lyon.ok("cyrus-sync promote")
        boston.stop("sync_client -R")
        boston.ok("cyrus-sync demote")
        boston.start("sync_server -e")
        until(lambda: lyon.accepts(boston, 2005), "boston listens")
        lyon.deliver("alice", "on the new master")
        lyon.ok("sync_client -A")
        lyon.ok("sync_client --compare -A")

        # What was there at that moment comes back, from the history of one host to the other
        boston.ok(
            f"mailstore restore alice --as-of '{moment}' --as alicethen --yes --to {lyon.net.address}:2005"
        )
        assert "before" in lyon.ok("mailstore show user/alicethen 1")
