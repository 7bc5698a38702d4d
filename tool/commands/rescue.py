"""rescue: bring what the disk of an old master still holds to the new one.

Type it where the old disk is; the new master is --server, or sync_host. User by user, and shared mailbox by
shared mailbox, both are compared by GUID. Messages that never came to the new master are added there, under
new UIDs where theirs are taken, into the mailbox with the same uniqueid, whatever it is called there;
mailboxes that are not there are made. A message that was deleted there since stays deleted. Nothing there is
changed or removed. What differs otherwise, because it was done here and never went over (a rename, a flag, a
deletion, a script), is listed: the new master's word counts. With --source cyrus the disk is that of a real
Cyrus, which need not run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cyrus_sync.common.counted import counted, mailboxes
from cyrus_sync.common.errors import EX_FAILURE, CyrusSyncError, PeerError, ReplyError
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner, is_deleted
from cyrus_sync.common.protocol.commands import ADDITIONS, VERIFY
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.wire.client import ClientSettings, connect
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.reactor import in_reactor
from cyrus_sync.mailstore.restoring.carry import Carrier
from cyrus_sync.mailstore.restoring.plan import BoxPlan
from cyrus_sync.mailstore.restoring.survey import TargetSurvey
from cyrus_sync.mailstore.restoring.wishes import Wish, find_records, wish_for_mailbox
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.mailstore.source import CYRUS, Source, add_source
from cyrus_sync.sync_client.comparing.advice import Terms
from cyrus_sync.sync_client.comparing.comparer import Comparer, Depth, Limits, Options
from cyrus_sync.sync_client.comparing.findings import CHANGED, THERE, OwnerFindings
from cyrus_sync.sync_client.comparing.states import ALONE


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("owners", metavar="USER", nargs="*", help="or shared:NAME; default: everybody")
    parser.add_argument("--server", metavar="HOST[:PORT]", help="the new master, instead of sync_host")
    parser.add_argument("-n", dest="channel", metavar="CHANNEL", help="use the options of this channel")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    add_source(parser)


def run(args: argparse.Namespace) -> int:
    context = StoreContext(args.config, program="cyrus-sync")
    try:
        settings = ClientSettings.from_config(context.config, args.channel, args.server, option="--server")
        rounds = Rounds(context)
        giver = context.giver(args.source)
        owners = list(rounds.owners(args.owners, giver))
        rescue = _Rescue(args, context, settings, rounds, giver)
        return in_reactor(lambda reactor: rescue.go(reactor, owners))
    finally:
        context.close()


@dataclass(slots=True)
class _Rescue:
    """One run."""

    args: argparse.Namespace
    context: StoreContext
    settings: ClientSettings
    rounds: Rounds
    giver: Source
    messages: int = 0
    mailboxes: int = 0
    undone: int = 0

    async def go(self, reactor: Reactor, owners: list[Owner]) -> int:
        """All owners, one after the other; the exit status."""
        threads = ThreadRunner(reactor)
        session = await connect(reactor, self.settings)
        wanted = {"SIEVE-MAILBOX", ADDITIONS, VERIFY}
        replica = await WireReplica.start(session, wanted, threads, timeout=self.settings.idle_timeout)
        try:
            for owner in owners:
                try:
                    await self._owner(owner, replica, threads)
                except CyrusSyncError as error:
                    if isinstance(error, PeerError) and not isinstance(error, ReplyError):
                        raise
                    self.rounds.failed(owner, error)
        finally:
            await replica.close()
        verb = "would be added" if self.args.dry_run else "added"
        self.context.print(
            f"{counted(len(owners), 'owner')}: {counted(self.messages, 'message')} and"
            f" {mailboxes(self.mailboxes)} {verb} at {self.settings.server};"
            f" {self.undone} changes of this side do not count any more"
        )
        return self.rounds.status and EX_FAILURE

    async def _owner(self, owner: Owner, replica: Replica, threads: ThreadRunner) -> None:
        for line in _undone(await self._compared(owner, replica, threads)):
            self.undone += 1
            self.context.print(f"{self.context.owner_name(owner)}: {line}")
        survey = TargetSurvey(self.giver, replica, threads, deleted_stay=True)
        carrier = Carrier(self.giver, survey, threads)
        wishes = await threads.run(self._wishes, owner)
        there = await _there(owner, replica, [wish.state for wish in wishes])
        for wish in wishes:
            theirs = there.get(wish.state.uniqueid)
            if theirs is not None and is_deleted(theirs.name):
                continue  # it was deleted there since, which is among what is undone
            if theirs is not None and not theirs.intermediate:
                wish = replace(wish, target=theirs.name)
            plan = await survey.plan_mailbox(wish)
            if plan.trouble:
                self.rounds.failed(self.context.external(wish.state.name), CyrusSyncError(plan.trouble))
            elif not plan.idle:
                for line in await threads.run(self._described, plan):
                    self.context.print(line)
                if not self.args.dry_run:
                    await carrier.mailbox(plan)
                self.mailboxes += plan.create
                self.messages += plan.messages + len(plan.additions)

    def _wishes(self, owner: Owner) -> list[Wish]:
        """The owner's mailboxes, parents first, without those that were deleted here."""
        with self.giver.read(owner) as reader:
            return [
                wish_for_mailbox(reader, state, state.name)
                for state in reader.mailboxes()
                if not is_deleted(state.name) and not state.intermediate
            ]

    def _described(self, plan: BoxPlan) -> list[str]:
        """What is added, a line a message; of a mailbox that is made, one line."""
        name = self.context.external(plan.wish.target)
        said = []
        if plan.create:
            said.append(f"{name}: made with {counted(plan.messages, 'message')}")
        with self.giver.read(plan.wish.owner) as reader:
            uids = [one.uid for one in plan.additions]
            records = find_records(reader, plan.wish.state.uniqueid, uids) if uids else {}
        for one in plan.additions:
            guid = records[one.uid].guid.hex() if one.uid in records else ""
            said.append(f"{name}: uid {one.uid} {guid} added as uid {one.new_uid}")
        if plan.absent:
            uids_lost = ",".join(map(str, sorted(plan.absent)))
            self.rounds.failed(name, CyrusSyncError(f"uid {uids_lost} cannot be read here"))
        return said

    async def _compared(self, owner: Owner, replica: Replica, threads: ThreadRunner) -> OwnerFindings:
        found: list[OwnerFindings] = []

        async def tell(findings: OwnerFindings) -> None:
            found.append(findings)

        async def nothing(*_words: object) -> None:
            """Nobody waits."""

        options = Options(
            depth=Depth.CRCS,
            terms=lambda ours: Terms((), "", "", True, ours, self.context.external),
            tell=tell,
            fail=nothing,
            owner_turn=nothing,
            octets_turn=nothing,
            pause=nothing,
            names=self.context.namespace,
            looks=(),
        )
        comparer = Comparer(self._master(), replica, threads, options, Limits())
        await (comparer.user(owner.name) if owner.kind == "user" else comparer.mailboxes([owner.name]))
        return found[0]

    def _master(self) -> Master:
        if self.args.source == CYRUS:
            return self.context.spool
        return NativeMaster(self.context.store(readonly=True))


async def _there(owner: Owner, replica: Replica, ours: list[MailboxState]) -> dict[str, MailboxState]:
    """The target's mailboxes by uniqueid: those of the owner, and ours wherever they are."""
    found: list[MailboxState] = []
    if owner.kind == "user":
        found += (await replica.get_user(owner.name)).mailboxes
    known = {state.uniqueid for state in found}
    missing = [state.uniqueid for state in ours if state.uniqueid not in known]
    if missing:
        try:
            found += await replica.get_uniqueids(missing)
        except ReplyError:  # a release that cannot be asked so
            found += await replica.get_mailboxes([state.name for state in ours])
    return {state.uniqueid: state for state in found}


def _undone(findings: OwnerFindings) -> Iterator[str]:
    """What was done on this side and does not count any more."""
    for box in findings.mailboxes:
        if "name" in box.fields:
            here, there = box.fields["name"]
            yield f"renamed here to {here}; it stays {there}"
        if box.where == THERE and box.note != ALONE:
            yield f"{box.name}: {box.note}; it stays"
        changed = [one for one in box.shown(CHANGED) if {"flags", "expunged"} & one.detail.keys()]
        for one in changed:
            for name in ("flags", "expunged"):
                if name in one.detail:
                    here, there = one.detail[name]
                    yield f"{box.name} uid {one.uid}: {name} {here!r} here, stays {there!r}"
        for name in ("acl", "annotations", "options"):
            if name in box.fields:
                here, there = box.fields[name]
                yield f"{box.name}: {name} {here!r} here, stays {there!r}"
    for other in findings.others:
        yield f"{other}: that stays"
