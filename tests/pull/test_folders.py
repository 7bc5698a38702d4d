"""One user's folders, whatever the server can do, and whatever happens to it."""

from __future__ import annotations

import contextlib
import hashlib
import random
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import AuthenticationFailed, CyrusSyncError
from cyrus_sync.common.names import Owner
from cyrus_sync.pull import connection
from cyrus_sync.pull.errors import ServerTrouble
from cyrus_sync.pull.memory import Memory
from tests.dovecot.pulling import Sidecar, message
from tests.pull.fake import FULL, PLAIN, Box, FakeImap

Beside = Callable[[FakeImap], Sidecar]

WITHOUT_QRESYNC = FULL.replace(" QRESYNC", "").replace(" ESEARCH", "")
WITHOUT_IDS = FULL.replace(" OBJECTID", "")
ALL = [FULL, WITHOUT_QRESYNC, WITHOUT_IDS, PLAIN, f"{FULL} UTF8=ACCEPT"]


def equal(sidecar: Sidecar, server: FakeImap, user: str = "alice") -> None:
    """Both have the same messages under the same UIDs."""
    ours = {
        "/".join(levels) or "INBOX": (
            box.uidvalidity,
            {one.uid: (one.guid, one.flags) for one in box.messages},
        )
        for levels, box in sidecar.folders(user).items()
    }
    theirs = {
        name: (
            box.uidvalidity,
            {
                uid: (hashlib.sha1(mail.raw).hexdigest(), tuple(sorted(mail.flags.lower().split())))
                for uid, mail in box.mails.items()
            },
        )
        for name, box in server.boxes.items()
        if "\\Noselect" not in box.flags
    }
    assert ours == theirs


@pytest.mark.parametrize("capabilities", ALL)
def test_random_changes_at_a_server_that_can_do_more_or_less(capabilities: str, beside: Beside) -> None:
    rng = random.Random(capabilities)
    with FakeImap(capabilities) as server:
        sidecar = beside(server)
        for round_ in range(12):
            for _ in range(rng.randrange(8)):
                _change(server, rng)
            sidecar.pull("alice")
            equal(sidecar, server)
            if round_ % 4 == 3:
                assert not sidecar.pull("alice").changed
                sidecar.fresh()


@pytest.mark.parametrize("capabilities", [FULL, WITHOUT_IDS, f"{FULL} X-REPLICATION"])
def test_folders_of_which_something_is_told_are_enough(capabilities: str, beside: Beside) -> None:
    rng = random.Random(capabilities)
    with FakeImap(capabilities) as server:
        sidecar = beside(server)
        sidecar.pull("alice")
        for _ in range(80):
            places = [sidecar.puller.place_of("alice", name) for name in _change(server, rng)]
            names = [place.name for place in places if place is not None]
            sidecar.pull("alice", names=names if all(places) else (), thorough=False)
            equal(sidecar, server)
        assert not sidecar.pull("alice").changed


def test_a_folder_that_is_told_of_alone_costs_no_list_and_keeps_what_it_is_for(
    server: FakeImap, beside: Beside
) -> None:
    sidecar = beside(server)
    server.boxes["Sent"] = Box(flags="\\Sent")
    server.subscribed = {"Sent"}
    sidecar.pull("alice")
    server.boxes["Sent"].add(message(1))
    server.boxes["INBOX"].add(message(2))
    server.said.clear()
    assert sidecar.pull("alice", names=["user.alice.Sent"]).messages == 1
    assert (server.count("LIST"), server.count("STATUS"), server.count("EXAMINE")) == (0, 1, 1)
    assert not sidecar.pull("alice", names=["user.alice.Sent"]).changed
    assert server.count("EXAMINE") == 1
    with sidecar.reader("alice") as reader:
        sent = reader.mailbox("user.alice.Sent")
        assert sent is not None and [one.value for one in sent.annotations] == [b"\\Sent"]
        assert reader.meta(with_sieve=False).subscriptions == ("user.alice.Sent",)


def _change(server: FakeImap, rng: random.Random) -> set[str]:
    """Something that a user does; folders of which a server tells then."""
    boxes = server.boxes
    name = rng.choice(list(boxes))
    box = boxes[name]
    match rng.randrange(8):
        case 0 | 1 | 2:
            box.add(message(rng.randrange(10**6)), rng.choice(["", "\\Seen", "a b"]))
        case 3 if box.mails:
            box.flag(rng.choice(list(box.mails)), rng.choice(["", "\\Flagged", "c"]))
        case 4 if box.mails:
            moved = box.expunge(rng.choice(list(box.mails)))
            if rng.random() < 0.5:
                other = rng.choice(list(boxes))
                boxes[other].add(moved.raw, moved.flags, ident=moved.ident)
                return {name, other}
        case 5:
            new = rng.choice("xyz")
            boxes.setdefault(new, Box(rng.randrange(1, 10**9)))
            return {new}
        case 6 if name != "INBOX":
            boxes.pop(name)
            if rng.random() < 0.6:
                boxes[rng.choice("uvw")] = box
        case 7 if rng.random() < 0.3:
            box.uidvalidity = rng.randrange(1, 10**9)
            box.modseq += 1
    return {name}


def test_without_condstore_all_flags_are_read_and_that_is_said_once(beside: Beside) -> None:
    with FakeImap(PLAIN) as server:
        sidecar = beside(server)
        server.boxes["INBOX"].add(message(1))
        for _ in range(3):
            sidecar.pull("alice")
        assert len(sidecar.said) == 1 and "CONDSTORE" in sidecar.said[0]
        server.boxes["INBOX"].mails[1].flags = "\\Seen"
        assert sidecar.pull("alice").flags == 1


def test_nothing_is_asked_for_where_nothing_has_changed(server: FakeImap, beside: Beside) -> None:
    sidecar = beside(server)
    for number in range(5):
        server.boxes[f"f{number}"] = Box(number + 1)
        server.boxes[f"f{number}"].add(message(number))
    sidecar.pull("alice")
    server.said.clear()
    sidecar.fresh().pull("alice")
    assert server.count("EXAMINE") == 0 and server.count("LIST") == 1
    assert len(server.said) <= 7, server.said


@pytest.mark.parametrize("how", ["NO", "drop", "nothing", "cut"])
def test_a_message_that_is_not_given_holds_up_no_other_and_comes_later(
    how: str, server: FakeImap, beside: Beside
) -> None:
    sidecar = beside(server)
    inbox = server.boxes["INBOX"]
    for number in range(20):
        inbox.add(message(number, 3000))
    server.boxes["next"] = Box(3)
    server.boxes["next"].add(message(100))
    server.bad = {7: how}
    done = sidecar.puller.pull("alice")
    assert done.messages == 20
    (trouble,) = done.troubles
    assert trouble.startswith("INBOX: uid 7 is left out: ")
    assert [one.uid for one in sidecar.folders("alice")[()].messages] == [*range(1, 7), *range(8, 21)]
    inbox.flag(3, "\\Seen")
    again = sidecar.puller.pull("alice")
    assert (again.messages, again.flags, len(again.troubles)) == (0, 1, 1)
    server.bad = {}
    done = sidecar.pull("alice")
    equal(sidecar, server)
    assert done.messages == 1, "the others are taken from here"
    assert not sidecar.pull("alice").changed


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (message(1), "the server says OK and does not give it"),
        (b"", "an empty message cannot be kept"),
    ],
)
def test_a_message_that_is_not_given_after_the_line_was_cut_is_named(
    raw: bytes, reason: str, server: FakeImap, beside: Beside
) -> None:
    sidecar = beside(server)
    inbox = server.boxes["INBOX"]
    inbox.add(message(1))
    server.bad = {1: "drop"}

    def connected() -> None:
        if server.connections > 1:
            inbox.mails[1].raw = raw
            server.bad = {1: "nothing"} if raw else {}

    server.cut_after = connected
    done = sidecar.puller.pull("alice")
    assert done.troubles == [f"INBOX: uid 1 is left out: {reason}"]
    assert not sidecar.folders("alice")[()].messages


def test_a_message_that_is_not_given_and_is_expunged_is_forgotten(server: FakeImap, beside: Beside) -> None:
    sidecar = beside(server)
    inbox = server.boxes["INBOX"]
    for number in range(3):
        inbox.add(message(number))
    server.bad = {2: "NO"}
    assert sidecar.puller.pull("alice").troubles
    inbox.expunge(2)
    sidecar.pull("alice")
    equal(sidecar, server)


def test_an_empty_message_is_named_and_changes_nothing_else(server: FakeImap, beside: Beside) -> None:
    sidecar = beside(server)
    for raw in (message(1), b"", message(2)):
        server.boxes["INBOX"].add(raw)
    for _ in range(2):
        done = sidecar.puller.pull("alice")
        assert done.troubles == ["INBOX: uid 2 is left out: an empty message cannot be kept"]
    assert not done.changed
    assert [one.uid for one in sidecar.folders("alice")[()].messages] == [1, 3]


@pytest.mark.parametrize("told", [3, 100, 4294967295])
def test_a_server_that_lies_about_uidnext_loses_nothing(told: int, server: FakeImap, beside: Beside) -> None:
    sidecar = beside(server)
    inbox = server.boxes["INBOX"]
    for number in range(5):
        inbox.add(message(number))
    inbox.told_uidnext = told
    sidecar.pull("alice")
    for number in range(5, 9):
        inbox.add(message(number))
        sidecar.pull("alice")
        equal(sidecar, server)
    inbox.flag(2, "\\Seen")
    inbox.expunge(4)
    sidecar.pull("alice")
    equal(sidecar, server)


def test_a_message_that_appears_below_is_there_under_its_uid(server: FakeImap, beside: Beside) -> None:
    sidecar = beside(server)
    inbox = server.boxes["INBOX"]
    inbox.add(message(1), uid=1)
    inbox.add(message(9), uid=9)
    sidecar.pull("alice")
    inbox.add(message(5), uid=5)
    sidecar.pull("alice")
    equal(sidecar, server)


def test_a_connection_that_is_cut_anywhere_is_taken_up_again(server: FakeImap, beside: Beside) -> None:
    rng = random.Random(5)
    sidecar = beside(server)
    for name in ("INBOX", "a", "b"):
        box = server.boxes.setdefault(name, Box(rng.randrange(1, 999)))
        for _ in range(60):
            box.add(message(rng.randrange(10**6), rng.randrange(5000)))
    server.cut_after = lambda: rng.randrange(1, 120_000) if rng.random() < 0.8 else None
    for _ in range(30):
        try:
            done = sidecar.puller.pull("alice")
        except CyrusSyncError:
            continue
        if not done.troubles:
            break
    server.cut_after = lambda: None
    sidecar.pull("alice")
    equal(sidecar, server)


def test_a_folder_that_cannot_be_opened_is_named_and_all_others_go_on(
    server: FakeImap, beside: Beside
) -> None:
    sidecar = beside(server)
    for name in ("a", "b"):
        server.boxes[name] = Box(5)
        server.boxes[name].add(message(ord(name)))
    server.refused = {"a"}
    done = sidecar.puller.pull("alice")
    assert len(done.troubles) == 1 and done.troubles[0].startswith("a: ")
    assert "this folder is broken" in done.troubles[0]
    assert len(sidecar.folders("alice")[("b",)].messages) == 1
    server.refused = set()
    sidecar.pull("alice")
    equal(sidecar, server)


def test_a_name_that_is_there_for_others_alone_is_no_mailbox(server: FakeImap, beside: Beside) -> None:
    sidecar = beside(server)
    server.boxes["a"] = Box(5, flags="\\Noselect")
    server.boxes["a/b"] = Box(6)
    server.boxes["a/b"].add(message(1))
    sidecar.pull("alice")
    equal(sidecar, server)
    server.boxes["a"].flags = ""
    sidecar.pull("alice")
    equal(sidecar, server)


def test_large_messages_are_not_held_in_memory(
    server: FakeImap, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IN_MEMORY", 50_000)
    sidecar = beside(server)
    for size in (10, 40_000, 30_000, 3_000_000, 100):
        server.boxes["INBOX"].add(message(size, size))
    sidecar.pull("alice")
    equal(sidecar, server)


@pytest.mark.covers("imapd.conf", "imap_shared_user")
def test_what_is_deleted_of_shared_folders_is_deleted_if_somebody_sees_them_all(
    server: FakeImap, beside: Beside
) -> None:
    server.namespace = '(("" "/")) NIL (("Public/" "/"))'
    for name in ("Public/news", "Public/news/old"):
        server.boxes[name] = Box(6)
    sidecar = beside(server)
    sidecar.settings = replace(sidecar.settings, shared_user="boss")
    sidecar.fresh().pull("alice")
    assert not sidecar.folders(Owner("shared", "news"))
    sidecar.pull("boss")
    assert len(sidecar.folders(Owner("shared", "news"))) == 2
    del server.boxes["Public/news/old"]
    sidecar.fresh().pull("boss")
    assert set(sidecar.folders(Owner("shared", "news"))) == {("news",)}


def test_shared_folders_come_once_under_their_own_owner(server: FakeImap, beside: Beside) -> None:
    server.namespace = '(("" "/")) (("Other/" "/")) (("Public/" "/"))'
    for name in ("Public/news", "Public/news/old", "Other/bob/x", "Public/user"):
        server.boxes[name] = Box(6)
        server.boxes[name].add(message(len(name)))
    sidecar = beside(server)
    done = sidecar.puller.pull("alice")
    assert [one.partition(":")[0] for one in done.troubles] == ["Public/user"]
    assert sidecar.puller.pull("bob").messages == 0
    news = sidecar.folders(Owner("shared", "news"))
    assert {"/".join(levels): len(box.messages) for levels, box in news.items()} == {"news": 1, "news/old": 1}
    assert set(sidecar.folders("alice")) == {()}
    # Somebody else may just not see it, so nothing is deleted.
    del server.boxes["Public/news/old"]
    sidecar.fresh().pull("alice")
    assert len(sidecar.folders(Owner("shared", "news"))) == 2


def test_shared_folders_that_one_user_could_not_finish_are_the_next_ones(
    server: FakeImap, beside: Beside
) -> None:
    server.namespace = '(("" "/")) NIL (("Public/" "/"))'
    for name in ("Public/news", "Public/news/old"):
        server.boxes[name] = Box(6)
        server.boxes[name].add(message(len(name)))
    sidecar = beside(server)

    class Stop(threading.Event):
        def is_set(self) -> bool:
            return server.count('EXAMINE "Public') > 0

    with pytest.raises(ServerTrouble, match="stopped"):
        sidecar.puller.pull("alice", stop=Stop())
    assert sidecar.pull("bob").messages == 2
    news = sidecar.folders(Owner("shared", "news"))
    assert {"/".join(levels): len(box.messages) for levels, box in news.items()} == {"news": 1, "news/old": 1}
    server.said.clear()
    sidecar.pull("carol")
    assert server.count('EXAMINE "Public') == 2, "they are done in this round but for what she has seen"


def test_prefixes_of_the_server_are_left_out(server: FakeImap, beside: Beside) -> None:
    server.namespace = '(("INBOX/" "/")) NIL NIL'
    for name in ("INBOX/Work", "INBOX/Work/a.b"):
        server.boxes[name] = Box(6)
    sidecar = beside(server)
    sidecar.pull("alice")
    assert set(sidecar.folders("alice")) == {(), ("Work",), ("Work", "a^b")}


def test_names_of_an_utf8_server_are_the_same_names(beside: Beside) -> None:
    with FakeImap(f"{FULL} UTF8=ACCEPT") as server:
        server.boxes["Entwürfe"] = Box(9)
        server.boxes["Entwürfe"].add(message(1))
        sidecar = beside(server)
        assert sidecar.pull("alice").messages == 1
        assert ("Entw&APw-rfe",) in sidecar.folders("alice")


def test_more_keywords_than_a_mailbox_can_hold_are_named(server: FakeImap, beside: Beside) -> None:
    sidecar = beside(server)
    for number in range(140):
        server.boxes["INBOX"].add(message(number), f"keyword{number} \\Seen")
    done = sidecar.puller.pull("alice")
    assert done.messages == 140
    (trouble,) = done.troubles
    assert trouble.startswith("INBOX: 12 keywords are left out")
    assert len([one for one in sidecar.folders("alice")[()].messages if len(one.flags) == 2]) == 128


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("NO [AUTHENTICATIONFAILED] wrong", AuthenticationFailed),
        ("NO [UNAVAILABLE] maximum number of connections exceeded", ServerTrouble),
    ],
)
def test_who_is_refused_hears_why(
    answer: str, kind: type[CyrusSyncError], server: FakeImap, beside: Beside
) -> None:
    sidecar = beside(server)
    server.login_answer = answer
    with pytest.raises(kind, match="login of alice refused") as caught:
        sidecar.pull("alice")
    assert caught.value.address["user"] == "alice"


def test_the_line_is_compressed_where_it_leaves_the_machine(
    server: FakeImap, beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.capabilities += " COMPRESS=DEFLATE"
    sidecar = beside(server)
    monkeypatch.setattr(type(sidecar.settings), "local", property(lambda self: False))
    for number in range(700):
        server.boxes["INBOX"].add(message(number, 200))
    sidecar.pull("alice")
    assert server.count("COMPRESS") == 1
    equal(sidecar, server)


def test_what_was_expunged_here_comes_back_and_the_server_is_believed_as_before(
    server: FakeImap, beside: Beside
) -> None:
    sidecar = beside(server)
    inbox = server.boxes["INBOX"]
    for number in range(5):
        inbox.add(message(number))
    sidecar.pull("alice")
    with sidecar.store.write(Owner("user", "alice")) as writer:
        writer.expunge("user.alice", [2, 5])
    sidecar.pull("alice")
    equal(sidecar, server)
    inbox.add(message(6))
    inbox.expunge(6)
    sidecar.pull("alice")
    assert sidecar.folders("alice")[()].uidnext == 7


def test_a_message_that_was_not_given_and_came_by_another_pull_begins_no_mailbox_anew(
    server: FakeImap, beside: Beside
) -> None:
    server.boxes["INBOX"].add(b"Subject: a\r\n\r\nx\r\n")
    sidecar = beside(server)
    sidecar.puller.pull("alice")
    with sidecar.store.read(Owner("user", "alice")) as reader:
        before = reader.mailbox("user.alice")
    with contextlib.closing(sidecar.puller.memory_of(Owner("user", "alice"))) as memory:
        memory.put(memory.folders()["INBOX"]._replace(missing=frozenset({1})))
    sidecar.puller.pull("alice")
    with sidecar.store.read(Owner("user", "alice")) as reader:
        assert reader.mailbox("user.alice") == before


def test_two_who_look_at_one_owner_wait_for_nobody_and_keep_what_the_other_knows(tmp_path: Path) -> None:
    one, other = (Memory(tmp_path, "host", Owner("user", "alice")) for _ in range(2))
    with contextlib.closing(one), contextlib.closing(other):
        one.put_guids({number.to_bytes(4, "big") * 8: bytes(20) for number in range(30_000)})
        assert other.knows_contents()
        other.put_guids({b"x": b"y"})
        assert one.guids([b"x"]) == {b"x": b"y"}


def test_a_memory_of_which_nothing_is_asked_has_no_file(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "server", Owner("user", "alice"))
    memory.forget([])
    memory.close()
    assert not list(tmp_path.iterdir())


def test_two_threads_put_contents_into_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, opened, connect = threading.Barrier(2), [], sqlite3.connect

    def slowly(*words: Any, **how: Any) -> sqlite3.Connection:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # the other one, if it may come in as well
        opened.append(connect(*words, **how))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", slowly)
    memory = Memory(tmp_path, "server", Owner("user", "alice"))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(memory.put_guids, ({b"a": b"1" * 20}, {b"b": b"2" * 20})))
    assert len(memory.guids([b"a", b"b"])) == 2
    memory.close()
    assert len(opened) == 1


def test_contents_that_are_not_stored_any_more_are_forgotten(tmp_path: Path) -> None:
    memory = Memory(tmp_path, "server", Owner("user", "alice"))
    memory.put_guids({b"a": b"1" * 20, b"b": b"2" * 20, b"c": b"1" * 20})
    memory.forget_contents(3, lambda guids: set())
    assert len(memory.guids([b"a", b"b", b"c"])) == 3
    memory.forget_contents(2, lambda guids: {b"1" * 20})
    memory.close()
    again = Memory(tmp_path, "server", Owner("user", "alice"))
    assert again.guids([b"a", b"b", b"c"]) == {b"a": b"1" * 20, b"c": b"1" * 20}
    again.close()
