"""`cyrus-sync lmtp` as a process: what it has answered survives it."""

from __future__ import annotations

import contextlib
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_kept
from cyrus_sync.common.stores.mailstore import MailStore
from tests.common.wire.kit import issue
from tests.deadlines import scaled, until
from tests.interop.ours import environment
from tests.interop.running import dying_with_us
from tests.ports import free_port

from .kit import HEADER, MESSAGE, configured

USERS = [f"user{number}" for number in range(4)]


@contextmanager
def running(conf: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server, killed at the end if it is still there."""
    command = [sys.executable, "-m", "cyrus_sync.tool.cli", "-C", str(conf), "lmtp", "-e"]
    with conf.with_name("log").open("ab") as output:
        server = subprocess.Popen(
            [*dying_with_us(), *command], stdin=subprocess.DEVNULL, stderr=output, env=environment()
        )
    try:

        def listens() -> bool:
            assert server.poll() is None, conf.with_name("log").read_text()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                return True
            return False

        until(listens, "it listens")
        yield server
    finally:
        server.kill()
        server.wait()


def make_users(conf: Path) -> None:
    store, _ = open_kept(Config.load(conf))
    for user in USERS:
        with store.write(Owner("user", user)) as writer:
            writer.create(f"user.{user}")
    store.close()


def test_what_was_answered_250_is_there_after_kill_9(tmp_path: Path) -> None:
    port = free_port()
    conf = configured(tmp_path, f"lmtp_listen: 127.0.0.1:{port}", "lmtp_journal: journal")
    make_users(conf)
    answered: list[tuple[str, bytes]] = []

    def deliver(sender: int) -> None:
        with contextlib.suppress(OSError, smtplib.SMTPException), smtplib.LMTP("127.0.0.1", port) as lmtp:
            for number in range(1000):
                user = USERS[number % len(USERS)]
                name = b"<%d.%d@x>" % (sender, number)
                refused = lmtp.sendmail("joe@x", [user], MESSAGE.replace(b"<1@x>", name))
                assert not refused
                answered.append((user, name))

    with running(conf, port) as server:
        senders = [threading.Thread(target=deliver, args=[number]) for number in range(6)]
        for one in senders:
            one.start()
        until(lambda: len(answered) > 100, "messages are delivered")
        server.kill()
        for one in senders:
            one.join()
    store, _ = open_kept(Config.load(conf))
    with contextlib.closing(store):
        journal = stored(store, Owner("shared", "journal"), "journal")
        assert {name for _, name in answered} <= journal
        for user in USERS:
            there = stored(store, Owner("user", user), f"user.{user}")
            assert {name for whose, name in answered if whose == user} <= there <= journal


def stored(store: MailStore, owner: Owner, mailbox: str) -> set[bytes]:
    """The Message-IDs in a mailbox, each message read."""
    found = set()
    with store.read(owner) as reader:
        box = reader.mailbox(mailbox)
        assert box is not None
        for batch in reader.records(box.uniqueid):
            for record in batch:
                body = reader.body(record.guid)
                assert body is not None
                assert isinstance(body.data, bytes)
                found.add(body.data.partition(b"Message-ID: ")[2].partition(b"\r\n")[0])
    return found


@pytest.mark.covers("imapd.conf", "lmtp_listen")
def test_it_listens_on_sockets_speaks_tls_tells_figures_and_ends_in_order(tmp_path: Path) -> None:
    port, metrics, unix = free_port(), free_port(), tmp_path / "lmtp.sock"
    certificate = issue(tmp_path, "localhost")
    conf = configured(
        tmp_path,
        f"lmtp_listen: localhost:{port} {unix}",
        f"tls_server_cert: {certificate.cert}",
        f"tls_server_key: {certificate.key}",
        f"lmtp_sync_metrics_listen: {metrics}",
    )
    make_users(conf)
    with running(conf, port) as server:
        trusting = ssl.create_default_context(cafile=certificate.cert)
        with smtplib.LMTP("localhost", port) as lmtp:
            lmtp.starttls(context=trusting)
            lmtp.ehlo_or_helo_if_needed()
            assert not lmtp.has_extn("starttls")
            assert lmtp.sendmail("joe@x", ["user0"], HEADER + b"by TLS\r\n") == {}
        with smtplib.LMTP(str(unix)) as lmtp:
            assert lmtp.sendmail("joe@x", ["user0"], HEADER + b"by socket\r\n") == {}
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                lmtp.sendmail("joe@x", ["nobody"], MESSAGE)
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics", timeout=scaled(10)) as page:
            told = page.read().decode()
        assert 'cyrus_sync_lmtp_recipients_total{result="delivered"} 2.0' in told
        assert 'cyrus_sync_lmtp_recipients_refused_total{code="550"} 1.0' in told
        server.send_signal(signal.SIGTERM)
        assert server.wait(scaled(20)) == 0
    assert not unix.exists()
    log = (tmp_path / "log").read_text()
    assert "with LMTPSA" in show(conf, 1)
    assert "unix socket" in show(conf, 2)
    assert "Traceback" not in log, log


def show(conf: Path, uid: int) -> str:
    """A message of user0's."""
    command = [
        sys.executable,
        "-m",
        "cyrus_sync.mailstore.cli",
        "-C",
        str(conf),
        "show",
        "user/user0",
        str(uid),
    ]
    return subprocess.run(command, capture_output=True, check=True, env=environment()).stdout.decode()
