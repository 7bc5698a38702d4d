"""What comes in etc/ for Prometheus and Grafana, tried on a real Prometheus that watches a real pair."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import smtplib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from cyrus_sync.mailstore.backup.places import place_of
from cyrus_sync.mailstore.scrub_state import FILE as SCRUB_FILE
from cyrus_sync.mailstore.scrub_state import Scrub, ScrubState
from cyrus_sync.mailstore.standby.standing import Standing
from cyrus_sync.objects.directory import DirectoryObjects
from tests.common.wire.kit import issue
from tests.deadlines import scaled, until
from tests.fleet.postgres import new_postgres
from tests.fleet.test_command import Node
from tests.metrics.prometheus import RULES, Prometheus, prometheus, promtool
from tests.multisite.world import Site, carry, family_of
from tests.ports import free_port
from tests.shipping.kit import Host
from tests.sync_client.real import BIN, ENVIRONMENT, Pair, Replica, Side, paired

DASHBOARD = RULES.with_name("grafana-dashboard.json")
pytestmark = pytest.mark.usefixtures("real_prometheus")


# -- rules


def test_the_rules_can_be_read() -> None:
    done = promtool("check", "rules", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_worst_day_has_its_alert_and_the_day_before_has_none(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    cases = sorted(Path(__file__).parent.glob("rules*.test.yml"))
    for case in cases:
        shutil.copy(case, tmp_path)
    done = promtool("test", "rules", *(case.name for case in cases), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_and_says_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    tried = "".join(case.read_text() for case in Path(__file__).parent.glob("rules*.test.yml"))
    for rule in rules:
        assert f'"{rule["alert"]}"' in tried, rule["alert"]
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]


# -- a pair that is watched


class Watched(NamedTuple):
    server: Prometheus
    pair: Pair
    user: str
    lmtp: Path


class _Files(http.server.BaseHTTPRequestHandler):
    """Tells files of figures as node_exporter does."""

    directory: Path

    def do_GET(self) -> None:
        body = b"".join(path.read_bytes() for path in sorted(self.directory.glob("*.prom")))
        body += b"".join(
            b'node_textfile_mtime_seconds{file="%s"} %d\n' % (bytes(path), path.stat().st_mtime)
            for path in sorted(self.directory.glob("*.prom"))
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@contextlib.contextmanager
def node_exporter(directory: Path) -> Iterator[str]:
    """Where the files of a directory are told."""
    handler = type("Handler", (_Files,), {"directory": directory})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, real_prometheus: None, real_postgres: None
) -> Iterator[Watched]:
    """A master, some of whose mail is in an object store, and its replica; two sites that exchange packets, a
    host that receives files, and a node of a fleet that takes mail."""
    root = tmp_path_factory.mktemp("watched")
    files = root / "node"
    files.mkdir()
    server_port, client_port, shipping_port, web_port, lmtp_port = (free_port() for _ in range(5))
    replica = Replica(root)
    certificate = issue(root, "replica")
    replica.side.add(
        f"sync_metrics_listen: {server_port}",
        f"tls_server_cert: {certificate.cert}",
        f"tls_server_key: {certificate.key}",
    )
    host = Host(root / "shipping", "127.0.0.1", free_port())
    host.configure(options=[f"sync_metrics_listen: {shipping_port}"])
    boston, rome = family_of(root / "family", "boston", "rome")
    with (boston.directory / "imapd.conf").open("a") as conf:
        conf.write(f"sync_metrics_file: {files}\n")
    carry(rome, boston, root / "travel")
    boston.export_to(rome, root / "never sent")
    with contextlib.ExitStack() as stack:
        replica.server.start()
        stack.callback(replica.server.stop)
        host.start()
        stack.callback(host.stop)
        host.packet("file", b"data", "127.0.0.9")
        pair = stack.enter_context(paired(root, replica))
        pair.master.add(f"sync_metrics_listen: {client_port}")
        old_mail(pair.master, root / "objects")
        pair.rolling("-d", "1")
        scrubbed(boston)
        backed_up_and_followed(boston, root / "backup")
        page = [BIN / "cyrus-sync", "-C", boston.directory / "imapd.conf", "web", "--listen", str(web_port)]
        web = stack.enter_context(subprocess.Popen(page, env=ENVIRONMENT, stderr=subprocess.DEVNULL))
        stack.callback(web.terminate)
        node = stack.enter_context(node_of_fleet(root / "fleet", lmtp_port))
        ports = server_port, client_port, shipping_port, web_port, lmtp_port
        jobs = {
            "cyrus-sync": [f"127.0.0.1:{port}" for port in ports],
            "node": [stack.enter_context(node_exporter(files))],
        }
        server = stack.enter_context(prometheus(root / "prometheus", jobs))
        pair.master.create("secret-user-name")
        yield Watched(server, pair, "secret-user-name", node)


@contextlib.contextmanager
def node_of_fleet(directory: Path, metrics: int) -> Iterator[Path]:
    """It takes mail by LMTP on a socket, and tells its figures on a port."""
    socket_path = directory / "lmtp"
    with new_postgres() as postgres:
        postgres.start()
        directory.mkdir()
        node = Node(directory / "node", postgres.database(), directory / "objects")
        with node.conf.open("a") as conf:
            conf.write(f"lmtp_listen: {socket_path}\nsync_metrics_listen: {metrics}\n")
        node.ok("create", "user/secret-user-name")
        command = [BIN / "cyrus-sync", "-C", node.conf, "lmtp"]
        with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
            try:
                until(socket_path.exists, "LMTP is listened on")
                yield socket_path
            finally:
                process.terminate()


def deliver(socket_path: Path, user: str, number: int) -> None:
    with smtplib.LMTP(str(socket_path), timeout=scaled(20)) as line:
        with contextlib.suppress(smtplib.SMTPRecipientsRefused):
            line.sendmail("a@example.org", [f"not-{user}"], b"nothing")
        line.sendmail("a@example.org", [user], b"Subject: %d\r\n\r\nHello.\r\n" % number)


def scrubbed(site: Site) -> None:
    """A scrub has ended on a site, and another one is under way."""
    state = ScrubState(site.directory / "conf" / SCRUB_FILE, time.time)
    state.last = Scrub(ended=time.time() - 60, problems=1, healed=1)
    state.now = Scrub(begun=time.time(), owners=5, of=10, running=True)
    state.write()


def backed_up_and_followed(site: Site, place: Path) -> None:
    """Everybody was backed up, and somebody keeps Maildirs in step."""
    note = place_of(site.directory / "conf", DirectoryObjects(place))
    note.backed_up(time.time(), everybody=True)
    directory = site.directory / "conf/sync/standby"
    directory.mkdir(parents=True)
    now = time.time()
    standing = Standing(now, 1, 7, 1, 2, 1, oldest=now - 5, swept=now, sweeping=False)
    (directory / "standby.json").write_text(json.dumps(asdict(standing)))


def old_mail(side: Side, objects: Path) -> None:
    """A user's mail is in an object store, from where it has to be read for the replica."""
    objects.mkdir()
    side.add("s3_tier_after: 1d", f"s3_tier_objects: file:{objects}")
    side.create("old")
    side.deliver("old", os.urandom(100_000).hex())
    for pack in (side.root / "mail").rglob("pack-*.zst"):
        os.utime(pack, (0, 0))
    subprocess.run([BIN / "mailstore", "-C", side.conf, "tier", "-A"], check=True, env=ENVIRONMENT)


def refuse_something(socket_path: Path) -> None:
    """A command to which the replica says NO."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(socket_path))
        line.sendall(b"GET FULLMAILBOX user.nobody\r\n")
        said = b""
        while b"\r\nNO " not in said:
            piece = line.recv(4096)
            assert piece, said
            said += piece


@pytest.mark.timeout(600)
def test_every_query_of_the_dashboard_has_an_answer(watched: Watched) -> None:
    server, pair, user, lmtp = watched
    queries = {
        target["expr"]: panel["title"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", ())
    }
    assert len(queries) > 40
    variables = {"$instance": ".*", "$channel": ".*", "$__rate_interval": "30s"}
    left = dict(queries)
    made = 0

    def answered() -> bool:
        nonlocal made
        made += 1
        pair.master.deliver(user, f"message {made}")
        refuse_something(pair.socket)
        deliver(lmtp, user, made)
        for expression, title in list(left.items()):
            filled = expression
            for name, value in variables.items():
                filled = filled.replace(name, value)
            assert "$" not in filled, expression
            if server.query(filled) or title == "Failures by code":  # nothing has failed, and it shows that
                del left[expression]
        return not left

    with contextlib.suppress(AssertionError):
        until(answered, "every query is answered", 60, every=1)
    assert not left


@pytest.mark.timeout(600)
def test_what_happens_is_seen_and_nobody_is_named(watched: Watched) -> None:
    server, pair, user, _ = watched
    pair.master.deliver(user, "one more")
    until(pair.master.done, "the log is worked off")
    sent = 'cyrus_sync_client_messages_sent_total{channel="(default)"}'
    until(lambda: (server.value(sent) or 0) >= 1, "the message is counted at the master", 60)
    until(lambda: (server.value("cyrus_sync_server_messages_received_total") or 0) >= 1, "and there", 60)
    assert server.value("cyrus_sync_client_connected") == 1
    everything = json.dumps(server.ask("series", **{"match[]": '{__name__=~".+"}'}))
    assert "cyrus_sync_server_replies_total" in everything and user not in everything
    for name in server.ask("label/__name__/values"):
        assert re.fullmatch(r"(cyrus_sync|process|node|up|scrape|ALERTS)[a-z_A-Z]*", name), name


@pytest.mark.timeout(600)
def test_the_rules_are_evaluated_and_find_nothing_wrong(watched: Watched) -> None:
    server = watched.server

    def evaluated() -> Any:
        rules = [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] == "ok" for rule in rules) else None

    rules = until(evaluated, "all rules are evaluated", 60)
    assert len(rules) == len(yaml.safe_load(RULES.read_text())["groups"][0]["rules"])
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []
