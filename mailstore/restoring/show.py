"""A plan in words, a line for each mailbox and each thing that a user has besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cyrus_sync.common.counted import counted
from cyrus_sync.common.stores.queries import is_sieve
from cyrus_sync.mailstore.restoring.everybody import Tally
from cyrus_sync.mailstore.restoring.plan import BoxPlan
from cyrus_sync.mailstore.restoring.survey import MetaPlan, RestorePlan


def described(plan: RestorePlan, external: Callable[[str], str], *, stays: bool = False) -> Iterator[str]:
    """What `plan` does, or why a part of it does nothing. `external` makes a mailbox name readable. `stays`:
    also what the target has otherwise, and keeps."""
    for box in plan.boxes:
        text = "; ".join(filter(None, [_box(box, external), _stays(box) if stays else ""]))
        if text:
            name = external(box.wish.state.name)
            if box.wish.renamed:
                name += f" -> {external(box.wish.target)}"
            yield f"{name}: {text}"
    for name in plan.besides if stays else ():
        yield f"{external(name)}: stays as it is: it is not among what is restored"
    if plan.meta is not None:
        yield from _meta(plan.meta, external, stays=stays)


def summary(plan: RestorePlan) -> str:
    """The sum of it."""
    boxes = [box for box in plan.boxes if not box.idle]
    messages = sum(box.messages + len(box.additions) for box in boxes)
    octets = sum(box.size + sum(one.size for one in box.additions) for box in boxes)
    return f"{counted(len(boxes), 'mailbox', 'mailboxes')}, {_messages(messages)}, {octets} octets"


def described_sum(tally: Tally, *, dry_run: bool) -> str:
    """What became of everybody."""
    owners, boxes = counted(tally.owners, "owner", "owners"), counted(tally.mailboxes, "mailbox", "mailboxes")
    said = (
        f"{owners} {'to be restored' if dry_run else 'restored'} ({boxes}, {_messages(tally.messages)}, "
        f"{tally.octets} octets), {tally.complete} with nothing to do"
    )
    return f"{said}, {len(tally.failed)} failed" if tally.failed else said


def _messages(number: int) -> str:
    return counted(number, "message", "messages")


def _held(box: BoxPlan, number: int, which: str = "") -> str:
    """So many of what a mailbox holds."""
    one = f"{which} script" if is_sieve(box.wish.state) else f"{which} message"
    return counted(number, one.strip(), f"{one.strip()}s")


def _stays(box: BoxPlan) -> str:
    """ "" if there is nothing that stays."""
    flags, others, rights = box.stays
    said = [_held(box, others, "other")] if others else []
    if flags:
        said.append(f"other flags of {_held(box, flags)}")
    if rights:
        said.append("other rights")
    return f"stays as it is there: {', '.join(said)}" if said else ""


def _box(box: BoxPlan, external: Callable[[str], str]) -> str:
    """ "" if there is nothing to say."""
    if box.trouble:
        return f"cannot be restored: {box.trouble}"
    said = []
    if box.create and box.state.intermediate:
        said.append("create the name")
    elif box.create:
        said.append(f"create with {_held(box, box.messages)}")
        if box.new_identity:
            there = f" (there it is {external(box.elsewhere)})" if box.elsewhere else ""
            said.append(f"as a copy with a new uniqueid{there}")
    revived = sum(one.revived for one in box.additions)
    added = len(box.additions) - revived
    if added:
        said.append(f"add {_held(box, added)}")
    if revived:
        said.append(f"bring back {_held(box, revived, 'expunged')}")
    if box.annotations and not box.create:
        said.append(f"add {counted(len(box.annotations), 'annotation', 'annotations')}")
    if box.absent:
        said.append(f"{_held(box, len(box.absent))} cannot be restored: not stored here")
    return "; ".join(said)


def _meta(meta: MetaPlan, external: Callable[[str], str], *, stays: bool) -> Iterator[str]:
    for name in meta.stays if stays else ():
        what = f"script {name}" if name.endswith(".script") else f"quota {external(name)}"
        yield f"{meta.userid}: {what}: stays as it is there: it is another one"
    for quota in meta.quotas:
        limits = ", ".join(f"{name} {limit}" for name, limit in quota.limits.items())
        yield f"quota {external(quota.root)}: {limits}"
    for name in meta.subscriptions:
        yield f"{meta.userid}: subscribe to {external(name)}"
    if meta.seen:
        yield f"{meta.userid}: \\Seen state of {counted(len(meta.seen), 'mailbox', 'mailboxes')} of others"
    for script in meta.scripts:
        yield f"{meta.userid}: script {script.filename}"
    if meta.activate:
        yield f"{meta.userid}: activate {meta.activate}"
