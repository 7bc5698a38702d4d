"""What becomes of the answers to one verb: one collector gathers them until the reply comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import ProtocolError
from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    MessageBody,
    Quota,
    RecordSource,
    Seen,
    SieveScript,
    UserMeta,
    UserState,
    Verified,
)
from cyrus_sync.common.protocol import codec
from cyrus_sync.common.protocol.events import Answer, MessageChunk, MessageData, MessageStart, RecordBatch
from cyrus_sync.common.wire.spool import ByteSpool, RecordSpool

Runner = Callable[..., Deferred[Any]]
"""Calls a function with arguments in a thread; its result."""


class Collector:
    """Ignores answers; its result is None."""

    def add(self, event: Any, run: Runner) -> Deferred[Any] | None:
        """Take an answer or a piece of bulk. A Deferred holds up what follows."""
        if isinstance(event, Answer):
            self.answer(event.name, event.value)
        return None

    def answer(self, name: str, value: Any) -> None:
        """Take a ``* NAME value`` line."""

    def result(self) -> Any:
        """What the verb returns. Raises ReplyError if the answers do not add up to it."""
        return None


class StateCollector(Collector):
    """MAILBOX, QUOTA, SEEN, LSUB and SIEVE lines; `kind` picks which of them are the result."""

    def __init__(self, kind: type[UserState] | type[UserMeta] | type[MailboxState]) -> None:
        self._kind = kind
        self._mailboxes: list[MailboxState] = []
        self._quotas: list[Quota] = []
        self._seen: list[Seen] = []
        self._subscriptions: list[str] = []
        self._sieve: list[SieveScript] = []

    def answer(self, name: str, value: Any) -> None:
        if name == "MAILBOX":
            self._mailboxes.append(codec.decode_mailbox(value, answer=True))
        elif name == "QUOTA":
            self._quotas.append(codec.decode_quota(value))
        elif name == "SEEN":
            self._seen.append(codec.decode_seen(value))
        elif name == "LSUB":
            self._subscriptions += codec.decode_subscriptions(value)
        elif name == "SIEVE":
            self._sieve.append(codec.decode_sieve_script(value))

    def result(self) -> UserState | UserMeta | list[MailboxState]:
        if self._kind is MailboxState:
            return self._mailboxes
        meta = UserMeta(tuple(self._seen), tuple(self._subscriptions), tuple(self._sieve))
        if self._kind is UserMeta:
            return meta
        return UserState(tuple(self._mailboxes), tuple(self._quotas), meta)


class FullMailboxCollector(Collector):
    """One MAILBOX line with its records."""

    def __init__(self) -> None:
        self._state: MailboxState | None = None
        self._records = RecordSpool()

    def add(self, event: Any, run: Runner) -> Deferred[Any] | None:
        if isinstance(event, RecordBatch):
            if not self._records.fits(event.records):
                return run(self._records.add, event.records)
            self._records.add(event.records)
            return None
        return super().add(event, run)

    def answer(self, name: str, value: Any) -> None:
        if name == "MAILBOX":
            self._state = codec.decode_mailbox(value, answer=True)

    def result(self) -> tuple[MailboxState, RecordSource]:
        if self._state is None:
            raise ProtocolError("the replica gave no MAILBOX")
        return self._state, self._records


class MessageCollector(Collector):
    """One message; None where the replica's file is not what it should be."""

    def __init__(self) -> None:
        self._body: MessageBody | None = None
        self._large: tuple[MessageStart, ByteSpool] | None = None

    def add(self, event: Any, run: Runner) -> Deferred[Any] | None:
        if isinstance(event, MessageData):
            self._body = event.messages[0]
        elif isinstance(event, MessageStart):
            self._large = event, ByteSpool()
        elif isinstance(event, MessageChunk) and self._large is not None:
            spool = self._large[1]
            if not spool.fits(event.data):
                return run(spool.add, event.data)
            spool.add(event.data)
        return None

    def result(self) -> MessageBody | None:
        if self._large is not None:
            start, spool = self._large
            return MessageBody(start.partition, start.guid, start.size, spool)
        return self._body


class ListCollector(Collector):
    """All lines of one name, each turned into values by `decode`, which gives a list."""

    def __init__(self, name: str, decode: Callable[[Any], list[Any]]) -> None:
        self._name = name
        self._decode = decode
        self._found: list[Any] = []

    def answer(self, name: str, value: Any) -> None:
        if name == self._name:
            self._found += self._decode(value)

    def result(self) -> list[Any]:
        return self._found


class OneCollector(ListCollector):
    """The first of what `ListCollector` finds, or None."""

    def result(self) -> Any:
        return self._found[0] if self._found else None


def userids() -> ListCollector:
    return ListCollector("XUSERS", codec.decode_subscriptions)


def shared_names() -> ListCollector:
    return ListCollector("XSHARED", codec.decode_subscriptions)


class VerifiedCollector(Collector):
    """The answer to GET XVERIFY."""

    def __init__(self) -> None:
        self._found: Verified | None = None

    def answer(self, name: str, value: Any) -> None:
        if name == "XVERIFY":
            self._found = codec.decode_verified(value)

    def result(self) -> Verified:
        if self._found is None:
            raise ProtocolError("the replica did not say what it has read")
        return self._found


def digests() -> ListCollector:
    return ListCollector("XDIGESTS", codec.decode_digests)


def damaged_users() -> ListCollector:
    return ListCollector("XDAMAGED", codec.decode_subscriptions)


def damaged_guids() -> ListCollector:
    return ListCollector("XDAMAGED", codec.decode_guids)


def missing_guids() -> ListCollector:
    return ListCollector("MISSING", codec.decode_guids)


def enabled() -> ListCollector:
    return ListCollector("ENABLED", codec.decode_capabilities)


def mailbox_annotations() -> ListCollector:
    def decode(value: Any) -> list[MailboxAnnotation]:
        return [codec.decode_annotation(value)]

    return ListCollector("ANNOTATION", decode)


def one_quota() -> OneCollector:
    return OneCollector("QUOTA", lambda value: [codec.decode_quota(value)])


def sieve_content() -> OneCollector:
    return OneCollector("SIEVE", lambda value: [codec.decode_sieve_content(value)])
