"""Connections on which the server tells what changes, by NOTIFY or IDLE."""

from __future__ import annotations

import socket
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
        self.until(lambda: set(self.told) >= set(map(Change, users)), "all of them is looked at")
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
def make(tmp_path: Path) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def watched(server: FakeImap, **settings: Any) -> Watched:
        made.append(Watched(server, tmp_path, **settings))
        return made[-1]

    yield watched
    for one in made:
        one.watcher.end()
        one.until(one.server.is_left, "all hang up")


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
        watched.until(lambda: Change("alice") in watched.told, "all of her is looked at")
    else:
        watched.hears(how, Change("alice"))
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
    watched.until(lambda: server.count("AUTHENTICATE") > 2, "it is tried again")
    assert len(watched.said) == 1 and watched.said[0].startswith("alice is not watched")
    server.login_answer = "OK in"
    watched.until(lambda: watched.watcher.watched == 1, "she is watched")
    assert watched.said[1:] == ["alice is watched again"]


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
    watched.until(lambda: watched.told == [Change("alice", ("a",)), Change("alice")], "it is")
