"""One mailbox: send what the replica lacks, and see it through to the replica's final answer.

`send` puts MESSAGE and MAILBOX on the line without waiting; `finish` waits for the answer and does what
it asks for:

====================  ======================================================================
OK                    done; after a partial update the next batch is sent
IMAP_SYNC_CHECKSUM    ask for the replica's state, recalculate our CRCs, send without SINCE;
                      if that fails too, have the conflict settled (full update), send again
IMAP_SYNC_CHANGED     the state that we started from is out of date: ask and send once more
a refused frame       send the messages unfolded: a damaged one is found here then, and named
anything else         an error with its address; whoever called us goes on with other mailboxes
====================  ======================================================================
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import (
    ConnectionLost,
    CyrusSyncError,
    MailboxNonexistent,
    MessageUnavailable,
    ProtocolError,
    ReplyError,
    SnapshotLost,
    StoreCorrupt,
    StoreError,
    SyncBadSieve,
    SyncChanged,
    SyncChecksum,
)
from cyrus_sync.common.master import Settlement, Unreadable
from cyrus_sync.common.model import MailboxState, MessageBody, Record
from cyrus_sync.common.sieve import from_message
from cyrus_sync.sync_client.engine.batches import Limits, after
from cyrus_sync.sync_client.engine.compare import counters_to_adopt
from cyrus_sync.sync_client.engine.concurrency import Answers, all_of, as_sync_error, is_fatal
from cyrus_sync.sync_client.engine.context import RECORDS_ESTIMATE, EngineContext
from cyrus_sync.sync_client.engine.errors import GaveWay, MovedMeanwhile
from cyrus_sync.sync_client.engine.full_update import full_update, settle
from cyrus_sync.sync_client.engine.options import RESERVE_LIMIT, UPLOAD_BLOCK
from cyrus_sync.sync_client.engine.reading import (
    Item,
    Prepared,
    Verdict,
    Without,
    prepare,
    wanted_guids,
)

READINGS = 3
"""How often a mailbox is read, at most, that is changed while it is read."""

MOST_NAMED = 10
"""Messages of a mailbox that are named when they are withheld."""


class Sent:
    """A mailbox update on the line."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.state: MailboxState | None = None
        self.partial = False
        self.frames_refused = False
        self.withheld: dict[int, bytes] = {}
        """What is left out because it cannot be read, GUID by UID."""
        self._late: Without | None = None
        self._prepared: Prepared | None = None
        self._uploads = Answers()
        self._answer: Deferred[None] | None = None
        self._release: Callable[[], Any] = lambda: None

    async def answered(self, context: EngineContext, item: Item) -> None:
        """Wait until the replica has answered. Raises its error; that of an upload tells more, if the
        mailbox failed for it."""
        errors: list[CyrusSyncError] = []
        try:
            if self._answer is not None:
                try:
                    await self._answer
                except Exception as error:
                    errors.append(as_sync_error(error).at(command="MAILBOX"))
            refused = await self._uploads.errors()
            if self._late is not None and self._late.skipped:
                self.withheld = {**self.withheld, **self._late.skipped}
                context.stage.discard(item.target, self._late.skipped.values())
            if refused and self._prepared is not None:
                context.stage.discard(item.target, [guid for _, guid in self._prepared.upload])
                self.frames_refused = context.encoding != "identity" and any(
                    isinstance(error, ProtocolError) for error in refused
                )
            if errors:
                raise next(filter(is_fatal, errors), (refused + errors)[0])
            if self._prepared is not None and self._prepared.upload and not refused:
                context.options.sent(len(self._prepared.upload), self._prepared.upload_size)
        finally:
            await self._close(context)

    async def _close(self, context: EngineContext) -> None:
        self._release()
        self._release = lambda: None
        if self._prepared is not None and self._prepared.snapshot is not None:
            await context.threads.run(self._prepared.snapshot.close)

    def new_records(self, item: Item) -> list[Record]:
        """The live messages of the update that the replica has not seen."""
        update = self._prepared.update if self._prepared is not None else None
        if update is None or not isinstance(update.records, list):
            return []
        base = item.remote.last_uid if item.remote is not None else 0
        return [r for batch in update.records for r in batch if r.uid > base and not r.expunged]

    @classmethod
    def put(cls, context: EngineContext, item: Item, prepared: Prepared, charged: int) -> Sent:
        """Put the verbs of `prepared` on the line."""
        sent = cls(prepared.verdict)
        sent.withheld = prepared.withheld
        sent._prepared = prepared
        sent._release = lambda: context.records_in_flight.give(charged)
        update = prepared.update
        if update is None:
            return sent
        unreadable: set[bytes] = set()
        may_withhold = context.options.withheld is not None
        note: Unreadable | None = None
        if may_withhold:
            uids = {guid: uid for uid, guid in prepared.upload}

            def note(guid: bytes, error: StoreError) -> None:
                if isinstance(error, MessageUnavailable):
                    raise error.at(uid=str(uids[guid]))  # The mailbox waits for it: it keeps its UID.
                unreadable.add(guid)

        for begin in range(0, len(prepared.upload), UPLOAD_BLOCK):
            block = prepared.upload[begin : begin + UPLOAD_BLOCK]
            encoding = "identity" if item.unfolded else context.encoding
            bodies = context.master.messages(
                item.owner, item.uniqueid, block, item.target, encoding, unreadable=note
            )
            sent._uploads.expect(context.replica.message(bodies), command="MESSAGE", partition=item.target)
        context.stage.add(item.target, [guid for _, guid in prepared.upload], prepared.upload_size)
        context.report_localizable("MAILBOX", item.name)
        if may_withhold and prepared.upload:
            # By the time that the records are read, the messages before them have been.
            sent._late = Without(update.records, (), unreadable)
            update = replace(update, records=sent._late)
        sent.state = update.state
        sent.partial = update.partial
        sent._answer = context.replica.mailbox(update, local=context.options.local_only)
        return sent


async def send(context: EngineContext, item: Item) -> Sent:
    """Read `item` and put its update on the line. The caller holds the stage."""
    await context.replica.ready()
    await context.records_in_flight.take(RECORDS_ESTIMATE)
    try:
        prepared = await _prepared(context, item)
    except BaseException:
        context.records_in_flight.give(RECORDS_ESTIMATE)
        raise
    for name in prepared.left_out:
        context.options.remark(
            f"{context.options.external(item.name)}: the Sieve script {name} is left out: "
            f"{context.options.server} "
            f"hangs up on it (it cannot compile it, most likely); the next script of that name is tried again"
        )
    charged = prepared.records if prepared.snapshot is None else RECORDS_ESTIMATE
    context.records_in_flight.change(charged - RECORDS_ESTIMATE)
    return Sent.put(context, item, prepared, charged)


async def _prepared(context: EngineContext, item: Item) -> Prepared:
    """What is to be sent of `item`; read again, a few times, if the master cannot show it at one moment."""
    for _ in range(READINGS - 1):
        with contextlib.suppress(SnapshotLost):
            return await context.threads.run(_prepare, context, item)
    return await context.threads.run(_prepare, context, item)


def _prepare(context: EngineContext, item: Item) -> Prepared:
    options = context.options
    alone = options.left_out.suspected(item.uniqueid)
    limits = Limits(1 if alone else options.batchsize, options.batch_bytes)
    if not (options.no_copyback or context.master.refuses):
        _adopt_counters(context, item)
    item.left_out = options.left_out.of(item.uniqueid)
    return prepare(
        context.master,
        item,
        context.stage,
        limits,
        may_settle=not options.no_copyback,
        withheld=None if options.withheld is None else options.withheld.of(item.uniqueid),
    )


def _adopt_counters(context: EngineContext, item: Item) -> None:
    """Raise on the master what is higher on the replica (UIDVALIDITY, FOLDERMODSEQ, RACLMODSEQ)."""
    if item.remote is None or not item.raise_counters:
        return
    item.raise_counters = False
    with context.master.read(item.owner) as reader:
        local = reader.mailbox_by_id(item.uniqueid)
    if local is None or local.intermediate:
        return
    settlement = Settlement(local, item.remote, counters=counters_to_adopt(local, item.remote))
    if not settlement.changes_nothing:
        with contextlib.suppress(MailboxNonexistent, SyncChanged):  # it is looked at again just now
            settle(context.master, item.owner, settlement)


async def reserve(context: EngineContext, mailboxes: Sequence[str], wanted: dict[str, list[bytes]]) -> None:
    """Let the replica stage what it has already of `wanted` (GUIDs by partition), found in `mailboxes`."""
    asked: list[tuple[str, list[bytes]]] = []
    answers: list[Deferred[list[bytes]]] = []
    for partition, guids in wanted.items():
        for begin in range(0, len(guids), RESERVE_LIMIT):
            part = guids[begin : begin + RESERVE_LIMIT]
            await context.replica.ready()
            asked.append((partition, part))
            answers.append(context.replica.reserve(partition, mailboxes, part))
    for (partition, part), missing in zip(asked, await all_of(answers), strict=True):
        lacking = set(missing)
        context.stage.add(partition, [guid for guid in part if guid not in lacking])


async def finish(context: EngineContext, item: Item, sent: Sent, replica_names: Sequence[str]) -> None:
    """See a mailbox that was sent through to the end. `replica_names`: where RESERVE may look."""
    slow = False
    try:
        while not await _next_step(context, item, sent):
            if sent.partial and context.options.give_way():
                raise GaveWay()
            if not slow:
                await context.slow.take(1)
                slow = True
            sent = await _send_again(context, item, replica_names)
    except CyrusSyncError as error:
        if isinstance(error, ConnectionLost) and context.encoding == "identity":
            at_mailbox = error.address.get("command", "").endswith("MAILBOX")
            await context.threads.run(_blame, context, item, sent, at_mailbox)
        await context.forget([item.name])
        user = item.owner.name if item.owner.kind == "user" else None
        error.at(user=user, mailbox=item.name, uniqueid=item.uniqueid)
        raise
    finally:
        if slow:
            context.slow.give(1)
    await _remember(context, item, sent)
    _tell_of_withheld(context, item)


async def _next_step(context: EngineContext, item: Item, sent: Sent) -> bool:
    """Wait for the answer to `sent` and prepare `item` for the next try; True = nothing more to do."""
    try:
        await sent.answered(context, item)
    except (SyncChanged, SnapshotLost):
        if item.refreshed:
            raise
        await _refresh(context, item)
        return False
    except StoreCorrupt:
        if item.warned or context.options.withheld is None:
            raise
        item.warned = True  # it is known by now which message it was
        await _refresh(context, item)
        return False
    except SyncChecksum:
        await _note_withheld(context, item, sent, partial=True)
        if not item.recalculate:
            await _refresh(context, item)
            item.recalculate = True
            item.since = False
        elif item.full_done or context.options.no_copyback:
            raise
        else:
            await full_update(context, item)
        return False
    except ReplyError:
        if item.unfolded or not sent.frames_refused:
            raise
        await _refresh(context, item)
        item.unfolded = True
        return False
    if sent.verdict is not Verdict.FULL:
        await _note_withheld(context, item, sent, partial=sent.partial)
    if sent.verdict is Verdict.MOVED:
        raise MovedMeanwhile
    if sent.verdict is Verdict.FULL:
        await full_update(context, item)
        return False
    if sent.partial and sent.state is not None:
        item.remote = after(sent.state)
        return False
    return True


async def _note_withheld(context: EngineContext, item: Item, sent: Sent, *, partial: bool) -> None:
    """Remember what the replica now lacks. After a partial update it may lack more."""
    withheld = context.options.withheld
    if withheld is None:
        return
    known = withheld.of(item.uniqueid)
    lacking = {**known, **sent.withheld} if partial else sent.withheld
    if lacking != known:
        await context.threads.run(withheld.put, item.uniqueid, item.name, lacking)


def _tell_of_withheld(context: EngineContext, item: Item) -> None:
    lacking = context.options.withheld.of(item.uniqueid) if context.options.withheld is not None else {}
    if not lacking:
        return
    first = ", ".join(f"uid {uid} ({guid.hex()})" for uid, guid in sorted(lacking.items())[:MOST_NAMED])
    more = f" and {len(lacking) - MOST_NAMED} more" if len(lacking) > MOST_NAMED else ""
    name = context.options.external(item.name)
    later = "It goes over when it can be read again: mailstore repair --from-peer asks the other side for it"
    if context.master.refuses:
        later = f"When it can be read again it needs a new UID here, but {context.master.refuses}"
    context.options.remark(
        f"not replicated, as it cannot be read here: {name} {first}{more}; everything else of {name} is."
        f" {later}"
    )


def _blame(context: EngineContext, item: Item, sent: Sent, at_mailbox: bool) -> None:
    """The connection broke: find out whether a script in `sent` may be the reason. `at_mailbox`: its
    message had been taken. Other ends of ours, which take frames, never do so."""
    state, records = sent.state, sent.new_records(item)
    if state is None or "f" not in state.mbtype or not records:
        return
    left_out = context.options.left_out
    if not left_out.suspected(item.uniqueid):
        left_out.suspect(item.uniqueid)
        return
    if not at_mailbox or not left_out.again(item.uniqueid, [record.uid for record in records]):
        return
    names = {record.uid: f"message {record.uid}" for record in records}
    for record in records:
        source = context.master.messages(item.owner, item.uniqueid, [(record.uid, record.guid)])
        for body in (body for batch in source for body in batch):
            with contextlib.suppress(SyncBadSieve):
                names[record.uid] = from_message(_octets(body)).name
    left_out.learn(item.uniqueid, names)


def _octets(body: MessageBody) -> bytes:
    return body.data if isinstance(body.data, bytes) else b"".join(body.data)


async def _refresh(context: EngineContext, item: Item) -> None:
    """Ask anew what the replica has."""
    states = await context.replica.get_mailboxes([item.name])
    item.remote = next((state for state in states if state.uniqueid == item.uniqueid), None)
    item.raise_counters = item.remote is not None
    item.cached = False
    item.refreshed = True
    item.cuts.clear()


async def _send_again(context: EngineContext, item: Item, replica_names: Sequence[str]) -> Sent:
    async with context.stage.hold():
        item.last_uid = None  # the master may have given out more meanwhile, to what it adopted
        if replica_names:
            guids = await context.threads.run(_wanted, context, item)
            if guids:
                await reserve(context, replica_names, {item.target: guids})
        return await send(context, item)


def _wanted(context: EngineContext, item: Item) -> list[bytes]:
    with context.master.read(item.owner) as reader:
        return wanted_guids(reader, item, context.stage, context.options.batchsize)


async def _remember(context: EngineContext, item: Item, sent: Sent) -> None:
    """The replica now has what was sent."""
    if sent.verdict is Verdict.SEND and sent.state is not None:
        context.remember([sent.state])
    elif sent.verdict is Verdict.GONE:
        await context.forget([item.name])
