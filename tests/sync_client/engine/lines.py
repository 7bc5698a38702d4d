"""Lines to a replica for tests: one that writes down what passes, one that is slow, one that breaks.

All stand before a `StoreReplica` that works at once, without threads and without a reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from cyrus_sync.common.errors import ConnectionLost
from cyrus_sync.common.model import MailboxUpdate

Event = tuple[Any, ...]


class InlineReactor:
    """Enough of a reactor to run everything at once."""

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any) -> None:
        function(*args)

    def callFromThread(self, function: Callable[..., Any], *args: Any) -> None:
        function(*args)


class InlineThreads:
    """Runs everything at once, in the caller's thread."""

    reactor = InlineReactor()

    def run(self, function: Callable[..., Any], *args: Any) -> Deferred[Any]:
        try:
            return succeed(function(*args))
        except Exception:
            return fail()

    def ahead(self, function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        return lambda: function(*args)


def _mailbox(update: MailboxUpdate, local: bool = False) -> Event:
    kind = "PARTIAL" if update.partial else "SINCE" if update.since else "ALL"
    uids = tuple(record.uid for batch in update.records for record in batch)
    return (f"{'LOCAL_' if local else ''}MAILBOX", update.state.name, kind, uids)


def _local(verb: str, *words: str, local: bool = False) -> Event:
    return (f"LOCAL_{verb}" if local else verb, *words)


EVENTS: dict[str, Callable[..., Event]] = {
    "get_user": lambda userid: ("GET USER", userid),
    "get_meta": lambda userid: ("GET META", userid),
    "get_mailboxes": lambda names: ("GET MAILBOXES", *names),
    "get_uniqueids": lambda uniqueids: ("GET UNIQUEIDS", *uniqueids),
    "get_full_mailbox": lambda name: ("GET FULLMAILBOX", name),
    "get_users": lambda: ("GET XUSERS",),
    "get_digests": lambda: ("GET XDIGESTS",),
    "get_damaged_users": lambda: ("GET XDAMAGED", ""),
    "get_damaged": lambda userid: ("GET XDAMAGED", userid),
    "get_shared": lambda: ("GET XSHARED",),
    "verify": lambda mailbox, uniqueid, first, last: ("GET XVERIFY", mailbox, first, last),
    "waiting": lambda word: ("XWAITING", word.waiting),
    "heal": lambda userid: ("XHEAL", userid),
    "get_quota": lambda root: ("GET QUOTA", root),
    "get_annotations": lambda mailbox: ("GET ANNOTATION", mailbox),
    "fetch": lambda mailbox, partition, uniqueid, guid, uid: ("GET FETCH", mailbox, uid),
    "fetch_sieve": lambda userid, filename: ("GET FETCH_SIEVE", userid, filename),
    "reserve": lambda partition, names, guids: ("RESERVE", partition, tuple(names), len(guids)),
    "message": lambda messages: ("MESSAGE", sum(len(batch) for batch in messages)),
    "mailbox": _mailbox,
    "rename": lambda old, new, partition, uidvalidity=0, local=False: _local("RENAME", old, new, local=local),
    "unmailbox": lambda name, local=False: _local("UNMAILBOX", name, local=local),
    "unuser": lambda userid, local=False: _local("UNUSER", userid, local=local),
    "expunge": lambda mailbox, uniqueid, uids: ("EXPUNGE", mailbox, tuple(uids)),
    "quota": lambda quota: ("QUOTA", quota.root),
    "unquota": lambda root: ("UNQUOTA", root),
    "sub": lambda userid, mailbox: ("SUB", userid, mailbox),
    "unsub": lambda userid, mailbox: ("UNSUB", userid, mailbox),
    "seen": lambda userid, seen: ("SEEN", userid, seen.uniqueid),
    "annotation": lambda note: ("ANNOTATION", note.mailbox, note.entry, note.userid),
    "unannotation": lambda mailbox, entry, userid: ("UNANNOTATION", mailbox, entry, userid),
    "sieve": lambda userid, filename, last_update, content: ("SIEVE", userid, filename),
    "unsieve": lambda userid, filename: ("UNSIEVE", userid, filename),
    "activate_sieve": lambda userid, filename: ("ACTIVATE_SIEVE", userid, filename),
    "unactivate_sieve": lambda userid: ("UNACTIVATE_SIEVE", userid),
    "force": lambda: ("FORCE",),
    "restart": lambda: ("RESTART",),
    "noop": lambda: ("NOOP",),
}


class Line:
    """A replica behind a line that remembers every verb in `events`."""

    def __init__(self, replica: Any) -> None:
        self.replica = replica
        self.events: list[Event] = []

    @property
    def capabilities(self) -> frozenset[str]:
        return self.replica.capabilities

    @property
    def message_encodings(self) -> frozenset[str]:
        return self.replica.message_encodings

    def ready(self) -> Deferred[None]:
        return succeed(None)

    def __getattr__(self, verb: str) -> Callable[..., Deferred[Any]]:
        if verb not in EVENTS:
            raise AttributeError(verb)

        def call(*args: Any, **keywords: Any) -> Deferred[Any]:
            self.events.append(EVENTS[verb](*args, **keywords))
            return self.carry(verb, lambda: getattr(self.replica, verb)(*args, **keywords))

        return call

    def carry(self, verb: str, call: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """Do the verb."""
        return call()


class SlowLine(Line):
    """Answers come `delay` seconds (of `clock`) after their verbs."""

    def __init__(self, replica: Any, clock: Clock, delay: float) -> None:
        super().__init__(replica)
        self.clock = clock
        self.delay = delay

    def carry(self, verb: str, call: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        answer: Deferred[Any] = Deferred()
        done = call()
        self.clock.callLater(self.delay, lambda: done.addBoth(answer.callback))
        return answer


class BrokenLine(Line):
    """The line breaks at the verb number `at` (from 0), before or `after` it took effect."""

    def __init__(self, replica: Any, at: int, after: bool) -> None:
        super().__init__(replica)
        self.at = at
        self.after = after
        self.count = 0

    @property
    def broken(self) -> bool:
        """True once it has happened."""
        return self.count > self.at

    def carry(self, verb: str, call: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        self.count += 1
        if self.count - 1 < self.at:
            return call()
        if self.count - 1 == self.at and self.after:
            call().addErrback(lambda _: None)
        return fail(ConnectionLost())


class RefusingLine(Line):
    """Verbs that `refuse` names by their event fail with what it gives."""

    def __init__(self, replica: Any, refuse: Callable[[Event], Exception | None]) -> None:
        super().__init__(replica)
        self.refuse = refuse

    def carry(self, verb: str, call: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        error = self.refuse(self.events[-1])
        return fail(error) if error is not None else call()
