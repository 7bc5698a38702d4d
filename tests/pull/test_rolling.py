"""Rolling with an IMAP server as the master: what its events mean, and whom they concern."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.web.test.requesthelper import DummyRequest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import CannotConnect, ConfigError, CyrusSyncError, MailboxLocked, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.synclog.lines import LogLine
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.pull.changes import Change
from cyrus_sync.pull.events import MOST_OCTETS, Events, changes_of
from cyrus_sync.sync_client import pull_engine
from cyrus_sync.sync_client.channel import PULL, lock_holder
from cyrus_sync.sync_client.engine.errors import GaveWay, LeftOut
from cyrus_sync.sync_client.merge import merge
from cyrus_sync.sync_client.promote import GivenUp, promote
from cyrus_sync.sync_client.pull_connection import PullConnector
from cyrus_sync.sync_client.pull_engine import LoginRefused, PullEngine, Told, UserTrouble
from cyrus_sync.sync_client.pull_log import PullLog
from cyrus_sync.sync_client.pull_polling import Polling
from cyrus_sync.sync_client.pull_rolling import event_addresses
from cyrus_sync.sync_client.pulling import puller_of
from cyrus_sync.sync_client.turn import Turn
from cyrus_sync.sync_client.work import Item
from tests.deadlines import scaled, until
from tests.dovecot.pulling import Sidecar, message
from tests.interop.ours import BIN, environment
from tests.ports import free_port
from tests.pull.fake import Box, FakeImap
from tests.reactors import make_reactor


def event(name: str, *, args: str = "", box: str = "", user: str = "alice") -> bytes:
    """As Dovecot 2.3.19 and 2.4.1 post that a command is done."""
    fields = {"user": user, "cmd_name": name, "cmd_args": args, "mailbox": box, "session": "s"}
    told = {key: value for key, value in fields.items() if value}
    return json.dumps({"event": "imap_command_finished", "hostname": "h", "fields": told}).encode()


COMMAND = event("UID STORE", args="1 +FLAGS (\\Flagged)", box="INBOX")
DELIVERY = b'{"event":"mail_delivery_finished","hostname":"h","fields":{"user":"alice","rcpt_to":"alice"}}'
PUSH = b'{"user":"bob","event":"messageNew","folder":"INBOX","imap-uidvalidity":1,"imap-uid":7}'
"""As the driver ox of Dovecot 2.3 puts it."""


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (COMMAND, [Change("alice", ("INBOX",))]),
        (PUSH, [Change("bob", ("INBOX",))]),
        (DELIVERY, [Change("alice")]),
        (
            COMMAND + b"\n" + PUSH + b"\n" + COMMAND,
            [Change("alice", ("INBOX",)), Change("bob", ("INBOX",))],
        ),
        (b"[" + DELIVERY + b"," + PUSH + b"]", [Change("alice"), Change("bob", ("INBOX",))]),
        (
            event("APPEND", args="Work <115 byte literal>", box="Entw\u00fcrfe & mehr"),
            [Change("alice", ("Entw&APw-rfe &- mehr",))],
        ),
        (event("UID MOVE", args="1:3,7 Work/Deep", box="INBOX"), [Change("alice", ("INBOX", "Work/Deep"))]),
        (event("COPY", args='2 "a \\"b"', box="Work"), [Change("alice", ("Work", 'a "b'))]),
        (event("COPY", args="2 Work", box="Work"), [Change("alice", ("Work",))]),
        (event("COPY", args="2 <4 byte literal>", box="Work"), [Change("alice")]),
        (event("CREATE", args="New", box="New"), [Change("alice")]),
        (event("RENAME", args="Old New"), [Change("alice")]),
        (event("SUBSCRIBE", args="New", box="New"), [Change("alice")]),
        (event("SETACL", args="INBOX bob lr"), [Change("alice", about=True)]),
        (event("UID FETCH", args="1 (UID BODY[])", box="INBOX"), [Change("alice", ("INBOX",))]),
        (event("FETCH", args="1 RFC822", box="INBOX"), [Change("alice", ("INBOX",))]),
        (event("UID FETCH", args="1 (RFC822.SIZE BODY.PEEK[])", box="INBOX"), []),
        (event("GETACL", args="INBOX"), []),
        (event("EXAMINE", args="INBOX", box="INBOX"), []),
    ],
)
def test_events_name_their_users_and_folders(body: bytes, changes: list[Change]) -> None:
    assert changes_of(body) == changes


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
    assert heard == [[Change("alice", ("INBOX",))], [Change("bob", ("INBOX",))]]


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
        strangers = work.changed([Change("alice"), Change("mallory"), Change("a/b")])
        work.of_strangers(strangers)  # before the first poll, too
        assert work.poll() == ["alice", "zoe.b"]
        work.whole(work.to_poll(["alice", "zoe.b"]))
        work.changed([Change("zoe.b", ("INBOX",)), Change("mallory"), Change("alice", about=True)])
    finally:
        kept.close()
    assert log.path.read_text().splitlines() == [
        *("SUB alice user.alice", "USER alice", "USER zoe.b", "SUB zoe.b user.zoe^b", "USER alice")
    ]


def test_an_event_is_a_line_of_its_folder_as_soon_as_that_is_known(
    conf: Config, server: FakeImap, tmp_path: Path
) -> None:
    server.namespace = '(("" "/")) (("Other/" "/")) (("Public/" "/"))'
    server.boxes |= {"Work": Box(), "Public/News": Box()}
    puller, kept = puller_of(conf)
    log = SyncLog(tmp_path / "pull.log")
    try:
        puller.pull("alice")
        work = PullLog(conf, log, kept, puller, told := Told())
        work.poll()
        work.changed([Change("alice", ("INBOX", "Work")), Change("alice", ("Work",))])
        assert told.times(Owner("user", "alice")) > 1 and not told.is_urgent(Owner("user", "alice"))
        work.changed([Change("alice", ("Work", "New"))])
        work.changed([Change("alice", (name,)) for name in ("Public/News", "Other/zoe.b/x", "Other/eve/x")])
        assert puller.login_for(Owner("shared", "News")) == "alice"
        # Mallory is not pulled, but where she has changed something of others, that is looked at.
        log.path.rename(log.path.with_suffix(".first"))
        for name in ("INBOX", "Public/News", "Other/alice/x", "Other/eve/x"):
            work.changed([Change("mallory", (name,))])
        assert told.is_urgent(Owner("user", "alice")), "a line SUB would be lost in that of a poll"
    finally:
        kept.close()
    assert log.path.with_suffix(".first").read_text().splitlines() == [
        *("MAILBOX user.alice", "MAILBOX user.alice.Work", "SUB alice user.alice", "MAILBOX News"),
        "SUB zoe.b user.zoe^b",
    ]
    assert log.path.read_text().splitlines() == ["MAILBOX News", "SUB alice user.alice"]


def test_an_event_of_one_who_is_known_counts_though_nobody_can_say_who_else_there_is(
    conf: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    puller, kept = puller_of(conf)
    log, asked = SyncLog(tmp_path / "pull.log"), list[object]()

    def fails(*said: object) -> list[str]:
        asked.append(said)
        raise ConfigError("imap_users: the command has failed")

    try:
        work = PullLog(conf, log, kept, puller)
        work.poll()
        monkeypatch.setattr("cyrus_sync.sync_client.pull_log.everybody", fails)
        monkeypatch.setattr("cyrus_sync.sync_client.pull_log._ASK_AGAIN_SECONDS", 0.0)
        work.of_strangers(work.changed([Change("mallory"), Change("alice")]))
        monkeypatch.setattr("cyrus_sync.sync_client.pull_log._ASK_AGAIN_SECONDS", 1000.0)
        work.of_strangers(work.changed([Change("mallory")]))
    finally:
        kept.close()
    assert log.path.read_text().splitlines() == ["SUB alice user.alice"]
    assert len(asked) == 1, "and it is not asked at every event"


def test_nobody_is_urgent_because_his_watch_begins(conf: Config, tmp_path: Path) -> None:
    puller, kept = puller_of(conf)
    log = SyncLog(tmp_path / "pull.log")
    alice = Owner("user", "alice")
    try:
        work = PullLog(conf, log, kept, puller, told := Told())
        begins = Change("alice", told=False)
        work.of_strangers(work.changed([begins]))
        assert told.times(alice) == 1
        work.changed([begins])
        assert told.times(alice) == 2 and not told.is_urgent(alice)
        work.changed([begins, Change("alice")])
        assert told.is_urgent(alice)
    finally:
        kept.close()
    assert set(log.path.read_text().splitlines()) == {"SUB alice user.alice"}


class Unsure:
    """Stands for `PullLog`: knows who there is, or fails."""

    def __init__(self) -> None:
        self.polls = 0
        self.trouble: Exception | None = ConfigError("imap_users: the command has failed")

    def poll(self) -> list[str]:
        self.polls += 1
        if self.trouble is not None:
            raise self.trouble
        return ["alice"]

    def to_poll(self, userids: list[str]) -> list[str]:
        return userids

    def whole(self, userids: list[str]) -> None:
        pass

    def changed(self, changes: object) -> None:
        raise StoreError("No space left on device")


def test_who_there_is_is_asked_again_soon_where_that_failed_or_an_event_was_lost() -> None:
    clock, work = Clock(), Unsure()
    threads: Any = SimpleNamespace(run=maybeDeferred)
    polling = Polling(
        cast(
            Any,
            SimpleNamespace(
                seconds=clock.seconds, callLater=clock.callLater, addSystemEventTrigger=lambda *_: None
            ),
        ),
        threads,
        threads,
        cast(Any, work),
        86400,
    )
    polling.begin(None)
    clock.pump([30, 31])
    assert work.polls == 2
    work.trouble = None
    clock.pump([60, 60, 60])
    assert work.polls == 3
    polling.changed([Change("alice")])
    polling.changed([Change("alice")])
    clock.pump([60, 60])
    assert work.polls == 4


class Slow:
    """Stands for `PullLog`: whoever is asked who there is takes long."""

    def __init__(self) -> None:
        self.written: list[Sequence[Change]] = []
        self.asked: list[Sequence[Change]] = []

    def poll(self) -> list[str]:
        return ["alice"]

    def changed(self, changes: Sequence[Change]) -> list[Change]:
        self.written.append(changes)
        return [one for one in changes if one.login == "new"]

    def of_strangers(self, changes: Sequence[Change]) -> None:
        self.asked.append(changes)


def test_what_is_told_while_lines_are_written_is_written_together_and_waits_for_no_question() -> None:
    work, hanging = Slow(), list[tuple[Deferred[Any], Any]]()

    def run(function: Any, *arguments: Any) -> Deferred[Any]:
        hanging.append((Deferred(), lambda: function(*arguments)))
        return hanging[-1][0]

    def done(at: int) -> None:
        waiting, act = hanging.pop(at)
        waiting.callback(act())

    threads: Any = SimpleNamespace(run=run)
    polling = Polling(cast(Any, Clock()), threads, threads, cast(Any, work), 86400)
    for login in ("alice", "new", "bob"):
        polling.changed([Change(login)])
    done(0)
    assert work.written == [[Change("alice")]]
    done(0)
    assert work.written[1:] == [[Change("new"), Change("bob")]]
    polling.changed([Change("carol")])
    done(1)
    assert work.written[2:] == [[Change("carol")]] and not work.asked, "while somebody is asked for new"


def test_one_user_is_pulled_by_one_thread_at_a_time(loop: Loop, server: FakeImap) -> None:
    puller = loop.engine._puller
    with puller._only_one("alice"), pytest.raises(MailboxLocked):
        loop.do(loop.engine.user("alice"))
    loop.do(loop.engine.user("alice"))


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


@pytest.mark.covers("sync_client: options", "-r")
def test_a_daemon_that_cannot_listen_is_no_success_and_the_reason_is_seen(
    conf: Config, tmp_path: Path
) -> None:
    path = tmp_path / "imapd.conf"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path.write_text(path.read_text() + f"imap_events_listen: {taken.getsockname()[1]}\n")
        words = [str(BIN / "sync_client"), "-C", str(path), "-r"]
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, env=environment(), timeout=scaled(30)
        )
    assert done.returncode == 78
    assert "sync_client: imap_events_listen: cannot listen on" in done.stderr
    assert lock_holder(tmp_path / "conf" / "sync" / PULL) is None, "a second try is not refused"


class Loop:
    """An engine in a reactor that the test turns."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.reactor = make_reactor()
        self.threads = ThreadRunner(self.reactor, 2)
        self.turn = Turn()
        self.stop = threading.Event()
        self.pulled: list[Any] = []
        self.told = Told()
        self.engine = PullEngine(
            sidecar.puller, self.threads, self.turn, self.stop, self.pulled.append, width=2, told=self.told
        )

    def begin(self, work: Any) -> list[Any]:
        """What comes of it will be in there."""
        done: list[Any] = []
        Deferred.fromCoroutine(work).addBoth(done.append)
        return done

    def until(self, condition: Callable[[], object], what: str) -> None:
        def holds() -> object:
            self.reactor.iterate(0.005)
            return condition()

        until(holds, what)

    def do(self, work: Any) -> Any:
        return self.end(self.begin(work))

    def end(self, done: list[Any]) -> Any:
        self.until(lambda: done, "it is done")
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


def test_lines_of_folders_look_at_these_alone(loop: Loop, server: FakeImap) -> None:
    server.namespace = '(("" "/")) NIL (("Public/" "/"))'
    server.boxes |= {"Work": Box(), "Public/News": Box()}
    with pytest.raises(UserTrouble, match="nobody is known yet who sees"):
        loop.do(loop.engine.mailboxes(["News"]))
    loop.do(loop.engine.user("alice"))
    for box in server.boxes.values():
        box.add(b"Subject: a\r\n\r\nx\r\n")
    server.said.clear()
    loop.do(loop.engine.mailboxes(["user.alice.Work"]))
    loop.do(loop.engine.mailboxes(["News"]))
    assert [one.messages for one in loop.pulled] == [0, 1, 1]
    assert (server.count("LIST"), server.count("EXAMINE"), server.count("STATUS")) == (0, 3, 2)
    loop.do(loop.engine.sub("alice", "user.alice"))
    assert loop.pulled[-1].messages == 1


def test_a_login_that_is_refused_is_the_users_trouble_and_not_the_servers(
    loop: Loop, server: FakeImap
) -> None:
    server.login_answer = "NO [AUTHENTICATIONFAILED] no"
    with pytest.raises(LoginRefused) as failed:
        loop.do(loop.engine.user("alice"))
    assert not isinstance(failed.value, CannotConnect)
    server.login_answer = "OK in"
    loop.do(loop.engine.user("bob"))
    server.login_answer = "NO [AUTHENTICATIONFAILED] no"
    with pytest.raises(UserTrouble):  # the server is well, as bob shows
        loop.do(loop.engine.user("alice"))


def test_what_is_left_out_is_named_and_sets_nothing_else_aside(loop: Loop, server: FakeImap) -> None:
    for number in range(30):
        server.boxes["INBOX"].add(message(number))
        server.bad[number + 1] = "NO"
    with pytest.raises(LeftOut) as failed:
        loop.do(loop.engine.user("alice"))
    assert {what for what, _ in failed.value.failures} == {"INBOX", "and more"}
    assert str(failed.value.failures[0][1]).startswith("uid 1 is left out: [SERVERBUG]")
    item = Item.user("alice")
    assert promote(item, failed.value) == GivenUp(item)


def test_a_long_run_gives_way_to_what_is_new(loop: Loop) -> None:
    loop.turn.wanted = True
    with pytest.raises(GaveWay):
        loop.do(loop.engine.user("alice"))


def held(server: FakeImap, name: str) -> threading.Event:
    """A folder that nobody can open before the event is set."""
    event, box = threading.Event(), server.boxes[name]
    server.holding[name] = event
    box.add(message(99))
    return event


def test_who_has_much_to_bring_goes_on_in_the_next_runs_and_is_not_asked_for_twice(
    loop: Loop, server: FakeImap
) -> None:
    goes_on = held(server, "INBOX")
    first = loop.begin(loop.engine.user("alice"))
    loop.until(lambda: server.count("EXAMINE"), "she is looked at")
    loop.turn.ask()
    with pytest.raises(GaveWay):
        loop.end(first)
    loop.turn.begin()
    again = loop.begin(loop.engine.user("alice"))
    loop.turn.ask()
    with pytest.raises(GaveWay):
        loop.end(again)
    loop.turn.begin()
    last = loop.begin(loop.engine.user("alice"))
    goes_on.set()
    loop.end(last)
    assert [one.messages for one in loop.pulled] == [1] and server.count("EXAMINE") == 1


def test_a_run_waits_for_nobody_for_long_unless_it_is_the_last_one(
    loop: Loop, server: FakeImap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull_engine, "LONG_SECONDS", 0.05)
    goes_on = held(server, "INBOX")
    with pytest.raises(GaveWay):
        loop.do(loop.engine.user("alice"))
    loop.engine._once = True
    last = loop.begin(loop.engine.user("alice"))
    later: list[object] = []
    loop.reactor.callLater(0.2, later.append, True)
    loop.until(lambda: later, "a while")
    assert not last
    goes_on.set()
    loop.end(last)


def test_what_is_told_of_him_meanwhile_is_looked_at_behind(loop: Loop, server: FakeImap) -> None:
    goes_on = held(server, "INBOX")
    first = loop.begin(loop.engine.user("alice"))
    loop.until(lambda: server.count("EXAMINE"), "she is looked at")
    loop.turn.ask()
    with pytest.raises(GaveWay):
        loop.end(first)
    loop.told.note([Owner("user", "alice")])
    loop.turn.begin()
    again = loop.begin(loop.engine.user("alice"))
    goes_on.set()
    loop.end(again)
    assert [one.messages for one in loop.pulled] == [1, 0]


def test_of_a_pull_that_fails_after_its_run_the_next_run_hears(loop: Loop, server: FakeImap) -> None:
    goes_on = held(server, "INBOX")
    server.bad = {1: "NO"}
    first = loop.begin(loop.engine.user("alice"))
    loop.until(lambda: server.count("EXAMINE"), "she is looked at")
    loop.turn.ask()
    with pytest.raises(GaveWay):
        loop.end(first)
    goes_on.set()
    loop.turn.begin()
    with pytest.raises(LeftOut):
        loop.do(loop.engine.user("alice"))


def test_a_connection_is_left_for_what_the_server_tells_of(loop: Loop, server: FakeImap) -> None:
    server.boxes |= {"Work": Box()}
    loop.do(loop.engine.user("bob"))
    goes_on = held(server, "INBOX")
    whole = [loop.begin(loop.engine.user(user)) for user in ("alice", "carol")]
    loop.until(lambda: server.count("EXAMINE") > 1, "one of them is looked at")
    server.boxes["Work"].add(message(1))
    loop.do(loop.engine.mailboxes(["user.bob.Work"]))
    assert loop.pulled[-1].messages == 1 and not any(whole)
    goes_on.set()
    for one in whole:
        loop.end(one)


def test_no_more_are_pulled_at_a_time_than_there_are_places_however_urgent(
    loop: Loop, server: FakeImap
) -> None:
    users = ("alice", "bob", "carol", "dave")
    loop.told.note([Owner("user", user) for user in users])
    goes_on = held(server, "INBOX")
    pulls = [loop.begin(loop.engine.sub(user, f"user.{user}")) for user in users]
    loop.until(lambda: server.count("EXAMINE") == 2, "two of them are looked at")
    urgent = merge([LogLine("SUB", ("carol", "user.carol"))]).items[0]
    assert loop.told.is_urgent(urgent.owner) and loop.engine.can_wait(urgent), "there is no place"
    assert loop.engine.rank(urgent) < loop.engine.rank(merge([LogLine("USER", ("eve",))]).items[0])
    loop.turn.ask()
    for waiting in pulls[2:]:
        with pytest.raises(GaveWay):
            loop.end(waiting)
    assert not any(pulls[:2])
    loop.turn.begin()
    last = loop.begin(loop.engine.sub("carol", "user.carol"))
    goes_on.set()
    for begun in [*pulls[:2], last]:
        loop.end(begun)
    assert server.count("AUTHENTICATE") == 3 and not loop.engine.can_wait(
        merge([LogLine("MAILBOX", ("user.dave",))]).items[0]
    )


def test_what_nobody_has_told_of_leaves_a_place_to_what_somebody_has(loop: Loop, server: FakeImap) -> None:
    goes_on = held(server, "INBOX")
    first = [loop.begin(loop.engine.sub(user, f"user.{user}")) for user in ("alice", "bob")]
    loop.until(lambda: server.count("EXAMINE"), "one of them is looked at")
    assert list(loop.engine._under_way) == ["alice"]
    loop.told.note([Owner("user", "carol")])
    first.append(loop.begin(loop.engine.sub("carol", "user.carol")))
    assert list(loop.engine._under_way) == ["alice", "carol"]
    goes_on.set()
    for one in first:
        loop.end(one)


def test_who_has_waited_for_longest_is_first_and_whole_users_come_behind(loop: Loop) -> None:
    lines = [("USER", "alice"), ("MAILBOX", "user.bob"), ("SUB", "carol", "user.carol")]
    items = {line[0]: merge([LogLine(line[0], line[1:])]).items[0] for line in lines}
    loop.told.note([Owner("user", "carol")])
    ranks = {name: loop.engine.rank(item) for name, item in items.items()}
    new = loop.engine.rank(merge([LogLine("MAILBOX", ("user.dave",))]).items[0])
    assert ranks["MAILBOX"] < ranks["SUB"] < new < ranks["USER"]
    assert loop.engine.rank(items["SUB"]) == ranks["SUB"], "also in the next run"
    assert [loop.engine.can_wait(item) for item in items.values()] == [True, False, False]
    loop.told.note([Owner("user", "alice")], urgent=False)
    assert loop.engine.can_wait(items["USER"])
    loop.told.note([Owner("user", "alice")])  # a line SUB is merged into the USER of a poll
    assert loop.engine.rank(items["USER"]) < ranks["MAILBOX"]
    loop.do(loop.engine.user("alice"))
    assert loop.engine.can_wait(items["USER"])
    loop.do(loop.engine.sub("carol", "user.carol"))
    assert loop.engine.can_wait(items["SUB"]), "the next one is of a watch that begins"


def test_by_a_user_who_is_pulled_shared_folders_are_looked_at_behind_him(
    loop: Loop, server: FakeImap, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.namespace = '(("" "/")) NIL (("Public/" "/"))'
    server.boxes |= {"Public/News": Box()}
    loop.do(loop.engine.user("alice"))
    goes_on = held(server, "INBOX")
    whole = loop.begin(loop.engine.user("alice"))
    loop.until(lambda: server.count("EXAMINE") > 2, "she is looked at")
    server.boxes["Public/News"].add(message(1))
    shared = loop.begin(loop.engine.mailboxes(["News"]))
    goes_on.set()
    loop.end(whole)
    loop.end(shared)
    assert [one.userid for one in loop.pulled] == ["alice"] * 3


def test_who_is_at_shared_folders_for_long_holds_up_neither_events_nor_users(
    loop: Loop, server: FakeImap
) -> None:
    server.namespace = '(("" "/")) NIL (("Public/" "/"))'
    server.boxes |= {"Public/News": Box(), "Public/News/Deep": Box()}
    for user in ("alice", "bob"):
        loop.do(loop.engine.user(user))
    puller = loop.engine._puller
    server.boxes["Public/News"].add(message(99))
    goes_on = server.holding["alice"] = threading.Event()
    puller.begin_round()
    whole = loop.begin(loop.engine.user("alice"))
    loop.until(lambda: server.said[-1].startswith('EXAMINE "Public/News"'), "she is at them")
    puller.begin_round()
    loop.told.note([Owner("user", "bob")])
    loop.do(loop.engine.user("bob"))
    with pytest.raises(MailboxLocked):
        loop.do(loop.engine.mailboxes(["News"]))  # bob's, who was shown them last
    assert not whole
    goes_on.set()
    loop.end(whole)
    server.boxes["Public/News/Deep"].add(message(1))
    loop.do(loop.engine.mailboxes(["News"]))
    assert [one.messages for one in loop.pulled] == [0, 0, 0, 1, 1], "what bob could not look at"
    loop.do(loop.engine.mailboxes(["News"]))
    assert loop.pulled[-1].alone


def test_by_who_sees_shared_folders_nothing_of_his_own_is_brought(
    server: FakeImap, beside: Callable[[FakeImap], Sidecar]
) -> None:
    server.namespace = '(("" "/")) NIL (("Public/" "/"))'
    server.boxes |= {"Public/News": Box()}
    sidecar = beside(server)
    sidecar.settings = replace(sidecar.settings, shared_user="boss")
    sidecar.fresh()
    loop = Loop(sidecar)
    loop.engine = PullEngine(
        sidecar.puller,
        loop.threads,
        loop.turn,
        loop.stop,
        loop.pulled.append,
        width=2,
        is_pulled=lambda userid: userid == "alice",
    )
    try:
        loop.do(loop.engine.user("boss"))
        assert len(sidecar.folders(Owner("shared", "News"))) == 1 and not sidecar.folders("boss")
        server.boxes |= {"Public/News/New": Box()}
        loop.do(loop.engine.mailboxes(["News", "News.New"]))
        assert len(sidecar.folders(Owner("shared", "News"))) == 2 and not sidecar.folders("boss")
        loop.do(loop.engine.user("alice"))
        assert sidecar.folders("alice")
    finally:
        loop.threads.close()


def test_a_pull_that_is_stopped_is_nobodys_trouble(loop: Loop, server: FakeImap) -> None:
    loop.stop.set()
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
