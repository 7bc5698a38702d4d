"""Rolling with an IMAP server as the master: what its events mean, and whom they concern."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.web.test.requesthelper import DummyRequest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CannotConnect, CyrusSyncError
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.pull.events import MOST_OCTETS, Events, users_of
from cyrus_sync.sync_client.engine.errors import GaveWay
from cyrus_sync.sync_client.pull_connection import PullConnector, PullEngine, UserTrouble
from cyrus_sync.sync_client.pull_rolling import PullLog, event_addresses
from cyrus_sync.sync_client.pulling import puller_of
from cyrus_sync.sync_client.turn import Turn
from tests.deadlines import until
from tests.dovecot.pulling import Sidecar
from tests.ports import free_port
from tests.pull.fake import FakeImap
from tests.reactors import make_reactor

COMMAND = (
    b'{"event":"imap_command_finished","hostname":"h","start_time":"2026-11-30T19:00:00Z",'
    b'"fields":{"user":"alice","cmd_name":"UID STORE","session":"s"}}'
)
"""As Dovecot 2.3.19 and 2.4.1 post it."""

PUSH = b'{"user":"bob","event":"messageNew","folder":"INBOX","imap-uidvalidity":1,"imap-uid":7}'
"""As the driver ox of Dovecot 2.3 puts it."""


@pytest.mark.parametrize(
    ("body", "users"),
    [
        (COMMAND, ["alice"]),
        (PUSH, ["bob"]),
        (COMMAND + b"\n" + PUSH + b"\n" + COMMAND, ["alice", "bob"]),
        (b"[" + COMMAND + b"," + PUSH + b"]", ["alice", "bob"]),
    ],
)
def test_events_name_their_users(body: bytes, users: list[str]) -> None:
    assert users_of(body) == users


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"7", b'"alice"', b'{"user":7}', b'{"user":""}', b"\xff", b"[" * 40000, b"{}\n{"],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    heard: list[Any] = []
    events = Events(heard.append)
    request: Any = DummyRequest([b""])
    request.content = io.BytesIO(body)
    assert events.render_POST(request) == b"no event\n"
    assert (request.responseCode, heard, events.refused) == (400, [], 1)


def test_an_event_is_taken_by_post_and_put_and_only_so_large() -> None:
    heard: list[Any] = []
    events = Events(heard.append)
    for render, body in (
        (events.render_POST, COMMAND),
        (events.render_PUT, PUSH),
        (events.render_POST, COMMAND + b" " * MOST_OCTETS),
    ):
        request: Any = DummyRequest([b""])
        request.content = io.BytesIO(body)
        render(request)
    assert heard == [["alice"], ["bob"]]


@pytest.fixture
def conf(tmp_path: Path, server: FakeImap) -> Config:
    path = tmp_path / "imapd.conf"
    path.write_text(
        f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\nsync_source: imap\n"
        f"imap_host: 127.0.0.1\nimap_port: {server.port}\nimap_tls: no\nimap_master_user: m\n"
        "imap_password: p\nimap_sieve_port: 0\nimap_users: alice zoe.b\n"
    )
    path.chmod(0o600)
    return Config.load(path)


@pytest.mark.covers("imapd.conf", "imap_poll")
def test_a_poll_names_everybody_and_an_event_whoever_is_pulled(conf: Config, tmp_path: Path) -> None:
    puller, kept = puller_of(conf)
    log = SyncLog(tmp_path / "pull.log")
    try:
        work = PullLog(conf, log, kept, puller)
        work.changed(["alice", "mallory", "a/b"])  # before the first poll, too
        assert work.poll() == 2
        work.changed(["zoe.b", "mallory"])
    finally:
        kept.close()
    assert log.path.read_text().splitlines() == [
        *("MAILBOX user.alice", "USER alice", "USER zoe.b", "MAILBOX user.zoe^b")
    ]


@pytest.mark.parametrize("said", ["mail.example.org", "/run/no:port", ":x", "1:2:3"])
def test_where_events_are_taken_is_an_address_with_a_port(said: str, conf: Config, tmp_path: Path) -> None:
    path = tmp_path / "imapd.conf"
    path.write_text(path.read_text() + f"imap_events_listen: 9000 127.0.0.1:9001 /run/events {said}\n")
    if said.startswith("/"):
        assert [str(one) for one in event_addresses(Config.load(path))][:2] == [
            *("127.0.0.1:9000", "127.0.0.1:9001")
        ]
        return
    with pytest.raises(CyrusSyncError, match="imap_events_listen"):
        event_addresses(Config.load(path))


class Loop:
    """An engine in a reactor that the test turns."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.reactor = make_reactor()
        self.threads = ThreadRunner(self.reactor, 2)
        self.turn = Turn()
        self.pulled: list[Any] = []
        self.engine = PullEngine(
            sidecar.puller, self.threads, self.turn, threading.Event(), self.pulled.append
        )

    def do(self, work: Any) -> Any:
        done: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(done.append)

        def over() -> bool:
            self.reactor.iterate(0.005)
            return bool(done)

        until(over, "it is done")
        if hasattr(done[0], "raiseException"):
            done[0].raiseException()
        return done[0]


@pytest.fixture
def loop(server: FakeImap, beside: Callable[[FakeImap], Sidecar]) -> Iterator[Loop]:
    made = Loop(beside(server))
    yield made
    made.threads.close()


def test_whatever_line_names_a_user_he_is_pulled(loop: Loop, server: FakeImap) -> None:
    server.boxes["INBOX"].add(b"Subject: a\r\n\r\nx\r\n")
    loop.do(loop.engine.mailboxes(["user.alice"]))
    loop.do(loop.engine.user("alice"))
    assert [one.messages for one in loop.pulled] == [1, 0]


def test_a_login_that_is_refused_is_the_users_trouble_and_not_the_servers(
    loop: Loop, server: FakeImap
) -> None:
    server.login_answer = "NO [AUTHENTICATIONFAILED] no"
    with pytest.raises(UserTrouble) as failed:
        loop.do(loop.engine.user("alice"))
    assert not isinstance(failed.value, CannotConnect)


def test_a_long_run_gives_way_to_what_is_new(loop: Loop) -> None:
    loop.turn.wanted = True
    with pytest.raises(GaveWay):
        loop.do(loop.engine.user("alice"))


def test_a_server_that_cannot_be_reached_is_no_users_trouble(
    loop: Loop, server: FakeImap, beside: Callable[[FakeImap], Sidecar]
) -> None:
    async def connect(port: int) -> Any:
        settings = beside(server).settings
        object.__setattr__(settings, "port", port)
        return await PullConnector(settings, loop.engine, loop.threads).connect()

    assert loop.do(connect(server.port)).engine is loop.engine
    with pytest.raises(CannotConnect):
        loop.do(connect(free_port()))
