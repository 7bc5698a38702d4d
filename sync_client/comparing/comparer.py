"""`Comparer`: both ends' owners compared over one connection, one after the other, several at once.

It stands where the engine stands in a replicating run (`sync_client.connection.EngineVerbs`), so that what a
run does about lost connections and about users who fail holds here too.
"""

from __future__ import annotations

import enum
import shlex
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import field
from typing import NoReturn

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import CyrusSyncError, InvalidUser, MailboxNonexistent, ReplyError
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MailboxAnnotation, RecordSource, UserState
from cyrus_sync.common.names import SERVER, Owner, inbox_of, is_deleted, owner_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.protocol.commands import USERS, VERIFY
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.threads import Threads
from cyrus_sync.sync_client.comparing.advice import Terms, advise
from cyrus_sync.sync_client.comparing.findings import HERE, Advice, Counts, Difference, OwnerFindings
from cyrus_sync.sync_client.comparing.messages import MessageComparer
from cyrus_sync.sync_client.comparing.records import compare_records
from cyrus_sync.sync_client.comparing.states import Pair, StateComparer, Told
from cyrus_sync.sync_client.engine.annotations import annotation_changes
from cyrus_sync.sync_client.engine.concurrency import forgiving, is_fatal
from cyrus_sync.sync_client.engine.errors import FoldersFailed

NAMES_AT_ONCE = 500
"""Mailboxes in one GET MAILBOXES."""

LOOKS = (1.0, 3.0)
"""Seconds before what differed is looked at again: mail that is under way is no difference."""


class Depth(enum.Enum):
    """How closely is looked."""

    CRCS = "crcs"
    RECORDS = "records"
    MESSAGES = "messages"


def _nothing(uniqueid: str) -> Mapping[int, bytes]:
    del uniqueid
    return {}


@dataclass(frozen=True, slots=True)
class Options:
    """What all connections of a run have in common."""

    depth: Depth
    terms: Callable[[bool], Terms]
    """With what lines are made; is told whether the replica is of this package."""
    tell: Callable[[OwnerFindings], Awaitable[None]]
    """Is told of every owner that was compared."""
    fail: Callable[[Owner, CyrusSyncError], Awaitable[None]]
    """Is told of an owner whom only the replica has and who cannot be compared."""
    owner_turn: Callable[[], Awaitable[None]]
    """Returns when the next owner may be looked at."""
    octets_turn: Callable[[int], Awaitable[None]]
    """Returns when so many octets of messages may be read."""
    pause: Callable[[float], Awaitable[None]]
    names: Namespace
    partition: str = ""
    withheld: Callable[[str], Mapping[int, bytes]] = _nothing
    strict: bool = False
    """An owner that is on neither side is an error: somebody has typed the name."""
    looks: Sequence[float] = LOOKS


@dataclass(slots=True)
class Limits:
    """What a replica of this kind cannot be asked, in words: it belongs into the report."""

    said: dict[str, None] = field(default_factory=dict)

    def add(self, text: str) -> None:
        self.said[text] = None


NO_USERS = (
    "the replica does not list its users: those whom only it has were not looked for (ctl_mboxlist -d shows"
    " them there)"
)
NO_SHARED = "the replica does not list its shared mailboxes: those that only it has were not looked for"


class Comparer:
    """Compares over one connection."""

    def __init__(
        self, master: Master, replica: Replica, threads: Threads, options: Options, limits: Limits
    ) -> None:
        self._master = master
        self._replica = replica
        self._threads = threads
        self._options = options
        self._limits = limits
        self._sieve_mailbox = "SIEVE-MAILBOX" in replica.capabilities
        self._terms = options.terms(VERIFY in replica.capabilities)
        self._listed: Mapping[Owner, Sequence[str]] | None = None
        self._states = StateComparer(
            master,
            partition=options.partition,
            sieve_mailbox=self._sieve_mailbox,
            names=options.names,
            withheld=options.withheld,
        )

    # -- what a run asks for

    async def user(self, userid: str) -> None:
        """A user. Raises `FoldersFailed` where mailboxes cannot be looked at here."""
        await self._owner(Owner("user", userid))

    async def mailboxes(self, names: Sequence[str]) -> None:
        """The shared mailboxes at and below the top-level one that is named."""
        await self._owner(owner_of(names[0]))

    async def agreeing(self, here: Mapping[str, bytes] | None = None) -> Collection[str]:
        """Nobody is passed over."""
        return ()

    async def alone(self, prefix: str, here: Collection[str]) -> None:
        """Users, and shared mailboxes, that only the replica has, where it lists them. `here`: the names of
        the master's users (``alice``) and of its shared owners (``shared:news``)."""
        if not prefix:
            await self._server()
        known = set(here)
        if USERS not in self._replica.capabilities:
            self._limits.add(NO_USERS)
        else:
            for userid in await self._replica.get_users():
                wanted = userid.startswith(prefix) or inbox_of(userid).startswith(prefix)
                if wanted and userid not in known:
                    await self._only_there(Owner("user", userid))
        if VERIFY not in self._replica.capabilities:
            self._limits.add(NO_SHARED)
            return
        for owner, names in (await self._shared()).items():
            if f"shared:{owner.name}" not in known and any(name.startswith(prefix) for name in names):
                await self._only_there(owner)

    async def _server(self) -> None:
        """The annotations of the server itself, which are nobody's."""
        theirs = await forgiving(self._replica.get_annotations(""), ReplyError) or []
        ours = await self._threads.run(self._of_the_server)
        found = OwnerFindings(SERVER, self._options.names.owner_name(SERVER), counts=Counts())
        for note, wanted in annotation_changes(ours, theirs):
            where = "is missing or different at the replica" if wanted else "is only at the replica"
            found.others.append(Difference("annotation", note.entry, where))
        if not found.equal:
            line = shlex.join(["sync_client", *self._terms.options, "-R", "-f", "-"])
            command = f"echo 'ANNOTATION \"\"' | {line}"
            found.advice = [Advice(HERE, command, "sends them")]
            await self._options.tell(found)

    def _of_the_server(self) -> list[MailboxAnnotation]:
        with self._master.read(SERVER) as reader:
            return reader.annotations("")

    async def _only_there(self, owner: Owner) -> None:
        try:
            await self._owner(owner, only_there=True)
        except CyrusSyncError as error:
            if is_fatal(error):
                raise
            await self._options.fail(owner, error)

    # -- one owner

    async def _owner(self, owner: Owner, *, only_there: bool = False) -> None:
        await self._options.owner_turn()
        findings = await self._look(owner)
        for seconds in self._options.looks:
            if not findings.may_pass:
                break
            await self._options.pause(seconds)
            findings = await self._look(owner)
        if only_there and findings.equal:
            return  # what is there was deleted
        findings.advice = advise(findings, self._terms)
        await self._options.tell(findings)

    async def _look(self, owner: Owner) -> OwnerFindings:
        told = await self._ask(owner)
        compared = await self._threads.run(self._states.compare, owner, told)
        findings = compared.findings
        if self._options.strict and not told.mailboxes and not findings.mailboxes and not compared.unreadable:
            if owner.kind == "user":
                raise InvalidUser("no such user on either side").at(user=owner.name)
            raise MailboxNonexistent("no such mailbox on either side").at(mailbox=owner.name)
        for pair in compared.pairs:
            await self._closer(owner, pair, findings)
        if compared.unreadable:
            raise FoldersFailed([(error.address.get("mailbox", ""), error) for error in compared.unreadable])
        return findings

    async def _ask(self, owner: Owner) -> Told:
        if owner.kind == "user":
            asked = self._replica.get_user(owner.name)
            state = await forgiving(asked, MailboxNonexistent, InvalidUser) or UserState()
            return Told(state.mailboxes, state.quotas, state.meta)
        names, roots = await self._threads.run(self._states.names, owner)
        if VERIFY in self._replica.capabilities:
            names = list(dict.fromkeys([*names, *(await self._shared()).get(owner, ())]))
        boxes = []
        for begin in range(0, len(names), NAMES_AT_ONCE):
            boxes += await self._replica.get_mailboxes(names[begin : begin + NAMES_AT_ONCE])
        quotas = [await self._replica.get_quota(root) for root in roots]
        return Told(boxes, [quota for quota in quotas if quota is not None])

    async def _shared(self) -> Mapping[Owner, Sequence[str]]:
        """Names of the replica's shared mailboxes by owner, as they were when this was first asked."""
        if self._listed is None:
            listed: dict[Owner, list[str]] = {}
            for name in await self._replica.get_shared():
                if not is_deleted(name):
                    listed.setdefault(owner_of(name), []).append(name)
            self._listed = listed
        return self._listed

    async def _closer(self, owner: Owner, pair: Pair, findings: OwnerFindings) -> None:
        """By records where that was asked for, or to say what differs; then by what is stored."""
        depth = self._options.depth
        if depth is Depth.CRCS and not pair.found.fields:
            return
        try:
            remote, records = await self._replica.get_full_mailbox(pair.remote.name)
        except MailboxNonexistent:
            pair.found.note = "it has just gone from the replica"
            pair.found.fields["name"] = pair.found.name, ""
            return
        if remote.uniqueid != pair.found.uniqueid:
            pair.found.fields["uniqueid"] = pair.found.uniqueid, remote.uniqueid
            return
        findings.counts.records += await self._threads.run(self._by_records, owner, pair, records)
        if depth is Depth.MESSAGES:
            messages = MessageComparer(
                self._master, self._replica, self._threads, owner, self._options.octets_turn
            )
            await messages.compare(pair, findings.counts)

    def _by_records(self, owner: Owner, pair: Pair, theirs: RecordSource) -> int:
        with self._master.read(owner) as reader:
            state = reader.mailbox_by_id(pair.found.uniqueid)
            ours = reader.records(pair.found.uniqueid) if state is not None else ()
            return compare_records(ours, theirs, pair.found, pair.withheld)

    async def _refuse(self, *arguments: str, **named: str) -> NoReturn:
        """Work of a log, which a comparison never has."""
        del arguments, named
        raise ReplyError("a comparison changes nothing")

    meta = quota = annotation = seen = sub = unmailbox = unuser = _refuse
