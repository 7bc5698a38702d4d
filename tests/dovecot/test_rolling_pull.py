"""A rolling `sync_client` that follows a real Dovecot by its events."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from tests.deadlines import scaled, until
from tests.interop.ours import BIN, environment
from tests.interop.running import dying_with_us
from tests.ports import free_port

from .conftest import running_or_skipped
from .pulling import Folders, folders_in, master_view, message
from .running import MASTER, MASTER_PASSWORD, RELEASES, Server
from .test_pulling import operate

EVENTS = {
    "2.3": """
event_exporter cyrus_sync {{
  format = json
  format_args = time-rfc3339
  transport = http-post
  transport_args = http://127.0.0.1:{port}/
  transport_timeout = 1 min
}}
metric cyrus_sync_commands {{
  exporter = cyrus_sync
  exporter_include = name fields
  filter = event=imap_command_finished AND {commands}
}}
metric cyrus_sync_deliveries {{
  exporter = cyrus_sync
  exporter_include = name fields
  filter = event=mail_delivery_finished
}}
""",
    "2.4": """
event_exporter cyrus_sync {{
  driver = http-post
  http_post_url = http://127.0.0.1:{port}/
  http_client_request_absolute_timeout = 1 min
  format = json
  time_format = rfc3339
}}
metric cyrus_sync_commands {{
  exporter = cyrus_sync
  exporter_include = name fields
  filter = event=imap_command_finished AND {commands}
}}
metric cyrus_sync_deliveries {{
  exporter = cyrus_sync
  exporter_include = name fields
  filter = event=mail_delivery_finished
}}
""",
}
COMMANDS = (
    "*STORE",
    "*COPY",
    "*MOVE",
    "*EXPUNGE",
    "APPEND",
    "CLOSE",
    "CREATE",
    "DELETE",
    "RENAME",
    "*SUBSCRIBE",
    "SETACL",
    "DELETEACL",
    "SETMETADATA",
)
READ = '(cmd_name="*FETCH" AND cmd_args="*BODY[*")'
"""Reading a message without PEEK sets \\Seen."""


def exporting(release: str, port: int) -> str:
    """Lines of dovecot.conf by which it tells of what changes."""
    commands = " OR ".join(f'cmd_name="{name}"' for name in COMMANDS)
    return EVENTS[release].format(port=port, commands=f"({commands} OR {READ})")


@contextmanager
def rolling(conf: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [str(BIN / "sync_client"), "-C", str(conf), "-R", "-d", "1"]
    with conf.with_name("log").open("ab") as output:
        client = subprocess.Popen(
            [*dying_with_us(), *command], stdin=subprocess.DEVNULL, stderr=output, env=environment()
        )
    try:
        yield client
    finally:
        client.kill()
        client.wait()


def configured(root: Path, server: Server, port: int, *lines: str) -> Path:
    conf = root / "imapd.conf"
    said = (
        f"configdirectory: {root}/conf",
        f"partition-default: {root}/mail",
        "sync_source: imap",
        "imap_host: 127.0.0.1",
        f"imap_port: {server.imap_port}",
        "imap_tls: no",
        f"imap_master_user: {MASTER}",
        f"imap_password: {MASTER_PASSWORD}",
        "imap_sieve_port: 0",
        "imap_users: alice",
        f"imap_events_listen: {port}",
        *lines,
    )
    conf.write_text("".join(f"{line}\n" for line in said))
    return conf


def flags(conf: Path, user: str) -> list[str]:
    """Those of each message in the INBOX of our store."""
    store = open_store(Config.load(conf), readonly=True, log=False)
    with contextlib.closing(store), store.read(Owner("user", user)) as reader:
        box = reader.mailbox(f"user.{user}")
        if box is None:
            return []
        return [one.flags for batch in reader.records(box.uniqueid) for one in batch if not one.expunged]


def ours(conf: Path, user: str) -> Folders:
    store = open_store(Config.load(conf), readonly=True, log=False)
    with contextlib.closing(store):
        return folders_in(store, user)


def figures(port: int) -> dict[str, float]:
    """What is told to Prometheus, by the name without the channel."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=scaled(20)) as answer:
        lines = answer.read().decode().splitlines()
    told = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name.replace('{channel="pull"}', ""): float(value) for name, _, value in told}


def status(conf: Path) -> str:
    command = [str(BIN / "sync_client"), "-C", str(conf), "--status", "-n", "pull"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    return done.stdout


def told_of(port: int) -> None:
    age = "cyrus_sync_client_oldest_change_age_seconds"
    until(lambda: figures(port)[age] == 0, "nothing waits")
    now = figures(port)
    assert now["cyrus_sync_client_messages_sent_total"] >= 2
    events = [value for name, value in now.items() if name.startswith("cyrus_sync_client_events_total")]
    assert sum(events) > 20
    folders = [value for name, value in now.items() if "client_pulls_total" in name and "folders" in name]
    assert folders[0] > 0
    kept = [value for name, value in now.items() if "imap_sessions_total" in name and "kept" in name]
    assert kept[0] > 0


@pytest.mark.covers("imapd.conf", "imap_events_listen")
@pytest.mark.parametrize("release", RELEASES)
def test_what_changes_is_here_as_soon_as_it_is_told(release: str, tmp_path: Path) -> None:
    port = free_port()
    with running_or_skipped(release, more=exporting(release, port)) as server:
        server.add_user("alice")
        with server.imap("alice") as imap:
            imap.append("INBOX", None, None, message(1))  # type: ignore[arg-type] # imaplib's types
            metrics = free_port()
            conf = configured(tmp_path, server, port, f"pull_sync_metrics_listen: {metrics}")
            with rolling(conf) as client:
                until(lambda: flags(conf, "alice") == [""], "the first pull is done")
                imap.select("INBOX")
                imap.uid("STORE", "1", "+FLAGS", "(\\Flagged)")
                began = time.monotonic()
                until(lambda: flags(conf, "alice") == ["\\Flagged"], "the flag is here")
                took = time.monotonic() - began
                server.deliver("alice", message(2))
                until(lambda: len(flags(conf, "alice")) == 2, "the delivery is here")
                imap.noop()
                imap.uid("FETCH", "2", "(BODY[])")
                until(lambda: flags(conf, "alice")[1] == "\\Seen", "that it was read is here")
                rng = random.Random(release)
                for number in range(10, 50):
                    operate(imap, rng, number)
                until(lambda: ours(conf, "alice") == master_view(server, "alice"), "all of it is here")
                told_of(metrics)
                assert "pulls of folders: " in status(conf)
                client.send_signal(signal.SIGTERM)
                assert client.wait(scaled(20)) == 75
        log = (tmp_path / "log").read_text()
        assert took < scaled(10)  # without the event it would be a day
        assert "sync failed" not in log


@pytest.mark.parametrize("release", RELEASES)
def test_without_events_the_server_tells_by_notify(release: str, tmp_path: Path) -> None:
    with running_or_skipped(release) as server:
        server.add_user("alice")
        conf = configured(tmp_path, server, free_port(), "imap_watch_connections: 5")
        with server.imap("alice") as imap, rolling(conf):
            imap.append("INBOX", None, None, message(1))  # type: ignore[arg-type] # imaplib's types
            until(lambda: "users watched: 1" in status(conf), "she is watched")
            until(lambda: flags(conf, "alice") == [""], "the message is here")
            imap.select("INBOX")
            imap.uid("STORE", "1", "+FLAGS", "(\\Flagged)")
            until(lambda: flags(conf, "alice") == ["\\Flagged"], "the flag is here")
            imap.create("Work")
            imap.uid("COPY", "1", "Work")
            server.deliver("alice", message(2))
            server.doveadm("flags", "add", "-u", "alice", "\\Answered", "mailbox", "INBOX", "1")
            until(lambda: ours(conf, "alice") == master_view(server, "alice"), "all of it is here")
        assert "sync failed" not in (tmp_path / "log").read_text()
