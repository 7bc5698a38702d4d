"""Connections on which the server tells what changes, by NOTIFY or IDLE."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.pull import watcher as watching
from cyrus_sync.pull.changes import Change
from cyrus_sync.pull.settings import ImapSettings
from cyrus_sync.pull.watcher import Watcher
from tests.common.wire.kit import issue
from tests.deadlines import until
from tests.ports import free_port
from tests.pull.fake import FULL, FakeImap
from tests.reactors import make_reactor

WITH_NOTIFY = f"{FULL} NOTIFY IDLE"


class Watched:
    """A watcher in a reactor that the test turns."""

    def __init__(self, server: FakeImap, directory: Path, most: int = 10, **settings: Any) -> None:
        self.server = server
        self.reactor = make_reactor()
        self.told: list[Change] = []
        self.said: list[str] = []
        self.watcher = Watcher(
            self.reactor,
            replace(ImapSettings("127.0.0.1", server.port, master="m", password="p", timeout=5), **settings),
            directory,
            most,
            self.told.extend,
            self.said.append,
        )

    def until(self, condition: Callable[[], Any], what: str) -> None:
        def now() -> Any:
            self.reactor.iterate(0.005)
            return condition()

        until(now, what, every=0)

    def begins(self, *users: str) -> None:
        self.watcher.set_users(users)
        self.until(lambda: self.watcher.watched == len(users), "they are watched")
        self.until(lambda: set(self.told) >= set(map(begun, users)), "all of them is looked at")
        self.told.clear()

    def hears(self, text: str, *changes: Change) -> None:
        for talk in self.server.talks:
            talk.send(text.encode() + b"\r\n")
        self.until(lambda: set(self.told) == set(changes), f"{text} is heard")
        self.told.clear()


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap(WITH_NOTIFY) as made:
        yield made


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Watched]]:
    monkeypatch.setattr(watching, "SAY_SECONDS", 0.02)
    made: list[Watched] = []

    def watched(server: FakeImap, **settings: Any) -> Watched:
        made.append(Watched(server, tmp_path, **settings))
        return made[-1]

    yield watched
    for one in made:
        one.watcher.end()
        one.until(one.server.is_left, "all hang up")
        one.watcher._threads.close()  # or the process would wait for them


@pytest.mark.covers("imapd.conf", "imap_watch_connections")
def test_by_notify_the_server_tells_of_every_folder(server: FakeImap, make: Callable[..., Watched]) -> None:
    watched = make(server)
    watched.begins("alice")
    watched.hears("* STATUS INBOX (MESSAGES 1)", Change("alice", ("INBOX",)))
    watched.hears('* STATUS "a \\"b" (MESSAGES 1)', Change("alice", ('a "b',)))
    watched.hears("* STATUS {8}\r\nNew a\u00fcb (UNSEEN 3)", Change("alice", ("New a&APw-b",)))
    watched.hears('* LIST (\\NonExistent) "/" Work', Change("alice"))
    watched.hears("* STATUS a (X 1)\r\n* STATUS a (X 2)\r\n* OK hm", Change("alice", ("a",)))
    assert watched.watcher.events == 5 and not watched.said
    assert threading.active_count() < 20


def test_a_line_may_come_in_pieces(server: FakeImap, make: Callable[..., Watched]) -> None:
    watched = make(server)
    watched.begins("alice")
    for piece in (b"* STATUS {4", b"}\r\n", b"Wo", b"rk (MESSAGES 1)\r"):
        server.talks[0].send(piece)
        for _ in range(5):
            watched.reactor.iterate(0.01)
        assert not watched.told
    watched.hears("\n* OK", Change("alice", ("Work",)))


def test_where_there_is_no_notify_inboxes_are_waited_for(make: Callable[..., Watched]) -> None:
    with FakeImap(f"{FULL} IDLE") as server:
        watched = make(server)
        watched.begins("alice", "bob")
        watched.until(lambda: server.said.count("IDLE") == 2, "both idle")
        watched.hears("* 3 EXISTS", Change("alice", ("INBOX",)), Change("bob", ("INBOX",)))
        watched.hears("* 2 EXPUNGE\r\n* 1 FETCH (FLAGS ())", *map(inbox, ("alice", "bob")))
        assert len(watched.said) == 1 and "IDLE" in watched.said[0]
        watched.watcher.end()


def begun(login: str) -> Change:
    """All of whom is looked at, though nobody has told anything."""
    return Change(login, told=False)


def inbox(login: str) -> Change:
    return Change(login, ("INBOX",))


@pytest.mark.parametrize("capabilities", [WITH_NOTIFY, f"{FULL} IDLE"])
def test_who_says_nothing_for_long_is_asked(
    capabilities: str, make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "REISSUE_SECONDS", 0.05)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.02)
    with FakeImap(capabilities) as server:
        watched = make(server)
        watched.begins("alice")
        word = "NOOP" if "NOTIFY" in capabilities else "DONE"
        watched.until(lambda: server.said.count(word) > 3, "it is asked again and again")
        watched.hears("* STATUS INBOX (MESSAGES 1)\r\n* 3 EXISTS", Change("alice", ("INBOX",)))
        assert (server.connections, watched.watcher.watched) == (1, 1)
        watched.watcher.end()


@pytest.mark.parametrize(
    "how", ["cut", "* BYE going down", "* OK [NOTIFICATIONOVERFLOW] too much", "* NO NOTIFY error, lost"]
)
def test_a_watch_that_ends_is_begun_again_with_all_of_the_user(
    how: str, server: FakeImap, make: Callable[..., Watched]
) -> None:
    watched = make(server)
    watched.begins("alice")
    if how == "cut":
        server.talks[0].line.shutdown(socket.SHUT_RDWR)
        watched.until(lambda: begun("alice") in watched.told, "all of her is looked at")
    else:
        watched.hears(how, begun("alice"))
    watched.until(lambda: server.connections == 2 and len(server.talks) == 1, "the first is closed")


def test_a_line_that_is_dead_is_given_up(
    server: FakeImap, make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("REISSUE_SECONDS", 0.05), ("LOOK_SECONDS", 0.02), ("ANSWER_SECONDS", 0.1)):
        monkeypatch.setattr(watching, name, seconds)
    watched = make(server)
    server.deaf = True
    try:
        watched.begins("alice")
        watched.until(lambda: server.connections > 1, "another one is made")
    finally:
        server.deaf = False


def test_whoever_is_refused_is_named_once_and_tried_again(
    server: FakeImap, make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LONGEST_PAUSE", 0.05)
    watched = make(server)
    server.login_answer = "NO [AUTHENTICATIONFAILED] no"
    watched.watcher.set_users(["alice"])
    watched.until(lambda: server.count("AUTHENTICATE") > 2 and watched.said, "it is tried again")
    assert len(watched.said) == 1 and watched.said[0].startswith("alice is not watched")
    server.login_answer = "OK in"
    watched.until(lambda: watched.said[1:] == ["alice is watched again"], "she is watched")
    server.login_answer = "NO [AUTHENTICATIONFAILED] no"
    monkeypatch.setattr(watching, "SAY_SECONDS", 3600.0)
    users = ["carol", "bob"]
    for number in (1, 2):
        watched.watcher.set_users(users[:number])
        watched.until(lambda user=users[number - 1]: watched.watcher._users[user].told, "he is refused")
    watched.watcher._say_now()
    assert watched.said[2].startswith("2 users are not watched, trying again: bob (login of bob refused: ")
    assert ", carol (login of carol refused: " in watched.said[2] and len(watched.said) == 3


def test_why_a_watch_is_lost_again_and_again_is_said_once_and_that_it_lasts(
    server: FakeImap, make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = make(server)
    monkeypatch.setattr(watching.random, "random", lambda: -1.0)  # it tries again at once
    watched.watcher.set_users(["alice"])
    for number in range(5):
        watched.until(lambda: watched.watcher.watched == 1, "she is watched")
        assert len(watched.said) == 0 or number > 2
        server.talks[-1].send(b"* BYE too many of you\r\n")
        watched.until(lambda before=number + 1: server.connections > before, "it is begun again")
        watched.until(lambda: len(server.talks) == 1, "the old one is gone")
    reason = "the server says BYE too many of you"
    assert watched.said == [f"alice is cut off again and again, and watched anew each time: {reason}"]
    watched.until(lambda: watched.watcher.watched == 1, "she is watched")
    monkeypatch.setattr(watching, "LONGEST_PAUSE", 0.0)
    watched.watcher._look()
    watched.until(lambda: watched.said[1:] == ["alice is watched again"], "it has lasted")


@pytest.mark.parametrize(
    ("capabilities", "wire"), [(WITH_NOTIFY, "R&-D"), (f"{WITH_NOTIFY} UTF8=ACCEPT", "R&D")]
)
def test_a_name_in_which_an_ampersand_is_names_that_folder(
    capabilities: str, wire: str, make: Callable[..., Watched]
) -> None:
    with FakeImap(capabilities) as server:
        watched = make(server)
        watched.begins("alice")
        watched.hears(f'* STATUS "{wire}" (MESSAGES 1)', Change("alice", ("R&-D",)))
        watched.watcher.end()


def test_a_dovecot_tells_of_names_as_they_are(make: Callable[..., Watched]) -> None:
    with FakeImap(f"{WITH_NOTIFY.replace(' OBJECTID', '')} ID") as server:
        server.identity = '("name" "Dovecot")'
        watched = make(server)
        watched.begins("alice")
        watched.hears("* STATUS R&D (MESSAGES 1)", Change("alice", ("R&-D",)))
        watched.watcher.end()


def test_where_notify_is_refused_it_is_said_why(make: Callable[..., Watched]) -> None:
    with FakeImap(WITH_NOTIFY) as server:
        server.notify_answer = "NO [NOPERM] not for you"
        watched = make(server)
        watched.begins("alice")
        assert watched.said[0].startswith("the IMAP server refuses NOTIFY ([NOPERM] not for you): of INBOXes")
        watched.watcher.end()


@pytest.mark.parametrize("how", ["tls", "starttls"])
@pytest.mark.parametrize("capabilities", [WITH_NOTIFY, f"{FULL} IDLE"])
def test_on_a_line_that_is_encrypted(
    how: str, capabilities: str, make: Callable[..., Watched], tls: tuple[ssl.SSLContext, Path]
) -> None:
    context, cert = tls
    with FakeImap(f"{capabilities} STARTTLS", context) as server:
        server.implicit = how == "tls"
        # The first thing that it tells comes in one piece with its answer.
        server.tells_at_once = "* STATUS INBOX (MESSAGES 1)\r\n* 1 EXISTS\r\n"
        watched = make(server, host="localhost", tls=how, ca_file=str(cert))
        watched.watcher.set_users(["alice"])
        watched.until(lambda: set(watched.told) == {begun("alice"), inbox("alice")}, "what was told")
        watched.told.clear()
        watched.hears("* STATUS INBOX (MESSAGES 1)\r\n* 3 EXISTS", inbox("alice"))
        large = "* OK " + "x" * 40000  # several records, and more than is read at once
        watched.hears(f"{large}\r\n* STATUS INBOX (MESSAGES 1)\r\n* 3 EXISTS", inbox("alice"))
        server.talks[0].line.shutdown(socket.SHUT_RDWR)
        watched.until(lambda: server.connections == 2 and watched.watcher.watched == 1, "it is begun again")
        watched.watcher.end()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context for localhost, and who vouches for it."""
    directory = tmp_path_factory.mktemp("tls")
    authority = issue(directory, "authority", ca=True)
    server = issue(directory, "server", authority, hosts=("localhost",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.cert, server.key)
    return context, authority.cert


def test_a_server_that_is_down_is_told_of_once(
    server: FakeImap, make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LONGEST_PAUSE", 0.05)
    watched = make(server, port=free_port())
    watched.watcher.set_users(["alice", "bob"])
    watched.until(lambda: watched.watcher._users["bob"].failures > 3, "it is tried again")
    assert len(watched.said) == 1 and "nobody can be watched" in watched.said[0]


def test_who_finds_no_place_is_named_and_who_is_gone_is_watched_no_more(
    server: FakeImap, make: Callable[..., Watched]
) -> None:
    watched = make(server, most=2)
    watched.watcher.set_users(["alice", "bob", "eve", "zoe"])
    watched.until(lambda: watched.watcher.watched == 2, "two are watched")
    assert watched.said == [
        "imap_watch_connections is 2: 2 of 4 users are looked at every imap_poll alone: eve, zoe"
    ]
    watched.watcher.set_users(["alice", "bob", "eve", "zoe"])
    assert len(watched.said) == 1
    watched.watcher.set_users(["alice", "bob", "eve", "max"])
    assert watched.said[1].endswith(": eve, max"), "as many, but others"
    watched.watcher.set_users(["bob", "eve"])
    watched.until(lambda: server.connections == 3 and len(server.talks) == 2, "eve has alice's place")
    assert watched.watcher.left_out == 0


def test_a_minute_after_an_event_all_of_the_user_is_looked_at(
    server: FakeImap, make: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "LIST_SECONDS", 0.1)
    monkeypatch.setattr(watching, "LOOK_SECONDS", 0.02)
    watched = make(server)
    watched.begins("alice")
    server.talks[0].send(b"* STATUS a (X 1)\r\n")
    watched.until(lambda: watched.told == [Change("alice", ("a",)), begun("alice")], "it is")
