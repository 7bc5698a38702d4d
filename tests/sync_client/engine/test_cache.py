"""The remembered state of the replica: saves asking, is never believed too far."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.errors import RemoteDenied
from cyrus_sync.common.model import Annotation, MailboxState
from cyrus_sync.sync_client.engine.cache import RemoteCache
from cyrus_sync.sync_client.engine.errors import FoldersFailed
from tests.sync_client.engine.lines import RefusingLine
from tests.sync_client.engine.world import INBOX, World, content, deliver, finish, state, write

A, B = "user.alice.a", "user.alice.b"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[RemoteCache]:
    made = RemoteCache(tmp_path / "sync" / "cache.sqlite", "replica.example")
    yield made
    made.close()


STATE = MailboxState(
    "id", INBOX, sync_crc=5, userflags=("a",), annotations=(Annotation("/c", "", 0, b"\xff\x00"),)
)


def test_what_was_put_comes_back_even_to_another_process(cache: RemoteCache) -> None:
    cache.put([STATE])
    assert cache.get([INBOX, "user.bob"]) == {INBOX: STATE}
    again = RemoteCache(cache.path, "replica.example")
    assert again.get([INBOX]) == {INBOX: STATE}
    again.drop([INBOX])
    assert cache.get([INBOX]) == {}
    again.close()


def test_another_server_starts_afresh(cache: RemoteCache) -> None:
    cache.put([STATE])
    other = RemoteCache(cache.path, "other.example")
    assert other.get([INBOX]) == {}
    other.close()


def test_a_damaged_file_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"this is no database" * 100)
    cache = RemoteCache(tmp_path / "cache", "s")
    cache.put([STATE])
    assert cache.get([INBOX]) == {INBOX: STATE}
    cache.close()


def test_a_rolling_client_does_not_ask_for_what_it_knows(alice: World, cache: RemoteCache) -> None:
    alice.sync(cache=cache)
    deliver(alice.master, INBOX, "x")
    events = alice.mailboxes(INBOX, cache=cache, trust_cache=True)
    assert [event[0] for event in events] == ["RESERVE", "MESSAGE", "MAILBOX"]
    assert content(alice.replica) == content(alice.master)
    with write(alice.master) as writer:
        writer.set_flags(INBOX, [1], add=["\\Seen"])
    assert alice.mailboxes(INBOX, cache=cache, trust_cache=True) == [("MAILBOX", INBOX, "SINCE", (1,))]
    assert alice.mailboxes(INBOX, cache=cache, trust_cache=True) == []
    assert content(alice.replica) == content(alice.master)


def test_a_one_shot_run_asks_although_it_could_know(alice: World, cache: RemoteCache) -> None:
    alice.sync(cache=cache)
    assert alice.mailboxes(INBOX, cache=cache) == [("GET MAILBOXES", INBOX)]


def test_a_stale_entry_costs_one_refusal(alice: World, cache: RemoteCache) -> None:
    alice.sync(cache=cache)
    deliver(alice.master, INBOX, "x")
    alice.sync()
    deliver(alice.master, INBOX, "y")
    events = alice.mailboxes(INBOX, cache=cache, trust_cache=True)
    assert [event[0] for event in events if event[0] in ("MAILBOX", "GET MAILBOXES")] == [
        "MAILBOX",
        "GET MAILBOXES",
        "MAILBOX",
    ]
    assert content(alice.replica) == content(alice.master)


def test_an_entry_of_a_mailbox_that_the_replica_lost_is_found_out(alice: World, cache: RemoteCache) -> None:
    with write(alice.master) as writer:
        writer.create(A)
    alice.sync(cache=cache)
    with write(alice.replica) as writer:
        writer.apply_unmailbox(A)
    deliver(alice.master, A, "x")
    alice.mailboxes(A, cache=cache, trust_cache=True)
    assert content(alice.replica) == content(alice.master)


def test_names_that_now_mean_other_mailboxes_are_asked_for(alice: World, cache: RemoteCache) -> None:
    with write(alice.master) as writer:
        writer.create(A)
        writer.create(B)
    alice.sync(cache=cache)
    alice.master.rename(A, "user.alice.c", log=True)
    alice.master.rename(B, A, log=True)
    events = alice.mailboxes(A, B, "user.alice.c", cache=cache, trust_cache=True)
    assert events[0] == ("GET MAILBOXES", A, B, "user.alice.c")
    assert content(alice.replica) == content(alice.master)
    assert state(alice.replica, A) == state(alice.master, A)
    assert alice.mailboxes(A, INBOX, cache=cache, trust_cache=True) == []


def test_an_error_drops_the_entry(alice: World, cache: RemoteCache) -> None:
    alice.sync(cache=cache)
    deliver(alice.master, INBOX, "x")
    line = RefusingLine(
        alice.store_replica(), lambda event: RemoteDenied() if event[0] == "MAILBOX" else None
    )
    with pytest.raises(FoldersFailed):
        finish(alice.engine(line, cache=cache, trust_cache=True).mailboxes([INBOX]))
    assert cache.get([INBOX]) == {}
