"""A master, a replica and an engine between them, all in this process and without a reactor."""

from __future__ import annotations

import hashlib
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.stores.native.layout import Layout
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.replica import StoreReplica
from cyrus_sync.sync_client.engine import Engine, Options
from tests.sync_client.engine.lines import InlineThreads, Line

ALICE = Owner("user", "alice")
INBOX = "user.alice"


def finish(work: Coroutine[Any, Any, Any] | Deferred[Any]) -> Any:
    """The result of something that must be over by now; raises its error."""
    results: list[Any] = []
    deferred = work if isinstance(work, Deferred) else ensureDeferred(work)
    deferred.addBoth(results.append)
    assert results, "still waiting for something"
    if isinstance(results[0], Failure):
        raise results[0].value
    return results[0]


class Clock:
    """Unix time that only moves when told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def make_store(
    directory: Path, clock: Clock, partitions: tuple[str, ...] = ("default", "ssd")
) -> NativeStore:
    """A native store below `directory`."""
    places = {name: directory / name for name in partitions}
    home = LocalHome(Layout(places, "default", directory / "home"))
    return NativeStore(home, servername="test", clock=clock)


def message(text: str) -> bytes:
    """A small mail."""
    return f"From: a@example.org\r\nSubject: {text}\r\n\r\n{text}\r\n".encode()


def guid_of(text: str) -> bytes:
    """The GUID of `message(text)`."""
    return hashlib.sha1(message(text)).digest()


class World:
    """Two stores, and engines between them."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self.clock = Clock()
        self.master = make_store(directory / "master", self.clock)
        self.replica = make_store(directory / "replica", self.clock)
        self.options = Options(
            notice=self._notice, report=self._report, remark=self._remark, spool_dir=directory, **options
        )
        self.remarks: list[str] = []
        self.notices: list[str] = []
        self.lines: list[str] = []
        self.sieve_mailbox = True
        self.line = self.connect()

    def _notice(self, line: str) -> None:
        self.notices.append(line)

    def _remark(self, line: str) -> None:
        self.remarks.append(line)

    def _report(self, line: str) -> None:
        self.lines.append(line)

    def store_replica(self) -> StoreReplica:
        """A new session at the replica, with nothing staged."""
        return self.session_at(self.replica)

    def session_at(self, store: NativeStore) -> StoreReplica:
        """A new session at a server of that store."""
        return StoreReplica(
            store,
            InlineThreads(),  # type: ignore[arg-type]
            partitions=("default", "ssd"),
            staging_dir=self.directory / "stage",
            capabilities=frozenset({"SIEVE-MAILBOX"} if self.sieve_mailbox else ()),
        )

    def connect(self) -> Line:
        """A new connection."""
        self.line = Line(self.store_replica())
        return self.line

    def engine(self, replica: Any = None, **options: Any) -> Engine:
        """An engine on the present connection."""
        return Engine(
            self.as_master(), replica or self.line, InlineThreads(), replace(self.options, **options)
        )

    def as_master(self) -> Master:
        """What an engine replicates from."""
        return NativeMaster(self.master)

    def sync(self, userid: str = "alice", **options: Any) -> list[tuple[Any, ...]]:
        """One run of ``-u``; what was sent."""
        self.connect()
        finish(self.engine(**options).user(userid))
        return self.line.events

    def mailboxes(self, *names: str, **options: Any) -> list[tuple[Any, ...]]:
        """One run of ``-m``; what was sent."""
        self.connect()
        finish(self.engine(**options).mailboxes(names))
        return self.line.events

    def close(self) -> None:
        """Close both stores."""
        self.master.close()
        self.replica.close()


@contextmanager
def write(store: NativeStore, userid: str = "alice") -> Iterator[MailWriter]:
    """A user's writer; time goes on by a second."""
    clock = store._clock
    assert isinstance(clock, Clock)
    clock.now += 1
    with store.write(Owner("user", userid)) as writer:
        yield writer


def deliver(
    store: NativeStore, mailbox: str, *texts: str, userid: str = "alice", flags: str = ""
) -> list[int]:
    """Append messages; their UIDs."""
    with write(store, userid) as writer:
        return writer.append(mailbox, [(message(text), 1_600_000_000, flags) for text in texts])


def state(store: NativeStore, mailbox: str, userid: str = "alice") -> MailboxState:
    """A mailbox that must exist."""
    with store.read(Owner("user", userid)) as reader:
        found = reader.mailbox(mailbox)
    assert found is not None
    return found


def records(store: NativeStore, mailbox: str, userid: str = "alice") -> list[Record]:
    """All its records, expunged ones included."""
    with store.read(Owner("user", userid)) as reader:
        found = reader.mailbox(mailbox)
        assert found is not None
        return [record for batch in reader.records(found.uniqueid) for record in batch]


def live(store: NativeStore, mailbox: str, userid: str = "alice") -> dict[int, bytes]:
    """UID → GUID of messages that are not expunged."""
    return {r.uid: r.guid for r in records(store, mailbox, userid) if not r.expunged}


def names(store: NativeStore, userid: str = "alice") -> list[str]:
    """Names of all mailboxes."""
    with store.read(Owner("user", userid)) as reader:
        return [found.name for found in reader.mailboxes()]


def content(store: NativeStore, userid: str = "alice") -> dict[str, Any]:
    """What must be equal on both sides: everything that the protocol carries, messages included."""
    with store.read(Owner("user", userid)) as reader:
        boxes = {}
        for found in reader.mailboxes():
            rows = [r for batch in reader.records(found.uniqueid) for r in batch if not r.expunged]
            for row in rows:
                body = reader.body(row.guid)
                assert body is not None, f"{found.name}:{row.uid} has no message"
                assert isinstance(body.data, bytes)
                assert hashlib.sha1(body.data).digest() == row.guid
            header = replace(found, deletedmodseq=0, quotaroot="", userflags=(), annotations=())
            notes = sorted((a.entry, a.userid, a.value) for a in found.annotations)
            boxes[found.uniqueid] = (header, notes, rows)
        quotas = {quota.root: quota.limits for quota in reader.quotas()}
        meta = reader.meta(with_sieve=True)
        return {
            "boxes": boxes,
            "quotas": quotas,
            "subscriptions": meta.subscriptions,
            "seen": meta.seen,
            "scripts": {(s.filename, s.guid, s.active) for s in meta.sieve},
        }
