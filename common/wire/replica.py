"""`WireReplica`: the verbs of replication over a connection to a csync server.

Each verb is encoded as `common.protocol.commands` declares it and goes through a `Pipeline`; messages and
records are read from their sources in threads and streamed with back-pressure.

>>> replica = await WireReplica.start(session, {"SIEVE-MAILBOX"}, threads)      # doctest: +SKIP
>>> state = await replica.get_user("alice")                                     # doctest: +SKIP

What a NO means is decided here only where the protocol leaves no choice: a replica that does not know a
user or mailbox answers GET USER, META and MAILBOXES with nothing, whichever way it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from cyrus_sync.common.errors import MailboxNonexistent, ProtocolError
from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    MessageSource,
    Quota,
    RecordSource,
    Seen,
    UserMeta,
    UserState,
    Verified,
)
from cyrus_sync.common.protocol.commands import COMMANDS, UNMAILBOX_ID, ZSTD
from cyrus_sync.common.threads import Threads
from cyrus_sync.common.waiting import Waiting
from cyrus_sync.common.wire import collect, imap
from cyrus_sync.common.wire.bandwidth import Limiter
from cyrus_sync.common.wire.collect import Collector, FullMailboxCollector, MessageCollector, StateCollector
from cyrus_sync.common.wire.dialect import Dialect
from cyrus_sync.common.wire.outgoing import (
    GUIDS_IN_A_COMMAND,
    UIDS_IN_A_COMMAND,
    Piece,
    mailbox_pieces,
    message_pieces,
)
from cyrus_sync.common.wire.pipeline import Pipeline, Replies

if TYPE_CHECKING:
    from cyrus_sync.common.wire.client import ReadyConnection
    from cyrus_sync.common.wire.transport import CsyncProtocol

FEW = 256
"""So many records, or GUIDs, are written at once where they are here already: a thread would take longer."""

MOST_NAMES = 10_000_000
"""A replica that names more users, or shared mailboxes, is out of its mind."""


class WireReplica:
    """A `Replica` at the other end of a connection. All methods belong to the reactor's thread.

    Without `threads`, sources are read in the reactor's thread. `timeout`: seconds without a sign of life
    after which an answer is no longer waited for. `within_imap`: the server is an imapd (`common.wire.imap`).
    `replies`: where they are counted, by command and code.
    """

    def __init__(
        self,
        proto: CsyncProtocol,
        threads: Threads | None = None,
        timeout: float | None = None,
        *,
        within_imap: bool = False,
        replies: Replies | None = None,
    ) -> None:
        self.capabilities: frozenset[str] = frozenset()
        self.message_encodings = frozenset({"identity"})
        self.proto = proto
        self.dialect = Dialect()
        self._within_imap = within_imap
        commands = imap.ImapCommands() if within_imap else None
        self._pipeline = Pipeline(proto, threads.run if threads else None, timeout, commands, replies)

    @classmethod
    async def start(
        cls,
        session: ReadyConnection,
        want: Collection[str] = (),
        threads: Threads | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (of each answer later, not of this call)
        replies: Replies | None = None,
    ) -> WireReplica:
        """Take over a connected `session`; agree on those of `want` that its greeting offers."""
        replica = cls(session.proto, threads, timeout, within_imap=session.within_imap, replies=replies)
        replica.dialect = Dialect.of_banner(session.banner)
        offered = sorted(set(want) & set(session.capabilities), key=_as_cyrus)
        if offered:
            command = COMMANDS["APPLY", "CAPABILITIES"]
            granted = await replica._call(command.line(offered), collect.enabled(), command=command.title)
            replica.capabilities = frozenset(granted) & frozenset(offered)
            if ZSTD in replica.capabilities:
                replica.message_encodings = frozenset({"identity", "zstd"})
        return replica

    # -- the connection

    def limit(self, limiter: Limiter) -> None:
        """Send what is large no faster than that."""
        self._pipeline.limiter = limiter

    def ready(self) -> Deferred[None]:
        return self._pipeline.ready()

    def on_lost(self, lost: Callable[[Exception], None]) -> None:
        """Have `lost` called once when the connection ends other than by `close`."""
        self._pipeline.on_lost(lost)

    def close(self) -> Deferred[None]:
        """EXIT and disconnect. Fires when the connection is gone, never fails."""
        return self._pipeline.close()

    def _call(
        self, pieces: bytes | Iterator[Piece], collector: Collector | None = None, **address: str | None
    ) -> Deferred[Any]:
        return self._pipeline.call(pieces, collector or Collector(), address)

    def _get(self, name: str, collector: Collector, *arguments: Any, **address: str | None) -> Deferred[Any]:
        command = COMMANDS["GET", name]
        return self._call(command.line(*arguments), collector, command=command.title, **address)

    def _apply(self, name: str, *arguments: Any, local: bool = False, **address: str | None) -> Deferred[Any]:
        command = COMMANDS["APPLY", name]
        local = local and self.dialect.local_verbs
        title = command.head(local).decode("ascii").rstrip()
        return self._call(command.line(*arguments, local=local), None, command=title, **address)

    # -- what the replica has

    def get_user(self, userid: str) -> Deferred[UserState]:
        found = self._get("USER", StateCollector(UserState), userid, user=userid)
        return found.addErrback(_nothing, UserState()).addCallback(self.dialect.incoming_user)

    def get_meta(self, userid: str) -> Deferred[UserMeta]:
        return self._get("META", StateCollector(UserMeta), userid, user=userid).addErrback(
            _nothing, UserMeta()
        )

    def get_mailboxes(self, names: Sequence[str]) -> Deferred[list[MailboxState]]:
        found = self._get("MAILBOXES", StateCollector(MailboxState), names, mailbox=_some(names))
        return found.addErrback(_nothing, []).addCallback(self.dialect.incoming_all)

    def get_uniqueids(self, uniqueids: Sequence[str]) -> Deferred[list[MailboxState]]:
        if not self.dialect.asks_by_id:
            error = ProtocolError("this release cannot be asked by uniqueid")
            return fail(error.at(uniqueid=_some(uniqueids)))
        found = self._get("UNIQUEIDS", StateCollector(MailboxState), uniqueids, uniqueid=_some(uniqueids))
        return found.addCallback(self.dialect.incoming_all)

    def get_full_mailbox(self, name: str) -> Deferred[tuple[MailboxState, RecordSource]]:
        found = self._get("FULLMAILBOX", FullMailboxCollector(), name, mailbox=name)
        return found.addCallback(self.dialect.incoming_full)

    def get_users(self) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self._all_pages("XUSERS", collect.userids))

    def get_shared(self) -> Deferred[list[str]]:
        return Deferred.fromCoroutine(self._all_pages("XSHARED", collect.shared_names))

    async def _all_pages(self, name: str, collector: Callable[[], Collector]) -> list[str]:
        found: list[str] = []
        after = ""
        while page := await self._get(name, collector(), after):
            found += page
            if page[-1] == after or len(found) > MOST_NAMES:
                raise ProtocolError(f"the replica answers {name} without end").at(entry=after)
            after = page[-1]
        return found

    def verify(self, mailbox: str, uniqueid: str, first: int, last: int) -> Deferred[Verified]:
        collector = collect.VerifiedCollector()
        address = {"mailbox": mailbox, "uniqueid": uniqueid}
        return self._get("XVERIFY", collector, mailbox, uniqueid, first, last, **address)

    def get_digests(self) -> Deferred[Mapping[str, bytes]]:
        return Deferred.fromCoroutine(self._all_digests())

    async def _all_digests(self) -> Mapping[str, bytes]:
        found: dict[str, bytes] = {}
        after = ""
        while page := await self._get("XDIGESTS", collect.digests(), after):
            found.update(page)
            if page[-1][0] == after or len(found) > MOST_NAMES:
                raise ProtocolError("the replica answers XDIGESTS without end").at(entry=after)
            after = page[-1][0]
        return {userid: digest for userid, digest in found.items() if digest}

    def get_damaged_users(self) -> Deferred[list[str]]:
        return self._get("XDAMAGED", collect.damaged_users(), "")

    def get_damaged(self, userid: str) -> Deferred[list[bytes]]:
        return self._get("XDAMAGED", collect.damaged_guids(), userid, user=userid)

    def get_quota(self, root: str) -> Deferred[Quota | None]:
        return self._get("QUOTA", collect.one_quota(), root, mailbox=root)

    def get_annotations(self, mailbox: str) -> Deferred[list[MailboxAnnotation]]:
        return self._get("ANNOTATION", collect.mailbox_annotations(), mailbox, mailbox=mailbox)

    def fetch(
        self, mailbox: str, partition: str, uniqueid: str, guid: bytes, uid: int
    ) -> Deferred[MessageBody | None]:
        return self._get(
            "FETCH",
            MessageCollector(),
            mailbox,
            partition,
            uniqueid,
            guid,
            uid,
            mailbox=mailbox,
            uniqueid=uniqueid,
        )

    def fetch_sieve(self, userid: str, filename: str) -> Deferred[bytes]:
        found = self._get("FETCH_SIEVE", collect.sieve_content(), userid, filename, user=userid)
        return found.addCallback(_there)

    # -- changes

    def reserve(
        self, partition: str, mailboxes: Sequence[str], guids: Sequence[bytes]
    ) -> Deferred[list[bytes]]:
        command = COMMANDS["APPLY", "RESERVE"]
        parts = (
            Piece(command.line(partition, mailboxes, guids[at : at + GUIDS_IN_A_COMMAND]), 1)
            for at in range(0, len(guids), GUIDS_IN_A_COMMAND)
        )
        pieces = command.line(partition, mailboxes, guids) if 0 < len(guids) <= FEW else parts
        return self._call(pieces, collect.missing_guids(), command=command.title, mailbox=_some(mailboxes))

    def message(self, messages: MessageSource) -> Deferred[None]:
        if self._within_imap:
            return self._call(imap.message_pieces(messages), command="APPLY MESSAGE")
        return self._call(message_pieces(messages, self.message_encodings), command="APPLY MESSAGE")

    def mailbox(self, update: MailboxUpdate, *, local: bool = False) -> Deferred[None]:
        if not self.dialect.takes(update):
            return self.noop()
        local = local and self.dialect.local_verbs
        outgoing = self.dialect.outgoing(update)
        pieces = mailbox_pieces(outgoing, local)
        few = isinstance(outgoing.records, list) and sum(map(len, outgoing.records)) <= FEW
        return self._call(
            b"".join(piece.data for piece in pieces) if few else pieces,
            command="APPLY LOCAL_MAILBOX" if local else "APPLY MAILBOX",
            mailbox=update.state.name,
            uniqueid=update.state.uniqueid,
        )

    def rename(
        self, old: str, new: str, partition: str, uidvalidity: int = 0, *, local: bool = False
    ) -> Deferred[None]:
        return self._apply("RENAME", old, new, partition, uidvalidity, local=local, mailbox=old)

    def unmailbox(
        self, name: str, *, local: bool = False, uniqueid: str = "", uidvalidity: int = 0
    ) -> Deferred[None]:
        identity = (uniqueid, uidvalidity) if UNMAILBOX_ID in self.capabilities else ()
        return self._apply("UNMAILBOX", name, *identity, local=local, mailbox=name, uniqueid=uniqueid or None)

    def unuser(self, userid: str, *, local: bool = False) -> Deferred[None]:
        return self._apply("UNUSER", userid, local=local, user=userid)

    def expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> Deferred[None]:
        command = COMMANDS["APPLY", "EXPUNGE"]
        pieces = (
            Piece(command.line(mailbox, uniqueid, uids[at : at + UIDS_IN_A_COMMAND]), 1)
            for at in range(0, len(uids), UIDS_IN_A_COMMAND)
        )
        return self._call(pieces, command=command.title, mailbox=mailbox, uniqueid=uniqueid)

    def quota(self, quota: Quota) -> Deferred[None]:
        return self._apply("QUOTA", quota, mailbox=quota.root)

    def unquota(self, root: str) -> Deferred[None]:
        return self._apply("UNQUOTA", root, mailbox=root)

    def sub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._apply("SUB", userid, mailbox, user=userid, mailbox=mailbox)

    def unsub(self, userid: str, mailbox: str) -> Deferred[None]:
        return self._apply("UNSUB", userid, mailbox, user=userid, mailbox=mailbox)

    def seen(self, userid: str, seen: Seen) -> Deferred[None]:
        return self._apply("SEEN", userid, seen, user=userid, uniqueid=seen.uniqueid)

    def annotation(self, annotation: MailboxAnnotation) -> Deferred[None]:
        return self._apply("ANNOTATION", annotation, mailbox=annotation.mailbox)

    def unannotation(self, mailbox: str, entry: str, userid: str) -> Deferred[None]:
        return self._apply("UNANNOTATION", mailbox, entry, userid, mailbox=mailbox)

    def sieve(self, userid: str, filename: str, last_update: int, content: bytes) -> Deferred[None]:
        return self._apply("SIEVE", userid, filename, last_update, content, user=userid)

    def unsieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._apply("UNSIEVE", userid, filename, user=userid)

    def activate_sieve(self, userid: str, filename: str) -> Deferred[None]:
        return self._apply("ACTIVATE_SIEVE", userid, filename, user=userid)

    def unactivate_sieve(self, userid: str) -> Deferred[None]:
        return self._apply("UNACTIVATE_SIEVE", userid, user=userid)

    def waiting(self, word: Waiting) -> Deferred[None]:
        return self._apply("XWAITING", word)

    # -- the session

    def heal(self, userid: str) -> Deferred[None]:
        return self._apply("XHEAL", userid, user=userid)

    def force(self) -> Deferred[None]:
        return self._apply("FORCE")

    def restart(self) -> Deferred[None]:
        return self._call(b"RESTART\r\n", command="RESTART")

    def noop(self) -> Deferred[None]:
        return self._call(b"NOOP\r\n", command="NOOP")


def _as_cyrus(capability: str) -> tuple[bool, bool, str]:
    """Where a capability stands in a list: SIEVE-MAILBOX first, our own last."""
    return capability.startswith("X-"), capability != "SIEVE-MAILBOX", capability


def _nothing(failure: Failure, empty: Any) -> Any:
    """`empty` for a replica that has no such thing."""
    failure.trap(MailboxNonexistent)
    return empty


def _there(content: bytes | None) -> bytes:
    if content is None:
        raise ProtocolError("the replica gave no script")
    return content


def _some(names: Sequence[str]) -> str:
    """A few of `names`, for an address."""
    return ",".join(names[:3]) + (f",… ({len(names)})" if len(names) > 3 else "")
